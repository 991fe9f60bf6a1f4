"""The terms of the objective: BasicSR's losses by their option and log name, luma, and one loss that BasicSR lacks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ['TERMS', 'RMSELoss', 'luma']

TERMS = {  # name in the log -> option of train
    'l_rec': 'pixel_opt',
    'l_luma': 'luma_opt',
    'l_guide': 'guide_opt',
    'l_latent': 'latent_opt',
    'l_inv': 'inv_opt',
    'l_cycle': 'cycle_opt',
    'l_percep': 'perceptual_opt',
}
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


def luma(rgb: Tensor) -> Tensor:
    """Y of BT.601 less its offset of 16 / 255: RGB (N, 3, H, W) in [0, 1] -> (N, H, W).

    BasicSR's rgb2ycbcr_pt copies its matrix from the host at every call, which a CUDA graph cannot.
    """
    red, green, blue = rgb.unbind(1)
    return (65.481 * red + 128.553 * green + 24.966 * blue) / 255
