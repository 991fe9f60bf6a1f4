"""Methods of the benchmark: what each does to an image, which network it takes, which weight files it accepts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import basicsr.archs
import cv2
import numpy as np
import pytest
import torch
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.utils.registry import ARCH_REGISTRY
from helpers import picture, randomised, tiny_net
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from iarn_basicsr.archs.irn import IRN
from iarn_basicsr.archs.one_way import PaddedNet
from iarn_basicsr.benchmark import tasks
from iarn_basicsr.benchmark.methods import (
    SRMethod,
    UnavailableError,
    UnsupportedSizeError,
    build_method,
    fingerprint,
    import_networks,
)
from iarn_basicsr.benchmark.run import main
from iarn_basicsr.errors import OptionError
from iarn_basicsr.inference.compare import bicubic_roundtrip
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.ops.image import quantise, to_pixels
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.ops.size import lr_size
from iarn_basicsr.zoo.weights import write_weights


@pytest.mark.parametrize('kind', ['bicubic', 'area', 'lanczos'])
@settings(max_examples=10, deadline=None)
@given(st.integers(5, 40), st.integers(5, 40), st.floats(1, 4), st.floats(1, 4))
def test_a_flat_image_stays(kind, height, width, s_v, s_h):
    flat = torch.tensor([10, 128, 250])[None, :, None, None].expand(1, 3, height, width) / 255
    size = lr_size((height, width), (s_v, s_h))
    method = build_method('m', {'type': kind})
    lr = method.downscale(flat, size)
    assert lr.shape[-2:] == size
    assert torch.equal(method.upscale(lr, (height, width)), flat)


def test_zero_parameter_methods_by_definition():
    hr = picture(24, 36)
    bicubic, area, lanczos = (build_method(k, {'type': k}) for k in ('bicubic', 'area', 'lanczos'))
    ours, lr = bicubic_roundtrip(to_pixels(hr)[0], (12, 9)), bicubic.downscale(hr, (12, 9))
    assert np.array_equal(to_pixels(lr)[0], ours.lr)
    assert np.array_equal(to_pixels(bicubic.upscale(lr, (24, 36)))[0], ours.restored)
    assert (area.downscale(hr, (12, 18)) - F.avg_pool2d(hr, 2)).abs().max() <= 0.5 / 255 + 1e-6  # rounded
    enlarged = cv2.resize(hr[0].permute(1, 2, 0).numpy(), (72, 48), interpolation=cv2.INTER_LANCZOS4)
    assert torch.equal(lanczos.upscale(hr, (48, 72))[0], quantise(torch.from_numpy(enlarged).permute(2, 0, 1)))


def sr(*scales: int, multiple: int = 1) -> SRMethod:
    return SRMethod({k: PaddedNet(nn.Upsample(scale_factor=k), k, multiple) for k in scales}, (), torch.device('cpu'))


@torch.no_grad()
def test_one_way_network():
    method = sr(2, 4)
    assert not method.two_way
    hr = picture(24, 36)
    lr = method.downscale(hr, (12, 18))
    assert torch.equal(lr, bicubic_lr(hr, (12, 18)))  # bicubic, whatever the network
    assert torch.equal(method.upscale(lr, (24, 36)), lr.repeat_interleave(2, -1).repeat_interleave(2, -2))
    for size in [(10, 12), (24, 36), (24, 12)]:  # x2.4x3, x1, x1x3
        restored = method.upscale(method.downscale(hr, size), (24, 36))
        assert restored.shape == hr.shape and torch.equal(restored, quantise(restored))
    for lr, k in (((24, 36), 2), ((12, 18), 2), ((11, 18), 4), ((12, 9), 4), ((6, 9), 4)):
        assert sr(4, 2).factor((24, 36), lr) == k
    with pytest.raises(UnsupportedSizeError, match=r'no network for a scale of 4\.8; there are x2, x4'):
        sr(2, 4).check((24, 36), (5, 36))


@torch.no_grad()
def test_sizes_that_the_scale_does_not_divide(tmp_path):
    """33 x 45 at x4 is 8 x 11 by the one rule, a true ratio over 4: all methods still serve it."""
    hr, size = picture(33, 45), lr_size((33, 45), 4)
    assert max(33 / size[0], 45 / size[1]) > 4
    tiny_net().save(tmp_path / 'net.pth')
    ours = build_method('m', {'type': 'IARN', 'weights': str(tmp_path / 'net.pth')})
    for method in (ours, sr(2, 4), irn(tmp_path, 2, 4)):
        method.check((33, 45), size)
        assert method.upscale(method.downscale(hr, size), (33, 45)).shape == hr.shape
    assert sr(2, 4).factor((33, 45), size) == 4


@torch.no_grad()
def test_extending_to_a_window_is_cut_off_again():
    lr, seen, method = bicubic_lr(picture(22, 34), (11, 17)), [], sr(2, multiple=8)
    method.nets[2].net.register_forward_pre_hook(lambda net, args: seen.append(args[0]))
    assert torch.equal(method.upscale(lr, (22, 34)), sr(2).upscale(lr, (22, 34)))
    assert seen[0].shape[-2:] == (16, 24)
    assert torch.equal(seen[0][..., 11:, 17:], lr[..., 5:10, 9:16].flip(-1, -2))  # reflected
    method.check((22, 34), (11, 17))
    with pytest.raises(UnsupportedSizeError, match='an LR of 4x17 cannot be reflected up to multiples of 8'):
        method.check((8, 34), (4, 17))


def irn(tmp_path, *scales):
    entries = []
    for k in scales:
        net = randomised(IRN(scale=k, num_block=1, width=4), 0.02)
        torch.save({f'module.{n}': v for n, v in net.state_dict().items()}, tmp_path / f'{k}.pth')
        entries.append({'scale': k, 'path': str(tmp_path / f'{k}.pth'),
                        'network': {'type': 'IRN', 'scale': k, 'num_block': 1, 'width': 4}})
    return build_method('IRN', {'type': 'IRN', 'nets': entries})


@torch.no_grad()
def test_irn_between_its_scales(tmp_path):
    method = irn(tmp_path, 2, 4)
    assert method.two_way
    hr, net = picture(24, 36), method.nets[2]
    lr = method.downscale(hr, (12, 18))
    assert torch.equal(lr, quantise(net.downscale(hr, (12, 18)).lr))
    assert torch.equal(method.upscale(lr, (24, 36)), quantise(net.upscale(lr, (24, 36))))
    for size, k in [((12, 24), 2), ((9, 11), 4)]:
        lr = method.downscale(hr, size)
        assert lr.shape[-2:] == size
        assert method.upscale(lr, (24, 36)).shape == hr.shape
        expected = method.nets[k].complexity((k * size[0], k * size[1]), size)['macs'] / (24 * 36)
        assert method.complexity((24, 36), size)['macs_up'] == pytest.approx(expected)


@pytest.mark.parametrize(('options', 'message'), [
    ({'type': 'IARN', 'weights': 'nope.pth'}, r'weights not found: nope\.pth'),
    ({'type': 'SR', 'nets': [{'scale': 2, 'path': 'w.pth', 'network': {'type': 'EDRS'}}]},
     r"methods\.m\.nets\[0\]\.network\.type: 'EDRS' is not registered .*--import.* did you mean .*'EDSR'"),
    ({'type': 'spandrel', 'path': 'nope.pth'}, r'weights not found: nope\.pth'),
    ({'type': 'spandrel', 'path': 'w.pth'}, r'needs the package spandrel \(pip install spandrel\)'),
])
def test_what_is_not_here(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    torch.save(nn.Linear(2, 3).state_dict(), 'w.pth')
    with pytest.raises(UnavailableError, match=message):
        build_method('m', options)
    with pytest.raises(OptionError, match='does not fit network IRN'):
        build_method('m', {'type': 'IRN', 'nets': [{'scale': 2, 'path': 'w.pth'}]})


def test_network_of_the_registry_and_fingerprint(tmp_path):
    network = {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 2}
    net = MSRResNet(num_feat=4, num_block=1, upscale=2)
    torch.save({'params': net.state_dict()}, tmp_path / 'w.pth')
    options = {'type': 'SR', 'nets': [{'scale': 2, 'path': str(tmp_path / 'w.pth'), 'network': network}]}
    method = build_method('m', options)
    lr = bicubic_lr(picture(16, 20), (8, 10))
    with torch.no_grad():
        assert torch.equal(method.upscale(lr, (16, 20)), quantise(net(lr)))
    before = fingerprint(options, method)
    assert fingerprint(options, build_method('m', options)) == before
    torch.save({'params': {k: v + 1e-3 for k, v in net.state_dict().items()}}, tmp_path / 'w.pth')
    assert fingerprint(options, method) != before


@pytest.mark.parametrize(('bits', 'effort', 'with_network'), [(0, 0, True), (1, 2, True), (2.5, 0, False),
                                                              (0, 0, False)])
@torch.no_grad()
def test_iarn_is_what_the_rescaler_makes(tmp_path, bits, effort, with_network):
    """Also of a checkpoint of a training run, of which the averaged weights count."""
    net = tiny_net(order=2)
    write_weights(tmp_path / 'net_g_latest.pth', net.arch, params=tiny_net(order=2, seed=1).state_dict(),
                  params_ema=net.state_dict())
    weights, hr, size = str(tmp_path / 'net_g_latest.pth') if with_network else 'none', picture(96, 84), (48, 42)
    options = {'type': 'IARN', 'bits': bits, 'weights': weights, 'effort': effort}
    method = build_method('m', options)
    assert method.two_way and method.weights == ((weights, ) if with_network else ())
    lr = method.downscale(hr, size)
    direct = Rescaler.load(weights, device='cpu', payload=bits, effort=effort)
    assert torch.equal(lr, direct.downscale(hr, size=size))
    assert torch.equal(method.upscale(lr, (96, 84)), direct.upscale(lr, size=(96, 84)))
    assert torch.equal(lr, bicubic_lr(hr, size)) == (not with_network and not bits)
    with pytest.raises(UnsupportedSizeError, match='at scales 1 to 4'):
        method.check((96, 84), (23, 84))
    assert fingerprint(options, method) != fingerprint({**options, 'bits': 3}, method)


def test_cost_of_a_payload(tmp_path, monkeypatch):
    tiny_net(order=2).save(tmp_path / 'net.pth')
    weights = {'weights': str(tmp_path / 'net.pth')}
    none = build_method('m', {'type': 'IARN', 'weights': 'none', 'bits': 2}).complexity((96, 84), (48, 42))
    assert none == {'params': 0, 'macs_down': 0, 'macs_up': 0}
    alone = build_method('m', {'type': 'IARN', **weights}).complexity((96, 84), (48, 42))
    for bits, effort, passes in ((0, 0, 1), (1, 0, 2), (1, 5, 18)):
        method = build_method('m', {'type': 'IARN', 'bits': bits, 'effort': effort, **weights})
        assert method.complexity((96, 84), (48, 42)) == {**alone, 'macs_down': passes * alone['macs_down']}
    ticks = iter([0, 100, 100, 101, 101, 103, 103, 106])  # of seconds, the median after the run that warms up
    monkeypatch.setattr(tasks, 'time', SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert tasks._timed(lambda: alone, 3, torch.device('cpu')) == (alone, 2)


NETWORK = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn


@ARCH_REGISTRY.register()
class NAME(nn.Module):

    def __init__(self, scale=2):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x):
        return self.body(x)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A current directory with weights, and BasicSR's registry as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / 'modules'))
    monkeypatch.setattr(ARCH_REGISTRY, '_obj_map', dict(ARCH_REGISTRY._obj_map))
    conv = nn.Conv2d(3, 12, 3, padding=1)
    torch.save({f'body.0.{k}': v for k, v in conv.state_dict().items()}, 'w.pth')
    return {'type': 'SR', 'nets': [{'scale': 2, 'path': 'w.pth', 'network': {'type': 'FileNet'}}]}


def test_a_network_of_a_file_and_one_of_a_module(own):
    """Results change with the file of the network, or a run would keep what an earlier version of it measured."""
    with pytest.raises(UnavailableError, match="'FileNet' is not registered with BasicSR"):
        build_method('mine', own)
    Path('modules').mkdir()
    Path('modules/own_module.py').write_text(NETWORK.replace('NAME', 'ModuleNet'))
    Path('my_net.py').write_text('from helper_beside import NOTHING\n' + NETWORK.replace('NAME', 'FileNet'))
    Path('helper_beside.py').write_text('NOTHING = 0\n')
    import_networks(['my_net.py', 'own_module'])
    assert 'ModuleNet' in ARCH_REGISTRY
    method = build_method('mine', own)
    assert method.complexity((32, 48), (16, 24)) == {'params': 27 * 12 + 12, 'macs_down': 0,
                                                     'macs_up': pytest.approx(81)}  # 27 * 3 at its own scale
    assert method.complexity((45, 45), (30, 30))['macs_up'] == pytest.approx(27 * 12 * (30 / 45)**2)
    before = fingerprint(own, method)
    Path('my_net.py').write_text('\n')
    assert fingerprint(own, method) != before


def test_a_network_of_a_fork_of_basicsr(own, monkeypatch):
    """The file imports what lies beside it by the name that it has in the fork."""
    monkeypatch.setattr(basicsr.archs, '__path__', [*basicsr.archs.__path__])
    monkeypatch.delitem(sys.modules, 'basicsr.archs.beside', raising=False)
    archs = Path('fork/basicsr/archs')
    archs.mkdir(parents=True)
    (archs / 'beside.py').write_text('NOTHING = 0\n')
    (archs / 'file_arch.py').write_text('import basicsr.archs.beside as beside\n' + NETWORK.replace('NAME', 'FileNet'))
    import_networks([str(archs / 'file_arch.py')])
    assert build_method('mine', own).weights == ('w.pth', str(Path.cwd() / archs / 'file_arch.py'))


@pytest.mark.parametrize(('text', 'message'), [
    (None, 'cannot be imported (FileNotFoundError: there is no such file)'),
    ('raise ValueError("two\\nlines")', 'cannot be imported (ValueError: two lines)'),
    (NETWORK.replace('NAME', 'EDSR'), "cannot be imported (AssertionError: An object named 'EDSR' was already "),
    ('from basicsr.archs.edsr_arch import EDSR', 'registers no new network; write @ARCH_REGISTRY.register() above'),
])
def test_modules_that_are_of_no_use(own, capsys, text, message):
    if text is not None:
        Path('my_net.py').write_text(text)
    assert main(['-opt', 'b.yml', '--import', 'my_net.py']) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f'iarn-benchmark: --import my_net.py: {message}')
    assert shown.err.count('\n') == 1 and not shown.out
