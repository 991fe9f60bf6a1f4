"""How rescaling results are measured: 8-bit LR, 8-bit result, border of ceil(max scale) cropped, PSNR capped.

BasicSR's metric functions compute; this module adds what they leave open for rescaling: the border at a non-integer
scale, the comparison of the LR with the bicubic LR, and identical images (``inf`` there, 100 dB here).
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from basicsr.metrics import calculate_metric

from iarn_basicsr.ops.size import max_scale_of

__all__ = ['DEFAULT_METRICS', 'PROTOCOL', 'PSNR_CAP', 'border_of', 'evaluate']

PSNR_CAP = 100.0  # dB, for identical images
SSIM_WINDOW = 11  # pixels; BasicSR's SSIM is undefined for smaller images
NIQE_BLOCK = 96  # pixels; BasicSR's NIQE compares the statistics of two blocks at least
PROTOCOL = ('8-bit LR, 8-bit result, border of ceil(max scale) cropped, Y = BT.601 16-235; '
            'lr_*: LR against the 8-bit bicubic LR')

# name -> metric; ``compare: lr``: LR against bicubic LR, ``hr``: restored against HR; ``crop_border: auto``:
# ceil(max scale)
DEFAULT_METRICS: dict[str, dict[str, Any]] = {
    f'{of}{kind}_{channel}': {
        'type': f'calculate_{kind}',
        'test_y_channel': channel == 'y',
        'crop_border': 'auto',
        'compare': 'lr' if of else 'hr'
    }
    for of in ('', 'lr_') for channel in ('y', 'rgb') for kind in ('psnr', 'ssim')
}


def border_of(hr_size: tuple[int, int], lr_size: tuple[int, int]) -> int:
    """Pixels cropped on every side before measuring: ceil of the larger true ratio."""
    return math.ceil(max_scale_of(hr_size, lr_size) - 1e-6)


def evaluate(hr: tuple[np.ndarray, np.ndarray], lr: tuple[np.ndarray, np.ndarray],
             metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Measure one rescaled image.

    Args:
        hr: (restored, original), uint8 BGR (H, W, 3).
        lr: (LR image, bicubic LR image), uint8 BGR (h, w, 3).
        metrics: name -> options of a BasicSR metric, see ``DEFAULT_METRICS``.

    Returns:
        name -> value, without SSIM of an image that is too small for it.
    """
    auto = border_of(hr[1].shape[:2], lr[1].shape[:2])
    values = {}
    for name, options in metrics.items():
        options = dict(options)
        image, reference = lr if options.pop('compare', 'hr') == 'lr' else hr
        options.pop('better', None)  # BasicSR's key for its own table of best values
        border = auto if options.get('crop_border', 'auto') == 'auto' else int(options['crop_border'])
        options['crop_border'] = min(border, (min(reference.shape[:2]) - 1) // 2)
        height, width = (n - 2 * options['crop_border'] for n in image.shape[:2])
        if 'ssim' in options['type'] and min(height, width) < SSIM_WINDOW:
            continue
        if 'niqe' in options['type'] and (height // NIQE_BLOCK) * (width // NIQE_BLOCK) < 2:
            _warn_of_small_images(name)
            continue
        value = float(calculate_metric({'img': image, 'img2': reference}, options))
        values[name] = min(value, PSNR_CAP) if 'psnr' in options['type'] else value
    return values


@functools.lru_cache
def _warn_of_small_images(name: str) -> None:
    """Once a process and metric: a data set may have many."""
    logging.getLogger('iarn_basicsr').warning(
        'val.metrics.%s: NIQE needs %d x %d pixels and more within crop_border; smaller images are left out', name,
        2 * NIQE_BLOCK, NIQE_BLOCK)
