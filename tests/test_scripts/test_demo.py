"""The demo: its first part with the released weights, its second with trainings of seconds that go well or not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest
from helpers import train_options, write_yaml

from iarn_basicsr import zoo
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.verify import PHOTOGRAPH, TOLERANCE

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'
PROCESS = """
import subprocess, sys
from pathlib import Path
import demo

class Popen(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        Path('pid').write_text(str(self.pid))

subprocess.Popen = Popen
demo.OPTIONS = Path('quick.yml').resolve()
demo.first_part = lambda folder: None
raise SystemExit(demo.main([]))
"""


@pytest.fixture
def demo(script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return script('demo')


@pytest.fixture
def trains(demo: ModuleType, script: Callable[[str], ModuleType], image_folder: Callable[..., Path],
           monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What part 1 leaves, and an option file for part 2: trains(iterations, section=changes)."""
    prepare = script('data/prepare_quick_data')
    for split, names in (('train', prepare.TRAIN), ('val', prepare.VAL)):
        folder = Path('demo/datasets/quick', split)
        folder.mkdir(parents=True)
        for name in names:
            (folder / f'{name}.png').touch()  # not made again
    shutil.copy(PHOTOGRAPH, 'demo')
    Path('demo/table.txt').write_text('of part 1')

    def options(iterations: int, **changes: dict[str, Any]) -> None:
        opt = train_options(image_folder('hr', [(32, 40), (24, 26)]), 'tiny')
        opt['train'].update(total_iter=iterations, ema_decay=0)
        opt['logger'].update(print_freq=1, save_checkpoint_freq=iterations)
        for section, values in changes.items():
            opt[section].update(values)
        write_yaml(opt, Path('quick.yml'))

    monkeypatch.setattr(demo, 'first_part', lambda folder: None)
    monkeypatch.setattr(demo, 'OPTIONS', Path('quick.yml').resolve())
    monkeypatch.setattr(demo.second_part, '__defaults__', (None, ('2.5',)))
    return options


def files() -> set[str]:
    """Every file of the demo but the training's."""
    return {p.relative_to('demo').as_posix() for p in Path('demo').rglob('*') if p.is_file()
            and p.relative_to('demo').parts[0] not in ('datasets', 'experiments', 'tb_logger')}


@pytest.mark.slow
def test_first_part(demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    rows = demo.first_part(Path('demo'), ('2.5', '1.5x3'))
    names = ('chelsea_x2.5.png', 'chelsea_x1.5x3.png')
    assert files() == {'chelsea.png', 'demo.png', 'table.txt', 'table.json',
                       *(f'{kind}/{name}' for kind in ('lr', 'restored') for name in names)}
    expected = zoo.entries()[zoo.resolve(zoo.DEFAULT)[1]]['expected']
    values = json.loads(Path('demo/table.json').read_text())
    for scale, row, value, name in zip(('2.5', '1.5x3'), rows, values, names):
        for metric, number in expected[scale].items():
            assert value['iarn'][metric] == pytest.approx(number, abs=TOLERANCE)
            assert value['bicubic'][metric] < value['iarn'][metric]
        assert value['iarn']['lr_psnr_y'] > 40 and value['bicubic']['lr_psnr_y'] == 100
        assert value['lr_bytes'] == Path('demo/lr', name).stat().st_size
        lr = read_picture(f'demo/lr/{name}')
        assert lr.size == row.lr.shape[:2] == tuple(value['lr_size']) and lr.recipe.hr_size == (300, 451)
    shown = cv2.imread('demo/demo.png')
    assert min(shown.shape[:2]) > 600 and shown.std() > 30
    printed = capsys.readouterr().out
    assert printed.startswith('Part 1 of 2: ') and Path('demo/table.txt').read_text() in printed
    assert {'demo/demo.png', 'demo/table.txt', 'demo/lr', 'demo/restored', 'demo/chelsea.png'} <= set(printed.split())


@pytest.mark.slow
def test_first_part_again(demo: ModuleType) -> None:
    Path('demo/lr').mkdir(parents=True)
    for name in ('chelsea.png', 'demo.png', 'lr/chelsea_x2.5.png'):
        Path('demo', name).write_text('of an earlier run')
    demo.first_part(Path('demo'), ('2.5',))
    assert read_picture('demo/lr/chelsea_x2.5.png').recipe and read_picture('demo/chelsea.png').size == (300, 451)


def test_no_train(demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[Path] = []
    monkeypatch.setattr(demo, 'first_part', done.append)
    monkeypatch.setattr(demo, 'second_part', None)
    assert demo.main(['--no-train', '-o', 'elsewhere']) == 0
    assert done == [Path('elsewhere')] and 'left out (--no-train)' in capsys.readouterr().out


def test_folder_that_is_a_file(demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    Path('demo').touch()
    assert demo.main(['--no-train']) == 1
    error = capsys.readouterr().err
    assert error.startswith('demo: ') and error.count('\n') == 1


@pytest.mark.parametrize('argument', ['0', '-3', 'few'])
def test_iterations_that_are_none(demo: ModuleType, argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        demo.main(['--iterations', argument])
    assert stop.value.code == 2
    assert argument in capsys.readouterr().err


def test_interrupt_in_the_first_part(demo: ModuleType, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, 'first_part', interrupted)
    assert demo.main([]) == 130
    assert capsys.readouterr().out == '\nStopped.\n'


@pytest.mark.slow
def test_second_part_and_again(demo: ModuleType, trains: Callable[..., None],
                               capsys: pytest.CaptureFixture[str]) -> None:
    trains(4)
    assert demo.main(['--iterations', '2']) == 0
    out, err = capsys.readouterr()
    assert 'Part 2 of 2: training through BasicSR, 2 to 4 minutes on 2 cores; Ctrl-C stops it' in out
    assert '2/2' in err and 'INFO' not in out + err
    assert 'Start training' in Path('demo/train.log').read_text()
    assert files() == {'chelsea.png', 'table.txt', 'train.log', *(f'trained/{name}' for name in (
        'demo.png', 'table.txt', 'table.json', 'lr/chelsea_x2.5.png', 'restored/chelsea_x2.5.png'))}
    assert Path('demo/table.txt').read_text() == 'of part 1'
    assert Path('demo/trained/table.txt').read_text() in out
    assert out.splitlines()[-1].startswith('The small model ')
    assert demo.main([]) == 0
    out, err = capsys.readouterr()
    assert 'goes on after iteration 2 of 4' in out and '4/4' in err
    assert 'Resuming training from epoch: 0, iter: 2' in Path('demo/train.log').read_text()
    log = Path('demo/train.log').read_text()
    assert demo.main([]) == 0
    assert 'the training was done before, 4 iterations' in capsys.readouterr().out
    assert Path('demo/train.log').read_text() == log


@pytest.mark.slow
@pytest.mark.parametrize(('changes', 'why'), [
    ({'network_g': {'type': 'IRAN'}}, "'IRAN' is not registered"),
    ({'train': {'optim_g': {'type': 'Adam', 'lr': 1e3, 'betas': [0.9, 2]}}}, 'train.optim_g.betas: [0.9, 2]; expected'),
])
def test_training_that_fails(demo: ModuleType, trains: Callable[..., None], capsys: pytest.CaptureFixture[str],
                             changes: dict[str, Any], why: str) -> None:
    trains(4, **changes)
    assert demo.main([]) == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.strip() and 'training: ' not in line]
    assert lines == ['demo: training failed (exit code 1); its log says why: demo/train.log']
    assert 'Traceback' not in out + err
    assert why in Path('demo/train.log').read_text()
    assert Path('demo/table.txt').read_text() == 'of part 1'


@pytest.mark.slow
def test_training_that_ends_early(demo: ModuleType, trains: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    trains(4)
    monkeypatch.setattr(demo, 'train', lambda *args: None)
    assert demo.main([]) == 1
    assert capsys.readouterr().err.startswith('demo: training was stopped from outside; ')


def wait_for(met: Callable[[], bool], seconds: float = 120) -> bool:
    """Whether it is met in time."""
    end = time.monotonic() + seconds
    while not met() and time.monotonic() < end:
        time.sleep(0.05)
    return met()


def alive(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupt_in_the_second_part(demo: ModuleType, trains: Callable[..., None], number: int,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    trains(100000)
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(SCRIPTS), os.environ.get('PYTHONPATH', '')])}
    log = Path('demo/train.log')
    process = subprocess.Popen([sys.executable, '-c', PROCESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=environment,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # below & it is ignored
    try:
        assert wait_for(lambda: log.exists() and ', lr:(' in log.read_text())
        group = int(Path('pid').read_text())
        assert alive(group)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert wait_for(lambda: not alive(group), 20)
    assert 'Traceback' not in out + err
    [state] = Path('demo/experiments/tiny/training_states').iterdir()
    assert out.splitlines()[-1] == \
        f'Stopped. What part 1 wrote stays in demo; the same command goes on after iteration {state.stem}.'
    assert {'chelsea.png', 'table.txt'} <= files() and not Path('demo/trained').exists()
    assert demo.main(['--iterations', str(int(state.stem) + 2)]) == 0
    assert f'goes on after iteration {state.stem} of' in capsys.readouterr().out
