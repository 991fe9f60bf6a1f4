"""What an LR file says of how it is restored, and where it stands in the file: ``Recipe``.

In a PNG it is a text chunk named ``iarn``, in a WebP the XMP packet.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from iarn_basicsr.errors import RecipeError
from iarn_basicsr.payload import MAX_BITS

from .text import LONGEST, printable, shortened

__all__ = ['FORMAT_VERSION', 'Recipe', 'checksum', 'read_recipe', 'recipe_options']

FORMAT_VERSION = 2  # the newest that is read; 1 is written where there is no payload
_KEY = 'iarn'
_LONGEST_SIDE = 10**6
_LONGEST_REASON = 200  # characters
_XMP_START, _XMP_STOP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!--iarn ', b' iarn--></x:xmpmeta>'


@dataclass(frozen=True)
class Recipe:
    """How an LR image was made, and so how it is restored.

    Attributes:
        hr_size: (H, W) of the original.
        lr_size: (h, w); a file that was resized since no longer fits it.
        model: name of the weights.
        weights: hash of the weights, see ``Rescaler.weights_hash``.
        mode: ``L`` where the original was gray, else ``RGB``.
        pixels: :func:`checksum` of the LR pixels; a file that was edited or recompressed since no longer fits it.
        alpha: whether the original had an alpha channel; WebP drops one that is opaque.
        gray_icc: colour profile of a gray original, in Base64: it does not fit the colours of the LR.
        format: version of this record: 2 with a payload, which 1 does not know, else 1.
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

    def sealed(self) -> Recipe:
        """With the seal that belongs to it."""
        record = json.dumps({**self._record(), 'seal': ''}, sort_keys=True)
        return replace(self, seal=f'{zlib.crc32(record.encode()):08x}')

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
    def from_json(cls, text: str) -> Recipe:
        """Parse the metadata of a file.

        Raises:
            RecipeError: for another format version or damaged metadata.
        """
        try:
            record = json.loads(text)
            if record['format'] > FORMAT_VERSION:
                newer = f'(metadata format {_number(record["format"])}, this one reads {FORMAT_VERSION})'
                raise RecipeError(f'it was made by a newer iarn_basicsr {newer}: upgrade')
            if record['mode'] not in ('L', 'RGB'):
                raise ValueError(f'mode {record["mode"]!r}')
            gray_icc = record.get('gray_icc', '')
            base64.b64decode(gray_icc, validate=True)
            hr, lr = _size(record['hr_size']), _size(record['lr_size'])
            if hr[0] < lr[0] or hr[1] < lr[1]:
                raise ValueError(f'original {hr[1]}x{hr[0]}, smaller than {lr[1]}x{lr[0]}')
            return cls(hr, lr, _word(record['model']), _word(record['weights']), record['mode'],
                       _word(record['pixels']), bool(record.get('alpha', False)), gray_icc, int(record['format']),
                       _bits(record.get('payload', 0)), _word(record.get('seal', '')))
        except RecipeError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            reason = shortened(printable(f'{type(error).__name__}: {error}'), _LONGEST_REASON)
            raise RecipeError(f'its IARN metadata are damaged ({reason})') from None


def read_recipe(file: Image.Image) -> Recipe | None:
    """The recipe in an opened image file; None if it has none.

    Raises:
        RecipeError: if it has one that cannot be used.
    """
    text = _text_of(file)
    return Recipe.from_json(text) if text else None


def recipe_options(recipe: Recipe | None, ending: str) -> dict[str, Any]:
    """Options of Pillow's ``save`` that put the recipe into a file; a kind that cannot hold it gets none."""
    if recipe is None:
        return {}
    record = recipe.to_json()
    if ending == '.webp':
        return {'xmp': _XMP_START + record.encode() + _XMP_STOP}
    if ending == '.png':
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text(_KEY, record)
        return {'pnginfo': chunks}
    return {}


def checksum(rgb: np.ndarray) -> str:
    """CRC-32 of pixels, eight hexadecimal digits."""
    return f'{zlib.crc32(np.ascontiguousarray(rgb).data):08x}'


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
    return None
