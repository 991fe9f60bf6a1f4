"""Files that an earlier version (0.1.0) made are restored as it restored them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iarn_basicsr import Rescaler, zoo
from iarn_basicsr.pictures.files import read_picture

EARLIER = Path(__file__).resolve().parents[1] / 'expected' / 'earlier'


@pytest.mark.parametrize('kind', ['png', 'webp'])
def test_lr_of_an_earlier_version(kind: str) -> None:
    """To the bit on the machine that made them; elsewhere float32 may round a pixel the other way."""
    lr = read_picture(str(EARLIER / f'lr.{kind}'))
    assert lr.recipe and lr.recipe.model == 'iarn_light_x1-4'
    rescaler = Rescaler.load(zoo.name_of(lr.recipe.weights), device='cpu')
    expected = read_picture(str(EARLIER / f'restored_from_{kind}.png')).rgb
    difference = np.abs(rescaler.upscale(lr).rgb.astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
