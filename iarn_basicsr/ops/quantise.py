"""The one quantiser: what is stored as the LR image is exactly what is upscaled."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ['quantise']

LEVELS = 255


def quantise(x: torch.Tensor) -> torch.Tensor:
    """Clamp to [0, 1] and round to 8 bits; the gradient passes straight through both.

    y = round(255 clamp(x, 0, 1)) / 255 (ties to even),  dy/dx := 1 everywhere: for clamped values too, so that a
    colour outside the range is still pulled back by the losses. Straight-through estimator of arXiv:1308.3432.

    Args:
        x: image of any shape, nominally in [0, 1].
    """
    return _StraightThrough.apply(x)


class _StraightThrough(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(0, 1).mul(LEVELS).round().div(LEVELS)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]
