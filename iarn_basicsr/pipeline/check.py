"""The check of a whole option file: what the schema says, and the names and arguments that BasicSR and torch know."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from basicsr.models import lr_scheduler
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from iarn_basicsr.compat.basicsr import OPTIMISERS
from iarn_basicsr.config.schema import (
    NETWORKS,
    EvalDatasetOptions,
    FileOptions,
    LoggerOptions,
    Options,
    PathOptions,
    TrainDatasetOptions,
    TrainOptions,
    ValOptions,
    check,
)
from iarn_basicsr.config.sections import check_given
from iarn_basicsr.errors import OptionError, dotted, shortened, suggestion

__all__ = ['check_file']

SCHEDULERS = {'MultiStepLR': lr_scheduler.MultiStepRestartLR, 'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
              'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR}  # by the names that BasicSR reads
OF_THE_MODEL = {'img', 'img2', 'compare', 'crop_border', 'better'}  # of a metric: given or read by IARNModel


def check_file(opt: Mapping[str, Any], is_train: bool) -> dict[str, Any]:
    """Check every key and value of an option file before anything is built or written.

    Sections of models, networks and data sets of other packages pass unread, but for names and arguments.

    Returns:
        the options of our data sets by section.

    Raises:
        OptionError: for the first that is wrong: key, value, what would be right and what is near.
    """
    ours = opt.get('model_type') == 'IARNModel'
    top = check('', FileOptions, _known(opt, FileOptions, ours))
    registered('model_type', top.model_type, MODEL_REGISTRY)
    if top.num_gpu not in ('auto', 0) and not torch.cuda.is_available():
        raise OptionError(f'num_gpu: {top.num_gpu}; PyTorch finds no GPU here; expected auto, or 0 for the CPU')
    from_weights = ours and (not is_train or bool(top.path.get('pretrain_network_g')))
    for key, network in opt.items():
        if key.startswith('network_'):
            check_arguments(key, network, _named(key, network, ARCH_REGISTRY))
            if network['type'] in NETWORKS:  # where weights complete network_g, IARNModel checks the whole
                (check_given if from_weights and key == 'network_g' else check)(
                    key, NETWORKS[network['type']], {k: v for k, v in network.items() if k != 'type'})
    check('path', PathOptions, _known(top.path, PathOptions, ours))
    datasets = _check_datasets(top.datasets, is_train)
    if is_train:
        check('logger', LoggerOptions, top.logger)
    if ours and is_train:
        check('train', TrainOptions, top.train)
        _check_train(top.train or {})
    if ours and (top.val is not None or not is_train):
        check('val', ValOptions, top.val)
        _check_val(top.val or {}, is_train)
    return datasets


def _known(options: Mapping[str, Any], kind: type[Options], strict: bool) -> Mapping[str, Any]:
    """The options, without those of another package's model; a key that is no text stays, to be refused."""
    known = kind.__struct_fields__
    return options if strict else {k: v for k, v in options.items() if k in known or not isinstance(k, str)}


def _check_datasets(datasets: Mapping[str, Any], is_train: bool) -> dict[str, Any]:
    """Every data set, by the names that BasicSR's pipelines know; returns the options of ours by section."""
    phases = ('train', 'val') if is_train else ('train', 'val', 'test')  # a training file can be tested
    if is_train and 'train' not in datasets:
        raise OptionError('datasets: train is missing')
    if not is_train and not datasets.keys() - {'train'}:
        raise OptionError('datasets: nothing to test; expected test_1, test_2, ...')
    ours = {}
    for phase, options in datasets.items():
        section, kind = dotted('datasets', phase), phase.partition('_')[0]
        if kind not in phases or (kind == 'train' != phase):
            raise OptionError(f'{section}: no data set of this name is read; {suggestion(phase, phases)}')
        _named(section, options, DATASET_REGISTRY)
        if options['type'] == 'ArbitraryScaleDataset':
            ours[section] = check(section, TrainDatasetOptions if kind == 'train' else EvalDatasetOptions, options)
    return ours


def _check_val(val: Mapping[str, Any], is_train: bool) -> None:
    for key in ('save_img', 'val_freq') if is_train else ('save_img', ):  # BasicSR reads them as they are
        if val.get(key) is None:
            raise OptionError(f'val: {key} is missing')
    for name, options in (val.get('metrics') or {}).items():
        key = dotted('val.metrics', name)
        check_arguments(key, options, _named(key, options, METRIC_REGISTRY), OF_THE_MODEL)
        if options['type'].endswith('_pt'):
            raise OptionError(f'{key}.type: {options["type"]!r} takes tensors; expected {options["type"][:-3]}')


def _check_train(train: Mapping[str, Any]) -> None:
    for key, options in train.items():
        if key.endswith('_opt') and options:
            check_arguments(f'train.{key}', options, _named(f'train.{key}', options, LOSS_REGISTRY))
    for key, known, given in (('optim_g', OPTIMISERS, 'params'), ('scheduler', SCHEDULERS, 'optimizer')):
        check_arguments(f'train.{key}', train[key], _named(f'train.{key}', train[key], known), {given})


def _named(section: str, options: Any, registry: Any) -> Callable[..., Any]:
    """What a section names by its ``type``."""
    if not isinstance(options, Mapping):
        raise OptionError(f'{section}: {shortened(options)}; expected a section with type and its options')
    return registered(f'{section}.type', options.get('type'), registry)


def registered(key: str, name: object, registry: Any) -> Any:
    """What is registered by a name; BasicSR's own may carry the suffix ``_basicsr``."""
    for known in (name, f'{name}_basicsr'):
        if isinstance(known, str) and known in registry:
            return registry.get(known)
    raise OptionError(f'{key}: {shortened(name)} is not known; {suggestion(name, registry.keys())}')


def check_arguments(section: str, options: Mapping[str, Any], function: Callable[..., Any],
                    given: Collection[str] = ()) -> None:
    """The options beside ``type`` and those ``given`` elsewhere are arguments of a function, and none is missing.

    BasicSR's metrics swallow any other key, which is refused here.
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
