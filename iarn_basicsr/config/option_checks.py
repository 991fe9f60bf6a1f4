"""Every key of an option file, and its value, before anything is built or written.

With ``IARNModel`` and ``ArbitraryScaleDataset`` a key that nobody reads is an error. Other models and datasets may read
keys that are not known here: those pass, with a warning where one looks like a misspelt one.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY

from iarn_basicsr.checks import check_keys, check_needed, check_size, check_values, choice, near, place, shown
from iarn_basicsr.config.schema import TrainOptions, ValOptions
from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.errors import OptionError
from iarn_basicsr.models.iarn_model import IARNModel
from iarn_basicsr.models.iarn_model import check_options as check_model

from .option_arguments import check_loss, check_metric, check_network, check_optimiser, check_scheduler, registered
from .option_tables import (
    DIST_PARAMS,
    IMAGES,
    LOADER,
    LOGGER,
    OUR_METRIC,
    PATH,
    PATH_OF_NETWORK,
    TOP,
    TRAIN,
    VAL,
    WANDB,
)

__all__ = ['check_options']

_NEEDED = ('name', 'num_gpu', 'datasets', 'path', 'network_g')
_LOOKS_LIKE = 0.85  # similarity of two keys from which on one is taken for the other, misspelt
_logger = logging.getLogger('iarn_basicsr')


def check_options(opt: dict[str, Any], is_train: bool, *, files: bool = True) -> None:
    """Check every key and value of an option file, before anything is built.

    Args:
        opt: the options, of the file and of the command line; not changed.
        is_train: for ``iarn-train``.
        files: also look whether the folders of images are there.

    Raises:
        OptionError: for the first that is wrong: key, value, what would be right and what is near.
    """
    check_size(opt)
    networks = [k for k in opt if isinstance(k, str) and k.startswith('network_')]
    if 'model_type' not in opt:
        check_keys('option file', opt, {*TOP, *networks})
    model = registered('model_type', opt.get('model_type'), MODEL_REGISTRY)
    ours = issubclass(model, IARNModel)
    _check_keys('option file', opt, {*TOP, *networks}, ours)
    for key in (*_NEEDED, *(('train', 'logger') if is_train else ('val', ))):
        if opt.get(key) is None:
            raise OptionError(f'option file: section or option {key!r} is missing')
    check_values('', opt, TOP, others=True)
    for key in networks:
        check_network(key, opt[key])
    check_values('dist_params', opt.get('dist_params') or {}, DIST_PARAMS)
    _check_path(opt['path'], networks, ours)
    _check_datasets(opt, is_train, files)
    _check_val(opt.get('val'), is_train, ours)
    if is_train:
        _check_train(opt['train'], model, ours)
        _check_logger(opt['logger'], ours)
    _check_model(opt, is_train, model if ours else None)


def _check_keys(section: str, options: Any, known: Iterable[str], strict: bool) -> None:
    """Nobody else reads a section of ours; of another model's, a key that looks like a known one is worth a warning."""
    if strict or not isinstance(options, Mapping):
        check_keys(section, options, known)
        return
    known = list(known)
    for key in options:
        if key not in known and difflib.get_close_matches(str(key)[:100], known, n=1, cutoff=_LOOKS_LIKE):
            _logger.warning('%s: option %s is not known here; %s', section, shown(key), near(key, known))


def _check_path(path: Mapping[str, Any], networks: Iterable[str], ours: bool) -> None:
    """Keys of a network end in what its section is called: network_g, pretrain_network_g."""
    kinds = {f'{key}{network[len("network"):]}': kind for network in networks for key, kind in PATH_OF_NETWORK.items()}
    _check_keys('path', path, {**PATH, **kinds}, ours)
    check_values('path', path, {**PATH, **kinds}, others=True)


# ---------------------------------------------------------------------------------------------------------------- data


def _check_datasets(opt: Mapping[str, Any], is_train: bool, files: bool) -> None:
    """Every data set, by the names that BasicSR's pipelines know: train, val, val_2, ...; val, test, test_1, ..."""
    known = ('train', 'val') if is_train else ('val', 'test')
    for phase, options in opt['datasets'].items():
        section = place('datasets', phase)
        kind = phase.partition('_')[0] if isinstance(phase, str) else None
        if kind not in known or (kind == 'train' != phase):
            raise OptionError(f'{section}: no data set of this name is read; expected {" or ".join(known)}, and '
                              f'{known[1]}_1, {known[1]}_2 for more')
        _check_dataset(section, options, kind, {k: opt[k] for k in ('scale', ) if k in opt}, files)
    if is_train and 'train' not in opt['datasets']:
        raise OptionError('datasets: section \'train\' is missing')
    if not opt['datasets']:
        raise OptionError('datasets: no data set is given; expected test_1, test_2, ...')


def _check_dataset(section: str, options: Any, phase: str, common: dict[str, Any], files: bool) -> None:
    check_values(section, options, LOADER, others=True)
    check_needed(section, options, ['name'], LOADER)
    dataset = registered(f'{section}.type', options.get('type'), DATASET_REGISTRY)
    if isinstance(dataset, type) and issubclass(dataset, ArbitraryScaleDataset):
        check_values(section, options, IMAGES, others=True)
        check_values(f'{section}.io_backend', options.get('io_backend', {}), {'type': choice('disk', 'lmdb')})
        dataset.check_options({**options, **common, 'phase': phase}, files)
    else:
        _check_keys(section, options, LOADER, False)
    workers = options.get('num_worker_per_gpu') if phase == 'train' else 0
    if phase == 'train':
        check_needed(section, options, ['num_worker_per_gpu', 'batch_size_per_gpu'], LOADER)
    if options.get('persistent_workers') and not workers:
        remedy = 'num_worker_per_gpu from 1, or false' if phase == 'train' else 'false in a data set that is measured'
        raise OptionError(f'{section}.persistent_workers: True; there are no workers; expected {remedy}')
    if options.get('prefetch_mode') == 'cuda' and options.get('pin_memory') is not True:
        raise OptionError(f'{section}.prefetch_mode: \'cuda\'; it needs pin_memory: true')
    if options.get('prefetch_mode') == 'cpu' and options.get('persistent_workers'):
        raise OptionError(f'{section}.prefetch_mode: \'cpu\'; BasicSR starts the loader twice, which persistent '
                          'workers cannot handle; expected persistent_workers: false')
    if phase == 'train' and options.get('use_shuffle') is False:
        raise OptionError(f'{section}.use_shuffle: False; BasicSR shuffles all the same; leave it out')


# --------------------------------------------------------------------------------------------------- train, val, logger


def _check_train(train: Mapping[str, Any], model: Any, ours: bool) -> None:
    """Losses, optimisers and scheduler by their signatures, all else by its kind."""
    _check_keys('train', train, TrainOptions.__struct_fields__ if ours else TRAIN, ours)
    check_values('train', train, TRAIN, others=True)
    for key, options in train.items():
        foreign = isinstance(options, Mapping) and 'type' not in options and not ours  # another model's own
        if isinstance(key, str) and key.endswith('_opt') and options and not foreign:
            check_loss(place('train', key), options)
    check_needed('train', train, ('total_iter', 'optim_g', 'scheduler'), TRAIN)
    optimisers = {}
    if model.get_optimizer is BaseModel.get_optimizer:
        optimisers = {k: check_optimiser(place('train', k), v) for k, v in train.items()
                      if isinstance(k, str) and k.startswith('optim_')}
    if model.setup_schedulers is BaseModel.setup_schedulers and optimisers:
        check_scheduler('train.scheduler', train['scheduler'], optimisers['optim_g'], train['total_iter'])


def _check_val(val: Any, is_train: bool, ours: bool) -> None:
    if val is None:
        return
    _check_keys('val', val, ValOptions.__struct_fields__ if ours else VAL, ours)
    check_values('val', val, VAL, others=True)
    for name, options in (val.get('metrics') or {}).items():
        if not isinstance(name, str):
            raise OptionError(f'val.metrics: {shown(name)}; expected text that names a metric')
        check_metric(place('val.metrics', name), options, OUR_METRIC if ours else {})
    check_needed('val', val, ('val_freq', 'save_img') if is_train else ('save_img', ), VAL)


def _check_logger(logger: Mapping[str, Any], ours: bool) -> None:
    _check_keys('logger', logger, LOGGER, ours)
    check_values('logger', logger, LOGGER, others=True)
    check_needed('logger', logger, ('print_freq', 'save_checkpoint_freq', 'use_tb_logger'), LOGGER)
    wandb = logger.get('wandb') or {}
    check_values('logger.wandb', wandb, WANDB)
    project = wandb.get('project')
    if project is not None and not logger['use_tb_logger']:
        raise OptionError(f'logger.wandb.project: {shown(project)}; it needs logger.use_tb_logger: true')
    if project is not None and find_spec('wandb') is None:
        raise OptionError(f'logger.wandb.project: {shown(project)}; it needs the package wandb (pip install wandb), or '
                          'leave it out')


def _check_model(opt: Mapping[str, Any], is_train: bool, model: type[IARNModel] | None) -> None:
    """What the model says to its options, and whether there is a GPU for it."""
    gpus = torch.cuda.device_count() if opt['num_gpu'] == 'auto' else opt['num_gpu']
    if model:
        check_model({**opt, 'num_gpu': gpus, 'is_train': is_train, 'dist': 'RANK' in os.environ})
    if gpus and not torch.cuda.is_available():
        raise OptionError(f'num_gpu: {gpus}; PyTorch finds no GPU here; expected auto, or 0 for the CPU')
