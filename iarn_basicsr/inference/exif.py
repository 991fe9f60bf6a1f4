"""EXIF of a picture file: its orientation is applied to the pixels and taken out, all else is kept."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from PIL import ExifTags, Image

__all__ = ['exif_for_tiff', 'orientation_of', 'set_upright', 'turned', 'upright_exif']

_EXIF_START = b'Exif\0\0'
_LAYOUT_TAGS = (*range(254, 267), *range(273, 282), 284, *range(292, 294), 297, 301, *range(317, 342), 347,
                *range(512, 533), 700, 33723, 34377, 34675)  # how pixels lie in a TIFF, and profiles kept elsewhere


def orientation_of(file: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none, or the EXIF is damaged (``upright_exif`` will say so)."""
    try:
        return file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # struct.error, SyntaxError and more
        return 1


def upright_exif(file: Image.Image) -> bytes | None:
    """EXIF with the orientation taken out; raises anything if it is damaged."""
    raw = file.info.get('exif')
    if isinstance(raw, bytes) and raw:  # as it is: what Pillow writes anew loses maker notes and accents
        tiff = bytearray(raw.removeprefix(_EXIF_START))
        set_upright(tiff)
        return _EXIF_START + bytes(tiff)
    exif = file.getexif()
    _tidy(exif, _LAYOUT_TAGS if file.format == 'TIFF' else (ExifTags.Base.Orientation,))
    return exif.tobytes() if len(exif) else None


def _tidy(exif: Image.Exif, without: Iterable[int]) -> None:
    """Drop tags; keep the bytes of texts, which Pillow reads as Latin-1 and writes as ASCII."""
    for tag in without:
        exif.pop(tag, None)
    for tag, value in exif.items():
        if isinstance(value, str):
            exif[tag] = value.encode('latin-1', 'replace')


def exif_for_tiff(exif: bytes) -> Image.Exif | None:
    """EXIF as Pillow writes it into a TIFF, without the tags that say how pixels lie in the file it came from.

    None if it is damaged, which only a TIFF minds: other files hold it as it is.
    """
    made = Image.Exif()
    try:
        made.load(exif)
        _tidy(made, _LAYOUT_TAGS)
        made.tobytes()
    except Exception:  # struct.error, SyntaxError and more
        return None
    return made


def set_upright(tiff: bytearray) -> None:
    """In a TIFF structure (a file, or EXIF): orientation 1, and no second directory, whose thumbnail is not turned."""
    if tiff[:2] not in (b'II', b'MM'):
        raise ValueError('no TIFF structure')
    order = '<' if tiff[:2] == b'II' else '>'
    if struct.unpack_from(order + 'H', tiff, 2)[0] != 42:
        raise ValueError('an orientation in BigTIFF')
    (start,) = struct.unpack_from(order + 'I', tiff, 4)
    (count,) = struct.unpack_from(order + 'H', tiff, start)
    end = start + 2 + 12 * count
    for entry in range(start + 2, end, 12):
        if struct.unpack_from(order + 'H', tiff, entry)[0] == ExifTags.Base.Orientation:
            struct.pack_into(order + 'HIHH', tiff, entry + 2, 3, 1, 1, 0)
    if len(tiff) >= end + 4:
        struct.pack_into(order + 'I', tiff, end, 0)


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, ...) as EXIF orientation 1 to 8 wants them displayed."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
