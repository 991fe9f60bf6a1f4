"""What an LR file says of how it is restored, and where it stands in the file: ``LRMetadata``.

In a PNG it is a text chunk named ``iarn``, in a WebP the XMP packet, in a JPEG the comment, which jpegtran,
ImageMagick and Pillow copy.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from iarn_basicsr.errors import MetadataError
from iarn_basicsr.ops.jpeg import is_jpeg
from iarn_basicsr.payload import MAX_BITS

from .text import LONGEST, printable, shortened

__all__ = ['FORMAT_VERSION', 'LRMetadata', 'checksum', 'look', 'metadata_options', 'read_metadata']

FORMAT_VERSION = 3  # the newest that is read; the oldest that says it all is written
_OF_JPEG = 3
_COMMENT = b'iarn '  # what the metadata in a comment starts with
_LONGEST_COMMENT = 60_000  # bytes; a JPEG holds 65533
_CELLS = 8  # a side of what :func:`look` sees
_OTHER_LOOK = 6.0  # grey levels; JPEG of quality 10 changes a photograph by less than 2
_KEY = 'iarn'
_LONGEST_SIDE = 10**6
_LONGEST_REASON = 200  # characters
_XMP_START, _XMP_STOP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!--iarn ', b' iarn--></x:xmpmeta>'


@dataclass(frozen=True)
class LRMetadata:
    """How an LR image was made, and so how it is restored.

    Attributes:
        hr_size: (H, W) of the original.
        lr_size: (h, w); a file that was resized since no longer fits it.
        model: name of the weights.
        weights: hash of the weights, see ``Rescaler.weights_hash``.
        mode: ``L`` where the original was gray, else ``RGB``.
        pixels: :func:`checksum` of the LR pixels; a file that was edited or recompressed since no longer fits it. In a
            JPEG :func:`look`, which survives recompressing.
        alpha: whether the original had an alpha channel; WebP drops one that is opaque.
        gray_icc: colour profile of a gray original, in Base64: it does not fit the colours of the LR.
        format: version of this record: 3 in a JPEG, 2 with a payload, which 1 does not know, else 1.
        payload: bits a sample that hold coded detail, 0 to 3.
        seal: CRC-32 of all the rest, see :meth:`sealed`; empty in files of 0.1.0.
    """

    hr_size: tuple[int, int]
    lr_size: tuple[int, int]
    model: str
    weights: str
    mode: str
    pixels: str
    alpha: bool = False
    gray_icc: str = ''
    format: int = 1
    payload: float = 0
    seal: str = ''

    def sealed(self) -> LRMetadata:
        """With the seal that belongs to it."""
        record = json.dumps({**self._record(), 'seal': ''}, sort_keys=True)
        return replace(self, seal=f'{zlib.crc32(record.encode()):08x}')

    def for_jpeg(self, rgb: np.ndarray) -> LRMetadata:
        """The same for a JPEG of the LR pixels, in which a payload is lost."""
        metadata = replace(self, pixels=look(rgb), format=_OF_JPEG, payload=0).sealed()
        if len(metadata.to_json()) > _LONGEST_COMMENT:
            metadata = replace(metadata, gray_icc='').sealed()
        return metadata

    def change(self, rgb: np.ndarray) -> str:
        """What happened to LR pixels of the right size since this was written, as far as it can be told; or nothing."""
        if self.format < _OF_JPEG:
            edited = checksum(rgb) != self.pixels
            return 'it was edited or recompressed since it was made, and what it hid is damaged' if edited else ''
        then, now = (np.frombuffer(bytes.fromhex(text), np.uint8).astype(float) for text in (self.pixels, look(rgb)))
        edited = np.sqrt(np.mean((then - now)**2)) > _OTHER_LOOK
        return 'it does not look as it did when it was made: edited, or another picture with its metadata' \
            if edited else ''

    def to_json(self) -> str:
        """What :meth:`from_json` reads."""
        return json.dumps(self._record())

    def _record(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != 'payload' or value}

    @property
    def intact(self) -> bool:
        """Whether it is as it was made, as far as it says."""
        return not self.seal or self.sealed() == self

    @classmethod
    def from_json(cls, text: str) -> LRMetadata:
        """Parse the metadata of a file.

        Raises:
            MetadataError: for another format version or damaged metadata.
        """
        try:
            record = json.loads(text)
            if record['format'] > FORMAT_VERSION:
                newer = f'(metadata format {_number(record["format"])}, this one reads {FORMAT_VERSION})'
                raise MetadataError(f'it was made by a newer iarn_basicsr {newer}: upgrade')
            if record['mode'] not in ('L', 'RGB'):
                raise ValueError(f'mode {record["mode"]!r}')
            gray_icc = record.get('gray_icc', '')
            base64.b64decode(gray_icc, validate=True)
            hr, lr = _size(record['hr_size']), _size(record['lr_size'])
            if record['format'] == _OF_JPEG and len(bytes.fromhex(_word(record['pixels']))) != _CELLS**2:
                raise ValueError(f'pixels {record["pixels"]!r}')
            if hr[0] < lr[0] or hr[1] < lr[1]:
                raise ValueError(f'original {hr[1]}x{hr[0]}, smaller than {lr[1]}x{lr[0]}')
            return cls(hr, lr, _word(record['model']), _word(record['weights']), record['mode'],
                       _word(record['pixels']), bool(record.get('alpha', False)), gray_icc, int(record['format']),
                       _bits(record.get('payload', 0)), _word(record.get('seal', '')))
        except MetadataError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            reason = shortened(printable(f'{type(error).__name__}: {error}'), _LONGEST_REASON)
            raise MetadataError(f'its IARN metadata are damaged ({reason})') from None


def read_metadata(file: Image.Image) -> LRMetadata | None:
    """The metadata in an opened image file; None if it has none.

    Raises:
        MetadataError: if it has one that cannot be used.
    """
    text = _text_of(file)
    return LRMetadata.from_json(text) if text else None


def metadata_options(metadata: LRMetadata | None, ending: str) -> dict[str, Any]:
    """Options of Pillow's ``save`` that put the metadata into a file; a kind that cannot hold it gets none."""
    if metadata is None:
        return {}
    record = metadata.to_json()
    if ending == '.webp':
        return {'xmp': _XMP_START + record.encode() + _XMP_STOP}
    if is_jpeg(ending):
        return {'comment': _COMMENT + record.encode()}
    if ending == '.png':
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text(_KEY, record)
        return {'pnginfo': chunks}
    return {}


def checksum(rgb: np.ndarray) -> str:
    """CRC-32 of pixels, eight hexadecimal digits."""
    return f'{zlib.crc32(np.ascontiguousarray(rgb).data):08x}'


def look(rgb: np.ndarray) -> str:
    """Mean brightness of 8 x 8 cells of a picture (H, W, 3), two hexadecimal digits each."""
    gray = Image.fromarray(rgb).convert('L')
    return np.asarray(gray.resize((_CELLS, _CELLS), Image.Resampling.BOX)).tobytes().hex()


def _size(value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(type(n) is int and 0 < n <= _LONGEST_SIDE
                                                                 for n in value):
        raise ValueError(f'size {value!r}')
    return value[0], value[1]


def _number(value: object) -> str:
    return shortened(f'{value:g}' if isinstance(value, float) else str(value), _LONGEST_REASON)


def _bits(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_BITS:
        raise ValueError(f'payload {value!r}')
    return value


def _word(value: object) -> str:
    """Text that is short."""
    if not isinstance(value, str) or len(value) > LONGEST:
        raise ValueError(f'a text of at most {LONGEST} characters was expected, not {value!r}')
    return value


def _text_of(file: Image.Image) -> str | None:
    if isinstance(getattr(file, 'text', None), dict) and _KEY in file.text:  # type: ignore[attr-defined]
        return str(file.text[_KEY])  # type: ignore[attr-defined]
    xmp = file.info.get('xmp', b'')
    if isinstance(xmp, bytes) and _XMP_START in xmp:
        return xmp.split(_XMP_START, 1)[1].split(_XMP_STOP, 1)[0].decode(errors='replace')
    comment = file.info.get('comment', b'')
    if isinstance(comment, bytes) and comment.startswith(_COMMENT):
        return comment[len(_COMMENT):].decode(errors='replace')
    return None
