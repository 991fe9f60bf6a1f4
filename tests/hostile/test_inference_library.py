"""``Rescaler``, weights and arguments: what nobody should ask for is refused by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_net
from hostile.inference_tools import RGB, contents, in_time, refused, weights

from iarn_basicsr.errors import IARNError, OptionError, WeightsError
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.zoo.weights import read_weights, write_weights

TENSOR = torch.from_numpy(RGB.copy()).permute(2, 0, 1).float() / 255


@pytest.fixture(scope='module')
def rescaler() -> Rescaler:
    return Rescaler.load(weights(), device='cpu')


# ------------------------------------------------------------------------------------------------------------ numbers


def test_sizes_and_scales(rescaler: Rescaler) -> None:
    sizes = [(None, 60), (float('inf'), 60), (float('nan'), 60), (60, 10**5000), (60, 60, 60), 'ab', 60,
             np.array([60.5, 80]), (0, 0), (True, 'x'), (60j, 80)]
    for size in sizes:
        for work in (lambda size=size: rescaler.downscale(RGB, size=size),
                     lambda size=size: rescaler.upscale(RGB, size=size)):
            with pytest.raises(IARNError, match='size'), in_time():
                work()
    for scale in (float('inf'), 10**400, -2, (2, float('nan')), (None, 2), '2x', (1, 2, 3), b'2', {2}, 1e300):
        with pytest.raises(IARNError, match=r'scale|size'), in_time():
            rescaler.downscale(RGB, scale=scale)  # type: ignore[arg-type]


@pytest.mark.parametrize('tile', [63, 64.5, float('nan'), '64', True])
def test_tiles(tile: Any) -> None:
    """A tile of one pixel would take a thousand times as long."""
    with pytest.raises(OptionError, match=r'tile .*: expected an integer number of HR pixels >= 64'):
        Rescaler(tiny_net(), 'tiny', device='cpu', tile=tile)
    assert Rescaler(tiny_net(), 'tiny', device='cpu', tile=np.int64(64)).downscale(RGB, scale=2).shape == (12, 16, 3)


@pytest.mark.parametrize('device', ['meta', 'mkldnn', 'cuda:99', '\x1b[2J'])
def test_devices(place: Path, device: str) -> None:
    """Some exist by name alone."""
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


# ------------------------------------------------------------------------------------------------------------ weights


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
