"""HR patches with content that the files of a training set lack (ours).

Most photographs are JPEG files with colour at half resolution: on them alone a network learns to count on smooth
colour, and fails on pictures whose colour is not smooth. Shrunk photographs have colour as sharp as brightness, noisy
ones have detail that cannot be guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from iarn_basicsr.checks import check_keys, number, shown
from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.size import Size

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ['Noise', 'Shrink']


@dataclass(frozen=True)
class _Sometimes:
    """A change of strength uniform in [low, high] to a share ``prob`` of the patches."""

    prob: float
    low: float
    high: float

    LIMITS: ClassVar[tuple[float, float]]  # of the strength
    EXAMPLE: ClassVar[str]

    @classmethod
    def of(cls, section: str, options: Any) -> Self:
        """From the mapping in an option file, see ``EXAMPLE``.

        Raises:
            OptionError: for an unknown key or a value out of range.
        """
        if not isinstance(options, Mapping):
            raise OptionError(f'{section}: {shown(options)}; expected {cls.EXAMPLE}')
        check_keys(section, options, {'prob', 'range'})
        limits: Any = options.get('range')
        try:
            low, high = (float(v) for v in limits)
        except (TypeError, ValueError, OverflowError):
            low, high = 1.0, 0.0
        if not cls.LIMITS[0] <= low <= high <= cls.LIMITS[1]:
            raise OptionError(f'{section}.range: {shown(limits)}; expected [a, b] with {cls.LIMITS[0]:g} <= a <= b <= '
                              f'{cls.LIMITS[1]:g}')
        return cls(number(section, options, 'prob', None, 0, 1), low, high)

    def draw(self, rng: np.random.Generator) -> float | None:
        """The strength for the next patch, None for none."""
        chance, where = rng.random(2)
        return self.low + (self.high - self.low) * float(where) if chance < self.prob else None


class Shrink(_Sometimes):
    """HR patches from photographs reduced by a factor first (averaging over the area of a pixel)."""

    LIMITS = (1, 8)
    EXAMPLE = '{prob: 0.5, range: [1, 2]}'

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

    LIMITS = (0, 100)
    EXAMPLE = '{prob: 0.2, range: [0, 10]}'

    def apply(self, patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (H, W, 3)."""
        sigma = self.draw(rng)
        if not sigma:
            return patch
        noisy = patch + np.float32(sigma) * rng.standard_normal(patch.shape, dtype=np.float32)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
