"""Pixels of 16 bits a channel. Pillow keeps 8 of them in colour, so OpenCV decodes those, where it does so rightly."""

from __future__ import annotations

import threading
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from iarn_basicsr.errors import ImageError

from .exif import set_upright

__all__ = ['by_opencv', 'deep_pixels', 'refuse_kind']

_BITS, _PHOTOMETRIC, _PLANES, _EXTRA, _FORMAT = 258, 262, 284, 338, 339  # tags of a TIFF
_WHITE_IS_ZERO, _SEPARATE, _UNSPECIFIED, _MULTIPLIED = 0, 2, 0, 1  # their values
_SIGNED, _FLOAT = 2, 3
_SILENT = threading.Lock()  # the level of OpenCV's log holds for the whole process


def refuse_kind(file: Image.Image, path: str) -> None:
    """Raise ``ImageError`` for an opened file of a kind that would be read wrongly."""
    tags = getattr(file, 'tag_v2', {})
    bits, formats = _numbers(tags, _BITS), _numbers(tags, _FORMAT)
    depth = max(bits, default=32 if file.mode == 'F' or (file.mode == 'I' and file.format not in ('PNG', 'PPM')) else 8)
    kind = ''
    if _SIGNED in formats:
        kind = ' with a sign'
    elif _FLOAT in formats or file.mode == 'F':
        kind = ' of floating point'
    if kind or depth > 16:
        raise ImageError(f'{path}: {depth} bits a channel{kind} cannot be used, convert it to 16 or 8 unsigned bits')
    if depth > 8 and len(bits) > 1 and _numbers(tags, _PLANES) == (_SEPARATE,):  # OpenCV makes noise of it
        raise ImageError(f'{path}: 16 bits a channel in separate planes cannot be used, save it with interleaved '
                         'channels, or as a PNG')


def by_opencv(file: Image.Image) -> bool:
    """Whether the 16-bit pixels of a file are decoded by OpenCV: all but gray ones."""
    return not file.mode.startswith('I')


def deep_pixels(file: Image.Image, raw: BinaryIO, orientation: int) -> tuple[np.ndarray, np.ndarray | None, str] | None:
    """(rgb, alpha, mode) of a loaded file with more than 8 bits a channel, as of a ``Picture``; None of another.

    ``raw`` is what it was opened from. The pixels are turned by Pillow where the file is a gray TIFF, and else in the
    order of the file.
    """
    tags = getattr(file, 'tag_v2', {})
    bits = _numbers(tags, _BITS)
    if not by_opencv(file):
        gray, clear = np.asarray(file).astype(np.uint16), file.info.get('transparency')
        alpha = np.where(gray == clear, 0, 255).astype(np.uint8) if isinstance(clear, int) else None
        factor = 65535 // (2**max(bits, default=16) - 1)
        gray = np.minimum(gray.astype(np.uint32) * factor, 65535).astype(np.uint16) if factor > 1 else gray
        gray = 65535 - gray if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else gray
        return np.repeat(gray[..., None], 3, 2), alpha, 'L'
    depth, colour = max(bits, default=8), 0
    if file.format == 'PNG':
        raw.seek(24)
        depth, colour = raw.read(2)
    if file.mode not in ('RGB', 'RGBA', 'RGBX', 'LA') or depth != 16:
        return None
    image = _by_opencv(raw, file.format == 'TIFF' and orientation != 1)
    rgb, alpha = np.ascontiguousarray(image[..., 2::-1]), image[..., 3] if image.shape[2] == 4 else None
    extra = _numbers(tags, _EXTRA)[:1]
    if alpha is None or extra == (_UNSPECIFIED,):
        return rgb, None, 'RGB'
    if extra == (_MULTIPLIED,):
        rgb = np.minimum(np.round(rgb * (np.float32(65535) / np.maximum(alpha, 1)[..., None])), 65535).astype(np.uint16)
    return rgb, (alpha >> 8).astype(np.uint8), 'L' if colour == 4 else 'RGB'


def _numbers(tags: object, tag: int) -> tuple[int, ...]:
    """The whole numbers of a tag of a TIFF; none where it is missing or something else."""
    value = tags.get(tag, ()) if hasattr(tags, 'get') else ()
    return tuple(n for n in (value if isinstance(value, tuple) else (value,)) if isinstance(n, int))


def _by_opencv(raw: BinaryIO, turned_tiff: bool) -> np.ndarray:
    """BGR or BGRA in 16 bits, not turned: of a TIFF, OpenCV turns some orientations and fails on the others.

    From bytes: OpenCV's own reading of a file ends the process where the name is no UTF-8.
    """
    raw.seek(0)
    data = bytearray(raw.read())
    if turned_tiff:
        set_upright(data)
    log = cv2.utils.logging
    with _SILENT:
        level = log.setLogLevel(log.LOG_LEVEL_SILENT)  # or it talks of harmless tags
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        finally:
            log.setLogLevel(level)
    if image is None or image.dtype != np.uint16 or image.ndim != 3:
        raise ValueError('16-bit pixels cannot be decoded')
    return image
