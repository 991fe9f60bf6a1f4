"""Reading any kind of file, and writing files that say how to be restored."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import make_image
from hostile.inference_tools import png, tiff
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from iarn_basicsr.errors import ImageError
from iarn_basicsr.files import IMAGE_ENDINGS, readable_endings
from iarn_basicsr.inference import picture_file as images
from iarn_basicsr.inference.extras import Extras
from iarn_basicsr.inference.lr_metadata import LRMetadata, checksum
from iarn_basicsr.inference.picture_file import Picture, channel_mean, eight_bit, read_picture, write_picture

RGB = make_image(11, 17, seed=1)[..., ::-1].copy()
GRAY = RGB[..., 1].copy()
ALPHA = make_image(11, 17, seed=2)[..., 0].copy()
DEEP = (RGB.astype(np.uint16) * 257 - np.minimum(RGB, 1) * (RGB % 7)).astype(np.uint16)  # no multiples of 257
METADATA = LRMetadata.of(RGB, hr_size=(30, 40), model='ü "quoted"', weights='0123456789abcdef', mode='RGB')
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


def exif(orientation: int = 1) -> Image.Exif:
    made = Image.Exif()
    made[0x0112], made[0x010f], made[0x8298] = orientation, 'Maker', '© me'.encode()
    made.get_ifd(0x8769)[0x9003] = '2020:01:02 03:04:05'
    made.get_ifd(0x8825)[1] = 'N'
    return made


def tiff_exif(orientation: int = 1) -> Image.Exif:
    """The same, in the form of which Pillow writes every byte into a TIFF."""
    made = Image.Exif()
    made.load(exif(orientation).tobytes())
    made[0x8298] = '© me'.encode()
    return made


def tags(raw: bytes | None) -> dict[Any, Any]:
    """All that EXIF says, without where it says it."""
    made = Image.Exif()
    made.load(raw or b'')
    own = {k: v for k, v in made.items() if k not in (0x8769, 0x8825)}
    return {**own, 'exif': dict(made.get_ifd(0x8769)), 'gps': dict(made.get_ifd(0x8825))}


def pixels(picture: Picture) -> np.ndarray:
    return picture.rgb if picture.alpha is None else np.dstack([picture.rgb, picture.alpha])


# ---------------------------------------------------------------------------------------------------------- modes


def of_mode(mode: str) -> Image.Image:
    image = Image.fromarray(RGB)
    if mode in ('LA', 'RGBA'):
        image = image.convert(mode[:-1])
        image.putalpha(Image.fromarray(ALPHA))
        return image
    return image.quantize(32) if mode == 'P' else image.convert(mode)


@pytest.mark.parametrize(('mode', 'name', 'options', 'read_mode', 'has_alpha'), [
    ('1', 'x.png', {'transparency': 0}, 'L', True),
    ('L', 'x.bmp', {}, 'L', False),
    ('L', 'x.png', {'transparency': 90}, 'L', True),
    ('LA', 'x.png', {}, 'L', True),
    ('P', 'x.gif', {}, 'RGB', False),
    ('P', 'x.png', {'transparency': bytes([0, 128] + [255] * 30)}, 'RGB', True),
    ('RGB', 'x.ppm', {}, 'RGB', False),
    ('RGB', 'x.png', {'transparency': tuple(RGB[0, 0].tolist())}, 'RGB', True),
    ('RGBA', 'x.webp', {'lossless': True, 'exact': True}, 'RGB', True),
    ('YCbCr', 'x.tif', {'compression': 'tiff_lzw'}, 'RGB', False),
    ('LAB', 'x.tif', {}, 'RGB', False),
])
def test_8_bit_modes(tmp_path: Path, mode: str, name: str, options: dict, read_mode: str, has_alpha: bool) -> None:
    image = Image.new('LAB', (17, 11), (90, 10, 30)) if mode == 'LAB' else of_mode(mode)
    image.save(tmp_path / name, **options)
    picture = read_picture(str(tmp_path / name))
    with Image.open(tmp_path / name) as file:
        expected = np.asarray(file.convert('RGBA' if has_alpha else 'RGB'))
    assert picture.mode == read_mode and (picture.alpha is not None) == has_alpha
    assert picture.rgb.dtype == np.uint8 and picture.size == (11, 17)
    assert np.array_equal(pixels(picture), expected)
    assert picture.metadata is None and not picture.no_metadata and not picture.remarks


def test_every_kind_that_pillow_decodes_is_read(tmp_path: Path) -> None:
    """As a gray picture and in colour; one that Pillow only names, or hands to another program, is no picture."""
    kinds, read = Image.registered_extensions(), set()
    for ending in readable_endings():
        for mode in ('L', 'RGB'):
            try:
                of_mode(mode).save(tmp_path / f'x{ending}')
            except (KeyError, OSError, ValueError):  # of which Pillow has no writer, or none for this mode
                continue
            found = read_picture(str(tmp_path / f'x{ending}'))
            if kinds[ending] not in ('AVIF', 'GIF', 'ICNS', 'JPEG', 'MPO', 'WEBP'):  # which change the pixels
                assert np.array_equal(found.rgb, np.asarray(of_mode(mode).convert('RGB'))), ending
            read.add(ending)
    assert read >= {*IMAGE_ENDINGS, '.apng', '.jfif', '.jpe', '.jp2', '.pgm', '.pnm', '.tga', '.gif', '.ico', '.sgi'}
    assert not {'.pfm', '.pdf', '.eps', '.ps', '.mpg', '.h5', '.grib', '.bufr', '.wmf'} & set(readable_endings())


def test_16_bit_kinds_that_pillow_reads_as_8(tmp_path: Path) -> None:
    clear = int(DEEP[0, 0, 1])
    for name, data in {
        'gray_alpha': png(np.dstack([DEEP[..., 1], ALPHA.astype(np.uint16) * 257])),
        'gray_clear': png(DEEP[..., 1], (b'tRNS', struct.pack('>H', clear))),
    }.items():
        (tmp_path / name).write_bytes(data)
        picture = read_picture(str(tmp_path / name))
        assert picture.mode == 'L' and np.array_equal(picture.rgb, np.repeat(DEEP[..., 1:2], 3, 2))
        expected = ALPHA if name == 'gray_alpha' else np.where(DEEP[..., 1] == clear, 0, 255)
        assert np.array_equal(picture.alpha, expected)


def test_cmyk_goes_through_its_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no CMYK profile to ship with a test, so the conversion itself is replaced."""
    profile = SRGB[:16] + b'CMYK' + SRGB[20:]
    of_mode('CMYK').save(tmp_path / 'x.jpg', icc_profile=profile)
    converted = Image.new('RGB', (17, 11), (1, 2, 3))
    monkeypatch.setattr(ImageCms, 'profileToProfile', lambda image, *_, outputMode: converted)  # noqa: N803
    monkeypatch.setattr(ImageCms, 'ImageCmsProfile', lambda _: type('P', (), {'tobytes': lambda self: SRGB})())
    picture = read_picture(str(tmp_path / 'x.jpg'))
    assert (picture.rgb == [1, 2, 3]).all() and picture.extras.icc == SRGB


def test_cmyk_with_an_unusable_profile(tmp_path: Path) -> None:
    of_mode('CMYK').save(tmp_path / 'x.tif', icc_profile=SRGB[:16] + b'CMYK' + SRGB[20:])
    picture = read_picture(str(tmp_path / 'x.tif'))
    assert np.array_equal(picture.rgb, np.asarray(of_mode('CMYK').convert('RGB'))) and not picture.extras.icc


@pytest.mark.parametrize('name', ['x.gif', 'x.tif'])
def test_animation_gives_its_first_frame(tmp_path: Path, name: str) -> None:
    frames = [of_mode('RGB'), of_mode('RGB').transpose(Image.Transpose.ROTATE_180)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    picture = read_picture(str(tmp_path / name))
    assert picture.remarks == ('only its first frame or page is used',)
    assert np.abs(picture.rgb.astype(int) - RGB).mean() < 4  # a GIF has 256 colours


# ---------------------------------------------------------------------------------------------------- orientation


def displayed(image: np.ndarray, orientation: int) -> np.ndarray:
    """From the definition: row 0 and column 0 of the stored image are shown at these sides."""
    row, column = {1: 'top left', 2: 'top right', 3: 'bottom right', 4: 'bottom left', 5: 'left top', 6: 'right top',
                   7: 'right bottom', 8: 'left bottom'}[orientation].split()
    if row in ('left', 'right'):
        image = image.transpose(1, 0, 2)  # stored rows become columns
    sides = (row, column)
    return image[::-1 if 'bottom' in sides else 1, ::-1 if 'right' in sides else 1]


def save_turned(path: Path, orientation: int) -> None:
    if path.name == 'deep.png':
        path.write_bytes(png(DEEP, (b'eXIf', exif(orientation).tobytes()[6:])))
    elif path.name == 'deep.tif':
        path.write_bytes(tiff((17, 11), [DEEP.tobytes()], bits=(16,) * 3, photometric=2, t274=(orientation,)))
    else:
        options = {'x.jpg': {'quality': 100, 'subsampling': 0}, 'x.webp': {'lossless': True}}.get(path.name, {})
        made = tiff_exif(orientation) if path.name == 'x.tif' else exif(orientation).tobytes()
        of_mode('RGB').save(path, exif=made, icc_profile=SRGB, **options)


@pytest.mark.parametrize(('name', 'orientation'), [
    *(('x.jpg', n) for n in range(1, 9)), ('x.png', 6), ('x.webp', 7), *(
        (name, n) for name in ('x.tif', 'deep.png', 'deep.tif') for n in (3, 5, 8))])
def test_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    save_turned(tmp_path / name, orientation)
    picture = read_picture(str(tmp_path / name))
    expected = displayed(DEEP if 'deep' in name else RGB, orientation)
    assert picture.rgb.shape == expected.shape
    assert np.abs(picture.rgb.astype(int) - expected.astype(int)).max() <= (8 if name == 'x.jpg' else 0)
    assert tags(picture.extras.exif).get(0x0112, 1) == 1
    if name != 'deep.tif':
        assert {k: v for k, v in tags(picture.extras.exif).items() if k != 0x0112} == {
            k: v for k, v in tags(exif().tobytes()).items() if k != 0x0112}
    assert picture.extras.icc == (b'' if 'deep' in name else SRGB)


@pytest.mark.parametrize('compression', ['raw', 'tiff_lzw'])
@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'CMYK', 'I;16'])
def test_orientation_of_a_tiff(tmp_path: Path, mode: str, compression: str) -> None:
    """Pillow decodes these in other ways than RGB; upright they are read as ``test_8_bit_modes`` says."""
    image = Image.fromarray(DEEP[..., 0]) if mode == 'I;16' else of_mode(mode)
    found = []
    for turn in (1, 6):
        image.save(tmp_path / 'x.tif', tiffinfo={0x0112: turn}, compression=compression)
        found.append(pixels(read_picture(str(tmp_path / 'x.tif'))))
    assert np.array_equal(found[1], displayed(found[0], 6))


def test_exif_is_kept_to_the_byte_but_for_orientation_and_thumbnail(tmp_path: Path) -> None:
    note = b'maker note with offsets \0\1\2'
    raw = struct.pack('<2sHIH', b'II', 42, 8, 2) + struct.pack('<HHIHH', 274, 3, 1, 6, 0) + struct.pack(
        '<HHII', 37500, 7, len(note), 60) + struct.pack('<I', 38) + bytes(60 - 38) + note
    of_mode('RGB').save(tmp_path / 'x.jpg', exif=b'Exif\0\0' + raw)
    found = read_picture(str(tmp_path / 'x.jpg')).extras.exif
    expected = bytearray(raw)
    expected[18:20], expected[34:38] = b'\1\0', bytes(4)  # orientation 1; no second directory
    assert found == b'Exif\0\0' + expected


def test_layout_tags_of_a_tiff_do_not_travel(tmp_path: Path) -> None:
    of_mode('RGB').save(tmp_path / 'x.tif', exif=tiff_exif(), description='sun')
    found = tags(read_picture(str(tmp_path / 'x.tif')).extras.exif)
    assert found.pop('exif') and found.pop('gps')
    assert sorted(found) == [0x010e, 0x010f, 0x8298] and found[0x8298] == '© me'.encode().decode('latin-1')


def test_damaged_exif_does_not_stop_the_pixels(tmp_path: Path) -> None:
    of_mode('RGB').save(tmp_path / 'x.png', exif=b'Exif\0\0II*\0\xff\xff\xff\xff')
    picture = read_picture(str(tmp_path / 'x.png'))
    assert np.array_equal(picture.rgb, RGB) and not picture.extras.exif
    assert picture.remarks == ('its EXIF is damaged and left out',)


def test_exif_in_a_text_chunk(tmp_path: Path) -> None:
    """As ImageMagick writes it."""
    info = PngImagePlugin.PngInfo()
    raw = exif(6).tobytes()
    info.add_text('Raw profile type exif', f'\nexif\n{len(raw):8}\n{raw.hex()}\n')
    of_mode('RGB').save(tmp_path / 'x.png', pnginfo=info)
    picture = read_picture(str(tmp_path / 'x.png'))
    found = tags(picture.extras.exif)
    assert picture.size == (17, 11) and (found[0x010f], found[0x0112]) == ('Maker', 1)


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize('error', [struct.error('unpack'), RuntimeError(''), OverflowError('a\nb')])
def test_whatever_a_decoder_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    (tmp_path / 'x.png').write_bytes(png(RGB))

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, 'load', fail)
    with pytest.raises(ImageError, match=r'x\.png: damaged \(.+\)$'):
        read_picture(str(tmp_path / 'x.png'))


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_write_and_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any size and mode, with or without metadata, as any lossless kind: the pixels and the metadata come back."""
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    mode, ending = data.draw(st.sampled_from(['L', 'RGB'])), data.draw(st.sampled_from(['png', 'webp', 'tif']))
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    rgb = np.repeat(rgb[..., :1], 3, 2) if mode == 'L' else rgb
    alpha = rng.integers(0, 256, (height, width), dtype=np.uint8) if data.draw(st.booleans()) else None
    metadata = METADATA if data.draw(st.booleans()) and ending != 'tif' else None
    path = tmp_path_factory.getbasetemp() / f'any.{ending}'
    written = Picture(rgb, alpha, mode, Extras(SRGB, exif().tobytes()), metadata)
    write_picture(written, str(path))
    found = read_picture(str(path))
    assert np.array_equal(found.rgb, rgb) and found.metadata == metadata and found.extras.icc == SRGB
    assert (alpha is None and found.alpha is None) or np.array_equal(found.alpha, alpha)
    assert {**tags(found.extras.exif), 0x0112: 1} == {**tags(written.extras.exif), 0x0112: 1}
    if metadata is None and ending != 'webp':  # which has no gray
        assert found.mode == mode


# --------------------------------------------------------------------------------------------------------- writing


def test_kinds_that_are_not_written(tmp_path: Path) -> None:
    for name in ('x.gif', 'x'):
        with pytest.raises(ImageError, match=rf'{name}: cannot be written, choose one of \.png, \.jpg'):
            write_picture(Picture(RGB), str(tmp_path / name))


def test_tiff_is_not_broken_by_exif_of_another_size(tmp_path: Path) -> None:
    made = exif()
    made[256], made[257] = 4000, 3000  # as some phones write
    write_picture(Picture(RGB, extras=Extras(exif=made.tobytes())), str(tmp_path / 'x.tif'))
    found = read_picture(str(tmp_path / 'x.tif'))
    assert np.array_equal(found.rgb, RGB) and tags(found.extras.exif)[0x8298] == '© me'.encode().decode('latin-1')


def test_a_gray_profile_needs_gray_pixels(tmp_path: Path) -> None:
    profile = SRGB[:16] + b'GRAY' + SRGB[20:]
    for mode, name, kept in (('L', 'x.png', True), ('L', 'x.jpg', True), ('L', 'x.webp', False),
                             ('RGB', 'x.png', False)):
        path = str(tmp_path / name)
        assert bool(write_picture(Picture(RGB, mode=mode, extras=Extras(profile)), path)) != kept
        with Image.open(path) as file:
            assert file.info.get('icc_profile') == (profile if kept else None)
    of_mode('RGB').save(tmp_path / 'wrong.png', icc_profile=profile)
    picture = read_picture(str(tmp_path / 'wrong.png'))
    assert not picture.extras.icc
    assert picture.remarks == ('its colour profile does not fit its pixels and is left out',)


@pytest.mark.parametrize('mode', ['RGB', 'P', 'LA'])
def test_large_pictures_are_not_copied_whole(tmp_path: Path, mode: str) -> None:
    """Beside the pixels only strips of them are made, in reading, rounding and writing (Pillow's own are not seen)."""
    large = Image.fromarray(RGB).resize((1500, 1200)).convert('L' if mode == 'LA' else 'RGB').convert(mode)
    large.save(tmp_path / 'x.png')
    strip = 1500 * images._STRIP * 3 * 12

    def peak(work: Callable[[], Any]) -> tuple[Any, int]:
        tracemalloc.start()
        try:
            return work(), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    picture, memory = peak(lambda: read_picture(str(tmp_path / 'x.png')))
    assert memory < picture.rgb.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes) + strip
    for work, made in ((lambda: write_picture(picture, str(tmp_path / 'y.png')), 1500 * 1200 * (picture.mode == 'L')),
                       (lambda: checksum(picture.rgb), 0),
                       (lambda: channel_mean(picture.rgb), 1500 * 1200),
                       (lambda: eight_bit(picture.rgb.astype(np.uint16)), 3 * picture.rgb.nbytes)):
        assert peak(work)[1] < made + strip


def test_16_bits_that_opencv_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'x.png').write_bytes(png(DEEP))
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: None)
    with pytest.raises(ImageError, match=r'x\.png: damaged \(16-bit pixels cannot be decoded\)'):
        read_picture(str(tmp_path / 'x.png'))
