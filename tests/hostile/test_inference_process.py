"""``iarn`` as a process: signals at bad moments, and streams that are closed, full or left by their reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile.inference_tools import RGB, contents, iarn, weights
from PIL import Image

from iarn_basicsr.inference.cli import process

ROOT = Path(__file__).resolve().parents[2]
CLI = f'{sys.executable} -m iarn_basicsr.inference.cli'
LIMIT = 300  # seconds for a process, on a busy machine
# Writing that stops half way through the second file: it says so by a file, and waits to be killed.
SLOW = """
import pathlib, sys, time
from PIL import Image
from iarn_basicsr.inference.cli import main

save, saved = Image.Image.save, []

def slow(self, file, kind, **options):
    saved.append(file)
    if len(saved) == 2:
        file.write(b'half')
        file.flush()
        pathlib.Path('half').touch()
        time.sleep(100)
    save(self, file, kind, **options)

Image.Image.save = slow
sys.exit(main(sys.argv[1:]))
"""
# The first process goes on when the second, one of whose files fails, is done.
LATE = """
import os, pathlib, sys, time
from iarn_basicsr.inference.cli import main
from iarn_basicsr.inference.rescaler import Rescaler

work = Rescaler.downscale_pixels

def late(self, *args):
    if os.environ['RANK'] == '0' and not pathlib.Path('out/a.png').exists():
        while not pathlib.Path('out/b.png').exists():
            time.sleep(0.1)
        time.sleep(5)
    return work(self, *args)

Rescaler.downscale_pixels = late
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with pictures in ``in``."""
    monkeypatch.chdir(tmp_path)
    Path('in').mkdir()
    for name in ('a.png', 'b.png', 'c.png'):
        Image.fromarray(RGB).save(f'in/{name}')
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if k != 'PYTHONUNBUFFERED'}, 'PYTHONPATH': str(ROOT),
            'OMP_NUM_THREADS': '1', **more}


def start(*command: str, **more: str) -> subprocess.Popen:
    return subprocess.Popen(command, env=environment(**more), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def shell(command: str) -> subprocess.CompletedProcess:
    """Run by bash, which can close streams."""
    return subprocess.run(['bash', '-c', command], env=environment(), text=True, capture_output=True, timeout=LIMIT)


def wait_for(condition: Callable[[], object], child: subprocess.Popen) -> None:
    end = time.monotonic() + LIMIT
    while not condition() and child.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def times() -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in sorted(Path('out').iterdir())}


# ------------------------------------------------------------------------------------------------------------ signals


@pytest.mark.slow
def test_a_signal_in_the_middle_of_a_file(place: Path) -> None:
    child = start(sys.executable, '-c', SLOW, 'downscale', 'in', '-o', 'out', '--scale', '2', '--weights', weights(),
                  '--device', 'cpu')
    wait_for(Path('half').exists, child)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=LIMIT)
    assert not out and err.strip() == 'iarn downscale: interrupted; every file that was written is complete'
    assert child.returncode == 128 + signal.SIGTERM and list(times()) == ['a.png']


@pytest.mark.slow
def test_a_process_of_several_is_killed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command again makes what is missing, and nothing else."""
    Image.fromarray(RGB).resize((310, 230)).save('in/b.png')
    Image.fromarray(RGB).resize((31, 20)).save('in/d.png')
    line = ('downscale', 'in', '-o', 'out', '--scale', '2', '--weights', weights(), '--device', 'cpu')
    children = [start(sys.executable, '-c', SLOW, *line, '--skip-existing', RANK=rank, WORLD_SIZE='2') for rank in '01']
    wait_for(Path('half').exists, children[1])
    children[1].send_signal(signal.SIGKILL)
    assert [child.communicate(timeout=LIMIT)[1] for child in children] == [
        'iarn downscale: process 0 of 2: 1 done, 0 skipped, 0 failed\n', '']
    first = {name: made for name, made in times().items() if not name.startswith('.writing-')}
    assert list(first) == ['a.png', 'b.png'] and len(times()) == 3
    for rank, says in enumerate(('0 done, 1 skipped', '2 done, 1 skipped')):
        monkeypatch.setenv('RANK', str(rank))
        monkeypatch.setenv('WORLD_SIZE', '2')
        assert iarn(*line, '--skip-existing') == (0, '', f'iarn downscale: process {rank} of 2: {says}, 0 failed\n')
    assert list(times())[1:] == ['a.png', 'b.png', 'c.png', 'd.png'] and first.items() <= times().items()


@pytest.mark.slow
def test_a_file_that_fails_does_not_stop_the_other_processes(place: Path) -> None:
    """Though torchrun ends them when one fails."""
    Path('in/text.png').write_text('hello')
    Path('late.py').write_text(LATE)
    child = start(sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', 'late.py', 'downscale', 'in',
                  '-o', 'out', '--scale', '2', '--weights', weights(), '--device', 'cpu')
    err = child.communicate(timeout=LIMIT)[1]
    assert child.returncode == 1 and 'done, 0 skipped, 1 failed' in err and 'done, 0 skipped, 0 failed' in err
    assert list(times()) == ['a.png', 'b.png', 'c.png']


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='looks into /proc')
def test_a_signal_while_modules_are_imported(place: Path) -> None:
    child = start(*CLI.split(), 'downscale', 'in', '-o', 'out', '--scale', '2', '--weights', weights())
    wait_for(lambda: 'libtorch' in Path(f'/proc/{child.pid}/maps').read_text(), child)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=LIMIT)
    assert child.returncode == 128 + signal.SIGINT
    assert not out and err.strip() == 'iarn downscale: interrupted; every file that was written is complete'
    assert not Path('out').exists()


def test_postponed_signals_come_after_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), process.postponed():
        signal.raise_signal(signal.SIGINT)
        done.append('imported')
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_that_are_ignored_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As below nohup; and the handlers of a host program are its own, before and after."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with process.stoppable(), process.postponed():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    with pytest.raises(KeyboardInterrupt, match='15'), process.stoppable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_signal_does_not_stop_the_cleaning_up() -> None:
    cleaned = []
    with pytest.raises(KeyboardInterrupt), process.stoppable():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGHUP)
            cleaned.append(True)
    assert cleaned


# ------------------------------------------------------------------------------------------------------------ streams


@pytest.mark.parametrize(('command', 'code', 'err'), [
    ('info in/a.png >&- <&-', 1, 'iarn info: standard output: Bad file descriptor\n'),
    ('info nix.png >&-', 1, 'iarn info: nix.png: no such file\n'),
    ('info in/a.png >/dev/full', 1, 'iarn info: standard output: No space left on device\n'),
    ('info in/a.png nix.png 2>&-', 1, ''),
    ('info nix.png 2>/dev/full', 1, ''),
    ('--help >&- 2>&- <&-', 1, ''),
])
def test_closed_and_full_streams(place: Path, command: str, code: int, err: str) -> None:
    result = shell(f'{CLI} {command}')
    assert (result.returncode, result.stderr) == (code, err)
    if '>/dev/full' in command:  # also where nothing waits in a buffer
        result = shell(f'PYTHONUNBUFFERED=1 {CLI} {command}')
        assert (result.returncode, result.stderr) == (code, err)
    assert ('in/a.png: 31x23' in result.stdout) == (command == 'info in/a.png nix.png 2>&-')
    assert 'Traceback' not in result.stdout and 'nix' not in result.stdout
    assert [p.name for p in place.iterdir()] == ['in']


@pytest.mark.slow
def test_files_are_made_all_the_same_where_nothing_is_shown(place: Path) -> None:
    """And none of them is written into by what takes the number of a closed stream."""
    assert iarn('downscale', 'in', '-o', 'expected', '--scale', 2).code == 0
    line = f'{CLI} downscale in -o out --scale 2 --weights {weights()} --device cpu'
    result = shell(f'{line} >&- 2>&- <&-')
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')
    assert contents(Path('out')) == contents(Path('expected'))


@pytest.mark.parametrize('command', ['info {many}', 'info nix.png {many} 2>&1 >&-'])
def test_readers_that_leave(place: Path, command: str) -> None:
    many = ' '.join(['in/a.png'] * 500)
    result = shell(f'{CLI} {command.format(many=many)} | true; echo "${{PIPESTATUS[0]}}"')
    assert (result.stderr, result.stdout) == ('', '1\n')
