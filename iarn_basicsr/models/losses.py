"""The loss that BasicSR does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ['RMSELoss']

ROUNDING = 1e-6  # about the square error of rounding to 8 bits; with it the root has a gradient at 0 too


class RMSELoss(nn.Module):
    """Root mean square error of every image, mean over the images of the batch (ours).

    Every image pulls with the same force, whatever its error (norm of the gradient), where L1 gives it to every pixel:
    within an image, large errors pull more.

    Args:
        loss_weight: factor of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Images (b, c, h, w) about in [0, 1] -> scalar, float32 or, if given, float64."""
        dtype = torch.promote_types(pred.dtype, torch.float32)
        square = (pred.to(dtype) - target.to(dtype)).square().mean((1, 2, 3))
        return self.loss_weight * (square + ROUNDING).sqrt().mean()
