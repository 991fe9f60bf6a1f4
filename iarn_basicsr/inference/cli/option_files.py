"""The option files that come with the package: to train, to test, and to compare methods."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

__all__ = ['SCHEMA', 'option_files', 'summary']

PACKAGE = Path(__file__).resolve().parents[2]
PLACES = [PACKAGE / 'options', PACKAGE.parent / 'options']  # installed; in a clone
SCHEMA = PACKAGE / 'config' / 'option_file.schema.json'  # for editors
KINDS = ('train', 'test', 'benchmark')  # what the names start with


def option_files() -> dict[str, Path]:
    """Name -> path, those for training first."""
    folder = next((place for place in PLACES if place.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(f'{PLACES[0]}: no such folder: install the package again')
    return {path.name: path for kind in KINDS for path in sorted(folder.glob(f'{kind}*.yml'))}


def summary(path: Path) -> str:
    """The first sentence of the comment at the top of an option file."""
    lines = path.read_text(encoding='utf-8').splitlines()
    comment = itertools.takewhile(re.compile('# [^ ]').match, (n for n in lines if not n.startswith('# yaml-language')))
    return ' '.join(line[2:].strip() for line in comment).split('. ')[0].rstrip('.')
