"""Option files: read, completed from the file they are based on, changed from the command line.

An option file is YAML. Nothing in it is executed: the only tag that is understood is the one by which the plugin is
found, ``!!python/name:iarn_basicsr.plugin.__version__ ''``, and it is read as text. ``based_on: base.yml`` takes all
that a file does not say itself from another file, relative to it.
"""

from __future__ import annotations

import os
import re
import sys
from os import path as osp
from typing import Any

import yaml

from iarn_basicsr.checks import check_size, near
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_text

__all__ = ['copy_option_file', 'override', 'read_option_file']

_FLOAT_TEXT = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+')  # a number to YAML 1.2 and to people
_BASED_ON = 'based_on'


class _Loader(yaml.SafeLoader):
    """Plain YAML and the tag that names this package."""


def _plugin_tag(loader: yaml.Loader, suffix: str, node: yaml.Node) -> str:
    if suffix.split('.')[0] != 'iarn_basicsr':
        raise yaml.constructor.ConstructorError(None, None, f'the tag !!python/name:{suffix} is not read: only names '
                                                'of iarn_basicsr are', node.start_mark)
    return suffix


def _ordered_dict(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    """As PyYAML writes an OrderedDict: a list with one list of pairs."""
    pairs = loader.construct_sequence(node, deep=True)  # type: ignore[arg-type]
    return dict(pairs[0] if pairs else [])


_Loader.add_multi_constructor('tag:yaml.org,2002:python/name:', _plugin_tag)
_Loader.add_constructor('tag:yaml.org,2002:python/object/apply:collections.OrderedDict', _ordered_dict)


def read_option_file(path: str) -> dict[str, Any]:
    """The options of a file, with those of the file it is based on; numeric text (``1e-4``) as numbers.

    Raises:
        OptionError: naming the file, if it does not exist or is not an option file.
    """
    return _read(path, '-opt', ())


def _read(path: str, key: str, before: tuple[str, ...]) -> dict[str, Any]:
    if not osp.isfile(path):
        there = 'is a folder, name an option file' if osp.isdir(path) else 'does not exist'
        raise OptionError(f'{key}: {path!r} {there} (current directory {os.getcwd()})')
    try:
        with open(path, encoding='utf-8') as file:
            opt = _yaml(file.read())
    except OSError as error:
        raise OptionError(f'{key}: {path!r} cannot be read ({error.strerror})') from None
    except ValueError as error:
        raise OptionError(f'{key}: {path!r} is not valid YAML: {" ".join(str(error).split())}') from None
    if not isinstance(opt, dict):
        raise OptionError(f'{key}: {path!r} is not an option file: expected a YAML mapping with name, model_type, ...')
    if _BASED_ON not in opt:
        return opt
    base = osp.join(osp.dirname(path), str(opt.pop(_BASED_ON)))
    if osp.realpath(base) in (*before, osp.realpath(path)):
        raise OptionError(f'{path}, {_BASED_ON}: {base!r} is based on this file itself')
    return _merged(_read(base, f'{path}, {_BASED_ON}', (*before, osp.realpath(path))), opt)


def copy_option_file(path: str, folder: str) -> None:
    """Keep the option file of a run beside its results; of one that is based on another, what both say together."""
    from basicsr.utils.options import copy_opt_file
    copy_opt_file(path, folder)
    with open(path, encoding='utf-8') as file:
        if _BASED_ON not in _yaml(file.read()):
            return
    text = f'# {path} with what it is based on\n# {" ".join(sys.argv)}\n'
    text += yaml.safe_dump(read_option_file(path), sort_keys=False)
    save_text(text, osp.join(folder, osp.basename(path)))


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
        value = yaml.load(text, Loader=_Loader)
        check_size(value)
        return _plain(value)
    except RecursionError:
        raise ValueError('it is nested without end') from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:  # of values such as !!int abc
        raise ValueError(' '.join(str(error).split()) or type(error).__name__) from None


def _plain(value: Any) -> Any:
    """Plain dicts and lists, with numeric text as numbers."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, str) and _FLOAT_TEXT.fullmatch(value):
        return float(value)
    return value


def override(opt: dict[str, Any], entry: str) -> None:
    """Set one option from ``section:key=value``; the sections must exist, the value is YAML, ``null`` leaves it out."""
    keys, separator, text = entry.partition('=')
    *sections, last = (k.strip() for k in keys.split(':'))
    if not separator or not last:
        raise OptionError(f'--force_yml {entry!r}: expected section:key=value')
    place = opt
    for section in sections:
        if not isinstance(place.get(section), dict):
            raise OptionError(f'--force_yml {entry!r}: no section {section!r}; {near(section, place)}')
        place = place[section]
    try:
        value = _yaml(text)
    except ValueError as error:
        raise OptionError(f'--force_yml {entry!r}: the value is not valid YAML: {error}') from None
    place.pop(last, None)
    if value is not None:
        place[last] = value
