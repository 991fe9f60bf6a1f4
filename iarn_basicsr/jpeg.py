"""JPEG as people meet it: files of libjpeg, written and read by Pillow.

Pillow and numpy are imported where they are used: the command line needs only the limits.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ['DEFAULT_QUALITY', 'ENDINGS', 'QUALITIES', 'SUBSAMPLINGS', 'is_jpeg', 'jpeg_bytes', 'jpeg_copy',
           'jpeg_options']

ENDINGS = ('.jpg', '.jpeg')
QUALITIES = (1, 100)  # the lowest and the highest
DEFAULT_QUALITY = 90  # of an LR
SUBSAMPLINGS = ('4:2:0', '4:2:2', '4:4:4')  # of chroma; the first is what nearly all programs write


def is_jpeg(path: str) -> bool:
    """Whether a file of this name is a JPEG."""
    return path.lower().endswith(ENDINGS)


def jpeg_options(quality: int, subsampling: str = '4:2:0') -> dict[str, Any]:
    """For Pillow's ``save``."""
    return {'quality': quality, 'subsampling': subsampling, 'optimize': True}


def jpeg_bytes(rgb: np.ndarray, quality: int, subsampling: str = '4:2:0') -> bytes:
    """A JPEG file of an image (H, W, 3), uint8, without metadata."""
    from PIL import Image
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, 'JPEG', **jpeg_options(quality, subsampling))
    return buffer.getvalue()


def jpeg_copy(rgb: np.ndarray, quality: int, subsampling: str = '4:2:0') -> np.ndarray:
    """What is left of an image (H, W, 3) uint8 after JPEG."""
    import numpy as np
    from PIL import Image
    return np.array(Image.open(io.BytesIO(jpeg_bytes(rgb, quality, subsampling))).convert('RGB'))
