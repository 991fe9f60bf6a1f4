"""The scripts that draw figures, measure speed and grow weights."""

from __future__ import annotations

import argparse
import json
import re

import pytest
import torch
from helpers import as_test, make_image, tiny_net, write_yaml
from PIL import Image

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.zoo.weights import weights_hash


def test_ablation_table(script, tmp_path, capsys):
    """The runs of the repository and those in experiments."""
    metrics = tmp_path / 'ablation_new' / 'metrics'
    metrics.mkdir(parents=True)
    mean = {'x2': {'psnr_y': 50.004, 'lr_psnr_y': 45.06}, 'x7': {}}
    (metrics / 'Set5_3600.json').write_text(json.dumps({'iter': 3600, 'mean': mean}))
    assert script('figures').main(['ablation', '--experiments', str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '| run | x1.5 | x2 | x3 | x4 |'
    assert lines[2] == '| base | 47.48 / 49.4 | 40.65 / 47.4 | 35.30 / 45.9 | 32.46 / 45.0 |'
    assert lines[-1] == '| new |  | 50.00 / 45.1 |  |  |'


def test_figure(script, tmp_path, monkeypatch, capsys):
    module = script('figures')
    monkeypatch.setattr(module, 'photograph', lambda name: make_image(200, 210, 0))
    monkeypatch.setattr(module, 'LR_DETAILS', [('a', (0.1, 0.2))])
    tiny_net().save(tmp_path / 'net.pth')
    path = tmp_path / 'figure.png'
    assert module.main(['lr', '-o', str(path), '--weights', str(tmp_path / 'net.pth')]) == 0
    with Image.open(path) as image:
        assert image.size == (6 * 202 - 10, 216)
    assert module.main(['lr', '--weights', str(tmp_path / 'nowhere.pth')]) == 2
    assert capsys.readouterr().err.count('\n') == 1


def test_speed(script, tmp_path, capsys):
    module = script('bench/speed')
    (tmp_path / 'a.yml').write_text('network_g: {type: IARN, num_block: 1, width: 4}')
    assert module.main(['networks', '--network', str(tmp_path / 'a.yml'), '--patch', '8', '--batch', '1',
                        '--image', '8', '12', '--repeats', '1', '--threads', '1', '--dtypes', 'fp32']) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('| I')]
    assert [line.split(' | ')[0] for line in lines] == [f'| {n}' for n in (
        'IRN x2', 'IRN x4', 'IARN x1.5', 'IARN x2', 'IARN x3', 'IARN x4')]
    row = module.picture(0.01, argparse.Namespace(threads=1, weights='none', scale='2'))
    assert re.fullmatch(r'\| 0.01 \| 133x75 \|( [\d.]+ \|){3}', row)
    with pytest.raises(SystemExit):
        module.main(['networks', '--patch', '10'])


@pytest.mark.parametrize('subnet', ['dense', 'residual'])
def test_grown_weights_do_what_the_small_ones_do(script, tmp_path, capsys, subnet):
    """Both ways and for any weights, with parts that can still learn."""
    module = script('release/grow_weights')
    small = tiny_net(num_block=2, width=5, order=2, extra_channels=4, subnet=subnet, std=0.1)
    small.save(tmp_path / 'small.pth')
    command = [str(tmp_path / 'small.pth'), '-o', str(tmp_path / 'large.pth')]
    assert module.main([*command, '--num-block', '6', '--width', '8']) == 0
    large = IARN.from_file(tmp_path / 'large.pth')
    other = [*command[:2], str(tmp_path / 'other.pth'), '--num-block', '6', '--width', '8', '--seed', '1']
    assert module.main(other) == 0
    assert weights_hash(IARN.from_file(other[2]).state_dict()) != weights_hash(large.state_dict())
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


def test_subnets_learn_to_imitate_those_in_their_place(script, options, tmp_path, capsys):
    module = script('release/imitate_weights')
    trained = tiny_net(num_block=2, width=6, order=2, extra_channels=4, std=0.1)
    trained.save(tmp_path / 'trained.pth')
    file, hr = write_yaml(options, tmp_path / 'options.yml'), torch.rand(2, 3, 26, 31)
    grid = trained.grid_of(hr, (26, 31), (11, 20))
    command = [str(tmp_path / 'trained.pth'), str(file), '-o', str(tmp_path / 'new.pth')]

    def loss_after(steps: int) -> float:
        assert module.main([*command, '--num-unit', '1', '--width', '8', '--steps', str(steps), '--rate', '0.02']) == 0
        new = IARN.from_file(tmp_path / 'new.pth')
        assert new.hparams == {**trained.hparams, 'subnet': 'residual', 'num_unit': 1, 'width': 8}
        return module.imitation_loss(trained, new, grid, hr).item()

    idle = tiny_net(**trained.hparams, std=0)
    for subnet in module.subnets(idle):
        subnet.last.weight.data.zero_()
    assert module.imitation_loss(trained, idle, grid, hr).item() == pytest.approx(1.1)  # all of it is missing
    equal = IARN.from_file(tmp_path / 'trained.pth')
    module.imitation_loss(trained, equal, grid, hr).backward()
    assert not any(p.grad.any() for p in equal.parameters())
    assert loss_after(60) < 0.5 * loss_after(1)
    hr_grid, test = tmp_path / 'hr_grid.pth', write_yaml(as_test(options), tmp_path / 'test.yml')
    tiny_net(coupling='hr_grid').save(hr_grid)
    for wrong, message in (([str(hr_grid), *command[1:]], 'only subnets on the LR grid'),
                           ([command[0], str(test), *command[2:]], 'test.yml has no datasets.train'),
                           ([*command, '--steps', '0'], '--steps: 0; expected 1 or more'),
                           ([*command, '-o', f'{file}/new.pth'], 'is not a folder')):
        with pytest.raises(SystemExit):
            module.main(wrong)
        assert message in capsys.readouterr().err
