"""``iarn export`` to ONNX, and torch.compile: both directions give what the network gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_net

from iarn_basicsr.errors import IARNError, OptionError, SizeError
from iarn_basicsr.inference import onnx as module
from iarn_basicsr.inference.cli import main
from iarn_basicsr.inference.onnx import TOLERANCE, OneDirection, export_onnx
from iarn_basicsr.ops.image import quantise

HR, LR = (31, 42), (13, 21)


def pair(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What goes in, by direction."""
    hr = torch.rand(1, 3, *HR, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return {'down': hr, 'up': quantise(net.downscale(hr, LR).lr)}


@pytest.mark.slow
@pytest.mark.parametrize('direction', ['down', 'up'])
def test_onnx_is_the_network(tmp_path: Path, direction: str) -> None:
    onnxruntime = pytest.importorskip('onnxruntime')
    net = tiny_net()
    tiny_net().save(tmp_path / 'net.pth')
    target = tmp_path / 'sub' / f'{direction}.onnx'
    assert main(['export', str(tmp_path / 'net.pth'), str(target), '--direction', direction, '--hr-size', '42x31',
                 '--size', '21x13']) == 0
    image = pair(net)[direction]
    session = onnxruntime.InferenceSession(str(target), providers=['CPUExecutionProvider'])
    (result, ) = session.run(None, {'image': image.numpy()})
    with torch.no_grad():
        expected = net.downscale(image, LR).lr if direction == 'down' else net.upscale(image, HR)
    assert result.shape == tuple(expected.shape) and (expected - image.mean()).abs().max() > 0.1
    np.testing.assert_allclose(result, expected.numpy(), rtol=0, atol=TOLERANCE)
    assert [p.name for p in target.parent.iterdir()] == [target.name]  # one file, weights inside, nothing left behind


@pytest.mark.slow
def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('onnxruntime')
    monkeypatch.setattr(module, '_difference', lambda *_: 2 * TOLERANCE)
    with pytest.raises(IARNError, match=r'x\.onnx: onnxruntime and torch differ by 0\.0002'):
        export_onnx(tiny_net(), str(tmp_path / 'x.onnx'), 'down', HR, LR)
    assert not list(tmp_path.iterdir())


def test_onnx_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_net().save('net.pth')
    for arguments, message in (
            (['x.onnx'], 'x.onnx: --direction, --hr-size, --scale or --size is missing: an .onnx is for one direction '
                         'and one pair of sizes'),
            (['x.pth', '--direction', 'up'], 'x.pth: --direction is for an .onnx only'),
            (['x.onnx', '--direction', 'up', '--hr-size', '42x31', '--scale', '9'],
             '--scale 9: 5x3 is out of range: 42x31 can become 10x7 to 42x31')):
        assert main(['export', 'net.pth', *arguments]) == 2
        assert capsys.readouterr().err == f'iarn export: {message}\n'
    with monkeypatch.context() as patch:
        patch.setattr(module, 'NEEDED', ())
        patch.setattr(torch, 'rand', lambda *size, **options: torch.empty(10**15))  # more than any memory
        assert main(['export', 'net.pth', 'x.onnx', '--direction', 'up', '--hr-size', '42x31', '--scale', '2']) == 1
    told = capsys.readouterr().err
    assert told.startswith('iarn export: x.onnx: cannot be written (') and told.count('\n') == 1
    monkeypatch.setattr(module, 'NEEDED', ('onnx', 'no_such_package'))
    with pytest.raises(OptionError, match=r'x\.onnx: needs no_such_package \(pip install no_such_package\)'):
        export_onnx(tiny_net(), 'x.onnx', 'down', HR, LR)
    assert not Path('x.onnx').exists()


def test_one_direction() -> None:
    net = tiny_net()
    for direction, image in pair(net).items():
        with torch.no_grad():
            expected = net.downscale(image, LR).lr if direction == 'down' else net.upscale(image, HR)
            assert torch.equal(OneDirection(net, direction, HR, LR)(image), expected)
    with pytest.raises(SizeError):
        OneDirection(net, 'down', HR, (5, 21))
    with pytest.raises(OptionError, match="direction 'both': choose down or up"):
        OneDirection(net, 'both', HR, LR)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('g++') and not shutil.which('clang++'), reason='needs a C++ compiler')
@pytest.mark.parametrize('direction', ['down', 'up'])
def test_compiled_is_the_network(direction: str) -> None:
    net = tiny_net()
    image, plain = pair(net)[direction], OneDirection(net, direction, HR, LR)
    with torch.no_grad():
        found = torch.compile(plain)(image)
        torch.testing.assert_close(found, plain(image), rtol=0, atol=1e-5)
