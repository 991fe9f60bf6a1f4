"""HR patches with content that the files of a training set lack (ours).

Most photographs are JPEG files with colour at half resolution: on them alone a network learns to count on smooth
colour, and fails on pictures whose colour is not smooth. Shrunk photographs have colour as sharp as brightness, noisy
ones have detail that cannot be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from iarn_basicsr.ops.size import Size

__all__ = ['Noise', 'Shrink']


@dataclass(frozen=True)
class _Sometimes:
    """A change of strength uniform in [low, high] to a share ``prob`` of the patches."""

    prob: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float | None:
        """The strength for the next patch, None for none."""
        chance, where = rng.random(2)
        return self.low + (self.high - self.low) * float(where) if chance < self.prob else None


class Shrink(_Sometimes):
    """HR patches from photographs reduced by a factor first (averaging over the area of a pixel)."""

    def source_size(self, patch: Size, image: Size, rng: np.random.Generator) -> Size:
        """Size of the crop that becomes the patch; the factor is held down to what an image has."""
        factor = self.draw(rng) or 1.0
        factor = max(1.0, min(factor, *(n / m for n, m in zip(image, patch))))
        return round(patch[0] * factor), round(patch[1] * factor)

    @staticmethod
    def apply(crop: np.ndarray, patch: Size) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (*patch, 3)."""
        if crop.shape[:2] == tuple(patch):
            return crop
        return cv2.resize(np.ascontiguousarray(crop), (patch[1], patch[0]), interpolation=cv2.INTER_AREA)


class Noise(_Sometimes):
    """HR patches with Gaussian noise, drawn for each colour; the strength is its sigma in grey levels."""

    def apply(self, patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (H, W, 3)."""
        sigma = self.draw(rng)
        if not sigma:
            return patch
        noisy = patch + np.float32(sigma) * rng.standard_normal(patch.shape, dtype=np.float32)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
