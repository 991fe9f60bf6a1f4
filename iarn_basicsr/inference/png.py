"""PNG files chunk by chunk: decoders get the pixels alone, and what else a file says is read here.

Pillow limits the size of texts and colour profiles for the whole process, does not read cICP, and OpenCV limits every
chunk to 8 MB; each of them then refuses the pixels too.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import Any, BinaryIO

__all__ = ['COLOUR_CHUNKS', 'LARGEST', 'Pixels', 'open_pixels', 'said_by']

LARGEST = 2**26  # bytes of one thing that a file says beside its pixels; far more than any program writes
COLOUR_CHUNKS = {'cICP': 4, 'gAMA': 4, 'cHRM': 32, 'sRGB': 1}  # their lengths
_MAGIC = b'\x89PNG\r\n\x1a\n'
_DRAWN = (b'tRNS', b'acTL', b'fcTL', b'fdAT')  # of the ancillary chunks, those that decoders need
_UNWRITTEN = ('mDCV', 'cLLI')  # by Pillow; of the others, none changes how a picture is displayed
_TEXTS = {b'iarn': 'iarn', b'XML:com.adobe.xmp': 'xmp', b'Raw profile type exif': 'exif'}  # the last by ImageMagick


class Pixels(io.RawIOBase):
    """A PNG file without the chunks that say something beside the pixels: (name, data) of those is in ``chunks``.

    Of a chunk whose checksum is wrong, only the name is in ``damaged``.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._place = file, 0
        self._parts: list[tuple[int, int]] = [(0, len(_MAGIC))]  # (start, stop) of what is left
        self.chunks: list[tuple[bytes, bytes]] = []
        self.damaged: list[str] = []
        size, start, name = os.fstat(file.fileno()).st_size, len(_MAGIC), b''
        while start < size and name != b'IEND':
            file.seek(start)
            head = file.read(8)
            length, name = struct.unpack('>I4s', head) if len(head) == 8 else (size, b'')
            stop = start + 12 + length
            if name.isalpha() and name[0] & 32 and name not in _DRAWN and stop <= size:
                data, checksum = file.read(length), file.read(4)
                if zlib.crc32(name + data) == int.from_bytes(checksum, 'big') or data.startswith(b'iarn\0'):
                    self.chunks.append((name, data))  # the seal in our own shows what is damaged
                else:
                    self.damaged.append(name.decode())
            elif self._parts[-1][1] == start:
                self._parts[-1] = self._parts[-1][0], min(stop, size)
            else:
                self._parts.append((start, min(stop, size)))
            start = stop

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        total = sum(stop - start for start, stop in self._parts)
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: total}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        place = self._place
        for start, stop in self._parts:
            if place < stop - start:
                self._file.seek(start + place)
                count = self._file.readinto(memoryview(buffer)[:stop - start - place])  # type: ignore[attr-defined]
                self._place += count
                return count
            place -= stop - start
        return 0

    def close(self) -> None:
        self._file.close()
        super().close()


def open_pixels(path: str) -> io.BufferedReader:
    """An image file as decoders get it; ``raw`` of a PNG is ``Pixels``."""
    file = open(path, 'rb')  # noqa: SIM115  # its reader closes it
    if file.peek(len(_MAGIC))[:len(_MAGIC)] == _MAGIC:
        return io.BufferedReader(Pixels(file))
    return file


def said_by(pixels: Pixels) -> tuple[dict[str, Any], list[str]]:
    """What a PNG says beside its pixels, by the names of Pillow's ``info``, and remarks on what is left out.

    ``iarn`` is the LR metadata, ``colour`` holds the data of ``COLOUR_CHUNKS`` and ``text`` the (name, data) of texts
    that are not known here, as they are.
    """
    said: dict[str, Any] = {'colour': {}, 'text': []}
    unwritten, damaged = set[str](), set(pixels.damaged)
    for chunk, data in pixels.chunks:
        name = chunk.decode()
        try:
            if name in COLOUR_CHUNKS and len(data) == COLOUR_CHUNKS[name]:
                said['colour'].setdefault(name, data)
            elif name in COLOUR_CHUNKS:
                raise ValueError('a wrong length')
            elif name in _UNWRITTEN:
                unwritten.add(name)
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
