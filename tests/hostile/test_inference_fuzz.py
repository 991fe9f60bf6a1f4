"""Bytes gone wrong, by the thousand: a file either reads or raises ``ImageError``, and nothing else happens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hostile.inference_tools import DEEP, RGB, encoded, in_time, png, tiff
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from iarn_basicsr.errors import ImageError, one_line
from iarn_basicsr.inference.cli.commands import description
from iarn_basicsr.inference.lr_metadata import LRMetadata
from iarn_basicsr.inference.picture_file import Picture, read_picture, write_picture

SIZE = RGB.shape[1], RGB.shape[0]
METADATA = LRMetadata.of(RGB, hr_size=(46, 62), model='tiny', weights='0123456789abcdef', mode='RGB')
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def exif() -> bytes:
    made = Image.Exif()
    made[0x0112], made[0x010f] = 6, 'Maker'
    made.get_ifd(0x8769)[0x9003] = '2020:01:02 03:04:05'
    return made.tobytes()


FILES = {
    'tiff': tiff(SIZE, [RGB.tobytes()], bits=(8,) * 3, photometric=2),
    'tiff_deep': tiff(SIZE, [DEEP.tobytes()], bits=(16,) * 3, photometric=2, t274=(6,)),
    'tiff_big': tiff(SIZE, [DEEP.tobytes()], bits=(16,) * 3, photometric=2, big=True, t274=(6,)),
    'png': png(RGB, (b'eXIf', exif()[6:]), (b'tEXt', b'iarn\0' + METADATA.to_json().encode())),
    'png_deep': png(DEEP, (b'eXIf', exif()[6:]), (b'tRNS', b'\0' * 6), (b'gAMA', b'\0\0\xb1\x8f')),
    'jpeg': encoded('JPEG', exif=exif()),
    'jpeg_lr': encoded('JPEG', comment=b'iarn ' + METADATA.for_jpeg().to_json().encode()),
    'webp': encoded('WEBP', lossless=True, exif=exif(), xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!--iarn {} iarn-->'),
    'gif': encoded('GIF'),
}


def reads_or_refuses(path: Path, data: bytes) -> Picture | None:
    """What is read can be described and written; what is not is refused in one line."""
    path.write_bytes(data)
    try:
        with in_time():
            picture = read_picture(str(path))
    except ImageError as error:
        assert str(error).startswith(f'{path}: ') and '\n' not in str(error) and len(str(error)) < len(str(path)) + 400
        return None
    assert picture.rgb.shape == (*picture.size, 3) and picture.rgb.dtype in (np.uint8, np.uint16)
    assert picture.alpha is None or picture.alpha.shape == picture.size
    for line in description(str(path), picture):
        assert '\n' not in line and len(one_line(line, 10**6)) < 3000
    return picture


@pytest.mark.parametrize('kind', FILES)
@QUICK
@given(data=st.data())
def test_bytes_gone_wrong(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    """Mostly in the head, where the sizes and tags are."""
    raw = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        head = data.draw(st.integers(0, 3))
        raw[data.draw(st.integers(0, min(len(raw), 300) - 1 if head else len(raw) - 1))] = data.draw(
            st.sampled_from([0, 1, 2, 3, 4, 8, 16, 32, 127, 128, 254, 255]) | st.integers(0, 255))
    cut = data.draw(st.integers(0, 4))
    reads_or_refuses(tmp_path / 'x', bytes(raw if cut else raw[:data.draw(st.integers(0, len(raw)))]))


TAGS = st.sampled_from([254, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 284, 301, 317, 320, 322, 323, 324, 325,
                        330, 338, 339, 340, 347, 530, 532, 700, 33723, 34377, 34665, 34675, 34853])


@settings(QUICK, max_examples=60)
@given(tags=st.dictionaries(TAGS, st.lists(st.integers(0, 65535) | st.sampled_from([0, 1, 2, 3, 8, 16]), max_size=8),
                            max_size=4), kind=st.sampled_from([8, 16]), big=st.booleans())
def test_tags_of_a_tiff(tmp_path: Path, tags: dict[int, list[int]], kind: int, big: bool) -> None:
    pixels = RGB if kind == 8 else DEEP
    named = {f't{tag}': tuple(values) for tag, values in tags.items() if tag not in (258, 262, 273, 279)}
    bits = tuple(tags.get(258, [])) or (kind,) * 3
    photometric = (tags.get(262) or [2])[0]
    reads_or_refuses(tmp_path / 'x.tif', tiff(SIZE, [pixels.tobytes()], bits=bits, photometric=photometric, big=big,
                                              **named))


CHUNKS = st.sampled_from([b'tEXt', b'zTXt', b'iTXt', b'eXIf', b'iCCP', b'tRNS', b'gAMA', b'pHYs', b'acTL', b'fcTL',
                          b'fdAT', b'PLTE', b'cHRM', b'sRGB', b'IDAT', b'IEND', b'IHDR', b'xxXx'])


@settings(QUICK, max_examples=60)
@given(chunks=st.lists(st.tuples(CHUNKS, st.binary(max_size=40) | st.binary(max_size=30).map(lambda b: b'iarn\0' + b)),
                       max_size=4), deep=st.booleans())
def test_chunks_of_a_png(tmp_path: Path, chunks: list[tuple[bytes, bytes]], deep: bool) -> None:
    reads_or_refuses(tmp_path / 'x.png', png(DEEP if deep else RGB, *chunks))


@QUICK
@given(data=st.data(), kind=st.sampled_from(['png', 'jpeg', 'webp']))
def test_exif(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    """Whatever stands in it, the pixels are there, and the picture can be written."""
    raw = bytearray(exif())
    for _ in range(data.draw(st.integers(0, 8))):
        raw[data.draw(st.integers(6, len(raw) - 1))] = data.draw(st.integers(0, 255))
    tail = data.draw(st.binary(max_size=20))
    given_ = bytes(raw[:data.draw(st.integers(6, len(raw)))]) + tail
    if kind == 'png':
        picture = reads_or_refuses(tmp_path / 'x', png(RGB, (b'eXIf', given_[6:])))
    else:
        Image.fromarray(RGB).save(tmp_path / 'made', kind, exif=given_)
        picture = reads_or_refuses(tmp_path / 'x', (tmp_path / 'made').read_bytes())
    assert picture and sorted(picture.size) == [23, 31]
    for ending in ('png', 'jpg', 'tif', 'webp'):
        try:
            write_picture(picture, str(tmp_path / f'y.{ending}'))
        except ImageError as error:
            assert str(error).startswith(str(tmp_path / f'y.{ending}'))
        else:
            assert read_picture(str(tmp_path / f'y.{ending}')).size == picture.size


@settings(QUICK, max_examples=200)
@given(st.text())
def test_any_text_becomes_one_line(text: str) -> None:
    shown = one_line(text, 10**6)
    assert shown.isprintable() and shown.splitlines() in ([], [shown])
    assert shown == text or not text.isprintable()
