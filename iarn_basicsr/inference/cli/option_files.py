"""The option files that come with the package: to train, to test, and to compare methods."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from iarn_basicsr.errors import OptionError, suggestion

__all__ = ['SCHEMA', 'file_of', 'names', 'summary']

PACKAGE = Path(__file__).resolve().parents[2]
PLACES = [PACKAGE / 'options', PACKAGE.parent / 'options']  # installed; in a clone
SCHEMA = PACKAGE / 'config' / 'option_file.schema.json'  # for editors
KINDS = ('train', 'test', 'benchmark')  # what the names start with


def names() -> list[str]:
    """Names of the option files, those for training first."""
    return [path.name for kind in KINDS for path in sorted(_folder().glob(f'{kind}*.yml'))]


def file_of(name: str) -> Path:
    """Path of an option file.

    Raises:
        OptionError: with a suggestion, if there is none of this name.
    """
    known = names()
    if name not in known:
        raise OptionError(f'no option file {name!r} comes with the package; {suggestion(name, known)}')
    return _folder() / name


def summary(name: str) -> str:
    """The first sentence of the comment at the top of an option file."""
    lines = file_of(name).read_text(encoding='utf-8').splitlines()
    comment = itertools.takewhile(re.compile('# [^ ]').match, (n for n in lines if not n.startswith('# yaml-language')))
    return ' '.join(line[2:].strip() for line in comment).split('. ')[0].rstrip('.')


def _folder() -> Path:
    for folder in PLACES:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f'{PLACES[0]}: no such folder: install the package again')
