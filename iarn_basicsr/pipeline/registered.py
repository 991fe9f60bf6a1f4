"""Names and arguments in an option file that only the registries of BasicSR, and torch, know."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from basicsr.models import lr_scheduler
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from iarn_basicsr.compat.basicsr import OPTIMISERS
from iarn_basicsr.config.schema import check_options
from iarn_basicsr.errors import OptionError, dotted, shortened, suggestion

__all__ = ['check_arguments', 'check_file', 'registered']

SCHEDULERS = {'MultiStepLR': lr_scheduler.MultiStepRestartLR, 'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
              'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR}  # by the names that BasicSR reads
OF_THE_MODEL = {'img', 'img2', 'compare', 'crop_border', 'better'}  # of a metric: given or read by IARNModel


def check_file(opt: Mapping[str, Any], is_train: bool, *, files: bool = True) -> None:
    """Check a whole option file: what the schema says, then names and arguments; with ``IARNModel`` all that it builds.

    Args:
        opt: the options; not changed.
        is_train: for ``iarn-train``.
        files: also look whether the folders of images are there.

    Raises:
        OptionError: naming the key, what is wrong, and what is near it.
    """
    check_options(opt, is_train, files=files)
    registered('model_type', opt['model_type'], MODEL_REGISTRY)
    if opt['num_gpu'] not in ('auto', 0) and not torch.cuda.is_available():
        raise OptionError(f'num_gpu: {opt["num_gpu"]}; PyTorch finds no GPU here; expected auto, or 0 for the CPU')
    for key, options in opt.items():
        if key.startswith('network_'):
            check_arguments(key, options, registered(f'{key}.type', _type(key, options), ARCH_REGISTRY))
    for phase, options in opt['datasets'].items():
        registered(f'datasets.{phase}.type', _type(f'datasets.{phase}', options), DATASET_REGISTRY)
    if opt['model_type'] == 'IARNModel':
        _check_metrics((opt.get('val') or {}).get('metrics') or {})
        if is_train:
            _check_train(opt['train'])


def _check_metrics(metrics: Mapping[str, Any]) -> None:
    for name, options in metrics.items():
        key = dotted('val.metrics', name)
        metric = registered(f'{key}.type', _type(key, options), METRIC_REGISTRY)
        if options['type'].endswith('_pt'):
            raise OptionError(f'{key}.type: {options["type"]!r} takes tensors; expected {options["type"][:-3]}')
        check_arguments(key, options, metric, OF_THE_MODEL)


def _check_train(train: Mapping[str, Any]) -> None:
    """Losses, the optimiser and the scheduler."""
    for key, options in train.items():
        section = f'train.{key}'
        if key.endswith('_opt') and options:
            check_arguments(section, options, registered(f'{section}.type', _type(section, options), LOSS_REGISTRY))
    for section, options, known, given in (('train.optim_g', train['optim_g'], OPTIMISERS, {'params'}),
                                           ('train.scheduler', train['scheduler'], SCHEDULERS, {'optimizer'})):
        check_arguments(section, options, registered(f'{section}.type', _type(section, options), known), given)


def registered(key: str, name: object, registry: Any) -> Any:
    """What is registered by a name; BasicSR's own may carry the suffix ``_basicsr``."""
    for known in (name, f'{name}_basicsr'):
        if isinstance(known, str) and known in registry:
            return registry.get(known)
    raise OptionError(f'{key}: {shortened(name)} is not known; {suggestion(name, registry.keys())}')


def _type(section: str, options: Any) -> Any:
    if not isinstance(options, Mapping):
        raise OptionError(f'{section}: {shortened(options)}; expected a section with type and its options')
    return options.get('type')


def check_arguments(section: str, options: Mapping[str, Any], function: Callable[..., Any],
                    given: Collection[str] = ()) -> None:
    """The options beside ``type`` are arguments that a function takes, and none is missing.

    Args:
        section: where they stand, for the message.
        options: the arguments.
        function: what takes them. BasicSR's metrics swallow any other key, which is refused here.
        given: arguments that come from elsewhere.
    """
    parameters = {n: p for n, p in inspect.signature(function).parameters.items() if n not in given}
    named = {n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    swallows = len(named) < len(parameters) and not function.__module__.startswith('basicsr.metrics')
    for key in options if not swallows else ():
        if key != 'type' and key not in {*named, *given}:
            raise OptionError(f'{section}: unknown option {shortened(key)}; {suggestion(key, {*named, *given})}')
    for name, parameter in named.items():
        if parameter.default is inspect.Parameter.empty and options.get(name) is None:
            raise OptionError(f'{section}: {name} is missing')
