"""BasicSR's two pipelines, entered with options that were read and checked before.

``basicsr.train.train_pipeline`` and ``basicsr.test.test_pipeline`` take no options. They call ``parse_options``, which
reads ``sys.argv`` and the file, executes what a YAML tag names and what ``--force_yml`` says. So ``entered`` gives
their modules other functions of the same names for the time of the call, and ``complete_options`` adds to the options
what ``parse_options`` adds after reading.
"""

from __future__ import annotations

import argparse
import copy
import errno
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from os import path as osp
from types import ModuleType
from typing import Any

import torch

from iarn_basicsr.errors import OptionError

from .basicsr import init_dist, leave_dist

__all__ = ['complete_options', 'entered']


@contextmanager
def entered(pipeline: ModuleType, opt: dict[str, Any], args: argparse.Namespace, **functions: Any) -> Iterator[None]:
    """Let ``basicsr.train`` or ``basicsr.test`` take the options of ``complete_options``, and other functions.

    Of the command line BasicSR reads ``opt``, the path of the file.
    """
    functions.update(parse_options=lambda root_path, is_train: (opt, args), make_exp_dirs=_make_folders)
    stock = {name: getattr(pipeline, name) for name in functions}
    try:
        vars(pipeline).update(functions)
        yield
    finally:
        vars(pipeline).update(stock)
        leave_dist()


def _make_folders(opt: dict[str, Any]) -> None:
    """BasicSR's ``make_exp_dirs``, which puts the folder of an earlier run away by a name with the time in seconds."""
    from basicsr.utils import make_exp_dirs

    try:
        make_exp_dirs(opt)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT):
            raise
        raise OptionError(f'name: {opt["name"]!r}: another run of this name has started in the same second; give one '
                          'of them another name') from None


def complete_options(opt: dict[str, Any], args: argparse.Namespace, *, is_train: bool) -> dict[str, Any]:
    """The options of a file as BasicSR's pipelines want them; joins the other processes and seeds all generators.

    Top-level keys without a value are left out. Results go below ``experiments`` or ``results`` in the current folder.

    Raises:
        OptionError: for a launcher that is not supported, or outside torchrun.
    """
    from basicsr.utils import set_random_seed
    from basicsr.utils.dist_util import get_dist_info

    opt = {key: copy.deepcopy(value) for key, value in opt.items() if value is not None}
    opt.update(is_train=is_train, auto_resume=args.auto_resume, dist=args.launcher != 'none')
    if opt['dist']:  # NCCL, where there is a GPU, cannot exchange tensors of the CPU
        init_dist(args.launcher, 'gloo' if opt['num_gpu'] == 0 else None)
    opt['rank'], opt['world_size'] = get_dist_info()
    opt.setdefault('manual_seed', random.randint(1, 10000))
    set_random_seed(opt['manual_seed'] + opt['rank'])
    if opt['num_gpu'] == 'auto':
        opt['num_gpu'] = torch.cuda.device_count()
    if args.debug and not opt['name'].startswith('debug'):
        opt['name'] = f'debug_{opt["name"]}'
    for phase, dataset in opt['datasets'].items():
        dataset['phase'] = phase.partition('_')[0]
        if 'scale' in opt:
            dataset['scale'] = opt['scale']
        _expand_users(dataset, 'dataroot')
    _expand_users(opt['path'], 'resume_state', 'pretrain_network')
    folder = osp.join(os.getcwd(), 'experiments' if is_train else 'results', opt['name'])
    opt['path'].update(log=folder, visualization=osp.join(folder, 'visualization'))
    if is_train:
        opt['path'].update(experiments_root=folder, models=osp.join(folder, 'models'),
                           training_states=osp.join(folder, 'training_states'))
        if 'debug' in opt['name']:
            opt['logger'].update(print_freq=1, save_checkpoint_freq=8)
            if 'val' in opt:
                opt['val']['val_freq'] = 8
    else:
        opt['path']['results_root'] = folder
    return opt


def _expand_users(section: dict[str, Any], *beginnings: str) -> None:
    """``~`` at the start of a path."""
    for key, value in section.items():
        if isinstance(value, str) and key.startswith(beginnings):
            section[key] = osp.expanduser(value)
