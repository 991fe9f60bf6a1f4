"""Checks of an option file against BasicSR's registries, before anything is built."""

from __future__ import annotations

import inspect
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from iarn_basicsr.checks import check_keys, near
from iarn_basicsr.errors import OptionError

__all__ = ['check_options']

_TOP_KEYS = {
    'name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'datasets', 'path', 'train', 'val', 'logger',
    'dist_params', 'find_unused_parameters', 'plugin'
}
_NEEDED = ('name', 'model_type', 'num_gpu', 'datasets', 'path')


def check_options(opt: dict[str, Any], is_train: bool) -> None:
    """Check names and keys of an option file against the registries, before anything is built.

    Raises:
        OptionError: for the first one that nobody knows.
    """
    networks = {k for k in opt if k.startswith('network_')}
    check_keys('option file', opt, _TOP_KEYS | networks)
    for key in (*_NEEDED, 'network_g', *(('train', 'logger') if is_train else ())):
        if opt.get(key) is None:
            raise OptionError(f'option file: section or option {key!r} is missing')
    _registered('model_type', opt['model_type'], MODEL_REGISTRY)
    for key in networks:
        _check_network(key, opt[key])
    for phase, dataset in opt['datasets'].items():
        if 'name' not in dataset:
            raise OptionError(f'datasets.{phase}: option \'name\' is missing')
        _registered(f'datasets.{phase}.type', dataset.get('type'), DATASET_REGISTRY)
    for key, loss in (opt.get('train') or {}).items():
        if key.endswith('_opt') and loss:
            _registered(f'train.{key}.type', loss.get('type'), LOSS_REGISTRY)
    for key, metric in ((opt.get('val') or {}).get('metrics') or {}).items():
        _registered(f'val.metrics.{key}.type', metric.get('type'), METRIC_REGISTRY)
        if metric.get('compare', 'hr') not in ('hr', 'lr'):
            raise OptionError(f'val.metrics.{key}.compare: {metric["compare"]!r}; choose hr (restored against HR) or '
                              'lr (LR against bicubic LR)')


def _check_network(section: str, options: dict[str, Any]) -> None:
    """The type is registered, takes every option given and misses none."""
    network = _registered(f'{section}.type', options.get('type'), ARCH_REGISTRY)
    parameters = inspect.signature(network).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keys(section, options, {'type', *parameters})
    for name, parameter in parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty and name not in options:
            raise OptionError(f'{section}: option {name!r} of {options["type"]} is missing')


def _registered(section: str, name: object, registry: Any) -> Any:
    """The object of a registered name; BasicSR's own may carry the suffix ``_basicsr``."""
    if name not in registry and f'{name}_basicsr' not in registry:
        raise OptionError(f'{section}: {name!r} is not registered with BasicSR; {near(name, registry.keys())}')
    return registry.get(name)
