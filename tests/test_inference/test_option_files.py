"""``iarn options``: the option files that come with the package, listed and copied."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hostile.inference_tools import iarn

from iarn_basicsr.inference.cli import option_files

OPTIONS = Path(__file__).resolve().parents[2] / 'options'
NAME = 'train_IARN_x1-4.yml'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list() -> None:
    """Every option file that stands at the top of ``options``, those for training first, with what it is for."""
    lines = dict(line.split(maxsplit=1) for line in iarn('options').out.splitlines())
    assert sorted(lines) == sorted(p.name for p in OPTIONS.glob('*.yml')) and all(lines.values())
    assert [name.split('_')[0] for name in lines] == sorted((n.split('_')[0] for n in lines), reverse=True)


def test_summary_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on over lines, and ends before the commands."""
    monkeypatch.setattr(option_files, 'PLACES', [folder])
    (folder / 'train_a.yml').write_text('# Has 0.5 M parameters,\n# and more. Not this.\n#   iarn-train\nname: a\n')
    (folder / 'test_b.yml').write_text('# yaml-language-server: $schema=x.json\n# Has one line.\n#   iarn-test\n'
                                       '# Not this.\n')
    (folder / 'test_c.yml').write_text('name: c\n# Not this.\n')
    (folder / 'README.md').write_text('# Not this.\n')
    assert {name: option_files.summary(path) for name, path in option_files.option_files().items()} == {
        'train_a.yml': 'Has 0.5 M parameters, and more', 'test_b.yml': 'Has one line', 'test_c.yml': ''}


@pytest.mark.parametrize('arguments, made', [
    ([], NAME), (['-o', 'new/'], f'new/{NAME}'), (['-o', 'new/own.yml'], 'new/own.yml')])
def test_copy(folder: Path, arguments: list[str], made: str) -> None:
    assert iarn('options', NAME, *arguments) == (0, f'{NAME} -> {made}\n', '')
    assert [p.relative_to(folder).as_posix() for p in folder.rglob('*.yml')] == [made]
    assert (folder / made).read_bytes() == (OPTIONS / NAME).read_bytes()


def test_no_file_is_replaced_without_overwrite(folder: Path) -> None:
    (folder / NAME).write_text('my own')
    assert iarn('options', NAME) == (2, '', f'iarn options: {NAME} exists: pass --overwrite to replace it\n')
    assert (folder / NAME).read_text() == 'my own'
    assert iarn('options', NAME, '--overwrite').code == 0
    assert (folder / NAME).read_bytes() == (OPTIONS / NAME).read_bytes()


@pytest.mark.parametrize('arguments, message', [
    (['test_IARN_x1-4'], "no option file 'test_IARN_x1-4' comes with the package; did you mean 'test_IARN_x1-4.yml'"),
    (['../setup.py'], "no option file '../setup.py' comes with the package; known: benchmark.yml, "),
    (['--overwrite'], '-o and --overwrite are for copying: name the option file to copy')])
def test_what_cannot_be_done_is_one_line(folder: Path, arguments: list[str], message: str) -> None:
    code, _, error = iarn('options', *arguments)
    assert code == 2 and error.startswith(f'iarn options: {message}') and error.count('\n') == 1
    assert not list(folder.iterdir())


def test_package_without_its_option_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option_files, 'PLACES', [Path('nowhere')])
    assert iarn('options') == (1, '', 'iarn options: nowhere: no such folder: install the package again\n')


def test_schema(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / 'x.json').write_text('{"title": "ü"}', encoding='utf-8')
    monkeypatch.setattr(option_files, 'SCHEMA', folder / 'x.json')
    assert iarn('options', '--schema') == (0, '{"title": "ü"}', '')


def test_no_torch_is_loaded() -> None:
    program = ('import sys; from iarn_basicsr.inference.cli import main; main(["options"]); '
               'assert not {"torch", "basicsr"} & set(sys.modules)')
    assert subprocess.run([sys.executable, '-c', program], cwd=OPTIONS.parent, timeout=120).returncode == 0
