"""JPEG as people meet it: files of libjpeg, written and read by Pillow.

Pillow and numpy are imported where they are used: the command line needs only the limits.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ['DEFAULT_QUALITY', 'QUALITIES', 'decoded', 'is_jpeg', 'jpeg_bytes', 'jpeg_copy', 'jpeg_options']

_ENDINGS = ('.jpg', '.jpeg')
QUALITIES = (1, 100)  # the lowest and the highest
DEFAULT_QUALITY = 90  # of an LR


def is_jpeg(path: str) -> bool:
    """Whether a file of this name is a JPEG."""
    return path.lower().endswith(_ENDINGS)


def jpeg_options(quality: int, subsampling: str = '4:2:0') -> dict[str, Any]:
    """For Pillow's ``save``; ``4:2:0`` is what nearly all programs write."""
    return {'quality': quality, 'subsampling': subsampling, 'optimize': True}


def jpeg_bytes(rgb: np.ndarray, quality: int, subsampling: str = '4:2:0') -> bytes:
    """A JPEG file of an image (H, W, 3), uint8, without metadata."""
    from PIL import Image
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, 'JPEG', **jpeg_options(quality, subsampling))
    return buffer.getvalue()


def jpeg_copy(rgb: np.ndarray, quality: int, subsampling: str = '4:2:0') -> np.ndarray:
    """What is left of an image (H, W, 3) uint8 after JPEG."""
    return decoded(jpeg_bytes(rgb, quality, subsampling))


def decoded(data: bytes) -> np.ndarray:
    """The pixels (H, W, 3) uint8 of an image file, of this or another kind."""
    import numpy as np
    from PIL import Image
    return np.array(Image.open(io.BytesIO(data)).convert('RGB'))
