"""Recipes and names of strangers: what they do to the restoration, and to the terminal that shows them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile.inference_tools import Result, iarn, png, refused, weights

from iarn_basicsr.inference.cli import batch
from iarn_basicsr.inference.lr_metadata import LRMetadata
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.text import printable, shortened

ESCAPE = '\x1b]0;owned\x07\x1b[2J'
HARMLESS = r'\x1b]0;owned\x07\x1b[2J'


def record() -> dict[str, Any]:
    metadata = read_picture('lr.png').metadata
    assert metadata
    return asdict(metadata)


def write_lr(name: str, text: str) -> None:
    """The LR with another metadata."""
    Path(name).write_bytes(png(read_picture('lr.png').rgb, (b'tEXt', b'iarn\0' + text.encode('latin-1', 'replace'))))


def edit(name: str, **changes: Any) -> None:
    write_lr(name, json.dumps({**record(), **changes}))


DAMAGED = {
    'smaller_original': {'hr_size': [5, 5]}, 'one_side_smaller': {'hr_size': [46, 5]}, 'zero': {'lr_size': [0, 0]},
    'negative': {'hr_size': [-46, 62]}, 'huge': {'hr_size': [10**400, 62]}, 'large': {'hr_size': [10**6 + 1, 62]},
    'fraction': {'hr_size': [46.5, 62]}, 'text': {'hr_size': '46x62'}, 'three': {'hr_size': [1, 2, 3]},
    'words': {'hr_size': ['46', '62']}, 'truth': {'hr_size': [True, True]}, 'none': {'hr_size': None},
    'mapping': {'lr_size': {'12': 1, '16': 2}}, 'mode': {'mode': 'CMYK'}, 'mode_list': {'mode': ['L']},
    'icc': {'gray_icc': '###'}, 'icc_number': {'gray_icc': 3}, 'long_model': {'model': 'x' * 14000},
    'model_list': {'model': ['x']}, 'weights_none': {'weights': None}, 'pixels_number': {'pixels': 7},
    'format_text': {'format': 'one'}, 'format_nan': {'format': float('nan')}, 'format_none': {'format': None},
    'format_low': {'format': float('-inf')}, 'escape_in_mode': {'mode': ESCAPE}, 'seal_list': {'seal': [1]},
}


@pytest.mark.parametrize('kind', DAMAGED)
def test_damaged_recipes_stop_nothing(place: Path, kind: str) -> None:
    """``info`` goes on, names the file, and its line is short and harmless; ``upscale`` refuses."""
    edit('odd.png', **DAMAGED[kind])
    code, out, err = iarn('info', 'lr.png', 'odd.png', 'lr.png')
    assert code == 0 and not err and out.count('lr.png: ') == 2
    lines = out.splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith('odd.png: '))
    assert lines[at + 1].startswith('  its IARN metadata are damaged (') and len(lines[at + 1]) < 400
    assert '\x1b' not in out
    refused(place, 'upscale', 'odd.png', '-o', 'x.png', says=('odd.png: its IARN metadata are damaged (',))


@pytest.mark.parametrize('text', ['{', '[' * 10**5, 'null', '7', '[]', '"x"', '{}', '{"format": 1e999}', '\0', ESCAPE,
                                  '{"format": ' + '9' * 5000 + '}', '{"format": "' + 'x' * 14000 + '"}'])
def test_what_is_no_recipe(place: Path, text: str) -> None:
    write_lr('odd.png', text)
    code, out, err = iarn('info', 'odd.png', 'lr.png')
    assert code == 0 and not err and 'LR image of 31x23' in out and '\x1b' not in out
    assert max(map(len, out.splitlines())) < 400
    refused(place, 'upscale', 'odd.png', '-o', 'x.png', says=('odd.png: it',))


def test_an_error_in_describing_names_the_file_and_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = LRMetadata.change
    errors: list[Exception] = [ValueError('bad'), MemoryError(), OSError(5, 'Input/output error')]
    monkeypatch.setattr(LRMetadata, 'change', lambda metadata, rgb: change(metadata, rgb) if not errors else (
        _ for _ in ()).throw(errors.pop()))
    code, out, err = iarn('info', *['lr.png'] * 4)
    assert code == 1 and out.count('LR image') == 1
    assert [line.removeprefix('iarn info: lr.png: ') for line in err.splitlines()] == [
        '[Errno 5] Input/output error', 'not enough memory', 'bad']


# --------------------------------------------------------------------------------------------------- what it restores


def test_recipe_edited_to_another_size(place: Path) -> None:
    """Within what the network reaches: only the seal of the metadata shows it."""
    edit('edited.png', hr_size=[24, 32])
    refused(place, 'upscale', 'edited.png', '-o', 'x.png', says=(
        'edited.png: its IARN metadata were edited since it was made, and may name another size; pass --force to try',))
    assert '  these metadata were edited since it was made\n' in iarn('info', 'edited.png').out
    code, out, err = iarn('upscale', 'edited.png', '-o', 'x.png', '--force')
    assert (code, out) == (0, '') and err == (
        'iarn upscale: edited.png: its IARN metadata were edited since it was made, and may name another size: not '
        'restored as it was\n')
    assert read_picture('x.png').size == (24, 32)


@pytest.mark.parametrize('change', [{'mode': 'L'}, {'alpha': True}, {'gray_icc': 'R1JBWQ=='}, {'model': 'other'},
                                    {'hr_size': [25, 31]}])
def test_every_part_is_sealed(place: Path, change: dict[str, Any]) -> None:
    edit('edited.png', **change)
    refused(place, 'upscale', 'edited.png', '-o', 'x.png', says=('its IARN metadata were edited',))


def test_recipes_without_a_seal_are_as_good_as_before(place: Path) -> None:
    """Version 0.1.0 wrote none."""
    unsealed = record()
    del unsealed['seal']
    write_lr('earlier.png', json.dumps(unsealed))
    assert iarn('upscale', 'earlier.png', '-o', 'x.png') == (0, '', '')
    assert iarn('upscale', 'lr.png', '-o', 'y.png') == (0, '', '')
    assert Path('x.png').read_bytes() == Path('y.png').read_bytes()
    assert LRMetadata.from_json(json.dumps(unsealed)).intact


def test_seal() -> None:
    metadata = LRMetadata((30, 40), (11, 17), 'ü', '0' * 16, 'RGB', '1234abcd').sealed()
    assert metadata.intact and len(metadata.seal) == 8 and metadata.sealed() == metadata
    assert LRMetadata.from_json(json.dumps(asdict(metadata))) == metadata
    assert not replace(metadata, hr_size=(31, 40)).intact


def test_size_against_the_recipe(place: Path) -> None:
    code, _, err = iarn('upscale', 'lr.png', '-o', 'x.png', '--size', '40x30')
    assert code == 0
    assert err == 'iarn upscale: lr.png: --size is not the size that it was made from: not restored as it was\n'
    assert iarn('upscale', 'lr.png', '-o', 'y.png', '--size', '31x23') == (0, '', '')


@pytest.mark.parametrize(('change', 'text'), [
    ({'pixels': '00000000'}, 'it was edited or recompressed since it was made'),
    ({'lr_size': [13, 16]}, 'it was resized, turned or cropped since'),
    ({'weights': 'f' * 16, 'model': 'other'}, "it was made with the weights 'other'"),
])
def test_force_says_what_it_passes_over(place: Path, change: dict[str, Any], text: str) -> None:
    edit('odd.png', **change)
    refused(place, 'upscale', 'odd.png', '-o', 'x.png', says=('odd.png: ', text))
    code, _, err = iarn('upscale', 'odd.png', '-o', 'x.png', '--force')
    assert code == 0 and text in err and err.endswith(': not restored as it was\n') and err.count('\n') == 1


def test_stripped_metadata_are_not_called_foreign(place: Path) -> None:
    """Such an LR restores to the bit where the size is named."""
    Path('bare.png').write_bytes(png(read_picture('lr.png').rgb))
    assert iarn('upscale', 'lr.png', '-o', 'x.png').code == 0
    code, _, err = iarn('upscale', 'bare.png', '-o', 'y.png', '--size', '31x23')
    assert code == 0 and np.array_equal(read_picture('x.png').rgb, read_picture('y.png').rgb)
    shown = err + iarn('info', 'bare.png').out + iarn('upscale', 'bare.png', '-o', 'z.png').err
    assert 'not made by' not in shown and 'not restored' not in shown
    assert shown.count('metadata of IARN') == 3 and shown.count('removed') == 2


# ------------------------------------------------------------------------------------------------------- the terminal


def shown(result: Result) -> str:
    return result.out + result.err


def test_escapes_of_a_recipe(place: Path) -> None:
    edit('odd.png', model=ESCAPE, weights=ESCAPE)
    for line in (('info', 'odd.png'), ('upscale', 'odd.png', '-o', 'x.png'),
                 ('upscale', 'odd.png', '-o', 'x.png', '--force')):
        text = shown(iarn(*line))
        assert HARMLESS in text and '\x1b' not in text and '\x07' not in text


@pytest.mark.parametrize('name', [f'a{ESCAPE}.png', 'a\nb.png', 'a\rb.png', 'a\u202egnp.png', 'a\x9b31m.png',
                                  os.fsdecode(b'a\xff.png')])
def test_escapes_of_a_name(place: Path, name: str) -> None:
    shutil.copy('good.png', name)
    Path('text' + name).write_text('hello')
    results = [iarn('info', name, 'text' + name), iarn('downscale', name, 'text' + name, '-o', 'lr', '--scale', 2),
               iarn('downscale', name, '-o', 'dry', '--scale', 2, '--dry-run'), iarn('upscale', name, '-o', 'x.png'),
               iarn('compare', name, '--scale', 2), iarn('info', 'no' + name), iarn('info', '--' + name),
               iarn('downscale', 'no' + name, '-o', 'x', '--scale', 2), iarn('options', name),
               iarn('export', name, 'x.pth'), iarn('downscale', 'good.png', '-o', 'x', '--scale', name)]
    assert [r.code for r in results] == [1, 1, 0, 1, 0, 1, 2, 2, 2, 2, 2]
    for result in results:
        text = shown(result)
        assert text and printable(text.replace('\n', '')) == text.replace('\n', ''), result
    for result in (results[0], results[3], results[5], results[7], results[8], results[9]):
        assert len(result.err.splitlines()) == 1, result


def test_page_of_a_name_that_is_no_text(place: Path) -> None:
    name = os.fsdecode(b'\xff.png')
    shutil.copy('good.png', name)
    shutil.copy(weights(), os.fsdecode(b'w\xfe.pth'))
    for line in (('compare', name, '--scale', 2, '-o', 'page.html'),
                 ('compare', name, '--scale', 2, '-o', os.fsdecode(b'p\xff.html')),
                 ('compare', name, '--scale', 2),
                 ('compare', 'good.png', '--scale', 2, '-o', 'w.html', '--weights', os.fsdecode(b'w\xfe.pth'))):
        result = iarn(*line)
        assert result.code == 0 and not result.err
    assert '\\udcff.png' in Path('page.html').read_text(encoding='utf-8')
    assert 'w\\udcfe' in Path('w.html').read_text(encoding='utf-8')
    assert len([p for p in place.iterdir() if p.suffix == '.html']) == 4


def test_weights_whose_name_is_no_text(place: Path) -> None:
    name = os.fsdecode(b'w\xfe.pth')
    shutil.copy(weights(), name)
    assert iarn('downscale', 'good.png', '-o', 'w.png', '--scale', 2, '--weights', name) == (0, '', '')
    assert iarn('upscale', 'w.png', '-o', 'x.png', '--weights', name) == (0, '', '')
    assert 'made with weights w\\udcfe (' in iarn('info', 'w.png').out


def test_long_lines_are_cut(place: Path) -> None:
    folder = '/'.join(['x' * 200] * 15)
    for result in (iarn('info', folder), iarn('downscale', folder, '-o', 'x', '--scale', 2),
                   iarn('info', '--' + folder),
                   iarn('downscale', 'good.png', '-o', folder + '.xyz/', '--scale', 2, '--tile', folder)):
        assert result.code in (1, 2) and max(map(len, shown(result).splitlines())) < 1200
    assert shortened('x' * 1000) == 'x' * 1000 and shortened('a' * 900 + 'b' * 900) == f'{"a" * 750} [...] {"b" * 250}'


def test_printable() -> None:
    assert printable('ö 日本 a-b\'"\\') == 'ö 日本 a-b\'"\\'
    assert printable('\x00\x1b\x7f\x9b\u2028\u202e\udcff') == r'\x00\x1b\x7f\x9b\u2028\u202e\udcff'


def test_remarks_of_a_run_are_harmless(place: Path, capsys: pytest.CaptureFixture) -> None:
    outcome = batch.Outcome(failed=[ESCAPE])
    outcome.remark(ESCAPE, ESCAPE)
    batch._report(type('Args', (), {'command': 'x'})(), outcome)
    assert '\x1b' not in capsys.readouterr().err
