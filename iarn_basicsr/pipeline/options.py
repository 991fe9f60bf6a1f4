"""The command line of ``iarn-train`` and ``iarn-test``: BasicSR's flags, and the options that they lead to."""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch

from iarn_basicsr.config.option_file import override, read_option_file
from iarn_basicsr.data.image_source import image_sources
from iarn_basicsr.errors import OptionError

from .check import check_file

__all__ = ['parse_arguments', 'read_options']


def parse_arguments(is_train: bool) -> argparse.Namespace:
    """What was typed; ``OptionError`` for flags that do not fit one another, or the process."""
    parser = argparse.ArgumentParser(
        description='BasicSR with the IARN plugin. Results are written below the current directory.',
        epilog=None if is_train else 'a training file tests the newest weights of its run on its data sets val, val_1')
    parser.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument('--force_yml', nargs='+', metavar='SECTION:KEY=VALUE', default=[],
                        help='change options, for example train:ema_decay=0.99 datasets:train:gt_size=96')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none',
                        help=f'pytorch: several GPUs, by torchrun --nproc_per_node=2 -m iarn_basicsr.'
                        f'{"train" if is_train else "test"} -opt FILE --launcher pytorch')
    parser.add_argument('--debug', action='store_true', help='log and validate often')
    parser.add_argument('--auto_resume', action='store_true', help='resume the newest saved state of this run')
    if is_train:
        parser.add_argument('--minutes', type=float, help='save and stop after so many; --auto_resume resumes')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if is_train and args.minutes is not None and not 0 < args.minutes < float('inf'):
        raise OptionError(f'--minutes: {args.minutes:g}; expected a number above 0')
    processes = os.environ.get('WORLD_SIZE', '1')
    if args.launcher == 'none' and 'RANK' in os.environ and processes != '1':
        raise OptionError(f'--launcher none in one of {processes} processes of torchrun: all would do the same; pass '
                          '--launcher pytorch')
    return args


def read_options(args: argparse.Namespace, is_train: bool) -> dict[str, Any]:
    """The options of the file and of ``--force_yml``, checked before anything is built or written."""
    opt = read_option_file(args.opt)
    test_of_training = not is_train and 'train' in opt
    if test_of_training:
        opt = _as_test(opt)
    for entry in args.force_yml:
        override(opt, entry)
    # IARNModel finds the weights of the run itself
    if test_of_training and opt.get('model_type') != 'IARNModel' and not opt['path'].get('pretrain_network_g'):
        raise OptionError(f'-opt: {args.opt!r} is a training file of another model: name its weights with '
                          '--force_yml path:pretrain_network_g=FILE')
    for section, options in check_file(opt, is_train).items():
        image_sources(options, section)  # raises where images are missing
    if opt['datasets'].get('train', {}).get('prefetch_mode') == 'cuda' and not torch.cuda.is_available():
        raise OptionError('datasets.train.prefetch_mode: \'cuda\'; there is no CUDA here; expected cpu, or ~ for none')
    return opt


def _as_test(training: dict[str, Any]) -> dict[str, Any]:
    """A test of what a training file has trained, on its data sets for validation.

    The file's ``path`` says where training started, so nothing of it is left.
    """
    test = {key: value for key, value in training.items() if key not in ('train', 'logger')}
    test['datasets'] = {phase: data for phase, data in (training.get('datasets') or {}).items() if phase != 'train'}
    test['val'] = {key: value for key, value in (training.get('val') or {}).items() if key != 'val_freq'}
    test['path'] = {}
    return test
