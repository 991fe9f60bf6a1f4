"""The scripts behind the tables: curves of runs, speed, releasing weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import tiny_net

from iarn_basicsr import zoo
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.inference.verify import verify
from iarn_basicsr.zoo.weights import weights_hash


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
    assert lines[-1] == 'Without psnr_y at iteration 10: ablation_late.'
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
    assert module.main(['--experiments', str(tmp_path / 'nowhere'), *kept, '--rgb']) == 0
    assert capsys.readouterr().out == 'no run has psnr_rgb at iteration 10\n'


def test_speed_of_both(script, capsys):
    module = script('bench/speed')
    assert module.main(['--blocks', '1', '--width', '4', '--patch', '8', '--batch', '1', '--image', '8', '12',
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
    assert module.main([*arguments[:2], default, *arguments[3:-1]]) == 0  # released again, it stays the default
    assert zoo.list_models()[0] == default and zoo.entries()[default]['steps'] == 4
    with pytest.raises(SystemExit):
        module.main([*arguments, '--first'])
    (tmp_path / 'run.pth').write_bytes(b'')
    with pytest.raises(SystemExit) as stop:
        module.main(arguments)
    assert stop.value.code == 2 and 'is not a PyTorch weight file' in capsys.readouterr().err


@pytest.mark.parametrize('subnet', ['dense', 'residual'])
def test_grown_weights_do_what_the_small_ones_do(script, tmp_path, capsys, subnet):
    """Both ways and for any weights, with parts that can still learn."""
    module = script('release/grow_weights')
    small = tiny_net(num_block=2, width=5, order=2, extra_channels=4, subnet=subnet, std=0.1)
    small.save(tmp_path / 'small.pth')
    command = [str(tmp_path / 'small.pth'), '-o', str(tmp_path / 'large.pth')]
    assert module.main([*command, '--num-block', '6', '--width', '8']) == 0
    large = IARN.from_file(tmp_path / 'large.pth')
    assert large.hparams == {**small.hparams, 'num_block': 6, 'width': 8}
    assert f'{sum(p.numel() for p in large.parameters())} parameters' in capsys.readouterr().out
    hr = torch.rand(1, 3, 26, 31, dtype=torch.float64)
    small, large = small.double(), large.double()
    there, here = (net(hr, (11, 20)) for net in (small, large))
    for key, value in there.items():
        assert (value - here[key]).abs().max() < 1e-12, key
    here['sr'].square().sum().backward()
    idle = [name for name, p in large.named_parameters() if not p.grad.any()]
    assert all('.last.' not in name for name in idle)  # what feeds only convolutions that are still zero
    assert not any(name.startswith(('blocks.0.', 'blocks.3.')) and name.endswith('weight') for name in idle)
    for arguments, message in ((['5', '8'], 'expected a multiple of 2 blocks'), (['6', '4'], 'width of at least 5')):
        with pytest.raises(SystemExit):
            module.main([*command, '--num-block', arguments[0], '--width', arguments[1]])
        assert message in capsys.readouterr().err
    tiny_net(coupling='hr_grid').save(tmp_path / 'small.pth')
    with pytest.raises(SystemExit):
        module.main([*command, '--num-block', '8', '--width', '64'])
    assert 'only lr_grid can be grown' in capsys.readouterr().err
