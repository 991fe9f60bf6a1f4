"""Difference in colour as people see it: CIEDE2000, by scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
from basicsr.utils.registry import METRIC_REGISTRY

__all__ = ['calculate_ciede2000']


@METRIC_REGISTRY.register()
def calculate_ciede2000(img: np.ndarray, img2: np.ndarray, crop_border: int, percentile: float | None = None,
                        **kwargs: Any) -> float:
    """CIEDE2000 between two images, pixel by pixel; about 1 is just visible, 100 is black against white.

    Args:
        img, img2: uint8 BGR (H, W, 3), taken as sRGB under D65.
        crop_border: pixels to leave out on every side.
        percentile: 0 to 100, in place of the mean over the pixels.
        kwargs: options of BasicSR's other metrics, ignored.

    Raises:
        ValueError: for images of different shapes.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab  # BasicSR depends on it; loaded where it is used

    if img.shape != img2.shape:
        raise ValueError(f'images of different shapes: {img.shape} and {img2.shape}')
    inner = np.s_[crop_border:img.shape[0] - crop_border, crop_border:img.shape[1] - crop_border, ::-1]
    difference = deltaE_ciede2000(*(rgb2lab(image[inner]) for image in (img, img2)))
    return float(difference.mean() if percentile is None else np.percentile(difference, percentile))
