"""Fixtures: seeds, small images on disk, and runs through BasicSR's own pipeline."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

import cv2
import numpy as np
import pytest
import torch
from basicsr.utils import logger as basicsr_logger
from helpers import ROOT, make_image, train_options, write_yaml

import iarn_basicsr.plugin  # noqa: F401  (makes basicsr importable and registers)

torch.set_num_threads(1)  # tiny tensors: threads only wait for each other, the more so on a busy machine


@pytest.fixture(autouse=True)
def _signals() -> None:
    """As in a terminal: a shell ignores Ctrl-C in the background, nohup ignores SIGHUP, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, 'SIGHUP'):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of PNG images: image_folder('hr', [(48, 40), (33, 47)])."""

    def make(name: str, sizes: list[tuple[int, int]]) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        for k, size in enumerate(sizes):
            cv2.imwrite(str(folder / f'image{k}.png'), make_image(*size, seed=k))
        return folder

    return make


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Loads a script, with its folder on the path as when it is run: script('data/make_lr')."""
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        path = ROOT / 'scripts' / name
        monkeypatch.syspath_prepend(str(path.parent))
        return importlib.import_module(path.name)

    yield load
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], '__file__', None) or '').startswith(str(ROOT / 'scripts')):
            del sys.modules[name]


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs ``iarn-train`` or ``iarn-test`` in this process: pipeline('train', 'file.yml', '--auto_resume')."""
    from iarn_basicsr import test, train

    def run(which: str, option_file: Path, *arguments: str) -> None:
        basicsr_logger.initialized_logger.clear()  # or the second run of a process would log into the first one's file
        logging.getLogger('basicsr').handlers.clear()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr('sys.argv', [f'iarn-{which}', '-opt', str(option_file), *arguments])
        {'train': train, 'test': test}[which].main()

    return run


@pytest.fixture
def ends(pipeline: Callable[..., None], tmp_path: Path) -> Callable[..., str]:
    """Runs options to their end, which must be one line, with no process or unfinished file left; returns the line."""

    def run(options: dict[str, Any], *arguments: str, program: str = 'train') -> str:
        with pytest.raises(SystemExit) as stop:
            pipeline(program, write_yaml(options, tmp_path / 'options.yml'), *arguments)
        line = stop.value.code
        assert isinstance(line, str) and line.startswith(f'iarn-{program}: ') and '\n' not in line
        assert len(line) < 900 and 'Traceback' not in line
        assert not multiprocessing.active_children() and not list(tmp_path.rglob('.writing-*'))
        return line

    return run


@pytest.fixture
def options(image_folder: Callable[..., Path]) -> dict[str, Any]:
    """A training run of a second or two on two images."""
    return train_options(image_folder('hr', [(32, 40), (24, 26)]))
