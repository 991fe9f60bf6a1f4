"""All linear maps between one HR grid and one LR grid."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from .position import pooling_map, scale_encoding, unpooling_map
from .resample import AxisMap, apply_separable, axis_map
from .size import Size

__all__ = ['Grid', 'grid']

AxisPair = tuple[AxisMap, AxisMap]


@dataclass(frozen=True, eq=False)
class Grid:
    """HR (H, W) <-> LR (h, w): the pair (D, U), pooling and unpooling, and the scale. Made by :func:`grid`.

    All maps take and return (N, C, height, width) and are differentiable.
    """

    hr: Size
    lr: Size
    resample: str
    order: int
    dtype: torch.dtype
    device: torch.device
    maps: dict[str, AxisPair]

    @property
    def exact(self) -> bool:
        """Whether D U = I, so that the LR alone holds the low branch."""
        return self.resample != 'cubic_interp'

    def down(self, x: torch.Tensor) -> torch.Tensor:
        """D: (N, C, H, W) -> (N, C, h, w)."""
        return apply_separable(*self.maps['down'], x)

    def up(self, x: torch.Tensor) -> torch.Tensor:
        """U: (N, C, h, w) -> (N, C, H, W)."""
        return apply_separable(*self.maps['up'], x)

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """Position-aware pooling: (N, C, H, W) -> (N, C K^2, h, w), channel (c K + k_v) K + k_h."""
        (h, w), k = self.lr, self.order
        y = apply_separable(*self.maps['pool'], x).unflatten(-1, (w, k)).unflatten(-3, (h, k))  # N C h Kv w Kh
        return y.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)

    def unpool(self, y: torch.Tensor) -> torch.Tensor:
        """Position-aware unpooling: (N, C K^2, h, w) -> (N, C, H, W); the adjoint of :meth:`pool` up to weights."""
        k = self.order
        y = y.unflatten(1, (-1, k, k)).permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)  # N C (h Kv) (w Kh)
        return apply_separable(*self.maps['unpool'], y)

    def scale_planes(self, n: int) -> torch.Tensor:
        """(n, 2, h, w): the constants h/H and w/W, by which LR-grid networks are told the scale."""
        ratio = torch.tensor([self.lr[0] / self.hr[0], self.lr[1] / self.hr[1]], dtype=self.dtype, device=self.device)
        return ratio.view(1, 2, 1, 1).expand(n, 2, *self.lr)

    def encoding(self, n: int) -> torch.Tensor:
        """(n, 4, H, W): the position-aware scale encoding, for HR-grid networks."""
        return scale_encoding(self.hr, self.lr, self.dtype, self.device).expand(n, -1, -1, -1)


@functools.lru_cache(maxsize=512)
def grid(hr: Size, lr: Size, resample: str, order: int, dtype: torch.dtype, device: torch.device) -> Grid:
    """The (cached) :class:`Grid` between two sizes.

    Args:
        hr: (H, W).
        lr: (h, w), each at most the HR one.
        resample: a key of ``PAIRS``.
        order: K of the pooling basis.
    """
    axes = list(zip(hr, lr))
    maps = {
        'down': [axis_map(f'down:{resample}', n, m, dtype, device) for n, m in axes],
        'up': [axis_map(f'up:{resample}', n, m, dtype, device) for n, m in axes],
        'pool': [pooling_map(n, m, order, dtype, device) for n, m in axes],
        'unpool': [unpooling_map(n, m, order, dtype, device) for n, m in axes],
    }
    return Grid(hr, lr, resample, order, dtype, device, {name: (v, h) for name, (v, h) in maps.items()})
