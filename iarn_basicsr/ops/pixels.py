"""8-bit pixels and tensors: the one way from one to the other."""

from __future__ import annotations

import numpy as np
import torch

from .quantise import LEVELS, quantise

__all__ = ['to_pixels', 'to_tensor']


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 or uint16 (..., H, W, C) -> float32 (..., C, H, W) in [0, 1].

    The division is numpy's, whose single thread suits small patches.
    """
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, -3))
    return torch.from_numpy(np.divide(planes, np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32))


def to_pixels(x: torch.Tensor) -> np.ndarray:
    """Float (..., C, H, W), nominally in [0, 1] -> uint8 (..., H, W, C), rounded by the one quantiser."""
    levels = (quantise(x) * LEVELS).round().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()
