"""Image files of the codecs that are compared: of a quality, and the best that fits into a number of bytes."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from iarn_basicsr.ops.jpeg import QUALITIES, jpeg_bytes

__all__ = ['FORMATS', 'Files', 'avif_bytes', 'avif_files', 'jpeg_files', 'lossy_bytes', 'webp_bytes']

FORMATS = ('jpeg', 'jpeg444', 'webp', 'avif')  # of a lossy LR


def lossy_bytes(rgb: np.ndarray, form: str, quality: int) -> bytes:
    """A lossy file of an image (H, W, 3) uint8, as programs write it: but for ``jpeg444``, with halved chroma.

    Args:
        rgb: the image.
        form: one of :data:`FORMATS`.
        quality: as the codec understands it.
    """
    if form in ('jpeg', 'jpeg444'):
        return jpeg_bytes(rgb, quality, '4:2:0' if form == 'jpeg' else '4:4:4')
    return _saved(rgb, form, quality=quality, **({'max_threads': 1} if form == 'avif' else {}))


def avif_bytes(rgb: np.ndarray, quality: int) -> bytes:
    """An AVIF at its best: 4:4:4, tuned for PSNR."""
    return _saved(rgb, 'AVIF', quality=quality, subsampling='4:4:4', codec='aom', max_threads=1,
                  advanced={'tune': 'psnr'})


def webp_bytes(rgb: np.ndarray) -> bytes:
    """The pixels (H, W, 3) uint8 as a lossless WebP file, without metadata."""
    return _saved(rgb, 'WEBP', lossless=True)


class Files:
    """The files of one image by one codec, of every quality; each is made once, when it is needed.

    Args:
        make: the file of a quality.
        lowest, highest: quality.
    """

    def __init__(self, make: Callable[[int], bytes], lowest: int, highest: int) -> None:
        self._make, self._range = functools.cache(make), (lowest, highest)

    def within(self, budget: int) -> bytes:
        """The file of the highest quality that has at most ``budget`` bytes; empty where none has."""
        best, (low, high) = b'', self._range
        while low <= high:
            middle = (low + high) // 2
            data = self._make(middle)
            if len(data) <= budget:
                best, low = data, middle + 1
            else:
                high = middle - 1
        return best


def jpeg_files(rgb: np.ndarray) -> Files:
    """Plain JPEG files (4:2:0) of an image (H, W, 3) uint8."""
    return Files(functools.partial(jpeg_bytes, rgb), *QUALITIES)


def avif_files(rgb: np.ndarray) -> Files:
    """Plain AVIF files of an image (H, W, 3) uint8, see :func:`avif_bytes`."""
    return Files(functools.partial(avif_bytes, rgb), 0, 100)


def _saved(rgb: np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, form, **options)
    return buffer.getvalue()
