"""States and weights that are damaged, and disks that are full: the file is named, whole files stay whole."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import write_yaml

from iarn_basicsr.errors import OptionError
from iarn_basicsr.pipeline.resume import load_resume_state


class Evil:
    """Makes a folder if it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ('executed', )


def keep(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(share * path.stat().st_size))


DAMAGE: dict[str, Callable[[Path], Any]] = {
    'empty': keep(0), 'cut': keep(0.5), 'a pickle that executes': lambda p: p.write_bytes(pickle.dumps(Evil())),
    'something else': lambda p: torch.save([1, 2], p), 'missing': lambda p: p.unlink(),
    'no number': lambda p: torch.save({'epoch': 0, 'iter': None, 'optimizers': [], 'schedulers': []}, p),
}
STATE, WEIGHTS = 'training_states/4.state', 'models/net_g_4.pth'


@pytest.fixture
def options(options: dict[str, Any]) -> dict[str, Any]:
    options['logger']['save_checkpoint_freq'] = 2
    options['datasets']['val']['scales'] = [2]
    return options


@pytest.fixture
def trained(tmp_path: Path, options: dict[str, Any], pipeline: Callable[..., None]) -> Path:
    """A run of 4 iterations with states at 2 and 4."""
    pipeline('train', write_yaml(options, tmp_path / 'options.yml'))
    return tmp_path / 'experiments' / 'run'


@pytest.fixture
def small_run(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Two states and their weights as they are on disk, without training; and the options that resuming reads."""
    run = tmp_path / 'run'
    for number in (2, 4):
        for name, content in ((f'models/net_g_{number}.pth', {'params': {'a': torch.zeros(9)}}),
                              (f'training_states/{number}.state', {'epoch': 0, 'iter': number, 'optimizers': [],
                                                                   'schedulers': []})):
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            torch.save(content, run / name)
    return run, {'auto_resume': True, 'rank': 0, 'network_g': {}, 'datasets': {'train': {}},
                 'path': {'training_states': str(run / 'training_states'), 'models': str(run / 'models')}}


@pytest.mark.parametrize('name', [STATE, WEIGHTS])
@pytest.mark.parametrize('damage', DAMAGE)
def test_newest_whole_state(small_run, caplog, monkeypatch, damage, name):
    run, opt = small_run
    monkeypatch.chdir(run)
    DAMAGE[damage](run / name)
    state = load_resume_state(opt)
    assert state and state['iter'] == opt['datasets']['train']['start_iter'] == 2
    assert opt['path']['resume_state'] == f'{run}/training_states/2.state'
    assert opt['path']['pretrain_network_g'] == f'{run}/models/net_g_2.pth'
    lines = [record.getMessage() for record in caplog.records]
    if (name, damage) == (STATE, 'missing'):
        assert not lines
    else:
        assert len(lines) == 1 and str(run / name) in lines[0] and '\n' not in lines[0]
        assert lines[0].endswith(f'; resuming from {run}/training_states/2.state')
    caplog.clear()
    load_resume_state({**opt, 'rank': 1})
    assert not caplog.records, 'one process says it'
    assert not Path('executed').exists()


@pytest.mark.parametrize('damage', ['cut', 'missing'])
def test_state_that_is_named(small_run, damage):
    run, opt = small_run
    DAMAGE[damage](run / STATE)
    opt['auto_resume'], opt['path']['resume_state'] = False, str(run / STATE)
    with pytest.raises(OptionError, match=r'^path.resume_state: [^\n]*4.state[^\n]*$'):
        load_resume_state(opt)


def test_resume_past_damaged_weights(trained, tmp_path, options, pipeline, capfd):
    """The run says so in one line, goes on from the state before, and makes the damaged files again."""
    keep(0.5)(trained / WEIGHTS)
    options['train']['total_iter'] = 6
    capfd.readouterr()
    pipeline('train', write_yaml(options, tmp_path / 'options.yml'), '--auto_resume')
    err = capfd.readouterr().err
    assert ', iter: 2.' in err and [line for line in err.splitlines() if line.startswith('iarn-train: ')] == [
        line for line in err.splitlines() if line.endswith(f'resuming from {trained}/training_states/2.state')]
    assert torch.load(trained / 'training_states' / '6.state', weights_only=True)['iter'] == 6
    assert torch.load(trained / WEIGHTS, weights_only=True)['params']


@pytest.mark.parametrize('folder', ['training_states', 'models'])
def test_no_whole_state_is_no_new_run(trained, tmp_path, options, ends, folder):
    """Which would put the old one away."""
    for path in (trained / folder).iterdir():
        keep(0.5)(path)
    before = sorted(tmp_path.rglob('*'))
    line = ends(options, '--auto_resume')
    assert '--auto_resume: no saved state in ' in line and ('4.state' in line or 'net_g_4.pth' in line)
    assert sorted(tmp_path.rglob('*')) == before


def test_state_or_weights_of_another_network(trained, options, ends):
    other = {**options, 'network_g': {**options['network_g'], 'width': 6}}
    assert 'network_g.width: 6, but ' in ends(other, '--auto_resume')
    whole = torch.load(trained / STATE, weights_only=True)
    options['path']['resume_state'] = str(trained / STATE)
    for entries in ({'optimizers': []}, {'optimizers': 3}, {'schedulers': [None]},
                    {'optimizers': [{'state': {}, 'param_groups': [{'lr': 1, 'params': [0, 1]}]}]}):
        torch.save({**whole, **entries}, trained / STATE)
        assert f"{str(trained / STATE)!r} does not fit network_g or train.optim_g" in ends(options)


@pytest.mark.parametrize(('number', 'name'), [(2, 'net_g_2.pth'), (3, '2.state'), (6, 'net_g_latest.pth')])
def test_disk_that_gets_full(tmp_path, options, ends, monkeypatch, number, name):
    """At the files that training writes."""
    calls, sync = [], os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, 'fsync', full)
    line = ends(options)
    assert line.split(': ')[1].endswith(name) and 'No space left on device, ' in line and 'B free' in line
    assert not list(tmp_path.rglob(name))
    for path in [*tmp_path.rglob('*.pth'), *tmp_path.rglob('*.state')]:
        torch.load(path, weights_only=True)
