"""Ctrl-C and the signals of clusters and terminals, at every moment of a run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import train_options, write_yaml

from iarn_basicsr import files
from iarn_basicsr.models.iarn_model import IARNModel
from iarn_basicsr.pipeline import launch, training

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = [s for s in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, s)]
pytestmark = pytest.mark.skipif(os.name != 'posix', reason='signals of POSIX')


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Also where the tests run in the background of a shell, which ignores Ctrl-C there."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    """A command in a process group of its own."""
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=cwd, text=True, start_new_session=True,
                            env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """At most a minute."""
    for _ in range(1200):
        if found():
            return
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.05)
    raise AssertionError('it did not come')


def options_of(folder: Path, iterations: int = 10**6, workers: int = 1) -> dict[str, Any]:
    options = train_options(folder)
    options['train']['total_iter'] = iterations
    options['datasets']['train']['num_worker_per_gpu'] = workers
    options['logger'].update(print_freq=1, save_checkpoint_freq=10**6)
    return options


# ------------------------------------------------------------------------------------------------------------ training


TORCHRUN = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'launcher', 'code'), [('SIGINT', [], 130), ('SIGTERM', TORCHRUN, 1)],
                         ids=['SIGINT', 'SIGTERM under torchrun'])
def test_signal_to_all_processes_of_a_run(tmp_path: Path, image_folder: Callable[..., Path], name: str,
                                          launcher: list[str], code: int) -> None:
    """As a terminal or a cluster sends it: saved, one line, and nothing is left, neither files nor processes."""
    file = write_yaml(options_of(image_folder('hr', [(32, 40)]), workers=2), tmp_path / 'options.yml')
    process = start(*launcher, '-m', 'iarn_basicsr.train', '-opt', file,
                    *(['--launcher', 'pytorch'] if launcher else []), cwd=tmp_path)
    logs = tmp_path / 'experiments' / 'run'
    wait_for(lambda: any('[epoch:' in p.read_text() for p in logs.glob('*.log')), process)
    os.killpg(process.pid, getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert process.returncode == code  # torchrun's own, after a signal
    saved = [p.stem for p in (logs / 'training_states').iterdir()]
    assert len(saved) == 1 and (logs / 'models' / f'net_g_{saved[0]}.pth').is_file()
    line = f'stopped and saved at iteration {saved[0]} of 1000000; the same command with --auto_resume goes on'
    assert err.count(line) == 1 and (launcher or err.rstrip().endswith(line))
    assert '[rank' not in err and (launcher or 'Traceback' not in err)  # torchrun has a traceback of its own
    assert not list(tmp_path.rglob('.writing-*'))
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.skipif(torch.multiprocessing.get_start_method() != 'fork', reason='a worker that is not a fork')
@pytest.mark.parametrize('name', SIGNALS)
def test_signal_to_a_worker_that_has_just_started(tmp_path: Path, image_folder: Callable[..., Path],
                                                  pipeline: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
                                                  name: str) -> None:
    """Before it could ignore signals: it goes on working. Torch sets the threads of a worker at its very start."""
    set_num_threads, here = torch.set_num_threads, os.getpid()

    def told(number: int) -> None:
        if os.getpid() != here:
            os.kill(os.getpid(), getattr(signal, name))
        set_num_threads(number)

    monkeypatch.setattr(torch, 'set_num_threads', told)
    pipeline('train', write_yaml(options_of(image_folder('hr', [(32, 40)]), 4), tmp_path / 'options.yml'))
    assert (tmp_path / 'experiments' / 'run' / 'models' / 'net_g_latest.pth').is_file()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize('name', SIGNALS)
def test_signal_in_a_step(tmp_path: Path, image_folder: Callable[..., Path], pipeline: Callable[..., None],
                          monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, name: str) -> None:
    """The step is finished and saved; afterwards the signals are what they were."""
    step, before = IARNModel.optimize_parameters, [signal.getsignal(getattr(signal, s)) for s in SIGNALS]

    def told(model: IARNModel, current_iter: int) -> None:
        if current_iter == 2:
            os.kill(os.getpid(), getattr(signal, name))
        step(model, current_iter)

    monkeypatch.setattr(IARNModel, 'optimize_parameters', told)
    file = write_yaml(options_of(image_folder('hr', [(32, 40)]), 6), tmp_path / 'options.yml')
    if name == 'SIGINT':
        with pytest.raises(SystemExit, match='130'):
            pipeline('train', file)
    else:
        pipeline('train', file)
    state = torch.load(tmp_path / 'experiments' / 'run' / 'training_states' / '2.state', weights_only=True)
    assert state['iter'] == 2
    assert [signal.getsignal(getattr(signal, s)) for s in SIGNALS] == before
    told_lines = re.findall('iarn-train: .*', capfd.readouterr().err)
    assert told_lines == (['iarn-train: stopping after this iteration; Ctrl-C again stops at once, without saving']
                          if name == 'SIGINT' else [])


def test_second_interruption_stops_at_once(tmp_path: Path, image_folder: Callable[..., Path],
                                           pipeline: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
                                           capfd: pytest.CaptureFixture) -> None:
    def told(model: IARNModel, current_iter: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr(IARNModel, 'optimize_parameters', told)
    with pytest.raises(SystemExit, match='130'):
        pipeline('train', write_yaml(options_of(image_folder('hr', [(32, 40)])), tmp_path / 'options.yml'))
    err = capfd.readouterr().err
    assert err.endswith('iarn-train: interrupted\n') and 'Traceback' not in err
    assert not list((tmp_path / 'experiments' / 'run' / 'training_states').iterdir())


def test_interruption_while_saving(tmp_path: Path, image_folder: Callable[..., Path], pipeline: Callable[..., None],
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """The impatient second Ctrl-C in the middle of a file: it is not there, and nothing is left beside it."""
    sync = os.fsync

    def told(handle: int) -> None:
        assert list(tmp_path.rglob('.writing-*'))
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        sync(handle)

    monkeypatch.setattr(os, 'fsync', told)
    options = options_of(image_folder('hr', [(32, 40)]))
    options['logger']['save_checkpoint_freq'] = 1
    with pytest.raises(SystemExit, match='130'):
        pipeline('train', write_yaml(options, tmp_path / 'options.yml'))
    assert not list(tmp_path.rglob('.writing-*')) and not list(tmp_path.rglob('*.pth'))


def test_interruption_after_saving_changes_nothing(tmp_path: Path, image_folder: Callable[..., Path],
                                                   pipeline: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
                                                   capfd: pytest.CaptureFixture) -> None:
    """The impatient second Ctrl-C comes when all is done."""
    step, end_workers = IARNModel.optimize_parameters, training._end_workers

    def told(model: IARNModel, current_iter: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        step(model, current_iter)

    def told_again(loader: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        end_workers(loader)

    monkeypatch.setattr(IARNModel, 'optimize_parameters', told)
    monkeypatch.setattr(training, '_end_workers', told_again)
    with pytest.raises(SystemExit, match='130'):
        pipeline('train', write_yaml(options_of(image_folder('hr', [(32, 40)])), tmp_path / 'options.yml'))
    err = capfd.readouterr().err
    assert 'stopped and saved at iteration 1 ' in err and 'iarn-train: interrupted' not in err


def test_what_a_killed_process_left_is_removed(tmp_path: Path, image_folder: Callable[..., Path],
                                               pipeline: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the run that goes on: files of a process that is gone, and old ones of nobody knows whom."""
    options = options_of(image_folder('hr', [(32, 40)]), 2, 0)
    options['logger']['save_checkpoint_freq'] = 2
    pipeline('train', write_yaml(options, tmp_path / 'options.yml'))
    run = tmp_path / 'experiments' / 'run'
    code = ('import os, sys\nfrom iarn_basicsr import files\n'
            'files.atomic_write(sys.argv[1], lambda path: os.kill(os.getpid(), 9))')
    for place in ('models/a.pth', 'training_states/a.state', 'metrics/a.json'):
        done = subprocess.run([sys.executable, '-c', code, run / place], env={**os.environ, 'PYTHONPATH': str(ROOT)})
        assert done.returncode == -9
    (run / 'models' / '.writing-ab12cd34.pth').touch()
    os.utime(run / 'models' / '.writing-ab12cd34.pth', (1, 1))
    assert len(list(run.rglob('.writing-*'))) == 4
    options['train']['total_iter'] = 4
    monkeypatch.setattr(files, '_tidied', set())  # as in a new process
    pipeline('train', write_yaml(options, tmp_path / 'options.yml'), '--auto_resume')
    assert not list(run.rglob('.writing-*'))


# ---------------------------------------------------------------------------------------------------- around training


@pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='it is not told there what is being imported')
@pytest.mark.parametrize('program', ['train', 'test'])
def test_interruption_of_the_imports(tmp_path: Path, program: str) -> None:
    process = start('-m', f'iarn_basicsr.{program}', '-opt', 'none.yml', cwd=tmp_path)
    wait_for(lambda: 'libtorch' in Path(f'/proc/{process.pid}/maps').read_text(), process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, '', f'iarn-{program}: interrupted\n')


@pytest.mark.parametrize('program', ['train', 'test'])
def test_interruption_in_the_program(tmp_path: Path, image_folder: Callable[..., Path], pipeline: Callable[..., None],
                                     monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture,
                                     program: str) -> None:
    """While a test runs, or a training is being prepared or reads its options."""
    options = options_of(image_folder('hr', [(32, 40)]))
    if program == 'test':
        options['datasets'] = {'test_1': options['datasets']['val']}
        options = {k: v for k, v in options.items() if k not in ('train', 'logger')}
        options['val'] = {'save_img': False, 'suffix': None}
        monkeypatch.setattr(IARNModel, '_rescale', lambda *_: os.kill(os.getpid(), signal.SIGINT) or time.sleep(60))
    else:
        monkeypatch.setattr('iarn_basicsr.pipeline.training.parse_options',
                            lambda *_, **__: os.kill(os.getpid(), signal.SIGINT) or time.sleep(60))
    with pytest.raises(SystemExit, match='130'):
        pipeline(program, write_yaml(options, tmp_path / 'options.yml'))
    err = capfd.readouterr().err
    assert err.endswith(f'iarn-{program}: interrupted\n') and 'Traceback' not in err


def test_ignored_interruption_stays_ignored() -> None:
    """As ``nohup`` and the background of a shell have it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    launch.launch('program', lambda: lambda: os.kill(os.getpid(), signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
