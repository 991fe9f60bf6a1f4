"""The scripts behind the tables: weights of others, curves of runs, speed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f'{name}.py')
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fetch_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ModuleType]:
    """The script with two files to fetch and a network that serves ``content`` (None: there is no network)."""

    def make(content: bytes | None, expected: str | None = None) -> ModuleType:
        module = load('fetch_weights')
        digest = expected or hashlib.sha256(content or b'').hexdigest()[:8]
        module.FILES = {'NET': {f'NET/net-{digest}.pth': module.Source('id'),
                                'NET/other.pth': module.Source(page='https://example.org/page')}}

        def download(source: object, target: str) -> None:
            if content is None:
                raise ConnectionError('no route')
            Path(target).write_bytes(content)

        monkeypatch.setattr(module, 'download', download)
        monkeypatch.chdir(tmp_path)
        return module

    return make


def weights() -> bytes:
    import io
    buffer = io.BytesIO()
    torch.save({'params': {'a': torch.zeros(2)}}, buffer)
    return buffer.getvalue()


def test_weights_are_fetched_and_checked(fetch_weights, tmp_path, capsys):
    content = weights()
    module = fetch_weights(content)
    assert module.main([]) == 1  # the other file has no direct address
    shown = capsys.readouterr()
    name, = (tmp_path / 'experiments/pretrained_models/NET').iterdir()
    assert name.read_bytes() == content
    assert f'{name.name}: ok' in shown.out
    assert 'other.pth: has no direct address; it is linked from https://example.org/page' in shown.out
    assert '1 files are not there' in shown.err
    (name.parent / 'other.pth').write_bytes(content)
    assert module.main([]) == 0
    name.write_bytes(content + b'x')  # damaged since
    assert module.main([]) == 1
    assert 'its SHA-256 begins' in capsys.readouterr().out


@pytest.mark.parametrize(('content', 'expected', 'message'), [
    (None, None, r'cannot be fetched from https://drive\.google\.com/.*id=id \(ConnectionError: no route\)'),
    (b'<html>quota</html>', '00000000', 'its SHA-256 begins [0-9a-f]{8}, expected 00000000'),
    (b'<html>quota</html>', None, 'is not a PyTorch weight file'),
])
def test_what_cannot_be_fetched_leaves_nothing_behind(fetch_weights, tmp_path, capsys, content, expected, message):
    assert fetch_weights(content, expected).main(['NET']) == 1
    shown = capsys.readouterr()
    assert re.search(message, shown.out)
    assert 'put it where its line says' in shown.err
    assert not [p for p in (tmp_path / 'experiments').rglob('*') if p.is_file()]


def test_real_addresses(capsys):
    module = load('fetch_weights')
    assert module.main(['--list']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(len(files) for files in module.FILES.values())
    assert all(re.match(r'\S+\texperiments/pretrained_models/\S+\.pth\thttps://\S+$', line) for line in lines)
    benchmark = (SCRIPTS.parent / 'options/benchmark_Set5.yml').read_text()
    assert all(line.split('\t')[1] in benchmark for line in lines)  # fetched to where the benchmark looks
    with pytest.raises(SystemExit):
        module.main(['EDSR'])
    assert "unknown network 'EDSR': choose from EDSR-M" in capsys.readouterr().err


def report(folder: Path, iteration: int, **psnr: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'Set5_{iteration}.json').write_text(json.dumps(
        {'iter': iteration, 'mean': {s: {'psnr_y': v, 'lr_psnr_y': 45.06} for s, v in psnr.items()}}))


def test_table_and_curves(tmp_path, capsys):
    module = load('ablation_table')
    for name, value in (('ablation_base', 40.0), ('ablation_area', 39.5)):
        for iteration in (9, 10):
            report(tmp_path / name / 'metrics', iteration, x2=value + iteration, x3=30)
    report(tmp_path / 'ablation_late' / 'metrics', 9, x2=1)
    arguments = ['--experiments', str(tmp_path), '--plot', str(tmp_path / 'curves.png'), '--scales', 'x2', 'x3']
    assert module.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '| run at iteration 10 | x2 | x3 |'
    assert lines[2:4] == ['| base | 50.00 / 45.1 | 30.00 / 45.1 |',
                          '| area | 49.50 (-0.50) / 45.1 | 30.00 (+0.00) / 45.1 |']
    assert lines[-1] == 'Not at iteration 10: ablation_late.'
    assert (tmp_path / 'curves.png').stat().st_size > 5000
    assert module.main(['--experiments', str(tmp_path / 'nowhere')]) == 1

    kept = ['--results', str(tmp_path / 'kept.json')]
    assert module.main([*arguments[:2], *kept]) == 0
    capsys.readouterr()
    report(tmp_path / 'more' / 'ablation_new' / 'metrics', 10, x2=51.25)
    assert module.main(['--experiments', str(tmp_path / 'more'), *kept]) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[:1] + again[2:3] + again[3:4] == [lines[0], lines[2], lines[3]]
    assert again[4] == '| new | 51.25 (+1.25) / 45.1 | – |'
    assert module.main(['--experiments', str(tmp_path / 'nowhere'), *kept]) == 0
    assert capsys.readouterr().out.splitlines() == again


def test_speed_of_both(capsys):
    module = load('bench_speed')
    assert module.main(['--blocks', '1', '--growth', '4', '--patch', '8', '--batch', '1', '--image', '8', '12',
                        '--repeats', '1', '--threads', '1', '--dtypes', 'fp32']) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('| I')]
    assert [line.split(' | ')[0] for line in lines] == [f'| {n}' for n in (
        'IRN x2', 'IRN x4', 'IARN x1.5', 'IARN x2', 'IARN x3', 'IARN x4') for _ in range(2)]
    assert '| 1.00 |' in lines[0]
    with pytest.raises(SystemExit):
        module.main(['--patch', '10'])


def test_other_layout_is_the_same_network():
    """What the benchmark runs without channels_last gives the same result."""
    from iarn_basicsr.archs.coupling import dense
    module = load('bench_speed')
    hidden = torch.nn.ModuleList(torch.nn.Conv2d(3 + 4 * k, 4, 3, padding=1) for k in range(2))
    last, x = torch.nn.Conv2d(11, 5, 3, padding=1), torch.rand(2, 3, 7, 9)
    assert torch.allclose(module.dense_nchw(x, hidden, last), dense(x, hidden, last), atol=1e-6)
