"""``Rescaler``, weights and arguments: what nobody should ask for is refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_net
from hostile.inference_tools import RGB, contents, iarn, in_time, refused, weights
from PIL import Image

from iarn_basicsr.errors import IARNError, OptionError, WeightsError
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.zoo.weights import read_weights, write_weights

TENSOR = torch.from_numpy(RGB.copy()).permute(2, 0, 1).float() / 255


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a picture."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(RGB).save('good.png')
    return tmp_path


@pytest.fixture(scope='module')
def rescaler() -> Rescaler:
    return Rescaler.load(weights(), device='cpu')


# ------------------------------------------------------------------------------------------------------------ numbers

NUMBERS = [(None, 60), (60, None), (float('inf'), 60), (float('nan'), 60), (10**400, 60), (60, 10**5000), (), (60,),
           (60, 60, 60), 'ab', b'ab', 60, float('nan'), np.array([60.5, 80]), (-60, -80), (0, 0), (True, 'x'),
           (60j, 80)]


@pytest.mark.parametrize('size', NUMBERS, ids=lambda size: f'{type(size).__name__}_{str(size)[:20]}' if not (
    isinstance(size, tuple) and 10**5000 in size) else 'enormous')
def test_sizes(rescaler: Rescaler, size: Any) -> None:
    for work in (lambda: rescaler.downscale(RGB, size=size), lambda: rescaler.upscale(RGB, size=size),
                 lambda: rescaler.roundtrip(TENSOR, size=size)):
        with pytest.raises(IARNError, match='size'), in_time():
            work()


@pytest.mark.parametrize('scale', [float('inf'), float('nan'), 10**400, -2, 0, (2, float('nan')), (None, 2), 'x', '',
                                   '2x', (1, 2, 3), b'2', {2}, 1e300, 2j], ids=lambda scale: str(scale)[:20])
def test_scales(rescaler: Rescaler, scale: Any) -> None:
    with pytest.raises(IARNError, match=r'scale|size'), in_time():
        rescaler.downscale(RGB, scale=scale)


@pytest.mark.parametrize('tile', [0, 1, -64, 63, 64.5, float('nan'), float('inf'), '64', True, [64]])
def test_tiles(tile: Any) -> None:
    """A tile of one pixel would take a thousand times as long."""
    with pytest.raises(OptionError, match=r'tile .*: expected an integer number of HR pixels >= 64'):
        Rescaler(tiny_net(), 'tiny', device='cpu', tile=tile)


def test_smallest_tile(place: Path) -> None:
    assert iarn('downscale', 'good.png', '-o', 'x.png', '--scale', 2, '--tile', 64) == (0, '', '')
    assert Rescaler(tiny_net(), 'tiny', device='cpu', tile=np.int64(64)).downscale(RGB, scale=2).shape == (12, 16, 3)


@pytest.mark.parametrize('device', ['meta', 'mps', 'xla', 'cuda:99', 'cpu:-1', '\x1b[2J'])
def test_devices(place: Path, device: str) -> None:
    """Some exist by name alone."""
    if device in ('mps', 'xpu', 'mtia') and hasattr(torch, device) and getattr(torch, device).is_available():
        pytest.skip(f'there is {device} here')
    refused(place, 'downscale', 'good.png', '-o', 'x.png', '--scale', 2, '--device', device, code=2,
            says=('iarn downscale: device ', 'cannot be used (', '); here are: cpu'))


# ------------------------------------------------------------------------------------------------------------ tensors


def test_bfloat16_does_not_lose_what_is_hidden(rescaler: Rescaler) -> None:
    """It holds no 8-bit values: what is made of it is float32, and so restores as the memory does."""
    given = TENSOR.bfloat16()
    lr, restored = rescaler.roundtrip(given, scale=2)
    expected_lr, expected = rescaler.roundtrip(given.float(), scale=2)
    assert lr.dtype == restored.dtype == torch.float32
    assert torch.equal(lr, expected_lr) and torch.equal(restored, expected)
    assert torch.equal(lr, (lr * 255).round() / 255) and not torch.equal(lr, lr.bfloat16().float())


# -------------------------------------------------------------------------------------------------------------- files


def test_the_input_is_not_overwritten(place: Path, rescaler: Rescaler) -> None:
    os.symlink('good.png', 'link.png')
    os.link('good.png', 'hard.png')
    before = contents(place)
    for target in ('good.png', './good.png', place / 'good.png', 'link.png', 'hard.png'):
        with pytest.raises(OptionError, match=r'\.png: the output would replace the input, name another file'):
            rescaler.downscale_file('good.png', target, scale=2)
        with pytest.raises(OptionError, match=r'\.png: the output would replace the input, name another file'):
            rescaler.upscale_file('good.png', target, size=(46, 62))
    assert contents(place) == before


@pytest.mark.parametrize('name', ['x.jpg', 'x.JPEG', 'x.tif', 'x', 'x.jxl'])
def test_lr_goes_into_lossless_files(place: Path, rescaler: Rescaler, name: str) -> None:
    reason = ("what the weights 'tiny' hide in an LR image does not survive a JPEG" if name in ('x.jpg', 'x.JPEG') else
              'only PNG, WebP and JPEG carry the metadata to restore an LR image')
    with pytest.raises(OptionError, match=f'{name}: {reason}.*; or pass allow_lossy=True'):
        rescaler.downscale_file('good.png', name, scale=2)
    assert list(contents(place)) == ['good.png']
    if name == 'x.jpg':
        rescaler.downscale_file('good.png', name, scale=2, allow_lossy=True)
        assert read_picture(name).size == (12, 16)


def test_the_target_is_checked_before_the_work(place: Path, rescaler: Rescaler,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError('worked')

    monkeypatch.setattr(Rescaler, 'downscale_pixels', fail)
    monkeypatch.setattr(Rescaler, 'upscale_pixels', fail)
    os.symlink('nowhere', 'link.png')
    for target in ('link.png', 'good.png/x.png'):
        with pytest.raises(IARNError, match=rf'{target}: cannot be written \('):
            rescaler.downscale_file('good.png', target, scale=2)
        with pytest.raises(IARNError, match=rf'{target}: cannot be written \('):
            rescaler.upscale_file('good.png', target, size=(46, 62))


# ------------------------------------------------------------------------------------------------------------ weights


def spoilt(value: float) -> dict[str, torch.Tensor]:
    state = {k: v.clone() for k, v in tiny_net().state_dict().items()}
    list(state.values())[-1].view(-1)[-1] = value
    return state


@pytest.mark.parametrize(('command', 'value', 'ending'), [
    ('downscale', float('nan'), 'pth'), ('export', float('-inf'), 'safetensors')])
def test_weights_that_are_not_finite(place: Path, command: str, value: float, ending: str) -> None:
    write_weights(f'bad.{ending}', tiny_net().arch, params=spoilt(value))
    line = {'downscale': ('downscale', 'good.png', '-o', 'x.png', '--scale', 2, '--weights', f'bad.{ending}'),
            'export': ('export', f'bad.{ending}', 'x.pth')}[command]
    refused(place, *line, code=2, says=(f'bad.{ending} is damaged: ', 'values that are not finite (NaN or infinite)'))


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
