"""PNG files chunk by chunk: decoders get the pixels alone, and what else a file says is read here.

Pillow limits the size of texts and colour profiles for the whole process, does not read cICP, and OpenCV limits every
chunk to 8 MB; each of them then refuses the pixels too.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Optional

from .memory import available_memory

__all__ = ['COLOUR_CHUNKS', 'LARGEST', 'Chunks', 'open_pixels', 'said_by']

Chunks = list[tuple[str, Optional[bytes]]]  # name and data; no data where the checksum is wrong

LARGEST = 2**26  # bytes of one thing that a file says beside its pixels; far more than any program writes
COLOUR_CHUNKS = {'cICP': 4, 'gAMA': 4, 'cHRM': 32, 'sRGB': 1}  # their lengths
_MAGIC = b'\x89PNG\r\n\x1a\n'
_DRAWN = (b'tRNS', b'acTL', b'fcTL', b'fdAT')  # of the ancillary chunks, those that decoders need
_UNWRITTEN = ('mDCV', 'cLLI')  # by Pillow; of the others, none changes how a picture is displayed
_TEXTS = {b'iarn': 'iarn', b'XML:com.adobe.xmp': 'xmp', b'Raw profile type exif': 'exif'}  # the last by ImageMagick


@contextmanager
def open_pixels(path: str) -> Iterator[tuple[BinaryIO, Chunks | None]]:
    """An image file as decoders get it; a PNG without the chunks that say something beside the pixels, and those."""
    with open(path, 'rb') as file:
        if file.peek(len(_MAGIC))[:len(_MAGIC)] != _MAGIC:
            yield file, None
            return
        size, name = os.fstat(file.fileno()).st_size, b''
        if size > available_memory():
            raise MemoryError
        pixels, chunks = io.BytesIO(), Chunks()
        pixels.write(file.read(len(_MAGIC)))
        while name != b'IEND' and (head := file.read(8)):
            length, name = struct.unpack('>I4s', head) if len(head) == 8 else (0, b'')
            body = file.read(min(length + 4, size))
            if not (name.isalpha() and name[0] & 32 and name not in _DRAWN and len(body) == length + 4):
                pixels.write(head + body)
                continue
            data, checksum = body[:-4], int.from_bytes(body[-4:], 'big')
            whole = zlib.crc32(name + data) == checksum or data.startswith(b'iarn\0')  # its seal shows what is damaged
            chunks.append((name.decode(), data if whole else None))
    pixels.seek(0)
    yield pixels, chunks


def said_by(chunks: Chunks) -> tuple[dict[str, Any], list[str]]:
    """What the chunks of a PNG say, by the names of Pillow's ``info``, and remarks on what is left out.

    ``iarn`` is the LR metadata, ``colour`` holds the data of ``COLOUR_CHUNKS`` and ``text`` the (name, data) of texts
    that are not known here, as they are.
    """
    said: dict[str, Any] = {'colour': {}, 'text': []}
    damaged = set[str]()
    for name, data in chunks:
        try:
            if data is None:
                damaged.add(name)
            elif name in COLOUR_CHUNKS and len(data) == COLOUR_CHUNKS[name]:
                said['colour'].setdefault(name, data)
            elif name in COLOUR_CHUNKS:
                raise ValueError('a wrong length')
            elif name == 'iCCP':
                said['icc_profile'] = _inflated(data.partition(b'\0')[2][1:])
            elif name == 'eXIf':
                said['exif'] = b'Exif\0\0' + data
            elif name == 'pHYs':
                x, y, unit = struct.unpack('>IIB', data)
                said['dpi' if unit == 1 else 'aspect'] = (x * 0.0254, y * 0.0254)
            elif name in ('tEXt', 'zTXt', 'iTXt'):
                key, _, value = data.partition(b'\0')
                if key in _TEXTS:
                    value = _text(name, value)
                    said.setdefault(_TEXTS[key], bytes.fromhex(''.join(value.decode().split('\n')[3:]))
                                    if _TEXTS[key] == 'exif' else value)
                elif (name, key) == ('tEXt', b'Comment'):
                    said.setdefault('comment', value)
                else:
                    said['text'].append((name, data))
        except (zlib.error, struct.error, ValueError):
            damaged.add(name)
    unwritten = {name for name, data in chunks if data and name in _UNWRITTEN}
    return said, [f'its {", ".join(sorted(names))} {why} left out' for names, why in (
        (damaged, 'is damaged and'), (unwritten, 'cannot be written and is')) if names]


def _text(name: str, value: bytes) -> bytes:
    """What follows the keyword of a text chunk, without its languages and unpacked."""
    packed = name == 'zTXt' or (name == 'iTXt' and value[:1] == b'\1')
    if name == 'iTXt':
        value = value[2:].split(b'\0', 2)[-1]
    return _inflated(value[1:] if name == 'zTXt' else value) if packed else value


def _inflated(data: bytes) -> bytes:
    """Of what unpacks to more than ``LARGEST``, one byte more than that."""
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(data, LARGEST + 1)
    if not unpacker.eof and len(unpacked) <= LARGEST:
        raise zlib.error('cut short')
    return unpacked
