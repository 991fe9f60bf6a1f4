r"""Preemptive channel split: low and high frequencies part before the first block, at any scale.

In place of IRN's Haar transform, which knows only x2; the paper's idea (Pan, Li, He, Wu, Ding, "Effective Invertible
Arbitrary Image Rescaling", WACV 2023, arXiv:2209.13055). The pairs (D, U) of ``ops.resample`` are this project's.

    split   low = D x              merge   x = U low + high
            high = x - U low

    x (N, C, H, W) --+-- D --+--> low (N, C, h, w) .. blocks .. low -- U --+
                     |       U                                             + --> x (N, C, H, W)
                     +------ - --> high (N, C, H, W) .. blocks .. high ----+

``merge`` undoes ``split`` for any D and U. With a right inverse (D U = I: ``area``, ``cubic``) U D is an orthogonal
projection: D high = 0, and an untrained network loses nothing but ``high``. Where D U != I (``cubic_interp``) the low
branch is U D x at HR resolution through the whole chain, and becomes an LR, D low, only at its end.
"""

from __future__ import annotations

from torch import Tensor

from .grid import Grid

__all__ = ['merge', 'split']


def split(x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Image (N, C, H, W) -> low and high branch.

    Returns:
        low: (N, C, h, w), or (N, C, H, W) where ``grid.exact`` is false.
        high: (N, C, H, W).
    """
    lr = grid.down(x)
    base = grid.up(lr)
    return (lr if grid.exact else base), x - base


def merge(low: Tensor, high: Tensor, grid: Grid) -> Tensor:
    """Low and high branch -> image (N, C, H, W)."""
    return (grid.up(low) if grid.exact else low) + high
