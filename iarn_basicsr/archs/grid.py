"""The linear maps between an HR grid and an LR grid, or between windows of them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import scipy.sparse
import torch

from iarn_basicsr.ops.resample import AxisMap, apply_separable, drop_tolerance, pair_matrices
from iarn_basicsr.ops.size import Size

from .scale_encoding import ScaleEncoding, pooling_matrix, position_offset, unpooling_matrix

__all__ = ['Axis', 'AxisWindow', 'Grid', 'PaddedGrid', 'make_grid']


class AxisWindow(NamedTuple):
    """Samples [lr_start, lr_stop) of an LR axis and [hr_start, hr_stop) of its HR axis."""

    hr_start: int
    hr_stop: int
    lr_start: int
    lr_stop: int


@dataclass(frozen=True, eq=False)
class Axis:
    """The matrices of one axis, or of a window of it.

    Attributes:
        hr, lr: number n of HR samples and m of LR samples.
        down, up: D (m, n) and U (n, m).
        pool, unpool: P (m K, n) and Q (n, m K).
    """

    hr: int
    lr: int
    down: AxisMap
    up: AxisMap
    pool: AxisMap
    unpool: AxisMap


@dataclass(frozen=True, eq=False)
class Grid:
    r"""HR (H, W) <-> LR (h, w): four linear maps and the scale encoding. ``make_grid`` makes it.

                   down    D_v x D_h^T                                (N, C, h, w)
                   up      U_v y U_h^T                                (N, C, H, W)
                   pool    P_kv x P_kh^T for kv, kh < K               (N, C K^2, h, w)
                   unpool  sum over kv, kh of Q_kv y_kv,kh Q_kh^T     (N, C, H, W)

        HR (N, C, H, W) -- down ----> LR (N, C, h, w)      -- up ------> HR (N, C, H, W)
        HR (N, C, H, W) -- pool ----> LR (N, C K^2, h, w)  -- unpool --> HR (N, C, H, W)

    All four are separable, differentiable, and run in the precision of the grid whatever autocast says. In a window
    they keep the geometry of the whole image and drop what lies outside. Constants pass through D and U unchanged.

    Attributes:
        vertical, horizontal: the matrices of each axis.
        order: K of the pooling basis.
        exact: whether D U = I, so that the LR alone holds the low branch.
        encoding: the planes that tell a network scale and position.
    """

    vertical: Axis
    horizontal: Axis
    order: int
    exact: bool
    encoding: ScaleEncoding

    @property
    def hr(self) -> Size:
        """(H, W)."""
        return self.vertical.hr, self.horizontal.hr

    @property
    def lr(self) -> Size:
        """(h, w)."""
        return self.vertical.lr, self.horizontal.lr

    def down(self, x: torch.Tensor) -> torch.Tensor:
        return apply_separable(self.vertical.down, self.horizontal.down, x)

    def up(self, x: torch.Tensor) -> torch.Tensor:
        return apply_separable(self.vertical.up, self.horizontal.up, x)

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """Channel (c K + kv) K + kh of the result is that of the basis functions kv and kh on channel c."""
        (h, w), k = self.lr, self.order
        y = apply_separable(self.vertical.pool, self.horizontal.pool, x)
        return y.unflatten(-1, (w, k)).unflatten(-3, (h, k)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)

    def unpool(self, y: torch.Tensor) -> torch.Tensor:
        """The adjoint of ``pool`` up to weights."""
        k = self.order
        y = y.unflatten(1, (-1, k, k)).permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)  # N C (h kv) (w kh)
        return apply_separable(self.vertical.unpool, self.horizontal.unpool, y)


@functools.lru_cache(maxsize=512)
@torch.inference_mode(False)  # the next call of this size may be for training
def make_grid(hr: Size, lr: Size, split: str, order: int, dtype: torch.dtype, device: torch.device,
              window: tuple[AxisWindow, AxisWindow] | None = None, dense: bool = False) -> Grid:
    """The (cached) grid between two sizes (height, width), or a (vertical, horizontal) window of it.

    ``split`` is the pair (D, U), one of ``ops.resample.PAIRS``, and ``order`` K of the pooling basis; with ``dense``
    every matrix is one block.

    Raises:
        OptionError: for an unknown pair or an LR size that is out of range.
    """
    window = window or (AxisWindow(0, hr[0], 0, lr[0]), AxisWindow(0, hr[1], 0, lr[1]))
    vertical, horizontal = (_axis(n, m, split, order, dtype, device, part, dense) for n, m, part in zip(hr, lr, window))
    offsets = [torch.from_numpy(position_offset(n, m)[part.hr_start:part.hr_stop]).to(device, dtype)
               for n, m, part in zip(hr, lr, window)]
    ratios = torch.tensor([m / n for n, m in zip(hr, lr)], dtype=dtype, device=device)
    return Grid(vertical, horizontal, order, split != 'cubic_interp', ScaleEncoding(offsets[0], offsets[1], ratios))


@functools.lru_cache(maxsize=512)
def _axis(n: int, m: int, split: str, order: int, dtype: torch.dtype, device: torch.device,
          window: AxisWindow, dense: bool) -> Axis:
    hr, lr = slice(window.hr_start, window.hr_stop), slice(window.lr_start, window.lr_stop)
    cells = slice(lr.start * order, lr.stop * order)
    (d, u), (p, q) = _pair(split, n, m, drop_tolerance(dtype)), _pooling(n, m, order)
    parts = d[lr, hr], u[hr, lr], p[cells, hr], q[hr, cells]
    return Axis(hr.stop - hr.start, lr.stop - lr.start, *(AxisMap.from_matrix(m, dtype, device, dense) for m in parts))


_pair = functools.lru_cache(maxsize=8)(pair_matrices)  # whole axes are large; the last few sizes serve many windows


@functools.lru_cache(maxsize=8)
def _pooling(n: int, m: int, order: int) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
    return pooling_matrix(n, m, order), unpooling_matrix(n, m, order)


class PaddedGrid:
    """A grid at fixed addresses for one LR size: HR sizes up to ``largest``, padded with zeros at the bottom and right.

    A CUDA graph replays its work on tensors of fixed size and address; with this grid one graph serves every scale. An
    LR-grid network keeps zero padding zero in every step, so the padded image gives the same result as the image.

    Args:
        largest: (H, W), the size of every HR tensor.
        lr, split, order, dtype, device: as in ``make_grid``.

    Attributes:
        grid: the ``Grid`` of size ``largest`` whose matrices ``load`` overwrites. Its position offsets are NaN: only
            HR-grid networks read them, and those cannot be padded.
    """

    def __init__(self, largest: Size, lr: Size, split: str, order: int, dtype: torch.dtype,
                 device: torch.device) -> None:
        self._of = functools.partial(make_grid, lr=lr, split=split, order=order, dtype=dtype, device=device,
                                     dense=True)
        self._axes = [_PaddedAxis(n, m, order, dtype, device) for n, m in zip(largest, lr)]
        unknown = [torch.full((n, ), math.nan, dtype=dtype, device=device) for n in largest]
        encoding = ScaleEncoding(unknown[0], unknown[1], torch.zeros(2, dtype=dtype, device=device))
        self.grid = Grid(self._axes[0].axis, self._axes[1].axis, order, split != 'cubic_interp', encoding)

    def load(self, hr: Size) -> None:
        """Take the matrices of the HR size (H, W)."""
        true = self._of(hr)
        for padded, axis in zip(self._axes, (true.vertical, true.horizontal)):
            padded.load(axis)
        self.grid.encoding.ratios.copy_(true.encoding.ratios)


class _PaddedAxis:
    """An ``axis`` with its four matrices in one block of memory, so that one copy loads them all."""

    def __init__(self, n: int, m: int, order: int, dtype: torch.dtype, device: torch.device) -> None:
        self._shapes = (m, n), (n, m), (m * order, n), (n, m * order)  # of down, up, pool, unpool
        self._memory = torch.zeros(sum(map(math.prod, self._shapes)), dtype=dtype, device=device)
        self.axis = Axis(n, m, *(AxisMap(part.shape[1], part.shape[0], math.nan, part[None])
                                 for part in self._parts(self._memory)))
        self._padded: dict[int, torch.Tensor] = {}  # the memory of each HR length seen

    def _parts(self, memory: torch.Tensor) -> list[torch.Tensor]:
        parts = memory.split([math.prod(shape) for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes)]

    def load(self, axis: Axis) -> None:
        if axis.hr not in self._padded:
            memory = self._padded[axis.hr] = torch.zeros_like(self._memory)
            for part, true in zip(self._parts(memory), (axis.down, axis.up, axis.pool, axis.unpool)):
                part[:true.n_out, :true.n_in] = true.blocks[0]
        self._memory.copy_(self._padded[axis.hr])
