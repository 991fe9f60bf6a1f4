"""Networks that spandrel finds from their files: what they compute, what the tables say, what is refused."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import picture
from torch import nn
from torch.nn import functional as F

from iarn_basicsr.archs.one_way import SpandrelNet, reaches, resized
from iarn_basicsr.benchmark.methods import build_method
from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import bicubic_downscale, bicubic_upscale

spandrel = pytest.importorskip('spandrel')

ARCHITECTURES: dict[str, dict[str, Any]] = {
    'Compact': {'num_feat': 4, 'num_conv': 1},
    'ESRGAN': {'num_filters': 4, 'num_blocks': 1},
    'SwinIR': {'img_size': 16, 'window_size': 8, 'embed_dim': 8, 'depths': [2], 'num_heads': [2], 'mlp_ratio': 2,
               'upsampler': 'pixelshuffledirect'},
    'DnCNN': {'nc': 8, 'nb': 8, 'act_mode': 'R'},
}


def network(kind: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    cls = getattr(importlib.import_module(f'spandrel.architectures.{kind}'), kind)
    return cls(**{**ARCHITECTURES[kind], **options}).eval()


def save(net: nn.Module, path: Path) -> str:
    torch.save({'params': net.state_dict()}, path)
    return str(path)


@torch.no_grad()
@pytest.mark.parametrize(('kind', 'options', 'scale', 'pad'), [
    ('Compact', {'upscale': 3}, 3, (0, 0, 0, 0)), ('DnCNN', {'in_nc': 3, 'out_nc': 3}, 1, (0, 0, 0, 0)),
    ('ESRGAN', {'in_nc': 12, 'scale': 4, 'shuffle_factor': 2}, 2, (0, 3, 0, 1)),  # multiples of 4: 11 x 13 to 12 x 16
    ('SwinIR', {'upscale': 2}, 2, (0, 3, 0, 5)),  # at least 16 x 16
])
def test_the_result_is_that_of_the_network_on_the_extended_lr(tmp_path, kind, options, scale, pad):
    """Its scale and architecture are found."""
    net = network(kind, **options)
    method = build_method('m', {'type': 'spandrel', 'path': save(net, tmp_path / 'w.pth')})
    found = method.nets[scale]
    assert kind in found.architecture and not method.two_way and not found.training
    assert found.padded_side(11) == 11 + pad[3]  # of a square
    height, width = 11 * scale, 13 * scale
    hr = picture(height, width)
    lr = method.downscale(hr, (11, 13))
    assert torch.equal(lr, quantise(bicubic_downscale(hr, (11, 13))))
    by_hand = net(F.pad(lr, pad, 'reflect'))[..., :height, :width].clamp(0, 1)
    assert torch.equal(method.upscale(lr, (height, width)), quantise(by_hand))
    size = height - 1, width
    assert torch.equal(method.upscale(lr, size), quantise(bicubic_downscale(by_hand, size)))


def test_several_scales(tmp_path):
    paths = [save(network('Compact', upscale=k), tmp_path / f'{k}.pth') for k in (4, 2)]
    method = build_method('m', {'type': 'spandrel', 'path': paths})
    assert list(method.nets) == [2, 4] and method.weights == tuple(paths)
    with pytest.raises(OptionError, match=r'methods\.m\.path: .*2\.pth is for x2, as another is'):
        build_method('m', {'type': 'spandrel', 'path': [paths[1], paths[1]]})


def test_reach_and_resize():
    assert reaches(2, (33, 45), (16, 22))
    assert not reaches(2, (33, 45), (15, 45))
    x = picture(12, 18)
    assert resized(x, (12, 18)) is x
    assert torch.equal(resized(x, (6, 9)), bicubic_downscale(x, (6, 9)))
    assert torch.equal(resized(x, (24, 30)), bicubic_upscale(x, (24, 30)))
    assert torch.equal(resized(x, (6, 30)), bicubic_upscale(bicubic_downscale(x, (6, 18)), (6, 30)))


def test_weights_that_fit_no_network(tmp_path):
    state = network('Compact', upscale=2).state_dict()
    del state['body.2.weight']
    gray = network('DnCNN', in_nc=1, out_nc=1).state_dict()
    for weights, message in (
            (nn.Linear(2, 3).state_dict(), r': spandrel [\d.]+ knows no network with these weights$'),
            (state, r': spandrel cannot build the network of these weights \('),
            (gray, r' is DnCNN \(Restoration, 1 to 1 channels\): expected super-resolution from RGB to RGB')):
        torch.save(weights, tmp_path / 'w.pth')
        with pytest.raises(WeightsError, match=r'w\.pth' + message) as caught:
            SpandrelNet.from_file(tmp_path / 'w.pth')
        assert '\n' not in str(caught.value)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark), )


def test_files_that_hold_code_or_are_damaged(tmp_path):
    """They are read as all weights are; nothing is executed."""
    net = network('Compact', upscale=2)
    torch.save({'params': {**net.state_dict(), 'evil': Evil(tmp_path / 'executed')}}, tmp_path / 'evil.pth')
    (tmp_path / 'cut.pth').write_bytes(Path(save(net, tmp_path / 'w.pth')).read_bytes()[:-200])
    for name in ('evil', 'cut'):
        with pytest.raises(WeightsError, match=rf'{name}\.pth') as caught:
            SpandrelNet.from_file(tmp_path / f'{name}.pth')
        assert '\n' not in str(caught.value)
    assert not (tmp_path / 'executed').exists()


def test_without_spandrel(tmp_path, monkeypatch):
    path = save(network('Compact', upscale=2), tmp_path / 'w.pth')
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    with pytest.raises(WeightsError, match=r'w\.pth: needs the package spandrel \(pip install spandrel\)'):
        SpandrelNet.from_file(path)
