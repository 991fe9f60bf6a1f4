"""Option files: read, completed from the file they are based on, changed from the command line.

An option file is YAML. Nothing in it is executed: the only tag that is understood is the one by which the plugin is
found, ``!!python/name:iarn_basicsr.plugin.__version__ ''``, and it is read as text. ``based_on: base.yml`` takes all
that a file does not say itself from another file, relative to it.
"""

from __future__ import annotations

import os
import re
import sys
import time
from os import path as osp
from typing import Any

import yaml

from iarn_basicsr.errors import OptionError, suggestion
from iarn_basicsr.files import save_text

__all__ = ['copy_option_file', 'override', 'read_option_file']

MOST_BYTES = 10**6  # of a file, and
MOST_VALUES = 10**5  # of YAML, as if its aliases were written out
_FLOAT = re.compile(r'^[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+$')  # 1e-4: a number to YAML 1.2 and to people
_BASED_ON = 'based_on'


class _Loader(yaml.SafeLoader):
    """Plain YAML with ``1e-4`` as a number, and the tag that names this package.

    It counts values as if aliases were written out: a few lines of aliases to aliases can stand for billions.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.count = 0
        self.counts: dict[int, int] = {}  # by the identity of a node

    def compose_node(self, parent: Any, index: Any) -> Any:
        before, is_alias = self.count, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias:
            self.count += self.counts.get(id(node), 1)
        else:
            self.count += 1
            self.counts[id(node)] = self.count - before
        if self.count > MOST_VALUES:
            raise yaml.composer.ComposerError(None, None, f'more than {MOST_VALUES} values, with aliases written out')
        return node


def _plugin_tag(loader: yaml.Loader, suffix: str, node: yaml.Node) -> str:
    if suffix.split('.')[0] != 'iarn_basicsr':
        raise yaml.constructor.ConstructorError(None, None, f'the tag !!python/name:{suffix} is not read: only names '
                                                'of iarn_basicsr are', node.start_mark)
    return suffix


_Loader.add_implicit_resolver('tag:yaml.org,2002:float', _FLOAT, list('+-.0123456789'))
_Loader.add_multi_constructor('tag:yaml.org,2002:python/name:', _plugin_tag)


def read_option_file(path: str, key: str = '-opt', above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The options of a file, with those of the file it is based on; numeric text (``1e-4``) as numbers.

    ``key`` is what names the file, for messages, and ``above`` the files that are based on it.

    Raises:
        OptionError: naming the file, if it does not exist or is not an option file.
    """
    if not osp.isfile(path):
        there = 'is a folder, name an option file' if osp.isdir(path) else 'does not exist'
        raise OptionError(f'{key}: {path!r} {there} (current directory {os.getcwd()})')
    if osp.getsize(path) > MOST_BYTES:
        raise OptionError(f'{key}: {path!r} is no option file: it has more than {MOST_BYTES} bytes')
    try:
        opt = _yaml(_text(path))
        problem = '' if isinstance(opt, dict) else 'is not an option file: expected a YAML mapping with name, ...'
    except OSError as error:
        problem = f'cannot be read ({error.strerror})'
    except UnicodeDecodeError:
        problem = 'is not text in UTF-8'
    except ValueError as error:
        problem = f'is not valid YAML: {error}'
    if problem:
        raise OptionError(f'{key}: {path!r} {problem}')
    if _BASED_ON not in opt:
        return opt
    base = osp.join(osp.dirname(path), str(opt.pop(_BASED_ON)))
    above = (*above, osp.realpath(path))
    if osp.realpath(base) in above:
        raise OptionError(f'{path}, {_BASED_ON}: {base!r} is based on this file itself')
    return _merged(read_option_file(base, f'{path}, {_BASED_ON}', above), opt)


def _text(path: str) -> str:
    with open(path, encoding='utf-8-sig') as file:
        return file.read()


def copy_option_file(path: str, folder: str) -> None:
    """Keep the option file of a run beside its results; of one that is based on another, what both say together."""
    text = _text(path)
    if _BASED_ON in _yaml(text):
        text = yaml.safe_dump(read_option_file(path), sort_keys=False, allow_unicode=True)
    command = ' '.join(' '.join(sys.argv).split()).encode('utf-8', 'replace').decode()  # a name may be of any bytes
    save_text(f'# {time.asctime()}: {command}\n{text}', osp.join(folder, osp.basename(path)))


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``own`` over ``base``, section by section; ``~`` leaves out what the base has."""
    merged = dict(base)
    for key, value in own.items():
        if value is None and key in base:
            del merged[key]
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merged(base[key], value)
        else:
            merged[key] = value
    return merged


def _yaml(text: str) -> Any:
    """Plain dicts, lists and values; ``ValueError`` in one line for what is not YAML or holds a tag not read here."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:  # !!int abc
        raise ValueError(' '.join(str(error).split()) or type(error).__name__) from None


def override(opt: dict[str, Any], entry: str) -> None:
    """Set one option from ``section:key=value``; the sections must exist, the value is YAML, ``null`` leaves it out."""
    keys, separator, text = entry.partition('=')
    *sections, last = (k.strip() for k in keys.split(':'))
    if not separator or not last:
        raise OptionError(f'--force_yml {entry!r}: expected section:key=value')
    place = opt
    for section in sections:
        if not isinstance(place.get(section), dict):
            raise OptionError(f'--force_yml {entry!r}: no section {section!r}; {suggestion(section, place)}')
        place = place[section]
    try:
        value = _yaml(text)
    except ValueError as error:
        raise OptionError(f'--force_yml {entry!r}: the value is not valid YAML: {error}') from None
    place.pop(last, None)
    if value is not None:
        place[last] = value
