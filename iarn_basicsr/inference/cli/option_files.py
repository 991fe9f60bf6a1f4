"""The option files that come with the package: to train, to test, and to compare methods."""

from __future__ import annotations

import os
from os import path as osp

from iarn_basicsr.errors import OptionError, suggestion

__all__ = ['file_of', 'names', 'schema', 'summary']

PACKAGE = osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__))))
PLACES = (osp.join(PACKAGE, 'options'), osp.join(osp.dirname(PACKAGE), 'options'))  # installed; in a clone
SCHEMA = osp.join(PACKAGE, 'config', 'option_file.schema.json')
KINDS = ('train', 'test', 'benchmark')  # what the names start with


def names() -> list[str]:
    """Names of the option files, those for training first."""
    there = sorted(os.listdir(_folder()))
    return [name for kind in KINDS for name in there if name.startswith(kind) and name.endswith('.yml')]


def file_of(name: str) -> str:
    """Path of an option file.

    Raises:
        OptionError: with a suggestion, if there is none of this name.
    """
    known = names()
    if name not in known:
        raise OptionError(f'no option file {name!r} comes with the package; {suggestion(name, known)}')
    return osp.join(_folder(), name)


def summary(name: str) -> str:
    """The first sentence of the comment at the top of an option file."""
    lines = []
    with open(file_of(name), encoding='utf-8') as file:
        for line in file:
            if line.startswith('# yaml-language-server:'):
                continue
            if not line.startswith('# ') or line.startswith('#  '):
                break
            lines.append(line[1:].strip())
    return ' '.join(lines).split('. ')[0].rstrip('.')


def schema() -> str:
    """The JSON schema of option files, by which an editor completes and underlines them."""
    with open(SCHEMA, encoding='utf-8') as file:
        return file.read()


def _folder() -> str:
    for folder in PLACES:
        if osp.isdir(folder):
            return folder
    raise FileNotFoundError(f'{PLACES[0]}: no such folder: install the package again')
