"""What several hostile tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile.inference_tools import RGB, iarn
from PIL import Image


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a picture and its LR."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(RGB).save('good.png')
    assert iarn('downscale', 'good.png', '-o', 'lr.png', '--scale', 2).code == 0
    return tmp_path
