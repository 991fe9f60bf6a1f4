"""Fixtures: seeds, small images on disk, and runs through BasicSR's own pipeline."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import pytest
import torch
from helpers import make_image

import iarn_basicsr.plugin  # noqa: F401  (makes basicsr importable and registers)

torch.set_num_threads(1)  # tiny tensors: threads only wait for each other, the more so on a busy machine


@pytest.fixture(autouse=True, scope='session')
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
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs ``iarn-train`` or ``iarn-test`` in this process: pipeline('train', 'file.yml', '--auto_resume')."""
    import logging

    from basicsr.utils import logger as basicsr_logger

    from iarn_basicsr import test, train

    def run(which: str, option_file: Path, *arguments: str) -> None:
        basicsr_logger.initialized_logger.clear()  # or the second run of a process would log into the first one's file
        logging.getLogger('basicsr').handlers.clear()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr('sys.argv', [f'iarn-{which}', '-opt', str(option_file), *arguments])
        {'train': train, 'test': test}[which].main()

    return run
