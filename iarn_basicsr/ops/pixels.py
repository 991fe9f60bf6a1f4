"""8-bit pixels and tensors: the one way from one to the other."""

from __future__ import annotations

import numpy as np
import torch

from .quantise import LEVELS, quantise

__all__ = ['to_levels', 'to_pixels', 'to_tensor']


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 or uint16, or float levels of 8 bits, (..., H, W, C) -> float32 (..., C, H, W) in [0, 1].

    The division is numpy's, whose single thread suits small patches.
    """
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, -3))
    white = LEVELS if np.issubdtype(pixels.dtype, np.floating) else np.iinfo(pixels.dtype).max
    return torch.from_numpy(np.divide(planes, np.float32(white), dtype=np.float32))


def to_levels(x: torch.Tensor) -> np.ndarray:
    """Float (..., C, H, W), nominally in [0, 1] -> float32 levels of 8 bits (..., H, W, C), neither rounded nor cut."""
    return (x.float() * LEVELS).movedim(-3, -1).contiguous().cpu().numpy()


def to_pixels(x: torch.Tensor) -> np.ndarray:
    """Float (..., C, H, W), nominally in [0, 1] -> uint8 (..., H, W, C), rounded by the one quantiser."""
    levels = (quantise(x) * LEVELS).round().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()
