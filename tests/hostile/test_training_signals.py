"""Ctrl-C and the signals of clusters and terminals, at every moment of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, TORCHRUN, as_test, write_yaml

from iarn_basicsr.models.iarn_model import IARNModel
from iarn_basicsr.pipeline import launch, training

SIGNALS = [s for s in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, s)]
pytestmark = pytest.mark.skipif(os.name != 'posix', reason='signals of POSIX')


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    """A command in a process group of its own."""
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=cwd, text=True, start_new_session=True,
                            env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """At most three minutes: imports take their time on a busy machine."""
    for _ in range(3600):
        if found():
            return
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.05)
    raise AssertionError('it did not come')


@pytest.fixture
def options(options: dict[str, Any]) -> dict[str, Any]:
    """A run without end, with one worker."""
    options['train']['total_iter'] = 10**6
    options['datasets']['train']['num_worker_per_gpu'] = 1
    options['datasets']['val']['scales'] = [2]
    options['logger'].update(print_freq=1, save_checkpoint_freq=10**6)
    return options


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'launcher', 'code'), [('SIGINT', [], 130), ('SIGTERM', TORCHRUN, 1)],
                         ids=['SIGINT', 'SIGTERM under torchrun'])
def test_signal_to_all_processes_of_a_run(tmp_path, options, name, launcher, code):
    """As a terminal or a cluster sends it: saved, one line, and nothing is left, neither files nor processes."""
    process = start(*launcher, '-m', 'iarn_basicsr.train', '-opt', write_yaml(options, tmp_path / 'options.yml'),
                    *(['--launcher', 'pytorch'] if launcher else []), cwd=tmp_path)
    run = tmp_path / 'experiments' / 'run'
    wait_for(lambda: any('[epoch:' in p.read_text() for p in run.glob('*.log')), process)
    os.killpg(process.pid, getattr(signal, name))
    _, err = process.communicate(timeout=180)
    assert process.returncode == code  # torchrun's own, after a signal
    saved = [p.stem for p in (run / 'training_states').iterdir()]
    assert len(saved) == 1 and (run / 'models' / f'net_g_{saved[0]}.pth').is_file()
    line = f'stopped and saved at iteration {saved[0]} of 1000000; the same command with --auto_resume resumes'
    assert err.count(line) == 1 and (launcher or err.rstrip().endswith(line))
    assert '[rank' not in err and (launcher or 'Traceback' not in err)  # torchrun has a traceback of its own
    assert not list(tmp_path.rglob('.writing-*'))
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.skipif(torch.multiprocessing.get_start_method() != 'fork', reason='a worker that is not a fork')
def test_signals_to_a_worker_that_has_just_started(tmp_path, options, pipeline, monkeypatch):
    """Before it could ignore signals: it goes on working. Torch sets the threads of a worker at its very start."""
    set_num_threads, here = torch.set_num_threads, os.getpid()

    def signalled(number: int) -> None:
        if os.getpid() != here:
            for name in SIGNALS:
                os.kill(os.getpid(), getattr(signal, name))
        set_num_threads(number)

    monkeypatch.setattr(torch, 'set_num_threads', signalled)
    options['train']['total_iter'] = 4
    pipeline('train', write_yaml(options, tmp_path / 'options.yml'))
    assert (tmp_path / 'experiments' / 'run' / 'models' / 'net_g_latest.pth').is_file()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_interruption_of_a_step(tmp_path, options, pipeline, monkeypatch, capfd):
    """The step is finished and saved, whatever comes when all is done; afterwards the signals are what they were."""
    step, end_workers = IARNModel.optimize_parameters, training._end_workers
    before = [signal.getsignal(getattr(signal, s)) for s in SIGNALS]

    def first(model: IARNModel, current_iter: int) -> None:
        if current_iter == 2:
            os.kill(os.getpid(), signal.SIGINT)
        step(model, current_iter)

    def impatient(prefetcher: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        end_workers(prefetcher)

    monkeypatch.setattr(IARNModel, 'optimize_parameters', first)
    monkeypatch.setattr(training, '_end_workers', impatient)
    with pytest.raises(SystemExit, match='130'):
        pipeline('train', write_yaml(options, tmp_path / 'options.yml'))
    state = torch.load(tmp_path / 'experiments' / 'run' / 'training_states' / '2.state', weights_only=True)
    assert state['iter'] == 2 and [signal.getsignal(getattr(signal, s)) for s in SIGNALS] == before
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith('iarn-train: ')]
    assert lines == ['iarn-train: stopping after this iteration; Ctrl-C again stops at once, without saving']


@pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='it is not told there what is being imported')
def test_interruption_of_the_imports(tmp_path):
    process = start('-m', 'iarn_basicsr.train', '-opt', 'none.yml', cwd=tmp_path)
    wait_for(lambda: 'libtorch' in Path(f'/proc/{process.pid}/maps').read_text(), process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, '', 'iarn-train: interrupted\n')


@pytest.mark.parametrize(('program', 'place', 'times'), [
    ('train', (training, 'read_options'), 1), ('test', (IARNModel, 'validation'), 1),
    ('train', (IARNModel, 'optimize_parameters'), 2), ('train', (os, 'fsync'), 2)],
    ids=['options', 'test', 'step', 'saving'])
def test_interruption_stops_at_once(tmp_path, options, pipeline, monkeypatch, capfd, program, place, times):
    """The first one around training, the second one in it; in the middle of a file nothing is left of it."""

    def interrupted(*_: Any, **__: Any) -> None:
        assert place[0] is not os or list(tmp_path.rglob('.writing-*'))
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    options['logger']['save_checkpoint_freq'] = 1
    if program == 'test':
        options = as_test({**options, 'network_g': {'type': 'IARN'}}, pretrain_network_g='iarn_light_x1-4')
    monkeypatch.setattr(*place, interrupted)
    with pytest.raises(SystemExit, match='130'):
        pipeline(program, write_yaml(options, tmp_path / 'options.yml'))
    err = capfd.readouterr().err
    assert err.endswith(f'iarn-{program}: interrupted\n') and 'Traceback' not in err
    assert not [*tmp_path.rglob('.writing-*'), *tmp_path.rglob('*.pth'), *tmp_path.rglob('*.state')]


def test_ignored_interruption_stays_ignored():
    """As ``nohup`` and the background of a shell have it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def load():
        os.kill(os.getpid(), signal.SIGINT)
        return lambda: os.kill(os.getpid(), signal.SIGINT)

    launch.launch('program', load)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
