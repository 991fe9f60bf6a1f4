"""``iarn export`` to ONNX, and torch.compile: both directions give what the network gives."""

from __future__ import annotations

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


def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'NEEDED', ())
    monkeypatch.setattr(torch.onnx, 'export', lambda net, args, path, **options: Path(path).write_bytes(b'onnx'))
    monkeypatch.setattr(module, '_difference', lambda *_: 2 * TOLERANCE)
    with pytest.raises(IARNError, match=r'x\.onnx: onnxruntime and torch differ by 0\.0002'):
        export_onnx(tiny_net(), str(tmp_path / 'x.onnx'), 'down', HR, LR)
    assert not list(tmp_path.iterdir())


def test_onnx_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Wrong words of the command, more pixels than memory, a missing package: one line, and no file."""
    monkeypatch.chdir(tmp_path)
    tiny_net().save('net.pth')
    wanted = ['--direction', 'up', '--hr-size', '42x31', '--scale']
    for arguments, word in ((['x.onnx'], '--direction'), (['x.pth', '--direction', 'up'], '--direction'),
                            (['x.onnx', *wanted, '9'], '42x31')):
        assert main(['export', 'net.pth', *arguments]) == 2
        assert word in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(module, 'NEEDED', ())
        patch.setattr(torch, 'rand', lambda *size, **options: torch.empty(10**15))  # more than any memory
        assert main(['export', 'net.pth', 'x.onnx', *wanted, '2']) == 1
    told = capsys.readouterr().err
    assert told.startswith('iarn export: ') and 'memory' in told and told.count('\n') == 1
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
@pytest.mark.parametrize('direction', ['down', 'up'])
def test_torch_compile_traces_it_as_one_graph(direction: str) -> None:
    net = tiny_net()
    image, plain = pair(net)[direction], OneDirection(net, direction, HR, LR)
    with torch.no_grad():
        found = torch.compile(plain, backend='aot_eager', fullgraph=True)(image)
        torch.testing.assert_close(found, plain(image), rtol=0, atol=1e-5)
