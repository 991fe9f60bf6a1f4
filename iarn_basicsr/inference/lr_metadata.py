"""What an LR file says about its original, ``LRMetadata``, and where it stands in the file.

In a PNG it is a text chunk named ``iarn``, in a WebP a remark at the end of the XMP packet, in a JPEG the comment,
which jpegtran, ImageMagick and Pillow copy.
"""

from __future__ import annotations

import json
import zlib
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace
from PIL import Image

from iarn_basicsr.errors import DamagedMetadataError, MetadataError, OtherWeightsError, one_line, shortened
from iarn_basicsr.ops.jpeg import is_jpeg
from iarn_basicsr.payload import MAX_BITS

from .extras import Extras

__all__ = ['LRMetadata', 'checksum', 'put_metadata', 'take_metadata', 'thumbnail']

FORMAT = 1
_KEY = 'iarn'
_COMMENT = b'iarn '  # how the metadata in a comment start
_LONGEST_COMMENT = 60_000  # bytes; a JPEG holds 65533
_NO_XMP, _XMP_START, _XMP_STOP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>', b'<!--iarn ', b' iarn-->'
_CELLS = 8  # a side of a thumbnail
_OTHER_LOOK = 6.0  # grey levels; JPEG of quality 10 changes the thumbnail of a photograph by less than 2

Side = Annotated[int, Meta(ge=1, le=10**6)]
Word = Annotated[str, Meta(max_length=1000)]


class LRMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """How an LR image was made, and so how it is restored; ``LRMetadata.of`` makes it.

    Attributes:
        hr_size: (H, W) of the original.
        lr_size: (h, w) of the LR.
        model: name of the weights.
        weights: hash of the weights, see ``zoo.weights.weights_hash``.
        mode: ``L`` where the original was gray, else ``RGB``.
        alpha: whether the original had an alpha channel; WebP drops one that is opaque.
        extras: of the original, what the LR file cannot hold otherwise; empty but in the file.
        payload: bits of each sample that hold coded detail, 0 to 3.
        checksum: of the LR pixels; empty in a JPEG, whose pixels change.
        thumbnail: of the LR, which survives a JPEG.
        seal: CRC-32 of all the rest but ``extras``.
        format: version of this record.
    """

    hr_size: tuple[Side, Side]
    lr_size: tuple[Side, Side]
    model: Word
    weights: Word
    mode: Literal['L', 'RGB']
    alpha: bool
    payload: Annotated[float, Meta(ge=0, le=MAX_BITS)]
    checksum: Word
    thumbnail: Annotated[str, Meta(pattern=f'^[0-9a-f]{{{2 * _CELLS**2}}}$')]
    extras: Extras = Extras()
    seal: Word = ''
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.hr_size[0] < self.lr_size[0] or self.hr_size[1] < self.lr_size[1]:
            raise ValueError(f'the original {self.hr_size} is smaller than the LR {self.lr_size}')

    @classmethod
    def of(cls, lr: np.ndarray, *, hr_size: tuple[int, int], model: str, weights: str, mode: Literal['L', 'RGB'],
           alpha: bool = False, payload: float = 0) -> LRMetadata:
        """The sealed metadata of LR pixels (h, w, 3) uint8."""
        return cls(hr_size=hr_size, lr_size=(lr.shape[0], lr.shape[1]), model=one_line(model), weights=weights,
                   mode=mode, alpha=alpha, payload=float(payload), checksum=checksum(lr),
                   thumbnail=thumbnail(lr)).sealed()

    @classmethod
    def from_json(cls, text: str) -> LRMetadata:
        """Parse the metadata of a file.

        Raises:
            MetadataError: if they have another format.
            DamagedMetadataError: if they are anything else.
        """
        try:
            record = msgspec.json.decode(text)
            found = record.get('format') if isinstance(record, dict) else None
            if isinstance(found, int) and found != FORMAT:
                raise MetadataError(f'its IARN metadata have format {shortened(found)}, this iarn_basicsr reads '
                                    f'{FORMAT}')
            return msgspec.convert(record, cls)
        except MetadataError:
            raise
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DamagedMetadataError(f'its IARN metadata are damaged ({one_line(str(error), 200)})') from None

    def to_json(self) -> str:
        """What ``from_json`` reads, in ASCII."""
        return json.dumps(msgspec.to_builtins(self))

    def sealed(self) -> LRMetadata:
        """The same with the seal that belongs to it."""
        record = json.dumps({**msgspec.to_builtins(self), 'seal': '', 'extras': {}}, sort_keys=True)
        return replace(self, seal=f'{zlib.crc32(record.encode()):08x}')

    def for_jpeg(self) -> LRMetadata:
        """The same for a JPEG of the LR: no checksum and no payload."""
        return replace(self, checksum='', payload=0.0).sealed()

    def change(self, lr: np.ndarray) -> str:
        """What happened to the LR pixels (h, w, 3) uint8, or to this record, since it was made; or nothing."""
        (height, width), (h, w) = lr.shape[:2], self.lr_size
        if (height, width) != (h, w):
            return (f'it is {width}x{height} but was made {w}x{h} (width x height): it was resized, turned or cropped '
                    'since, and what it hid is lost')
        if self.checksum and checksum(lr) != self.checksum:
            return 'it was edited or recompressed since it was made, and what it hid is damaged'
        then, now = (np.frombuffer(bytes.fromhex(t), np.uint8).astype(float) for t in (self.thumbnail, thumbnail(lr)))
        if not self.checksum and np.sqrt(np.mean((then - now)**2)) > _OTHER_LOOK:
            return 'it does not look as it did when it was made: edited, or another picture with its metadata'
        if self.sealed() != self:
            return 'its IARN metadata were edited since it was made, and may name another size'
        return ''

    def check(self, lr: np.ndarray, model: str, weights: str) -> None:
        """Raise if LR pixels (h, w, 3) uint8 cannot be restored as they were made, with the weights of this hash.

        Raises:
            OtherWeightsError: if they were made with other weights.
            MetadataError: if the pixels or the metadata were changed since.
        """
        if self.weights != weights:
            raise OtherWeightsError(f'it was made with the weights {self.model!r} ({self.weights}), these are '
                                    f'{model!r} ({weights})', 'restore it with those, or try with force=True')
        change = self.change(lr)
        if change:
            raise MetadataError(change, 'force=True tries all the same')


def checksum(rgb: np.ndarray) -> str:
    """CRC-32 of pixels, eight hexadecimal digits."""
    return f'{zlib.crc32(np.ascontiguousarray(rgb).data):08x}'


def thumbnail(rgb: np.ndarray) -> str:
    """Mean brightness of 8 x 8 cells of a picture (H, W, 3) uint8, two hexadecimal digits each."""
    gray = Image.fromarray(rgb).convert('L')
    return np.asarray(gray.resize((_CELLS, _CELLS), Image.Resampling.BOX)).tobytes().hex()


def take_metadata(info: dict[Any, Any]) -> LRMetadata | None:
    """Take the metadata out of what Pillow (of a PNG, ``said_by``) found in a file, and leave the rest; or None.

    Raises:
        MetadataError: if they cannot be used.
    """
    xmp, comment = info.get('xmp'), info.get('comment')
    if _KEY in info:
        record = info.pop(_KEY)
    elif isinstance(xmp, bytes) and _XMP_START in xmp:
        own, _, record = xmp.rpartition(_XMP_START)
        record, _, rest = record.partition(_XMP_STOP)
        info['xmp'] = own + rest if own != _NO_XMP else b''
    elif isinstance(comment, bytes) and comment.startswith(_COMMENT):
        record = info.pop('comment')[len(_COMMENT):]
    else:
        return None
    return LRMetadata.from_json(record.decode(errors='replace'))


def put_metadata(metadata: LRMetadata, extras: dict[str, Any], options: dict[str, Any], ending: str) -> set[str]:
    """Put the metadata into options of Pillow's ``save``, and with them ``Extras`` that the file has no place for.

    Returns:
        names of the extras that went with them: all, or those for which a JPEG has room; none in kinds of files that
        have no place for metadata either.
    """
    if ending not in ('.png', '.webp') and not is_jpeg(ending):
        return set()
    metadata, kept = metadata.for_jpeg() if is_jpeg(ending) else metadata, dict(extras)
    record = replace(metadata, extras=Extras(**kept)).to_json()
    while is_jpeg(ending) and len(record) > _LONGEST_COMMENT:
        del kept[max(kept, key=lambda name: len(msgspec.json.encode(kept[name])))]
        record = replace(metadata, extras=Extras(**kept)).to_json()
    if ending == '.png':
        options['pnginfo'].add_text(_KEY, record)
    elif ending == '.webp':
        record = record.replace('--', '-\\u002d')  # or it would end the remark
        options['xmp'] = options.get('xmp', _NO_XMP) + _XMP_START + record.encode() + _XMP_STOP
    else:
        options['comment'] = _COMMENT + record.encode()
    return set(kept)
