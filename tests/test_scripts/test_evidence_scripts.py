"""The scripts behind the tables: weights of others, curves of runs, speed, releasing weights."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers import tiny_net

from iarn_basicsr import zoo
from iarn_basicsr.pictures.verify import verify
from iarn_basicsr.weights import weights_hash

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fetch_weights(script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ModuleType]:
    """The script with two files to fetch and a network that serves ``content`` (None: there is no network)."""

    def make(content: bytes | None, expected: str | None = None) -> ModuleType:
        module = script('bench/fetch_weights')
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


def test_real_addresses(script, capsys):
    module = script('bench/fetch_weights')
    assert module.main(['--list']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(len(files) for files in module.FILES.values())
    assert all(re.match(r'\S+\texperiments/pretrained_models/\S+\.pth\thttps://\S+$', line) for line in lines)
    benchmark = (ROOT / 'options/benchmark_Set5.yml').read_text()
    assert all(line.split('\t')[1] in benchmark for line in lines)  # fetched to where the benchmark looks
    with pytest.raises(SystemExit):
        module.main(['EDSR'])
    assert "unknown network 'EDSR': choose from EDSR-M" in capsys.readouterr().err


def report(folder: Path, iteration: int, **psnr: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'Set5_{iteration}.json').write_text(json.dumps(
        {'iter': iteration, 'mean': {s: {'psnr_y': v, 'lr_psnr_y': 45.06} for s, v in psnr.items()}}))


def test_table_and_curves(script, tmp_path, capsys):
    module = script('figures/ablation_table')
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


def test_speed_of_both(script, capsys):
    module = script('bench/speed')
    assert module.main(['--blocks', '1', '--growth', '4', '--patch', '8', '--batch', '1', '--image', '8', '12',
                        '--repeats', '1', '--threads', '1', '--dtypes', 'fp32']) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('| I')]
    assert [line.split(' | ')[0] for line in lines] == [f'| {n}' for n in (
        'IRN x2', 'IRN x4', 'IARN x1.5', 'IARN x2', 'IARN x3', 'IARN x4')]
    assert '| 1.00 |' in lines[0]
    with pytest.raises(SystemExit):
        module.main(['--patch', '10'])


def test_release_of_earlier_weights(script, tmp_path, monkeypatch, capsys):
    """Into a copy of the zoo: the file lies in the folder earlier, the default stays, the numbers can be verified."""
    copy = tmp_path / 'zoo'
    copy.mkdir()
    shutil.copy(Path(zoo.FOLDER) / 'registry.json', copy)
    monkeypatch.setattr(zoo, 'FOLDER', str(copy))
    default = zoo.list_models()[0]
    module = script('release/release_weights')
    module.SCALES = ['2']
    net = tiny_net()
    net.save(tmp_path / 'run.pth')
    arguments = [str(tmp_path / 'run.pth'), '--name', 'old', '--training', 'options/a.yml (4 of its iterations)',
                 '--data', 'none', '--steps', '4', '--earlier']
    assert module.main(arguments) == 0
    assert 'old: ' in capsys.readouterr().out
    entry = zoo.entries()['old']
    assert entry['file'] == 'earlier/old.pth' and entry['training'] == 'options/a.yml (4 of its iterations)'
    assert set(entry) == set(zoo.entries()[default]) and set(entry['expected']) == {'2'}
    assert entry['weights_hash'] == weights_hash(net.state_dict()) and zoo.list_models()[0] == default
    assert zoo.resolve('old') == (str(copy / 'earlier' / 'old.pth'), 'old')
    assert [good for _, good, _ in verify(['old'])] == [True]
    with pytest.raises(SystemExit):
        module.main([*arguments, '--first'])
    (tmp_path / 'run.pth').write_bytes(b'')
    with pytest.raises(SystemExit) as stop:
        module.main(arguments)
    assert stop.value.code == 2 and 'is not a PyTorch weight file' in capsys.readouterr().err
