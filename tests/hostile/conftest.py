"""What several hostile tests start from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hostile.inference_tools import RGB, iarn
from PIL import Image

if sys.platform == 'win32':  # pipes, signals, modes and limits of POSIX are what these are about
    collect_ignore = ['test_edges_folders.py', 'test_inference_inputs.py', 'test_inference_outputs.py',
                      'test_inference_process.py', 'test_training_signals.py']


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a picture and its LR."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(RGB).save('good.png')
    assert iarn('downscale', 'good.png', '-o', 'lr.png', '--scale', 2).code == 0
    return tmp_path
