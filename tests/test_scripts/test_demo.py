"""The demo: restoring with the released weights, and trainings of seconds that go well or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import pytest
from helpers import ROOT, make_image, train_options, write_yaml

from iarn_basicsr.inference.picture_file import read_picture

PROCESS = """
from pathlib import Path
import demo
demo.OPTIONS, demo.ITERATIONS, demo.TRAINING = Path('quick.yml').resolve(), 100000, []
demo.restore = lambda folder: None
raise SystemExit(demo.main([]))
"""


@pytest.fixture
def demo(script, tmp_path, monkeypatch):
    """The script, in an empty folder, on a small photograph."""
    monkeypatch.chdir(tmp_path)
    module = script('demo')
    cv2.imwrite('photo.png', make_image(160, 180, 0))
    monkeypatch.setattr(module, 'PHOTOGRAPH', str(tmp_path / 'photo.png'))
    return module


@pytest.fixture
def trains(demo, script, image_folder, monkeypatch):
    """Prepares a training: trains(iterations, section=changes)."""
    for split, names in script('data/make_quick_data').PHOTOGRAPHS.items():
        folder = Path('demo/datasets/quick', split)
        folder.mkdir(parents=True)
        for name in names:
            (folder / f'{name}.png').touch()  # not made again
    monkeypatch.setattr(demo, 'restore', lambda folder: None)
    monkeypatch.setattr(demo, 'OPTIONS', Path('quick.yml').resolve())
    monkeypatch.setattr(demo, 'TRAINING', [])

    def prepare(iterations: int, **changes: dict[str, Any]) -> None:
        opt = train_options(image_folder('hr', [(32, 40), (24, 26)]), 'tiny')
        opt['train'].update(ema_decay=0, scheduler={'type': 'CosineAnnealingRestartLR', 'periods': [4],
                                                    'restart_weights': [1]})
        opt['logger'].update(print_freq=1)
        for section, values in changes.items():
            opt[section].update(values)
        write_yaml(opt, Path('quick.yml'))
        monkeypatch.setattr(demo, 'ITERATIONS', iterations)

    return prepare


@pytest.mark.slow
def test_restore(demo, capsys):
    assert demo.main(['--no-train']) == 0
    assert {p.name for p in Path('demo').iterdir()} == {'demo.png', *(
        f'chelsea_x{scale}_{what}.png' for scale in ('2.5', '1.5x3') for what in ('lr', 'restored'))}
    assert read_picture('demo/chelsea_x2.5_lr.png').size == (64, 72)
    assert read_picture('demo/chelsea_x1.5x3_restored.png').size == (160, 180)
    figure = cv2.imread('demo/demo.png')
    assert min(figure.shape[:2]) > 400 and figure.std() > 30
    assert 'figure: demo/demo.png' in capsys.readouterr().out


def test_folder_that_is_a_file(demo, capsys):
    Path('demo').touch()
    assert demo.main(['--no-train']) == 1
    error = capsys.readouterr().err
    assert error.startswith('demo: ') and error.count('\n') == 1


@pytest.mark.slow
def test_training_and_again(demo, trains, capsys):
    trains(2)
    assert demo.main([]) == 0
    out, err = capsys.readouterr()
    assert 'at most 3 minutes' in out and 'After 2 iterations' in out and 'INFO' not in out + err
    assert 'before it was' in out and out.splitlines()[-1].startswith('  weights: ')
    trains(4)
    assert demo.main([]) == 0
    assert 'resumes after iteration 2' in capsys.readouterr().out
    log = Path('demo/train.log').read_text()
    assert 'Resuming training from epoch: 0, iter: 2' in log
    assert demo.main([]) == 0  # nothing left to train
    assert 'After 4 iterations' in capsys.readouterr().out and Path('demo/train.log').read_text() == log


@pytest.mark.slow
def test_training_that_fails(demo, trains, capsys):
    trains(4, network_g={'type': 'IRAN'})
    assert demo.main([]) == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith('demo: ')]
    assert lines == ['demo: training failed (exit code 1); its log says why: demo/train.log']
    assert 'Traceback' not in out + err and "'IRAN' is not known" in Path('demo/train.log').read_text()


@pytest.mark.slow
def test_interrupt(demo, trains):
    """Ctrl-C lets the training save."""
    trains(100000)
    log = Path('demo/train.log')
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, (ROOT / 'scripts', ROOT)))}
    process = subprocess.Popen([sys.executable, '-c', PROCESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=environment,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # below & it is ignored
    try:
        end = time.monotonic() + 120
        while not (log.exists() and ', lr:(' in log.read_text()) and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and 'Traceback' not in out + err
    assert out.splitlines()[-1] == 'Stopped. Results so far are in demo; run the same command again to resume.'
    assert len(list(Path('demo/experiments/demo/training_states').iterdir())) == 1
