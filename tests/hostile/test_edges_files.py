"""What stands in files beside the pixels, as large and as odd as it comes: kept or told, and never in the way."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import types
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hostile.inference_tools import DEEP, HEIF, RGB, iarn, png, png_chunks, refused, tiff, weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, IptcImagePlugin, PngImagePlugin

from iarn_basicsr.inference import extras as extras_module
from iarn_basicsr.inference import png as png_module
from iarn_basicsr.inference.picture_file import Picture, read_picture, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
XMP = '<?xpacket begin="\ufeff"?><x:xmpmeta xmlns:x="adobe:ns:meta/">Jörg, his</x:xmpmeta><?xpacket end="w"?>'.encode()
IPTC = b'\x1c\x02\x05\x00\x03sun\x1c\x02\x19\x00\x05warm!'
COLOUR = {b'gAMA': struct.pack('>I', 100000), b'cHRM': struct.pack('>8I', *range(8)), b'cICP': b'\x09\x10\0\1'}
TEXTS = [(b'tEXt', b'Title\0sun'), (b'tEXt', b'Title\0again'), (b'zTXt', b'Author\0\0' + zlib.compress(b'me')),
         (b'iTXt', 'Copyright\0\0\0de\0Recht\0Jörg'.encode()), (b'tEXt', b'Comment\0J\xf6rg')]


def noise(size: int) -> bytes:
    return np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()


def profile(size: int) -> bytes:
    """A colour profile of any size from 128 bytes, or none."""
    return SRGB[:128] + noise(size - 128) if size >= 128 else b''


def exif(size: int = 0) -> bytes:
    made = Image.Exif()
    made[0x010f], made[0x927c] = 'Maker', noise(size)
    return made.tobytes()


def chunks(path: str) -> list[tuple[bytes, bytes]]:
    """Every chunk of a PNG in its order, those of pixels without data."""
    data, place, found = Path(path).read_bytes(), 8, []
    while place < len(data):
        length, name = struct.unpack_from('>I4s', data, place)
        found.append((name, b'' if name == b'IDAT' else data[place + 8:place + 8 + length]))
        assert zlib.crc32(data[place + 4:place + 8 + length]) == struct.unpack_from('>I', data, place + 8 + length)[0]
        place += 12 + length
    return found


def rescaled(source: str, lr: str, restored: str, lossy: bool = False) -> list[str]:
    """Down and up by the command line; what it says, without names."""
    said = []
    for line in (('downscale', source, '-o', lr, '--scale', 2, *(['--allow-lossy'] if lossy else [])),
                 ('upscale', lr, '-o', restored)):
        result = iarn(*line, '--overwrite')
        assert result.code == 0, result
        said += [text.split(': ', 2)[2] for text in result.err.splitlines()]
    return said


# ------------------------------------------------------------------------------------------------------------ any size


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.tuples(*[st.sampled_from([0, 1000, 65000, 66000, 2**20 - 1, 2**20 + 1, 3 * 2**20, 4 * 2**20])
                         | st.integers(0, 2**22)] * 4),
       kinds=st.tuples(st.sampled_from(['png', 'jpg', 'webp', 'tif']), st.sampled_from(['png', 'webp', 'jpg'])))
def test_what_downscale_accepts_upscale_restores(place: Path, sizes: tuple[int, ...], kinds: tuple[str, str]) -> None:
    """Whatever profile, EXIF, XMP and texts; what a PNG can hold comes back to the byte, unless the LR is a JPEG."""
    source, lr = f'source.{kinds[0]}', f'lr.{kinds[1]}'
    icc, raw, xmp = profile(sizes[0]), exif(sizes[1]), b'<x>' + noise(sizes[2])
    if kinds[0] == 'jpg':
        raw, xmp = exif(sizes[1] % 60000), xmp[:60000]
    text = PngImagePlugin.PngInfo()
    text.add_itxt('XML:com.adobe.xmp', xmp)
    text.add_text('Title', bytes(sizes[3]) + b'x', zip=True)
    given_ = {'icc_profile': icc, 'exif': raw, 'xmp': xmp, 'pnginfo': text}
    given_ = {name: given_[name] for name in {
        'png': ('icc_profile', 'exif', 'pnginfo'), 'tif': ('icc_profile', 'exif')}.get(
            kinds[0], ('icc_profile', 'exif', 'xmp')) if given_[name]}
    Image.fromarray(RGB).save(source, **given_)
    said = rescaled(source, lr, 'x.png', lossy=kinds[1] == 'jpg')
    if kinds[1] != 'jpg':
        assert not said
        limits = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**30
        try:
            with Image.open('x.png') as file:
                file.load()
                assert file.info.get('icc_profile', b'') == icc
                assert kinds[0] == 'tif' or (file.info['exif'] == raw and file.info['xmp'] == xmp)
                assert kinds[0] != 'png' or len(file.text['Title']) == sizes[3] + 1
        finally:
            PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = limits


def test_a_limit_is_no_damage(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is far too large is left out, as a limit, and never unpacked whole."""
    bomb = zlib.compress(bytes(2 * 10**7))
    monkeypatch.setattr(png_module, 'LARGEST', 50000)
    monkeypatch.setattr(extras_module, 'LARGEST', 50000)
    said = {
        (b'iCCP', b'x\0\0' + bomb): 'its colour profile does not fit its pixels',  # being cut off
        (b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0' + bomb): 'its XMP is larger than 0 MB',
        (b'tEXt', b'Comment\0' + bytes(50001)): 'its comment is larger than 0 MB',
        (b'eXIf', exif(60000)[6:]): 'its EXIF is larger than 0 MB',
        (b'zTXt', b'Title\0' + noise(50001)): 'its text is larger than 0 MB',
        (b'zTXt', b'Title\0\0' + bomb): '',
    }
    for chunk, text in said.items():
        Path('x.png').write_bytes(png(RGB, chunk))
        tracemalloc.start()
        found = read_picture('x.png')
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.array_equal(found.rgb, RGB) and peak < 2 * 10**6
        assert found.remarks == ((f'{text} and left out' if 'larger' in text else f'{text} and is left out',) if text
                                 else ())


def test_chunks_larger_than_opencv_reads(place: Path) -> None:
    Path('deep.png').write_bytes(png(DEEP, (b'iCCP', b'x\0\0' + zlib.compress(profile(9 * 2**20), 0)),
                                     (b'tEXt', b'Title\0' + bytes(9 * 2**20))))
    found = read_picture('deep.png')
    assert np.array_equal(found.rgb, DEEP) and len(found.extras.icc) == 9 * 2**20
    (said,) = rescaled('deep.png', 'lr.png', 'x.png')
    assert said.startswith('it has 16 bits a channel')
    assert read_picture('x.png').extras == found.extras


def test_sides_that_no_lr_can_name(place: Path) -> None:
    Path('wide.png').write_bytes(png_chunks((10**6 + 1, 1), (b'IDAT', zlib.compress(bytes(3 * 10**6 + 4)))))
    refused(place, 'downscale', 'wide.png', '-o', 'x.png', '--size', '1000x1',
            says=('wide.png: 1000001x1 is too large, its sides have at most 1000000 pixels',))


# ------------------------------------------------------------------------------------------------- what a PNG holds


@pytest.mark.parametrize('lr', ['lr.png', 'lr.webp', 'lr.jpg'])
def test_a_palette_with_all_a_png_can_say(place: Path, lr: str) -> None:
    """Every chunk comes back to the byte; only the LR that cannot show the colours is remarked on."""
    image = Image.fromarray(RGB).quantize(40)
    info = PngImagePlugin.PngInfo()
    for name, data in [*COLOUR.items(), *TEXTS]:
        info.add(name, data)
    info.add_itxt('XML:com.adobe.xmp', XMP, zip=True)
    image.save('source.png', pnginfo=info, dpi=(300, 150), transparency=b'' if lr == 'lr.jpg' else bytes([0, 128]))
    expected = [*COLOUR.items(), *TEXTS, (b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + XMP),
                (b'pHYs', struct.pack('>IIB', 11811, 5906, 1))]
    if lr == 'lr.jpg':
        Image.open('source.png').convert('RGB').save('source.png', pnginfo=info, dpi=(300, 150))
    said = rescaled('source.png', lr, 'x.png', lossy=True)
    assert said == ([] if lr == 'lr.png' else [
        'its cICP cannot go into its LR: that is displayed without, restoring brings it back'])
    for path in ('lr.png', 'x.png') if lr == 'lr.png' else ('x.png',):
        found = [(name, data) for name, data in chunks(path) if name not in (b'IHDR', b'IDAT', b'IEND')
                 and not data.startswith(b'iarn\0')]
        assert sorted(found) == sorted(expected)
        assert [name for name, _ in found].index(b'gAMA') < [name for name, _ in chunks(path)].index(b'IDAT')


@pytest.mark.parametrize(('colour', 'icc', 'told'), [
    ({'sRGB': b'\0', 'gAMA': b'\0\0\xb1\x8f'}, b'', ''), ({'gAMA': b'\0\0\xb1\x8f'}, b'', ''),
    ({'gAMA': b'\0\1\x86\xa0'}, b'', 'gAMA'), ({'gAMA': b'\0\1\x86\xa0', 'sRGB': b'\0'}, b'', ''),
    ({'gAMA': b'\0\1\x86\xa0', 'cHRM': bytes(32)}, b'', 'gAMA and cHRM'), ({'gAMA': b'\0\1\x86\xa0'}, SRGB, ''),
    ({'cICP': b'\x09\x10\0\1', 'sRGB': b'\0'}, SRGB, 'cICP'), ({'cICP': b'\1\x0d\0\1'}, b'', '')])
def test_colours_are_lost_in_silence_only_if_nothing_changes(place: Path, colour: dict[str, bytes], icc: bytes,
                                                            told: str) -> None:
    """Those of sRGB, which is what viewers suppose, and those that something else in the file overrides."""
    write_picture(Picture(RGB, extras=extras_module.Extras(icc, colour=colour)), 'a.png')
    assert read_picture('a.png').extras.colour == {k: v for k, v in colour.items() if not icc or k != 'sRGB'}
    assert write_picture(read_picture('a.png'), 'x.webp') == (
        (f'its {told} cannot go into a .webp file: left out',) if told else ())


DAMAGED = {
    'a colour chunk of another length': ([(b'gAMA', b'\0\0\1')], 'its gAMA is damaged and left out'),
    'a profile cut short': ([(b'iCCP', b'x\0\0' + zlib.compress(SRGB)[:200])], 'its iCCP is damaged and left out'),
    'packed texts': ([(b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0?'), (b'pHYs', b'')],
                     'its iTXt, pHYs is damaged and left out'),
    'an EXIF of hex': ([(b'zTXt', b'Raw profile type exif\0\0' + zlib.compress(b'\nexif\n9\nxyz'))],
                       'its zTXt is damaged and left out'),
    'what Pillow does not write': ([(b'mDCV', bytes(24)), (b'cLLI', bytes(8))],
                                   'its cLLI, mDCV cannot be written and is left out'),
    'pixels that are no squares': ([(b'pHYs', struct.pack('>IIB', 4, 3, 0))],
                                   'its pixels are not square: left out'),
    'pixels that are': ([(b'pHYs', struct.pack('>IIB', 3, 3, 0))], ''),
    'keys that Pillow would mix up': ([(b'tEXt', b'transparency\0x'), (b'tEXt', b'icc_profile\0x')], ''),
}


@pytest.mark.parametrize('kind', DAMAGED)
def test_damage_beside_the_pixels_is_told(place: Path, kind: str) -> None:
    added, text = DAMAGED[kind]
    Path('x.png').write_bytes(png(RGB, *added))
    found = read_picture('x.png')
    assert np.array_equal(found.rgb, RGB) and found.alpha is None and found.remarks == ((text,) if text else ())


def test_a_wrong_checksum_beside_the_pixels(place: Path) -> None:
    """The chunk alone is lost; in the LR metadata, which have a seal, only what it breaks."""
    data = png(RGB, (b'gAMA', b'\0\1\x86\xa0'), (b'tEXt', b'Title\0sun'))
    Path('x.png').write_bytes(data.replace(b'\1\x86\xa0', b'\1\x86\xa1'))
    found = read_picture('x.png')
    assert np.array_equal(found.rgb, RGB) and found.remarks == ('its gAMA is damaged and left out',)
    assert not found.extras.colour and found.extras.text == (('tEXt', b'Title\0sun'),)
    Path('x.png').write_bytes(Path('lr.png').read_bytes().replace(b'"hr_size": [23', b'"hr_size": [22'))
    refused(place, 'upscale', 'x.png', '-o', 'y.png', says=('its IARN metadata were edited',))


def test_metadata_that_another_program_packed(place: Path) -> None:
    """As zTXt or iTXt."""
    (record,) = (data[5:] for _, data in chunks('lr.png') if data.startswith(b'iarn\0'))
    lr = read_picture('lr.png')
    for name, data in ((b'zTXt', b'\0' + zlib.compress(record)), (b'iTXt', b'\1\0en\0\0' + zlib.compress(record)),
                       (b'iTXt', b'\0\0\0\0' + record)):
        Path('x.png').write_bytes(png(lr.rgb, (name, b'iarn\0' + data)))
        assert read_picture('x.png').metadata == lr.metadata


# ------------------------------------------------------------------------------------------------------- other kinds


@pytest.mark.parametrize('model', ['tiny', 'a --> b'])
def test_a_webp_holds_the_packet_of_its_user_and_ours(place: Path, model: str) -> None:
    """Both; well-formed, also for a name that would end a remark; and the user's comes back as it was."""
    Path(f'{model}.pth').write_bytes(Path(weights()).read_bytes())
    Image.fromarray(RGB).save('a.webp', lossless=True, xmp=XMP, exif=exif(9), icc_profile=SRGB)
    for line in (('downscale', 'a.webp', '-o', 'lr.webp', '--scale', 2), ('upscale', 'lr.webp', '-o', 'x.webp')):
        assert iarn(*line, '--weights', f'{model}.pth') == (0, '', '')
    with Image.open('lr.webp') as file:
        assert file.info['xmp'].startswith(XMP) and (file.info['exif'], file.info['icc_profile']) == (exif(9)[6:], SRGB)
        ElementTree.fromstring(file.info['xmp'].decode())
    with Image.open('x.webp') as file:
        assert (file.info['xmp'], file.info['exif'], file.info['icc_profile']) == (XMP, exif(9)[6:], SRGB)
    Image.fromarray(RGB).save('bare.webp', lossless=True)
    assert rescaled('bare.webp', 'lr.webp', 'x.webp') == []
    with Image.open('x.webp') as file:
        assert 'xmp' not in file.info


def jpeg_segments(*segments: tuple[int, bytes], **options: Any) -> bytes:
    """A JPEG of Pillow's with more segments."""
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, 'JPEG', extra=b''.join(
        struct.pack('>BBH', 255, kind, len(data) + 2) + data for kind, data in segments), **options)
    return buffer.getvalue()


@pytest.mark.parametrize('lr', ['lr.png', 'lr.webp', 'lr.jpg'])
def test_a_jpeg_with_all_it_can_say(place: Path, lr: str) -> None:
    Path('a.jpg').write_bytes(jpeg_segments(
        (0xe1, b'http://ns.adobe.com/xap/1.0/\0' + XMP),
        (0xed, b'Photoshop 3.0\x008BIM\4\4\0\0' + struct.pack('>I', len(IPTC)) + IPTC + bytes(len(IPTC) % 2)),
        dpi=(300, 200), comment=b'by me\0', icc_profile=SRGB, exif=exif(10)))
    assert rescaled('a.jpg', lr, 'x.jpg', lossy=True) == []
    with Image.open('x.jpg') as file:
        assert (file.info['xmp'], file.info['dpi'], file.info['comment']) == (XMP, (300, 200), b'by me\0')
        assert (file.info['icc_profile'], file.info['exif']) == (SRGB, exif(10))
        assert IptcImagePlugin.getiptcinfo(file) == {(2, 5): b'sun', (2, 25): b'warm!'}
    assert rescaled('a.jpg', lr, 'x.webp', lossy=True) == [
        'its IPTC, resolution and comment cannot go into a .webp file: left out']
    assert rescaled('a.jpg', lr, 'x.bmp', lossy=True) == [
        'its colour profile, EXIF, XMP, IPTC and comment cannot go into a .bmp file: left out']
    assert read_picture('x.bmp').extras.dpi


def test_what_a_jpeg_has_room_for(place: Path) -> None:
    """Just so much comes back, a byte more is told before the file is written."""
    for name, start, most in (('icc', SRGB, 16707345), ('exif', exif(), 65533), ('xmp', b'', 65504),
                              ('iptc', b'', 65506), ('comment', b'', 65533)):
        for size in (most, most + 1):
            given_ = extras_module.Extras(**{name: start.ljust(size, b'x')})
            said = write_picture(Picture(RGB, extras=given_), 'x.jpg')
            assert bool(said) == (size > most)
            assert read_picture('x.jpg').extras == (extras_module.Extras() if said else given_)


@pytest.mark.parametrize(('data', 'text'), [
    (jpeg_segments((0xe2, b'ICC_PROFILE\0\1\2' + SRGB)), 'its colour profile is damaged and is left out'),
    (jpeg_segments((0xe1, b'http://ns.adobe.com/xmp/extension/\0' + bytes(40))),
     'the extension of its XMP is left out'),
    (jpeg_segments((0xe0, b'JFIF\0\1\1\0\0\2\0\1\0\0')), 'its pixels are not square: left out'),
    (jpeg_segments(exif=exif()), '')])
def test_what_a_jpeg_says_that_is_not_kept(place: Path, data: bytes, text: str) -> None:
    Path('x.jpg').write_bytes(data)
    found = read_picture('x.jpg')
    assert found.remarks == ((text,) if text else ()) and found.extras.dpi == ()


@pytest.mark.parametrize('order', ['<', '>'])
def test_a_tiff_says_it_too(place: Path, order: str) -> None:
    """IPTC as bytes that are declared to be numbers, as Photoshop does; turned, so that rows become columns."""
    data = tiff(RGB.shape[1::-1], [RGB.tobytes()], bits=(8,) * 3, photometric=2, order=order, t274=(6,), t282=(300,),
                t283=(200,), t296=(2,), t700=struct.unpack(f'{order}{len(XMP) // 2}H', XMP),
                t33723=struct.unpack(f'{order}{len(IPTC) // 2}H', IPTC))
    Path('a.tif').write_bytes(data.replace(struct.pack(f'{order}HHI', 700, 3, len(XMP) // 2),
                                           struct.pack(f'{order}HHI', 700, 1, len(XMP))))
    assert rescaled('a.tif', 'lr.png', 'x.tif') == []
    with Image.open('x.tif') as file:
        assert file.info['xmp'] == XMP and file.tag_v2[33723] == IPTC and file.info['dpi'] == (200, 300)


def test_heif_needs_a_plugin(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its name: phones write it, and people rename it."""
    asked: list[str] = []
    for name in ('x.heic', 'x.jpg'):
        Path(name).write_bytes(HEIF)
        monkeypatch.setitem(sys.modules, 'pillow_heif', None)  # which stands for: not installed
        refused(place, 'info', name, says=(f'{name}: ', 'pip install pillow-heif'))
        plugin = types.SimpleNamespace(register_heif_opener=lambda: asked.append('heif'))
        monkeypatch.setitem(sys.modules, 'pillow_heif', plugin)
        refused(place, 'info', name, says=(f'{name}: not an image',))
    assert asked == ['heif', 'heif']
