"""The one quantiser: what is stored as the LR image is exactly what is upscaled."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ['quantise']

LEVELS = 255


def quantise(x: torch.Tensor, bits: int = 8) -> torch.Tensor:
    """Clamp to [0, 1] and round to 8 bits; the gradient passes straight through both.

    y = round(255 clamp(x, 0, 1)) / 255 (ties to even),  dy/dx := 1 everywhere: for clamped values too, so that a
    colour outside the range is still pulled back by the losses. Straight-through estimator of arXiv:1308.3432.

    Args:
        x: image of any shape, nominally in [0, 1].
        bits: fewer than 8 give what is known of the rounded image by its ``bits`` high bits: the low bits are replaced
            by their mean, a half-integer level (``payload.bits.high_part``).
    """
    return _StraightThrough.apply(x, bits)


class _StraightThrough(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bits: int) -> torch.Tensor:
        levels = x.clamp(0, 1).mul(LEVELS).round()
        if bits < 8:
            step = 2**(8 - bits)
            levels = levels.div(step).floor().mul(step).add((step - 1) / 2)
        return levels.div(LEVELS)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None
