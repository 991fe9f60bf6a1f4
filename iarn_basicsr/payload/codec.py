"""The residual between an image and its prediction, lossy, within a number of bytes: AVIF by Pillow.

An orthonormal matrix turns the three colours into three planes, so that an error of the planes is the same error in
RGB, and the planes are stacked into one gray AVIF: AVIF's own colours weigh RGB unevenly and round. A gain on the
planes tunes the size between AVIF's steps of quality. Only the coded picture of the file is kept; the container, 269
bytes, is rebuilt. A large residual is cut into tiles.

======= ======================================================
bytes   message
======= ======================================================
1       gain: 2^((n - 128) / 64)
1       weight of ``pull``, in 255ths
rest    of each tile: AV1 sequence header, AV1 frame
======= ======================================================
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from iarn_basicsr.errors import IARNError
from iarn_basicsr.ops.size import Part, part_of

from .bits import PayloadError

__all__ = ['CODEC', 'SPEED', 'MissingCodecError', 'Pull', 'check_codec', 'decode', 'encode']

CODEC = 1  # its number in the header of ``bits``
SPEED = 6  # of AVIF, 0 (slow, best) to 10
Pull = Callable[[np.ndarray], np.ndarray]

# Columns: brightness, red against blue, green against both.
_COLOURS = np.array([[1, 1, 1], [1, 0, -2], [1, -1, 1]], np.float32) / np.sqrt(np.array([3, 2, 6], np.float32))
_TILE_SIDE, _TILE_SAMPLES = 8192, 2**23  # samples of the three planes together
_PART_SAMPLES = 2**18  # of a large residual, which serve to find the quality
_GUESS_SPEED = 9  # AVIF's fastest
_ENCODES = 4  # at SPEED; more only if none of them fits
_CLOSE = 0.985  # share of the budget that is close enough
_LEAST = 20  # bytes of a tile
_STEPS, _UNITY = 64, 128  # of the gain: steps of an octave, and the one that is 1
_HEADROOM = 12  # steps above the best gain

_UNDECODABLE = 'its payload cannot be decoded'
_NEEDED = "the payload needs Pillow with AVIF: pip install 'pillow>=11.3'"
_SEQUENCE, _FRAME = 0x0A, 0x32  # first bytes of the two AV1 units (OBUs)


class MissingCodecError(IARNError):
    """This installation of Pillow has no AVIF, or one without the encoder ``aom``."""


def encode(residual: np.ndarray, budget: int, pull: Pull | None = None) -> bytes:
    """At most ``budget`` bytes for a residual; empty if not even its coarsest form fits.

    Args:
        residual: (H, W, 3) RGB original minus prediction, in levels of 8 bits.
        budget: bytes.
        pull: U (LR - D image) of the image that is the prediction plus a decoded residual (the argument): what brings
            it back to the known LR. The decoder adds a share of it, which the message holds, so that the residual
            need not repeat what the LR says. Decoding needs the same ``pull``.
    """
    _check_pillow()
    best = _best_fit(residual.astype(np.float32) @ _COLOURS, budget)
    if not best or pull is None:
        return best
    decoded = decode(best, residual.shape[:2])
    step, error = pull(decoded), residual - decoded
    weight = float((step * error).sum(dtype=np.float64)) / max(float((step * step).sum(dtype=np.float64)), 1e-9)
    return best[:1] + bytes([round(255 * min(max(weight, 0.0), 1.0))]) + best[2:]


def decode(message: bytes, size: tuple[int, int], pull: Pull | None = None, part: Part | None = None) -> np.ndarray:
    """Float32 (H, W, 3) residual of a message of ``encode``, with its ``pull``; zeros for an empty one.

    Of a ``part`` only its own tiles are decoded; with ``pull`` it must be all of the image.

    Raises:
        PayloadError: for a message that is damaged, or of another ``size`` (H, W). No more is decoded than it says.
        IARNError: for a message that was coded with ``pull``, without one.
    """
    _check_pillow()
    part = part or part_of(size)
    residual = np.zeros((*size, 3), np.float32)
    if not message:
        return residual[part]
    gain, rest = 2**((message[0] - _UNITY) / _STEPS), message[2:]
    for rows, columns in _tiles(size):
        tile = residual[rows, columns]
        height, width = tile.shape[:2]
        length = _check_units(rest, (3 * height, width))
        if all(a.start < b.stop and b.start < a.stop for a, b in zip(part, (rows, columns))):
            planes = _read_picture(rest[:length], (3 * height, width)).reshape(3, height, width)
            tile[...] = np.moveaxis((planes.astype(np.float32) - 128) / gain, 0, -1) @ _COLOURS.T
        rest = rest[length:]
    if rest:
        raise PayloadError(_UNDECODABLE)
    if message[1]:
        if pull is None:
            raise IARNError('its payload was made without a network: restore it with the weights none')
        residual += message[1] / 255 * pull(residual)
    return residual[part]


class _Setting(NamedTuple):
    quality: int
    gain: int


def _best_fit(planes: np.ndarray, budget: int) -> bytes:
    """The longest message that fits among a few. A large residual is tried on a part of its rows first."""
    height, width = planes.shape[:2]
    if budget < 2 + _LEAST * len(list(_tiles((height, width)))):
        return b''
    part, strips = planes, max(2, _PART_SAMPLES // (64 * width))
    if 64 * strips < height:  # strips of 64 rows, spread evenly
        part = np.concatenate([planes[top:top + 64] for top in np.linspace(0, height - 64, strips).astype(int)])
    share, gain = len(part) / height, _best_gain(planes)
    setting, highest = _Setting(_guess_quality(part, gain, int(share * budget)), gain), gain + _HEADROOM
    if share < 1:
        _, setting = _search(part, int(0.98 * share * budget), setting, highest, _ENCODES - 2, _CLOSE)
        best, setting = _search(planes, budget, setting, highest, 2, 0.95)
    else:
        best, setting = _search(planes, budget, setting, highest, _ENCODES, _CLOSE)
    while not best and any(setting):
        setting = _Setting(setting.quality // 2, max(setting.gain - _STEPS // 4, 0))
        message = _message(planes, setting, SPEED)
        best = message if len(message) <= budget else b''
    return best


def _search(planes: np.ndarray, budget: int, setting: _Setting, highest: int, encodes: int,
            close: float) -> tuple[bytes, _Setting]:
    """The longest message that fits, and its setting or the last one: the gain by the secant rule."""
    best, found = b'', setting
    tried: dict[int, int] = {}
    for _ in range(encodes):
        message = _message(planes, setting, SPEED)
        tried[setting.gain] = len(message)
        if len(best) < len(message) <= budget:
            best, found = message, setting
        if close * budget <= len(message) <= budget:
            break
        quality, gain = setting.quality, _next_gain(tried, budget)
        if gain > highest and quality < 100:
            quality, gain, tried = min(quality + (gain - highest + _HEADROOM) // 4, 100), highest - _HEADROOM, {}
        setting = _Setting(quality, min(gain, highest))
        if setting.gain in tried:
            break
    return best, found if best else setting


def _best_gain(planes: np.ndarray) -> int:
    """The gain of least error before any coding: 8 bits clip large values and round, here and in AVIF."""
    height, width = planes.shape[:2]
    sizes = np.abs(planes[::max(1, height * width // _PART_SAMPLES)])
    gains = np.arange(0, 256, 8)
    factors = 2.0**((gains - _UNITY) / _STEPS)
    errors = [float((np.maximum(sizes - 127 / f, 0)**2).mean()) + 1 / (6 * f * f) for f in factors]
    return int(gains[np.argmin(errors)])


def _guess_quality(part: np.ndarray, gain: int, budget: int) -> int:
    """The highest quality that fits, at AVIF's fastest speed."""
    low, high = 0, 100
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(_message(part, _Setting(middle, gain), _GUESS_SPEED)) <= budget
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _next_gain(tried: dict[int, int], budget: int) -> int:
    """Where the number of bytes, a power of the gain, meets the budget."""
    points = [(gain / _STEPS, np.log2(length)) for gain, length in tried.items()][-2:]
    slope = 1.2
    if len(points) > 1:
        slope = np.clip((points[1][1] - points[0][1]) / (points[1][0] - points[0][0]), 0.5, 3.0)
    step = (np.log2(0.995 * budget) - points[-1][1]) / slope
    return int(np.clip(np.floor(_STEPS * (points[-1][0] + np.clip(step, -1, 1))), 0, 255))


def _message(planes: np.ndarray, setting: _Setting, speed: int) -> bytes:
    quality, gain = setting
    parts = [bytes([gain, 0])]
    for rows, columns in _tiles(planes.shape[:2]):
        scaled = np.rint(np.moveaxis(planes[rows, columns], -1, 0) * np.float32(2**((gain - _UNITY) / _STEPS)))
        gray = np.clip(scaled + 128, 0, 255).astype(np.uint8)
        parts.append(_write_picture(gray.reshape(-1, gray.shape[-1]), quality, speed))
    return b''.join(parts)


def _tiles(size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    height, width = size
    columns = min(width, _TILE_SIDE)
    rows = min(_TILE_SIDE, _TILE_SAMPLES // (3 * columns))
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield slice(top, min(top + rows, height)), slice(left, min(left + columns, width))


def check_codec() -> None:
    """Raise ``MissingCodecError`` if Pillow has no AVIF, or one that cannot encode."""
    _check_pillow()
    _write_picture(np.zeros((8, 8), np.uint8), 50, _GUESS_SPEED)


def _check_pillow() -> None:
    if not features.check('avif'):
        raise MissingCodecError(_NEEDED)


def _write_picture(gray: np.ndarray, quality: int, speed: int) -> bytes:
    """The two AV1 units of a gray picture."""
    file = io.BytesIO()
    try:
        # one thread: the bytes would depend on the number of cores
        Image.fromarray(gray).save(file, 'AVIF', quality=quality, speed=speed, codec='aom', max_threads=1,
                                   advanced={'tune': 'psnr'})
    except (ValueError, OSError, KeyError) as error:
        raise MissingCodecError(_NEEDED) from error
    data = file.getvalue()
    start = 0
    while data[start + 4:start + 8] != b'mdat':
        start += int.from_bytes(data[start:start + 4], 'big')
    units = data[start + 8:].removeprefix(b'\x12\x00')  # temporal delimiter, which is empty
    if _check_units(units, gray.shape[:2]) != len(units):
        raise PayloadError(_UNDECODABLE)
    return units


def _read_picture(units: bytes, size: tuple[int, int]) -> np.ndarray:
    """Gray picture of the two AV1 units."""
    try:
        with Image.open(io.BytesIO(_container(units, size)), formats=['AVIF']) as file:
            gray = np.asarray(file.convert('L'))
    except (OSError, ValueError, SyntaxError, RuntimeError, MemoryError):
        raise PayloadError(_UNDECODABLE) from None
    if gray.shape != size:
        raise PayloadError(_UNDECODABLE)
    return gray


def _check_units(data: bytes, size: tuple[int, int]) -> int:
    """Bytes of the two AV1 units that ``data`` begins with, if they are a picture of this size.

    The sequence header says the size before anything is decoded: 3 + 1 + 1 + 5 bits (profile, still picture, short
    header, level), two times 4 bits (how many bits a side has, minus 1), then the sides, minus 1.
    """
    length = data[1] if len(data) > 1 else 0
    header, frame = data[2:2 + length], data[2 + length:]
    bits = ''.join(f'{byte:08b}' for byte in header[:8])
    known = data[:1] == bytes([_SEQUENCE]) and frame[:1] == bytes([_FRAME]) and bits[:5] == '00011'
    if not known or not 6 <= len(header) < 128:
        raise PayloadError(_UNDECODABLE)
    across, down = int(bits[10:14], 2) + 1, int(bits[14:18], 2) + 1
    if (int(bits[18 + across:][:down], 2) + 1, int(bits[18:][:across], 2) + 1) != size:
        raise PayloadError(_UNDECODABLE)
    count = 0
    for k, byte in enumerate(frame[1:6]):  # the length of the frame, 7 bits a byte
        count |= (byte & 127) << 7 * k
        if byte < 128:
            end = k + 2 + count
            if end > len(frame):
                break
            return 2 + length + end
    raise PayloadError(_UNDECODABLE)


def _container(units: bytes, size: tuple[int, int]) -> bytes:
    """An AVIF file of one gray 8-bit picture, in full range."""
    def box(kind: bytes, *parts: bytes) -> bytes:
        content = b''.join(parts)
        return struct.pack('>I4s', 8 + len(content), kind) + content

    full = bytes(4)  # version and flags
    properties = box(b'ipco', box(b'ispe', full, struct.pack('>II', size[1], size[0])),
                     box(b'pixi', full, b'\1\10'), box(b'av1C', b'\x81\0\x1c\0'),
                     box(b'colr', b'nclx', struct.pack('>HHHB', 1, 13, 6, 128)))
    uses = box(b'ipma', full, struct.pack('>IHB4B', 1, 1, 4, 1, 2, 0x83, 4))
    start = box(b'ftyp', b'avif', full, b'avifmif1miaf')

    def meta(offset: int) -> bytes:
        return box(b'meta', full, box(b'hdlr', full, bytes(4), b'pict', bytes(13)), box(b'pitm', full, b'\0\1'),
                   box(b'iloc', full, struct.pack('>HHHHHII', 0x4400, 1, 1, 0, 1, offset, len(units))),
                   box(b'iinf', full, b'\0\1', box(b'infe', b'\2\0\0\0', b'\0\1\0\0', b'av01', b'\0')),
                   box(b'iprp', properties, uses))

    return start + meta(len(start) + len(meta(0)) + 8) + box(b'mdat', units)
