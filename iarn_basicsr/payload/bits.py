"""A message in the low digits of an 8-bit image.

A sample is divided into cells of r grey levels. Its cell, r floor(x / r), stays; its place in the cell becomes a digit
of the message, which is k = log2(r) bits a sample. Cells of 2, 4 and 8 levels are 1, 2 and 3 low bits. Where r is not
an integer, e eighths of the samples have cells of one level more: those with e (x + 3 y + 5 c) mod 8 < e, a regular
grid. (Mixing 2 and 3 bits instead costs the image 1 dB more at the same capacity.) Digits are taken in groups that hold
a whole number of bits. The samples with the smaller cells are filled first, then the others, each in memory order. A
short message leaves the remaining samples unchanged.

The header stands in bit 0 of the first 88 samples whatever k is, so that the picture itself says k.

====== ======================================================
bits   header, high bits first
====== ======================================================
13, 3  magic, version
2, 6   codec of the message, eighths of levels (8 r + e) - 1
32     bytes of the message
32     CRC-32 of the seven bytes above and of the message
====== ======================================================
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from iarn_basicsr.errors import IARNError, OptionError

from . import MAX_BITS

__all__ = ['VERSION', 'PayloadError', 'capacity', 'declared', 'high_part', 'read', 'write']

VERSION = 1
_MAGIC = 0x1A58  # its last three bits are the version
_HEAD, _CRC = struct.Struct('>HBI'), struct.Struct('>I')
_HEADER = _HEAD.size + _CRC.size  # bytes
_HEADER_SAMPLES = 8 * _HEADER
_GROUPS = {2: (1, 1), 3: (12, 19), 4: (1, 2), 5: (25, 58), 6: (12, 31), 7: (5, 14), 8: (1, 3)}  # levels: digits, bits
_BLOCK = 2**18  # groups in one numpy operation


class PayloadError(IARNError):
    """A picture whose low bits hold no message, or none that can be used.

    Attributes:
        reason: ``none``, ``version``, ``length`` or ``damaged``; ``codec`` if the reader does not know the codec.
    """

    def __init__(self, message: str, reason: str = 'damaged') -> None:  # a default, for workers send errors back
        super().__init__(message)
        self.reason = reason


def capacity(h: int, w: int, c: int, k: float) -> int:
    """Bytes of the longest message that an (h, w, c) image holds at k bits a sample.

    Raises:
        OptionError: if k is not from 0 to 3.
    """
    return sum(len(index) // _GROUPS[r][0] * _GROUPS[r][1] for r, index in _carriers((h, w, c), _eighths(k))) // 8


def write(image: np.ndarray, message: bytes, codec: int, k: float) -> np.ndarray:
    """The image (h, w, c) uint8 with a message in its low bits; with an empty message, an unchanged copy.

    Raises:
        OptionError: if the message is longer than ``capacity``, or k (bits a sample) is out of range.
    """
    eighths, stored = _eighths(k), image.copy()
    if not message:
        return stored
    samples, rest = stored.reshape(-1), np.unpackbits(np.frombuffer(message, np.uint8))
    for r, index in _groups(image.shape, eighths, rest.size):
        width = _GROUPS[r][1]
        bits = np.zeros((len(index), width), np.uint8)
        part = rest[:bits.size]
        bits.reshape(-1)[:part.size] = part
        rest = rest[part.size:]
        number = np.zeros(len(index), np.uint64)
        for column in range(width):
            number = number << np.uint64(1) | bits[:, column]
        for column in index.T:
            number, digit = np.divmod(number, np.uint64(r))
            samples[column] = _cells(samples[column], np.uint8(r)) + digit.astype(np.uint8)
    if rest.size:
        h, w, c = image.shape
        raise OptionError(f'a message of {len(message)} bytes does not fit: at {k:g} bits a sample this image holds '
                          f'{capacity(h, w, c, k)}')
    head = _HEAD.pack(_MAGIC | VERSION, codec << 6 | eighths - 1, len(message))
    header = np.unpackbits(np.frombuffer(head + _CRC.pack(zlib.crc32(head + message)), np.uint8))
    samples[:_HEADER_SAMPLES] = samples[:_HEADER_SAMPLES] & 0xFE | header
    return stored


def read(image: np.ndarray) -> tuple[bytes, int, float]:
    """(message, codec, k) in the low digits of an image.

    Raises:
        PayloadError: if there is none, or it is damaged or cut, or a newer version wrote it.
    """
    head, crc, codec, eighths, length = _header(image)
    samples, parts = image.reshape(-1), [np.empty(0, np.uint8)]
    for r, index in _groups(image.shape, eighths, 8 * length):
        number = np.zeros(len(index), np.uint64)
        for column in reversed(index.T):
            number = number * np.uint64(r) + (samples[column] - _cells(samples[column], np.uint8(r)))
        width = _GROUPS[r][1]
        bits = np.empty((len(index), width), np.uint8)
        for column in range(width):
            bits[:, column] = number >> np.uint64(width - 1 - column) & np.uint64(1)
        parts.append(bits.reshape(-1))
    found = np.concatenate(parts)[:8 * length]
    if found.size < 8 * length:
        raise PayloadError(f'its payload of {length} bytes is longer than it can hold', 'length')
    message = np.packbits(found).tobytes()
    if zlib.crc32(head + message) != crc:
        raise PayloadError('its payload is damaged: some of its pixels were changed, or cut off')
    return message, codec, _bits(eighths)


def declared(image: np.ndarray) -> float:
    """k of the payload that an image has a header for, even if it is damaged; 0 without a valid header."""
    try:
        return _bits(_header(image)[3])
    except PayloadError:
        return 0


def _header(image: np.ndarray) -> tuple[bytes, int, int, int, int]:
    """(its part that the CRC covers, CRC, codec, eighths of levels, bytes of the message)."""
    if image.size < _HEADER_SAMPLES:
        raise PayloadError('it is too small to hold a payload', 'none')
    data = np.packbits(image.reshape(-1)[:_HEADER_SAMPLES] & 1).tobytes()
    magic, kind, length = _HEAD.unpack_from(data)
    if magic & ~7 != _MAGIC:
        raise PayloadError('its low bits hold no payload', 'none')
    if magic & 7 != VERSION:
        raise PayloadError(f'its payload is of version {magic & 7}, this iarn_basicsr reads {VERSION}', 'version')
    eighths = (kind & 63) + 1
    most = (image.size - _HEADER_SAMPLES) * math.log2(math.ceil(eighths / 8)) / 8  # quicker to know than the capacity
    if not 0 < length <= most:
        raise PayloadError(f'its payload of {length} bytes is longer than it can hold', 'length')
    return data[:_HEAD.size], _CRC.unpack_from(data, _HEAD.size)[0], kind >> 6, eighths, length


def high_part(image: np.ndarray, k: float) -> np.ndarray:
    """What no message at k bits a sample changes: the middle of every sample's cell, float32 levels.

    The middle, (r - 1) / 2 above the lowest level, has the least mean squared error.
    """
    eighths = _eighths(k)
    if eighths == 8:
        return image.astype(np.float32)
    levels = _levels(image.shape, eighths)
    return _cells(image, levels) + (levels - np.float32(1)) / 2


def _eighths(k: float) -> int:
    """Eighths of levels, 8 to 64, with the capacity nearest to k bits a sample."""
    if not 0 <= k <= MAX_BITS:
        raise OptionError(f'{k!r} bits a sample: expected a number from 0 to {MAX_BITS}')
    whole = math.floor(2**k + 1e-9)
    return 8 * whole + round(8 * (k - math.log2(whole)) / math.log2((whole + 1) / whole))


def _bits(eighths: int) -> float:
    """Bits a sample; the inverse of ``_eighths``."""
    whole, more = divmod(eighths, 8)
    return math.log2(whole) + more / 8 * math.log2((whole + 1) / whole)


def _levels(shape: tuple[int, ...], eighths: int) -> np.ndarray:
    """Levels in the cell of each sample, (h, w, c) uint8; two for samples of the header."""
    whole, more = divmod(eighths, 8)
    y, x, c = (axis.astype(np.uint8) for axis in np.ogrid[:shape[0], :shape[1], :shape[2]])
    levels = (whole + (np.arange(8) * more % 8 < more)).astype(np.uint8)[(x + 3 * y + 5 * c) & 7]
    levels.reshape(-1)[:_HEADER_SAMPLES] = 2
    return levels


def _cells(samples: np.ndarray, levels: np.ndarray | np.uint8) -> np.ndarray:
    """The lowest level of each sample's cell; levels above the last whole cell belong to it."""
    return np.minimum(samples // levels, (256 // levels.astype(np.int16) - 1).astype(np.uint8)) * levels


def _carriers(shape: tuple[int, ...], eighths: int) -> Iterator[tuple[int, np.ndarray]]:
    """(levels, indices of the samples with so many, in memory order); without the header's."""
    levels = _levels(shape, eighths).reshape(-1)[_HEADER_SAMPLES:]
    for r in (eighths // 8, eighths // 8 + 1):
        if r in _GROUPS:
            yield r, np.flatnonzero(levels == r) + _HEADER_SAMPLES


def _groups(shape: tuple[int, ...], eighths: int, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """(levels, indices (groups, digits) of samples), block by block, for ``count`` bits."""
    for r, index in _carriers(shape, eighths):
        digits, bits = _GROUPS[r]
        groups = min(len(index) // digits, max(0, -(-count // bits)))
        count -= groups * bits
        grouped = index[:groups * digits].reshape(groups, digits)
        for start in range(0, groups, _BLOCK):
            yield r, grouped[start:start + _BLOCK]
