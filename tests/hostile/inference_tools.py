"""What the hostile tests of pictures share: a command line that must end well, and files of odd kinds."""

from __future__ import annotations

import functools
import io
import os
import signal
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from helpers import make_image, tiny_net
from PIL import Image

from iarn_basicsr.inference.cli import main

RGB = make_image(23, 31, seed=1)[..., ::-1].copy()
DEEP = (RGB.astype(np.uint16) * 257 - np.minimum(RGB, 1) * (RGB % 7)).astype(np.uint16)  # no multiples of 257
HEIF = b'\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf' + bytes(100)
TIME = 60  # seconds that a command may take in this process: far more than it needs, for busy machines


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


@functools.lru_cache
def _session() -> tempfile.TemporaryDirectory:
    """Removed when the session ends."""
    folder = tempfile.TemporaryDirectory(prefix='hostile_pictures_')
    tiny_net().save(os.path.join(folder.name, 'tiny.pth'))
    return folder


def weights() -> str:
    """A weight file of a tiny network."""
    return os.path.join(_session().name, 'tiny.pth')


@contextmanager
def in_time() -> Iterator[None]:
    """Raise ``TimeoutError`` in what hangs; not on Windows."""
    if not hasattr(signal, 'SIGALRM'):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f'still at it after {TIME} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, TIME)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def iarn(command: str, *arguments: object, tty: bool = False) -> Result:
    """Run a command line in this process, with the tiny network; ``tty``: as on a terminal."""
    line = [command, *map(str, arguments)]
    if command in ('downscale', 'upscale', 'compare'):
        line += [word for option, value in (('--weights', weights()), ('--device', 'cpu')) if option not in line
                 for word in (option, value)]
    out, err = io.StringIO(), io.StringIO()
    err.isatty = lambda: tty  # type: ignore[method-assign]
    with redirect_stdout(out), redirect_stderr(err), in_time():
        code = main(line)
    return Result(code, out.getvalue(), err.getvalue())


def contents(place: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and mode of every regular file below a folder; of one that cannot be read, the mode."""
    return {str(p.relative_to(place)): (p.read_bytes() if os.access(p, os.R_OK) else b'', p.stat().st_mode)
            for p in sorted(place.rglob('*')) if p.is_file() and not p.is_symlink()}


def refused(place: Path, *line: object, says: tuple[str, ...], code: int = 1) -> None:
    """Run a command below ``place`` that must fail, in one line that holds ``says``, and leave everything as it was."""
    before = contents(place)
    result = iarn(*map(str, line))
    assert result.code == code and result.err.count('\n') == 1 and len(result.err) < 1200, result
    assert all(part in result.err for part in says), (says, result)
    assert contents(place) == before and not list(place.rglob('.writing-*'))


# -------------------------------------------------------------------------------------------------------- odd files


def png_chunks(size: tuple[int, int], *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of (width, height) with these chunks after its header."""
    header = struct.pack('>IIBBBBB', *size, depth, colour, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + b''.join(struct.pack('>I', len(d)) + t + d + struct.pack('>I', zlib.crc32(t + d))
                                           for t, d in ((b'IHDR', header), *chunks, (b'IEND', b'')))


def png(pixels: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of pixels (H, W) or (H, W, C) of 8 or 16 bits, also of the kinds that Pillow does not write."""
    rows = b''.join(b'\0' + row.tobytes() for row in pixels.astype(pixels.dtype.newbyteorder('>')))
    return png_chunks(pixels.shape[1::-1], *chunks, (b'IDAT', zlib.compress(rows)), depth=8 * pixels.itemsize,
                      colour={(): 0, (2,): 4, (3,): 2}[pixels.shape[2:]])


def tiff(size: tuple[int, int], strips: list[bytes], *, bits: tuple[int, ...] = (8,), photometric: int = 1,
         big: bool = False, order: str = '<', **tags: tuple[int, ...]) -> bytes:
    """A TIFF of (width, height), one strip a plane; ``tags`` are more tags by names as ``t284``, of type SHORT."""
    rows = {256: size[:1], 257: size[1:], 258: bits, 259: (1,), 262: (photometric,), 273: strips, 277: (len(bits),),
            278: size[1:], 279: tuple(len(s) for s in strips), **{int(k[1:]): v for k, v in tags.items()}}
    word, entry, head = ('Q', 'HHQQ', 16) if big else ('I', 'HHII', 8)
    place = struct.calcsize(word)
    start, data, entries = head, b'', []
    first = head + (8 if big else 2) + len(rows) * struct.calcsize('=' + entry) + place
    for tag, values in sorted(rows.items()):
        kind, code = (word, 16 if big else 4) if tag in (273, 279) else ('H', 3)
        if tag == 273:
            offsets, at = [], first + 4096
            for strip in strips:
                offsets.append(at)
                at += len(strip)
            values = tuple(offsets)
        raw = struct.pack(f'{order}{len(values)}{kind}', *values)
        if len(raw) > place:
            raw, data = struct.pack(order + word, first + len(data)), data + raw
        entries.append(struct.pack(f'{order}HH{word}', tag, code, len(values)) + raw.ljust(place, b'\0'))
    mark = b'II' if order == '<' else b'MM'
    top = mark + (struct.pack(order + 'HHHQ', 43, 8, 0, start) if big else struct.pack(order + 'HI', 42, start))
    count = struct.pack(order + ('Q' if big else 'H'), len(entries))
    return top + count + b''.join(entries) + bytes(place) + data.ljust(4096, b'\0') + b''.join(strips)


def encoded(kind: str, **options: Any) -> bytes:
    """A picture as Pillow writes it."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.tile(RGB, (6, 6, 1)))
    (image.quantize(64) if kind == 'GIF' else image).save(buffer, kind, **options)
    return buffer.getvalue()
