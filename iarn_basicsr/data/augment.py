"""HR patches with content that the files of a training set lack (ours).

Most photographs are JPEG files with colour at half resolution: on them alone a network learns to count on smooth
colour, and fails on pictures whose colour is not smooth. Shrunk photographs have colour as sharp as brightness, noisy
ones have detail that cannot be guessed.
"""

from __future__ import annotations

import cv2
import numpy as np

from iarn_basicsr.config.schema import NoiseOptions, ShrinkOptions
from iarn_basicsr.ops.size import Size

__all__ = ['shrunk', 'source_size', 'with_noise']


def source_size(shrink: ShrinkOptions, patch: Size, image: Size, rng: np.random.Generator) -> Size:
    """Size of the crop that is shrunk to a patch; the factor is held down to what an image has."""
    factor = max(1.0, min(_strength(shrink, rng) or 1.0, *(n / m for n, m in zip(image, patch))))
    return round(patch[0] * factor), round(patch[1] * factor)


def shrunk(crop: np.ndarray, patch: Size) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (*patch, 3), each pixel the mean over its area."""
    if crop.shape[:2] == tuple(patch):
        return crop
    return cv2.resize(np.ascontiguousarray(crop), (patch[1], patch[0]), interpolation=cv2.INTER_AREA)


def with_noise(patch: np.ndarray, noise: NoiseOptions, rng: np.random.Generator) -> np.ndarray:
    """A patch, uint8 (H, W, 3), with Gaussian noise drawn for each colour; the strength is its sigma in grey levels."""
    sigma = _strength(noise, rng)
    if not sigma:
        return patch
    noisy = patch + np.float32(sigma) * rng.standard_normal(patch.shape, dtype=np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _strength(change: ShrinkOptions | NoiseOptions, rng: np.random.Generator) -> float | None:
    """The strength for the next patch, uniform in ``range``, for a share ``prob`` of the patches; None for the others.
    """
    (low, high), (chance, where) = change.range, rng.random(2)
    return low + (high - low) * float(where) if chance < change.prob else None
