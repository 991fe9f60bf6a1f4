"""Networks that spandrel finds from their files: what they compute, what the tables say, what is refused."""

from __future__ import annotations

import builtins
import importlib
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import make_image
from torch import nn
from torch.nn import functional as F

from iarn_basicsr.archs.one_way import SpandrelNet, reaches, resized
from iarn_basicsr.benchmark.methods import MissingWeightsError, UnsupportedSizeError, build_method
from iarn_basicsr.benchmark.run import main
from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import bicubic_downscale, bicubic_upscale

spandrel = pytest.importorskip('spandrel')

ARCHITECTURES: dict[str, dict[str, Any]] = {
    'Compact': {'num_feat': 4, 'num_conv': 1},
    'ESRGAN': {'num_filters': 4, 'num_blocks': 1},
    'SwinIR': {'img_size': 16, 'window_size': 8, 'embed_dim': 8, 'depths': [2], 'num_heads': [2], 'mlp_ratio': 2,
               'upsampler': 'pixelshuffledirect'},
    'SPAN': {'num_in_ch': 3, 'num_out_ch': 3, 'feature_channels': 8},
    'SAFMN': {'dim': 8, 'n_blocks': 2},
    'DnCNN': {'nc': 8, 'nb': 8, 'act_mode': 'R'},
}


def network(kind: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    cls = getattr(importlib.import_module(f'spandrel.architectures.{kind}'), kind)
    return cls(**{**ARCHITECTURES[kind], **options}).eval()


def save(net: nn.Module, path: Path) -> str:
    torch.save({'params': net.state_dict()}, path)
    return str(path)


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(make_image(height, width, seed)).permute(2, 0, 1)[None] / 255


# ------------------------------------------------------------------------------------------------------- computing


@pytest.mark.parametrize(('kind', 'options', 'scale'), [
    ('Compact', {'upscale': 4}, 4), ('Compact', {'upscale': 3}, 3), ('ESRGAN', {'scale': 4}, 4),
    ('ESRGAN', {'in_nc': 12, 'scale': 4, 'shuffle_factor': 2}, 2), ('SwinIR', {'upscale': 2}, 2),
    ('SPAN', {'upscale': 2}, 2), ('SAFMN', {'upscaling_factor': 4}, 4), ('DnCNN', {'in_nc': 3, 'out_nc': 3}, 1),
])
def test_scale_and_architecture_are_found(tmp_path, kind, options, scale):
    method = build_method('m', {'type': 'spandrel', 'path': save(network(kind, **options), tmp_path / 'w.pth')})
    assert list(method.nets) == [scale]
    assert kind in method.nets[scale].architecture
    assert not method.two_way and not method.nets[scale].training
    hr = image(16 * scale, 20 * scale)
    lr = method.downscale(hr, (16, 20))
    assert torch.equal(lr, quantise(bicubic_downscale(hr, (16, 20))))
    assert method.upscale(lr, (16 * scale, 20 * scale)).shape == hr.shape


@torch.no_grad()
@pytest.mark.parametrize(('kind', 'options', 'pad'), [
    ('Compact', {'upscale': 2}, (0, 0, 0, 0)),
    ('ESRGAN', {'in_nc': 12, 'scale': 4, 'shuffle_factor': 2}, (0, 3, 0, 1)),  # multiples of 4: 11 x 13 to 12 x 16
    ('SwinIR', {'upscale': 2}, (0, 3, 0, 5)),  # at least 16 x 16
])
def test_the_result_is_that_of_the_network_on_the_extended_lr(tmp_path, kind, options, pad):
    net = network(kind, **options)
    method = build_method('m', {'type': 'spandrel', 'path': save(net, tmp_path / 'w.pth')})
    lr = method.downscale(image(22, 26), (11, 13))
    by_hand = net(F.pad(lr, pad, 'reflect'))[..., :22, :26].clamp(0, 1)
    assert torch.equal(method.upscale(lr, (22, 26)), quantise(by_hand))
    assert torch.equal(method.upscale(lr, (20, 26)), quantise(bicubic_downscale(by_hand, (20, 26))))


def test_any_lr_is_large_enough(tmp_path):
    method = build_method('m', {'type': 'spandrel', 'path': save(network('SwinIR', upscale=2), tmp_path / 'w.pth')})
    method.check((4, 2), (2, 1))
    assert method.upscale(image(2, 1), (4, 2)).shape == (1, 3, 4, 2)


def test_several_scales(tmp_path):
    paths = [save(network('Compact', upscale=k), tmp_path / f'{k}.pth') for k in (4, 2)]
    method = build_method('m', {'type': 'spandrel', 'paths': paths})
    assert list(method.nets) == [2, 4]
    assert method.weights == tuple(paths)
    assert [method.factor((24, 36), lr) for lr in ((24, 36), (12, 18), (11, 18), (6, 9))] == [2, 2, 4, 4]
    with pytest.raises(UnsupportedSizeError, match=r'no network for a scale of 4\.8; there are x2, x4'):
        method.check((24, 36), (5, 36))
    with pytest.raises(OptionError, match=r'methods\.m\.paths: .*2\.pth is for x2, as another is'):
        build_method('m', {'type': 'spandrel', 'paths': [paths[1], paths[1]]})


def test_parameters_and_operations(tmp_path):
    """Compact of 4 features, one layer: 3x3 convolutions 3 -> 4 -> 4 -> 12, PReLU of 4 after the first two."""
    method = build_method('m', {'type': 'spandrel', 'path': save(network('Compact', upscale=2), tmp_path / 'w.pth')})
    weights = 9 * (3 * 4 + 4 * 4 + 4 * 12)
    cost = method.complexity((30, 40), (15, 20))
    assert cost == {'params': weights + 4 + 4 + 12 + 2 * 4, 'macs_down': 0, 'macs_up': pytest.approx(weights / 4)}


def test_operations_are_counted_on_a_size_that_the_network_takes(tmp_path):
    net = SpandrelNet.from_file(save(network('ESRGAN', in_nc=12, scale=4, shuffle_factor=2), tmp_path / 'w.pth'))
    assert [net.padded_side(n) for n in (1, 48, 49)] == [4, 48, 52]


def test_reach_and_resize():
    assert reaches(2, (33, 45), (16, 22))
    assert not reaches(2, (33, 45), (15, 45))
    x = image(12, 18)
    assert resized(x, (12, 18)) is x
    assert torch.equal(resized(x, (6, 9)), bicubic_downscale(x, (6, 9)))
    assert torch.equal(resized(x, (24, 30)), bicubic_upscale(x, (24, 30)))
    assert torch.equal(resized(x, (6, 30)), bicubic_upscale(bicubic_downscale(x, (6, 18)), (6, 30)))


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    net = network('Compact', upscale=2)
    safetensors.save_file(net.state_dict(), tmp_path / 'w.safetensors')
    x = image(8, 9)
    with torch.no_grad():
        assert torch.equal(SpandrelNet.from_file(tmp_path / 'w.safetensors')(x), net(x).clamp(0, 1))


def test_half_precision_is_computed_in_full(tmp_path):
    net = network('Compact', upscale=2).half()
    torch.save(net.state_dict(), tmp_path / 'w.pth')
    x = image(8, 9)
    with torch.no_grad():
        assert torch.equal(SpandrelNet.from_file(tmp_path / 'w.pth')(x), net.float()(x).clamp(0, 1))


# ------------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def benchmark(tmp_path, image_folder):
    def run(methods: dict[str, Any], **more: Any) -> int:
        options = {'name': 'tiny', 'threads': 1, 'device': 'cpu', 'scales': [2, 1.5, 3],
                   'datasets': {'set': {'dataroot_gt': str(image_folder('hr', [(48, 36)]))}}, 'methods': methods,
                   **more}
        (tmp_path / 'b.yml').write_text(yaml.safe_dump(options, sort_keys=False), encoding='utf-8')
        return main(['-opt', str(tmp_path / 'b.yml'), '-o', str(tmp_path / 'out')])

    return run


@pytest.mark.slow
def test_tables_say_that_the_lr_is_bicubic(tmp_path, benchmark, capsys):
    path = save(network('Compact', upscale=2), tmp_path / 'w.pth')
    lossy = {'scales': [2], 'formats': ['jpeg'], 'qualities': [90]}
    cost = {'hr_size': [32, 48], 'scales': [2], 'repeats': 1}
    methods = {'mine': {'type': 'spandrel', 'path': path}, 'bicubic': {'type': 'bicubic'},
               'absent': {'type': 'spandrel', 'path': 'nope.pth'}}
    published = {'set': {'mine': {'x2': 1.0}, 'theirs': {'x2': 2.0}}}
    assert benchmark(methods, lossy=lossy, cost=cost, published=published) == 0
    shown = capsys.readouterr()
    assert 'absent: left out, weights not found: nope.pth' in shown.err
    text = (tmp_path / 'out/benchmark.md').read_text()
    assert 'they restore an LR that was made without them' in text
    names = [line.split('|')[1].strip() for line in text.splitlines() if line.startswith('| ')]
    assert names.count('mine (bicubic LR)') == 2 + 2 + 1 + 3  # PSNR-Y, RGB / Y, x2 and x1.5, cost, lossy LR
    assert 'mine' not in names and 'bicubic' in names and 'theirs' in names and 'absent (bicubic LR)' in names
    assert re.search(r'^\| mine \(bicubic LR\) +\| +\d+\.\d\d \| +\d+\.\d\d \| +– \| +1\.00 \|$', shown.out, re.M)
    results = json.loads((tmp_path / 'out/benchmark.json').read_text())
    row = next(r for r in results['rows'] if r['method'] == 'mine' and r['key'][0] == 'cost')
    assert row['params'] == 712 and row['macs_down'] == 0 and row['macs_up'] == pytest.approx(684 / 4)
    assert 'no network for a scale of 3' in next(r['unsupported'] for r in results['rows'] if 'unsupported' in r)


def test_refused_in_one_line_by_the_command(tmp_path, benchmark, capsys):
    (tmp_path / 'w.pth').write_bytes(b'not weights')
    assert benchmark({'mine': {'type': 'spandrel', 'path': str(tmp_path / 'w.pth')}}) == 2
    error = capsys.readouterr().err
    assert error.startswith('iarn-benchmark: ') and error.count('\n') == 1
    assert 'w.pth is not a PyTorch weight file' in error


# ---------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(('options', 'message'), [
    ({}, r'methods\.m: expected path: FILE or, for several scales, paths: \[FILE'),
    ({'path': 'a.pth', 'paths': ['b.pth']}, r'methods\.m: expected path: FILE or, for several scales, paths: \[FILE'),
    ({'path': ''}, "methods.m.path: ''; expected the name of a file"),
    ({'paths': []}, r'methods.m.paths: \[\]; expected a list of at least 1, each the name of a file'),
    ({'paths': 'a.pth'}, "methods.m.paths: 'a.pth'; expected a list"),
    ({'paths': ['a.pth', None]}, r"methods.m.paths: \['a.pth', None\]; expected a list"),
])
def test_options_without_a_file(options, message):
    with pytest.raises(OptionError, match=message):
        build_method('m', {'type': 'spandrel', **options})


def test_unknown_option_and_missing_file():
    with pytest.raises(OptionError, match="methods.m: unknown option 'pth'; did you mean 'path'"):
        build_method('m', {'type': 'spandrel', 'pth': 'x'})
    with pytest.raises(MissingWeightsError, match=r'weights not found: nope\.pth'):
        build_method('m', {'type': 'spandrel', 'path': 'nope.pth'})


@pytest.mark.parametrize(('kind', 'options', 'message'), [
    ('Compact', {'num_in_ch': 1, 'num_out_ch': 1, 'upscale': 2}, r'RealESRGAN Compact \(SR, 1 to 1 channels\)'),
    ('DnCNN', {'in_nc': 1, 'out_nc': 1}, r'DnCNN \(Restoration, 1 to 1 channels\)'),
])
def test_networks_that_are_not_from_rgb_to_rgb(tmp_path, kind, options, message):
    path = save(network(kind, **options), tmp_path / 'w.pth')
    with pytest.raises(WeightsError, match=message + ': expected super-resolution from RGB to RGB'):
        SpandrelNet.from_file(path)


@pytest.mark.parametrize('purpose', ['FaceSR', 'Inpainting'])
def test_networks_for_faces_or_with_a_mask(tmp_path, monkeypatch, purpose):
    """As spandrel describes GFPGAN and LaMa, whose weights are too large to make here."""
    net = network('Compact', upscale=1)
    path = save(net, tmp_path / 'w.pth')
    common = {'supports_half': False, 'supports_bfloat16': False, 'input_channels': 3, 'output_channels': 3,
              'architecture': spandrel.MAIN_REGISTRY['Compact'].architecture, 'tags': [], 'purpose': purpose}
    found = (spandrel.ImageModelDescriptor(net, net.state_dict(), scale=1, **common) if purpose == 'FaceSR' else
             spandrel.MaskedImageModelDescriptor(net, net.state_dict(), **common))
    monkeypatch.setattr(spandrel.ModelLoader, 'load_from_state_dict', lambda self, state: found)
    with pytest.raises(WeightsError, match=rf'w\.pth is RealESRGAN Compact \({purpose}, 3 to 3 channels\)'):
        SpandrelNet.from_file(path)


def test_a_network_that_spandrel_does_not_know(tmp_path):
    path = save(nn.Linear(2, 3), tmp_path / 'w.pth')
    with pytest.raises(WeightsError, match=r'w\.pth: spandrel [\d.]+ knows no network with these weights$'):
        SpandrelNet.from_file(path)


def test_weights_that_only_resemble_a_network(tmp_path):
    state = network('Compact', upscale=2).state_dict()
    del state['body.2.weight']
    torch.save(state, tmp_path / 'w.pth')
    with pytest.raises(WeightsError, match=r'w\.pth: spandrel cannot build the network of these weights \(') as caught:
        SpandrelNet.from_file(tmp_path / 'w.pth')
    assert '\n' not in str(caught.value)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark), )


@pytest.mark.parametrize('name', ['w.pth', 'w.pt', 'w.ckpt', 'w.safetensors', 'w.bin'])
@pytest.mark.parametrize('write', ['torch', 'pickle'])
def test_a_file_that_holds_code_is_refused_and_does_nothing(tmp_path, name, write):
    pytest.importorskip('safetensors')
    content = {'params': {**network('Compact', upscale=2).state_dict(), 'evil': Evil(tmp_path / 'executed')}}
    if write == 'torch':
        torch.save(content, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(pickle.dumps(Evil(tmp_path / 'executed')))
    with pytest.raises(WeightsError, match=re.escape(name)) as caught:
        SpandrelNet.from_file(tmp_path / name)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize('name', ['w.pth', 'w.pt'])
def test_torchscript_is_code_too(tmp_path, name):
    torch.jit.trace(network('Compact', upscale=2), torch.rand(1, 3, 8, 8)).save(str(tmp_path / name))
    with pytest.raises(WeightsError, match=r'is not a PyTorch weight file'):
        SpandrelNet.from_file(tmp_path / name)


def test_a_damaged_file(tmp_path):
    path = Path(save(network('Compact', upscale=2), tmp_path / 'w.pth'))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WeightsError, match=r'w\.pth is not a PyTorch weight file'):
        SpandrelNet.from_file(path)


def test_without_spandrel(tmp_path, monkeypatch):
    path = save(network('Compact', upscale=2), tmp_path / 'w.pth')
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == 'spandrel':
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', missing)
    with pytest.raises(WeightsError, match=r'w\.pth: needs the package spandrel \(pip install spandrel\)'):
        build_method('m', {'type': 'spandrel', 'path': path})


@pytest.mark.slow
def test_spandrel_is_imported_only_for_its_networks():
    program = 'import sys, iarn_basicsr.benchmark.run; print("spandrel" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split()[-1] == 'False'
