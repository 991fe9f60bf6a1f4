"""``scripts/bench/payload.py``: quality, time and memory of coded detail, on tiny pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import make_image
from PIL import Image

from iarn_basicsr.errors import ImageError


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / 'photos' / 'photo.png'
    path.parent.mkdir()
    Image.fromarray(make_image(97, 122, 0)).save(path)
    return path


def rows(text: str) -> list[list[str]]:
    """Cells of the lines of figures."""
    return [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('|')][2:]


def test_quality(script, photo, capsys) -> None:
    assert script('bench/payload').main([str(photo.parent), '--scales', '2', '--bits', '0', '2', '--speeds', '9']) == 0
    without, coded = rows(capsys.readouterr().out)
    assert [row[:3] for row in (without, coded)] == [['x2', k, 'AVIF, speed 9'] for k in ('0', '2')]
    assert float(coded[3].split(' / ')[0]) > float(without[3].split(' / ')[0])
    assert without[4] == '100.00 / 100.00' and float(coded[4].split(' / ')[0]) < 50
    assert without[-1] == '0.0%' and float(coded[-1].strip('%')) > 50


def test_time_beside_the_network(script, photo, capsys) -> None:
    arguments = ['--megapixels', '0.01', '--speeds', '9', '8', '--repeats', '2', '--threads', '1']
    assert script('bench/payload').main([str(photo), *arguments]) == 0
    table = rows(capsys.readouterr().out)
    assert [row[:5] for row in table] == [['0.0', 'x2', '2', f'AVIF, speed {s}', '2'] for s in (9, 8)]
    assert all(float(cell) > 0 for row in table for cell in row[5:8])
    assert script('bench/payload').main([*arguments[:2], '--limit', '0', '--speeds', '9', '--threads', '1']) == 0
    assert rows(capsys.readouterr().out)[0][4] == '1'  # of the packaged photograph


def test_memory(script, photo, capsys) -> None:
    assert script('bench/payload').main([str(photo), '--megapixels', '0.01', '--memory']) == 0
    (row, ) = rows(capsys.readouterr().out)
    assert row[1:3] == ['x2', '2'] and all(50 < float(cell) < 5000 for cell in row[3:])


def test_mosaic(script) -> None:
    """Whole pictures in turn, of one size, at their places."""
    first, second = make_image(36, 48, 0), make_image(24, 60, 1)
    made = script('bench/payload').mosaic([first, second], 0.02)
    assert made.shape == (108, 192, 3) and made.flags.c_contiguous
    assert np.array_equal(made[:24, :48], first[:24, :48]) and np.array_equal(made[:24, 48:96], second[:24, :48])


def test_mistakes(script, tmp_path, capsys) -> None:
    main = script('bench/payload').main
    for arguments, words in (([], 'PATH, or --megapixels'), ([str(tmp_path), '--memory'], '--memory needs')):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2 and words in capsys.readouterr().err
    with pytest.raises(ImageError, match='no picture in it'):
        main([str(tmp_path)])
