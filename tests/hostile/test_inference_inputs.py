"""Inputs, devices and weights that are none, or only half of one: one line, soon, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_net
from hostile.inference_tools import DEEP, contents, encoded, in_time, png, png_chunks, refused, tiff, weights

from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.inference import picture_file as files
from iarn_basicsr.inference import png as png_module
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.zoo.weights import read_weights, write_weights

WIDE = 60000  # 3.6 gigapixels
COMMANDS = {
    'info': lambda name: ('info', name),
    'downscale': lambda name: ('downscale', name, '-o', 'out.png', '--scale', 2),
    'upscale': lambda name: ('upscale', name, '-o', 'x.png', '--size', '62x46'),
    'compare': lambda name: ('compare', name, '--scale', 2),
}


BYTES = {
    'empty.png': (b'', 'not an image'),
    'text.jpg': (b'hello\n', 'not an image'),
    'no_pixels.png': (png_chunks((9, 9)), 'damaged'),
    'half.png': (encoded('PNG')[:1500], 'damaged'),
    'half_deep.png': (png(DEEP)[:900], 'damaged'),
    'head.jpg': (encoded('JPEG')[:300], ''),
    'no_end.jpg': (encoded('JPEG', quality=95)[:-2], 'damaged'),
    'first_scan.jpg': (encoded('JPEG', progressive=True, quality=95)[:-3000], 'damaged'),
    'no_end_progressive.jpg': (encoded('JPEG', progressive=True)[:-2], 'damaged'),
    'half.webp': (encoded('WEBP')[:600], ''),
    'half.gif': (encoded('GIF')[:2000], 'damaged'),
    'half.tif': (encoded('TIFF')[:2000], ''),
    'page.eps': (encoded('EPS'), 'not an image, or of a kind that cannot be read'),
    'float.pfm': (b'Pf\n2 1\n-1.0\n' + bytes(8), '32 bits a channel of floating point cannot be used'),
    'wide.png': (png_chunks((WIDE, WIDE)), f'{WIDE}x{WIDE} is too large, at most 1000 megapixels are read'),
    'wide_deep.png': (png_chunks((2**31 - 1, 2**31 - 1), depth=16), 'is too large'),
    'wide_big.tif': (tiff((WIDE, WIDE), [bytes(99)], bits=(16,), big=True), f'{WIDE}x{WIDE} is too large'),
}


@pytest.mark.parametrize('name', BYTES)
def test_bytes(place: Path, name: str) -> None:
    data, text = BYTES[name]
    Path(name).write_bytes(data)
    refused(place, 'info', name, says=(f'iarn info: {name}: ', text))


def device(name: str) -> str:
    os.symlink('/dev/zero', name)
    return 'is not a regular file'


def folder(name: str) -> str:
    os.mkdir(name)
    return ''


def nowhere(name: str) -> str:
    os.symlink('nowhere', name)
    return 'no such file'


def secret(name: str) -> str:
    if os.geteuid() == 0:
        pytest.skip('root reads every file')
    shutil.copy('good.png', name)
    os.chmod(name, 0)
    return 'Permission denied'


@pytest.mark.parametrize('make', [device, folder, nowhere, secret])
def test_what_is_no_file(place: Path, make: Callable[[str], str]) -> None:
    text = make('odd.png')
    for name, command in COMMANDS.items():
        line = command('odd.png')
        if make is folder and name in ('downscale', 'upscale'):
            refused(place, *line, says=('several inputs need a folder',), code=2)
        else:
            whole = name in ('downscale', 'upscale') and make is nowhere  # the command itself
            refused(place, *line, says=('odd.png: ', text), code=2 if whole else 1)


def test_memory_is_the_limit_where_it_is_less(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, 'available_memory', lambda: 2e9)
    Path('wide.png').write_bytes(png_chunks((20000, 20000)))
    for command in COMMANDS.values():
        refused(place, *command('wide.png'), says=(
            'wide.png: 20000x20000 is too large, reading it takes 4.0 GB of memory and 2.0 GB are free',))
    monkeypatch.setattr(png_module, 'available_memory', lambda: 10)
    refused(place, 'info', 'good.png', says=('good.png: not enough memory to read it',))


def test_names_that_are_no_text(place: Path) -> None:
    """OpenCV's own reading of such a file ended the process."""
    name = os.fsdecode(b'in_\xff\xfe.png')
    Path(name).write_bytes(png(DEEP))
    with in_time():
        assert np.array_equal(read_picture(name).rgb, DEEP)


@pytest.mark.parametrize('device', ['meta', 'mkldnn', 'cuda:99', '\x1b[2J'])
def test_devices(place: Path, device: str) -> None:
    """Some exist by name alone."""
    refused(place, 'downscale', 'good.png', '-o', 'x.png', '--scale', 2, '--device', device, code=2,
            says=('iarn downscale: device ', 'cannot be used (', '); here are: cpu'))


def test_the_input_is_not_overwritten(place: Path) -> None:
    os.symlink('good.png', 'link.png')
    os.link('good.png', 'hard.png')
    rescaler, before = Rescaler.load(weights(), device='cpu'), contents(place)
    for target in ('good.png', './good.png', place / 'good.png', 'link.png', 'hard.png'):
        with pytest.raises(OptionError, match=r'\.png: the output would replace the input, name another file'):
            rescaler.downscale_file('good.png', target, scale=2)
        with pytest.raises(OptionError, match=r'\.png: the output would replace the input, name another file'):
            rescaler.upscale_file('good.png', target, size=(46, 62))
    assert contents(place) == before


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_what_is_no_weight_file(place: Path, ending: str) -> None:
    write_weights('good.' + ending, tiny_net().arch, params=tiny_net().state_dict())
    whole = Path('good.' + ending).read_bytes()
    for k, data in enumerate([b'', b'hello', whole[:len(whole) // 2], whole[:-1], bytes(1000),
                              whole[:100] + whole[90:]]):
        Path('bad.' + ending).write_bytes(data)
        with pytest.raises(WeightsError, match=rf'^bad\.{ending}') as error, in_time():
            read_weights('bad.' + ending)
        assert '\n' not in str(error.value) and len(str(error.value)) < 600, k
    os.mkfifo('pipe.' + ending)
    with pytest.raises(WeightsError, match=rf'pipe\.{ending}: cannot be read \(it is no regular file\)'), in_time():
        read_weights('pipe.' + ending)
    for path in ('pipe.' + ending, '/dev/zero', '.'):
        refused(place, 'downscale', 'good.png', '-o', 'x.png', '--scale', 2, '--weights', path, code=2,
                says=(f'weights {path!r}: no such file',))
