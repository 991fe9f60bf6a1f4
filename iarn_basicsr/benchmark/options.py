"""Every key of a benchmark's option file, and its value, before anything is measured or written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from iarn_basicsr.checks import (
    ANYTHING,
    FILE_NAME,
    TABLE_NAME,
    TEXT,
    Kind,
    Table,
    check_keys,
    check_needed,
    check_size,
    check_values,
    listed,
    near,
    number,
    place,
    real,
    shown,
    whole,
)
from iarn_basicsr.config.option_tables import IMAGES, LOADER, SCALE
from iarn_basicsr.config.schema import EvalDatasetOptions, check
from iarn_basicsr.errors import OptionError

from .codecs import FORMATS
from .methods import check_method

__all__ = ['check_benchmark']

_SECTION = Kind('a mapping', lambda v: isinstance(v, dict))
_NAMES = listed(TEXT)
_SCALES = listed(SCALE, least=1)
_TOP: Table = {
    'name': FILE_NAME,
    'device': TEXT.or_none(),
    'threads': ANYTHING,  # number() has the range
    'datasets': _SECTION,
    'scales': Kind('a list of scales', lambda v: isinstance(v, list)),
    'methods': _SECTION,
    'cost': _SECTION.or_none(),
    'cycles': _SECTION.or_none(),
    'lossy': _SECTION.or_none(),
    'bytes': _SECTION.or_none(),
    'published': _SECTION.or_none(),
}
_SECTIONS: dict[str, Table] = {
    'cost': {'hr_size': listed(whole(8, 16384, point=False), 2), 'scales': _SCALES, 'repeats': whole(1, 1000)},
    'cycles': {'dataset': TEXT, 'scales': _SCALES, 'counts': listed(whole(1, 1000, point=False), least=1),
               'methods': _NAMES},
    'lossy': {'dataset': TEXT, 'scales': _SCALES, 'formats': _NAMES,
              'qualities': listed(whole(1, 100, point=False), least=1), 'methods': _NAMES},
    'bytes': {'dataset': TEXT, 'scales': _SCALES, 'methods': _NAMES},
}
_NOT_NEEDED = {'dataset', 'methods', 'repeats'}


def check_benchmark(options: Any) -> None:
    """Raise :class:`OptionError` for the first option that nobody reads, or that is missing or wrong."""
    check_size(options)
    check_keys('option file', options, _TOP)
    for key in ('name', 'datasets', 'scales', 'methods'):
        if not options.get(key):
            raise OptionError(f'option {key!r} is missing or empty; expected {_TOP[key].words}')
    check_values('', options, _TOP)
    check_values('', {'scales': options['scales']}, {'scales': _SCALES})
    number('option file', options, 'threads', 1, 1, 1024, int)
    _check_device(options.get('device'))
    for name, dataset in options['datasets'].items():
        _check_name('datasets', name, FILE_NAME)
        _check_dataset(place('datasets', name), name, dataset, options['scales'])
    for name, method in options['methods'].items():
        _check_name('methods', name)
        check_method(name, method)
    for section, table in _SECTIONS.items():
        if options.get(section) is not None:
            _check_section(section, options[section], table, options)
    for dataset, methods in (options.get('published') or {}).items():
        _known('published', [dataset], options['datasets'])
        _check_published(place('published', dataset), methods)


def _check_section(section: str, given: Mapping[str, Any], table: Table, options: Mapping[str, Any]) -> None:
    check_values(section, given, table)
    for key in table.keys() - _NOT_NEEDED:
        if not given.get(key):
            raise OptionError(f'{section}.{key} is missing; expected {table[key].words}')
    _known(f'{section}.methods', given.get('methods', []), options['methods'])
    _known(f'{section}.dataset', [given['dataset']] if 'dataset' in given else [], options['datasets'])
    for form in given.get('formats', []):
        if form not in FORMATS:
            raise OptionError(f'{section}.formats: {shown(form)}; choose from {FORMATS}')


def _check_dataset(section: str, name: str, options: Any, scales: list[Any]) -> None:
    """As validation reads it."""
    check_values(section, options, {**LOADER, **IMAGES}, others=True)
    check_needed(section, options, ['dataroot_gt'], LOADER)
    check(section, EvalDatasetOptions, {'scales': scales, **options, 'name': name, 'phase': 'val'})


def _check_published(section: str, methods: Any) -> None:
    """{method: {scale: PSNR-Y}}."""
    if not isinstance(methods, dict):
        raise OptionError(f'{section}: {shown(methods)}; expected a mapping such as {{EDSR: {{x2: 38.2}}}}')
    for method, values in methods.items():
        _check_name(section, method)
        if not isinstance(values, dict):
            raise OptionError(f'{place(section, method)}: {shown(values)}; expected a mapping such as {{x2: 38.2}}')
        for scale, value in values.items():
            where = place(place(section, method), scale)
            if not isinstance(scale, str) or not SCALE.fits(scale):
                raise OptionError(f'{where}: {shown(scale)}; expected a scale such as x2.5 or x1.5x3')
            check_values(place(section, method), {scale: value}, {scale: real()})


def _check_device(device: str | None) -> None:
    """It is one of PyTorch's that is there."""
    if device is None:
        return
    gpus = [f'cuda:{k}' for k in range(torch.cuda.device_count())]
    known = ['cpu', *(['cuda', *gpus] if gpus else []), *(['mps'] if torch.backends.mps.is_available() else [])]
    if device not in known:
        raise OptionError(f'device: {shown(device)}; PyTorch finds here: {", ".join(known)}')


def _check_name(section: str, name: Any, *kinds: Kind) -> None:
    """The name of a method or data set stands in tables that a spreadsheet opens."""
    for kind in (TABLE_NAME, *kinds):
        if not kind.fits(name):
            raise OptionError(f'{section}: {shown(name)}; expected {kind.words}')


def _known(where: str, names: Iterable[Any], known: Mapping[str, Any]) -> None:
    for name in names:
        if name not in known:
            raise OptionError(f'{where}: {shown(name)} is not among {", ".join(known)}; {near(name, known)}')
