"""All linear maps between one HR grid and one LR grid, or between windows of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import scipy.sparse
import torch

from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.resample import DENSE_LIMIT, AxisMap, apply_separable, check_pair, drop_tolerance, pair_matrices
from iarn_basicsr.ops.size import Size

from .scale_encoding import pooling_matrix, position_offset, unpooling_matrix

__all__ = ['AxisWindow', 'Grid', 'PaddedGrid', 'make_grid']


class AxisWindow(NamedTuple):
    """Samples [lr_start, lr_stop) of an LR axis and [hr_start, hr_stop) of its HR axis."""

    hr_start: int
    hr_stop: int
    lr_start: int
    lr_stop: int


class Axis:
    """The maps along one axis of a :class:`Grid`; each is made when it is first used, by ``make`` of its name.

    Attributes:
        hr, lr: number of samples.
        down, up: D and U.
        pool, unpool: P and Q, K rows or columns for each LR sample.
        offset: (hr,) position of each HR sample relative to the nearest LR sample.
    """

    def __init__(self, hr: int, lr: int, offset: torch.Tensor, make: Callable[[str], AxisMap]) -> None:
        self.hr, self.lr, self.offset, self._make = hr, lr, offset, make

    @functools.cached_property
    def down(self) -> AxisMap:
        return self._make('down')

    @functools.cached_property
    def up(self) -> AxisMap:
        return self._make('up')

    @functools.cached_property
    def pool(self) -> AxisMap:
        return self._make('pool')

    @functools.cached_property
    def unpool(self) -> AxisMap:
        return self._make('unpool')


@dataclass(frozen=True, eq=False)
class Grid:
    """HR (H, W) <-> LR (h, w): the pair (D, U), pooling and unpooling, and the scale. Made by :func:`make_grid`.

    All maps take and return (N, C, height, width) and are differentiable.
    """

    vertical: Axis
    horizontal: Axis
    order: int
    exact: bool  # whether D U = I, so that the LR alone holds the low branch
    ratios: torch.Tensor  # (2,) h/H and w/W of the full image

    @property
    def hr(self) -> Size:
        """(H, W)."""
        return self.vertical.hr, self.horizontal.hr

    @property
    def lr(self) -> Size:
        """(h, w)."""
        return self.vertical.lr, self.horizontal.lr

    def split(self, hr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The preemptive channel split, before any block: (low, high) = (D x, x - U D x).

        The idea is the paper's; D and U are this project's. ``low`` is on the LR grid, (N, C, h, w); where D U != I
        (``cubic_interp``) it is U D x on the HR grid, so that nothing is lost. ``high`` is (N, C, H, W).
        """
        lr = self.down(hr)
        base = self.up(lr)
        return (lr if self.exact else base), hr - base

    def merge(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Undo :meth:`split`: U low + high, (N, C, H, W)."""
        return (self.up(low) if self.exact else low) + high

    def down(self, x: torch.Tensor) -> torch.Tensor:
        """D: (N, C, H, W) -> (N, C, h, w)."""
        return apply_separable(self.vertical.down, self.horizontal.down, x)

    def up(self, x: torch.Tensor) -> torch.Tensor:
        """U: (N, C, h, w) -> (N, C, H, W)."""
        return apply_separable(self.vertical.up, self.horizontal.up, x)

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """Position-aware pooling: (N, C, H, W) -> (N, C K^2, h, w), channel (c K + k_v) K + k_h."""
        (h, w), k = self.lr, self.order
        y = apply_separable(self.vertical.pool, self.horizontal.pool, x)
        return y.unflatten(-1, (w, k)).unflatten(-3, (h, k)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)

    def unpool(self, y: torch.Tensor) -> torch.Tensor:
        """Position-aware unpooling: (N, C K^2, h, w) -> (N, C, H, W); the adjoint of :meth:`pool` up to weights."""
        k = self.order
        y = y.unflatten(1, (-1, k, k)).permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)  # N C (h Kv) (w Kh)
        return apply_separable(self.vertical.unpool, self.horizontal.unpool, y)

    def scale_encoding(self, n: int) -> torch.Tensor:
        """(n, 2, h, w): the constants h/H and w/W, by which networks on the LR grid are told the scale."""
        return self.ratios.view(1, 2, 1, 1).expand(n, 2, *self.lr)

    def position_aware_encoding(self, n: int) -> torch.Tensor:
        """Position-aware scale encoding (n, 4, H, W): vertical offset, horizontal offset, h/H, w/W.

        The idea is the paper's; this form of it is this project's.
        """
        offsets = [self.vertical.offset[:, None].expand(self.hr), self.horizontal.offset[None].expand(self.hr)]
        planes = torch.cat([torch.stack(offsets), self.ratios.view(2, 1, 1).expand(2, *self.hr)])
        return planes.expand(n, -1, -1, -1)

    def prepare(self) -> Grid:
        """Make all maps now, not when they are first used."""
        for axis in (self.vertical, self.horizontal):
            _ = axis.down, axis.up, axis.pool, axis.unpool
        return self


@functools.lru_cache(maxsize=512)
def make_grid(hr: Size, lr: Size, split: str, order: int, dtype: torch.dtype, device: torch.device,
              window: tuple[AxisWindow, AxisWindow] | None = None) -> Grid:
    """The (cached) :class:`Grid` between two sizes; its maps are made when they are first used.

    Args:
        hr: (H, W).
        lr: (h, w), each at most the HR one.
        split: the pair (D, U), a key of ``resample.PAIRS``.
        order: K of the pooling basis.
        window: (vertical, horizontal) part of the grids; maps keep the global geometry and lose what lies outside.
    """
    vertical, horizontal = (
        _axis(n, m, split, order, dtype, device, part)
        for n, m, part in zip(hr, lr, window or [AxisWindow(0, n, 0, m) for n, m in zip(hr, lr)]))
    ratios = torch.tensor([m / n for n, m in zip(hr, lr)], dtype=dtype, device=device)
    return Grid(vertical, horizontal, order, split != 'cubic_interp', ratios)


@functools.lru_cache(maxsize=512)
def _axis(n: int, m: int, split: str, order: int, dtype: torch.dtype, device: torch.device,
          window: AxisWindow) -> Axis:
    check_pair(split, n, m)
    hr, lr = slice(window.hr_start, window.hr_stop), slice(window.lr_start, window.lr_stop)
    cells = slice(lr.start * order, lr.stop * order)

    def make(name: str) -> AxisMap:
        if name in ('down', 'up'):
            d, u = _pair(split, n, m, drop_tolerance(dtype))
            matrix = d[lr, hr] if name == 'down' else u[hr, lr]
        else:
            p, q = _pooling(n, m, order)
            matrix = p[cells, hr] if name == 'pool' else q[hr, cells]
        return AxisMap.from_matrix(matrix, dtype, device)

    offset = torch.from_numpy(position_offset(n, m)[hr]).to(device, dtype)
    return Axis(hr.stop - hr.start, lr.stop - lr.start, offset, make)


_pair = functools.lru_cache(maxsize=8)(pair_matrices)  # of the last few sizes only: what serves many windows


@functools.lru_cache(maxsize=8)
def _pooling(n: int, m: int, order: int) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
    return pooling_matrix(n, m, order), unpooling_matrix(n, m, order)


class PaddedGrid:
    """A grid in fixed memory: one LR size, and HR sizes up to ``largest``, padded with zeros at the bottom and right.

    An image padded with zeros stays zero in the padding under all maps of an LR-grid network, so that what a network
    makes of it is what it makes of the image. A CUDA graph, which replays work on tensors of fixed size and place,
    can so serve every scale.

    Args:
        largest: (H, W) of the memory.
        lr: (h, w).
        split, order, dtype, device: as of :func:`make_grid`.

    Attributes:
        grid: the :class:`Grid` of size ``largest`` whose maps :meth:`load` overwrites.

    Raises:
        OptionError: if ``largest``, or the pooling cells of ``lr``, are beyond what is kept as one dense matrix.
    """

    def __init__(self, largest: Size, lr: Size, split: str, order: int, dtype: torch.dtype,
                 device: torch.device) -> None:
        if max(*largest, order * max(lr)) > DENSE_LIMIT:
            raise OptionError(f'HR size {largest} or {order} x LR size {lr} is too large for fixed memory: at most '
                              f'{DENSE_LIMIT} a side')
        self._of = functools.partial(make_grid, lr=lr, split=split, order=order, dtype=dtype, device=device)
        self._axes = [_PaddedAxis(n, m, order, dtype, device) for n, m in zip(largest, lr)]
        ratios = torch.zeros(2, dtype=dtype, device=device)
        self.grid = Grid(self._axes[0], self._axes[1], order, split != 'cubic_interp', ratios)

    def load(self, hr: Size) -> None:
        """Take the maps of the HR size (H, W)."""
        true = self._of(hr)
        for padded, axis in zip(self._axes, (true.vertical, true.horizontal)):
            padded.load(axis)
        self.grid.ratios.copy_(true.ratios)


class _PaddedAxis(Axis):
    """The maps along one axis in one block of memory, padded to n HR samples."""

    def __init__(self, n: int, m: int, order: int, dtype: torch.dtype, device: torch.device) -> None:
        cells = m * order
        self._shapes = [(m, n), (n, m), (cells, n), (n, cells), (n, )]
        self._memory = torch.zeros(sum(math.prod(shape) for shape in self._shapes), dtype=dtype, device=device)
        *parts, offset = self._parts(self._memory)
        maps = {name: AxisMap(part.shape[1], part.shape[0], float('nan'), part[None])
                for name, part in zip(('down', 'up', 'pool', 'unpool'), parts)}
        super().__init__(n, m, offset, maps.__getitem__)
        self._padded: dict[int, torch.Tensor] = {}

    def _parts(self, memory: torch.Tensor) -> list[torch.Tensor]:
        parts = memory.split([math.prod(shape) for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes)]

    def load(self, axis: Axis) -> None:
        if axis.hr not in self._padded:
            self._padded[axis.hr] = torch.zeros_like(self._memory)
            maps = (axis.down, axis.up, axis.pool, axis.unpool)
            for part, true in zip(self._parts(self._padded[axis.hr]), (*(m.blocks[0] for m in maps), axis.offset)):
                part[tuple(slice(k) for k in true.shape)] = true
        self._memory.copy_(self._padded[axis.hr])
