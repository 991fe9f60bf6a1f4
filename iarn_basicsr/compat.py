"""Everything that makes stock BasicSR (1.4.2 from PyPI, and git master) work on today's PyTorch, with or without a GPU.

``prepare_import`` runs before the first import of basicsr, ``patch_basicsr`` after it; both are idempotent and both are
called by ``import iarn_basicsr``. Patches change the behaviour only where stock BasicSR fails:

* ``torchvision.transforms.functional_tensor`` is gone since torchvision 0.17        -> an alias
* ``init_dist``: NCCL and ``rank % gpus`` hard-coded                                   -> gloo without CUDA
* ``BaseModel.model_to_device``: DDP on CUDA only                                      -> on CPU too
* ``BaseModel.get_optimizer``: Adam only (1.4.2)                                       -> any of ``torch.optim``
* ``FileClient('lmdb')``: one LMDB cannot be opened twice in a process                 -> one environment per path
* ``EnlargedSampler``: drops the last batch, restarts the epoch                        -> datasets may number draws
* ``load_resume_state``: needs CUDA, looks below the current directory only            -> :func:`load_resume_state`
* ``parse_options``: ``exec`` on ``--force_yml``, ``1e-4`` is text, no ``--local-rank``   -> :func:`parse_options`

The last two replace names in ``basicsr.train`` and so serve our own entry points only.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from os import path as osp
from typing import Any

import torch
import yaml

from .options import OptionError, near

__all__ = ['init_dist', 'load_resume_state', 'parse_options', 'patch_basicsr', 'prepare_import']

DIST_TIMEOUT = timedelta(hours=2)  # one rank may be busy saving or validating a large image
_FLOAT_TEXT = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+')  # a number to YAML 1.2 and to people


def prepare_import() -> None:
    """Let ``import basicsr`` succeed on torchvision >= 0.17."""
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules:
        return
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        sys.modules[name] = importlib.import_module('torchvision.transforms.functional')


def patch_basicsr() -> None:
    """Replace what is broken in BasicSR; see the module's docstring."""
    from basicsr.data.data_sampler import EnlargedSampler
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import dist_util, file_client, options

    if getattr(BaseModel, '_iarn_patched', False):
        return
    BaseModel._iarn_patched = True
    BaseModel.model_to_device = _cpu_model_to_device(BaseModel.model_to_device)
    BaseModel.get_optimizer = _get_optimizer
    dist_util.init_dist = options.init_dist = init_dist
    file_client.LmdbBackend.__init__ = _lmdb_init
    _patch_sampler(EnlargedSampler)


# ---------------------------------------------------------------------------------------------------- distributed


def init_dist(launcher: str, backend: str | None = None, **kwargs: Any) -> None:
    """Start torch.distributed under torchrun: NCCL with CUDA, gloo without.

    Raises:
        OptionError: for another launcher than ``pytorch``, or outside torchrun.
    """
    if launcher != 'pytorch':
        raise OptionError(f'--launcher {launcher} is not supported (BasicSR\'s slurm path is open to shell injection, '
                          'CVE-2024-27763): use torchrun, inside srun too, with --launcher pytorch')
    if 'RANK' not in os.environ:
        raise OptionError('--launcher pytorch needs the environment that torchrun sets: '
                          'torchrun --nproc_per_node=2 -m iarn_basicsr.train -opt FILE --launcher pytorch')
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', os.environ['RANK'])) % torch.cuda.device_count())
    kwargs.setdefault('timeout', DIST_TIMEOUT)
    torch.distributed.init_process_group(backend or ('nccl' if torch.cuda.is_available() else 'gloo'), **kwargs)


def _cpu_model_to_device(stock: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
    def model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        """BasicSR's own, and DDP on CPU."""
        if self.opt['dist'] and self.device.type == 'cpu':
            return torch.nn.parallel.DistributedDataParallel(
                net, find_unused_parameters=self.opt.get('find_unused_parameters', False))
        return stock(self, net)

    return model_to_device


def _get_optimizer(self: Any, optim_type: str, params: Any, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
    """Any optimiser of ``torch.optim`` by its name."""
    known = {n for n, c in vars(torch.optim).items()
             if isinstance(c, type) and issubclass(c, torch.optim.Optimizer) and c is not torch.optim.Optimizer}
    if optim_type not in known:
        raise OptionError(f'train.optim_g.type: {optim_type!r} is not an optimiser of torch.optim; '
                          f'{near(optim_type, known)}')
    return getattr(torch.optim, optim_type)(params, lr=lr, **kwargs)


# ------------------------------------------------------------------------------------------------------------ data

_lmdb_envs: dict[str, tuple[int, Any]] = {}  # real path -> (process, environment)


def _lmdb_init(self: Any, db_paths: Any, client_keys: Any = 'default', readonly: bool = True, lock: bool = False,
               readahead: bool = False, **kwargs: Any) -> None:
    """``LmdbBackend.__init__`` that shares one environment per path and process, in forked workers too."""
    keys = [client_keys] if isinstance(client_keys, str) else client_keys
    self.db_paths = [str(p) for p in (db_paths if isinstance(db_paths, list) else [db_paths])]
    if len(keys) != len(self.db_paths):
        raise ValueError(f'{len(keys)} client_keys for {len(self.db_paths)} db_paths: give one key for each path')
    options = {'readonly': readonly, 'lock': lock, 'readahead': readahead, **kwargs}
    self._client = {key: _lmdb_env(path, options) for key, path in zip(keys, self.db_paths)}


def _lmdb_env(path: str, options: dict[str, Any]) -> Any:
    import lmdb
    place = osp.realpath(path)
    process, env = _lmdb_envs.get(place, (0, None))
    if process != os.getpid():
        if env is not None:
            env.close()  # inherited by fork: this closes the child's copy only, and LMDB must not be used across a fork
        env = lmdb.open(path, **options)
        _lmdb_envs[place] = os.getpid(), env
    return env


def _patch_sampler(sampler_class: Any) -> None:
    """Let ``EnlargedSampler`` ask datasets that number their draws (``draws``, ``batches_per_epoch``) for them."""
    stock_init, stock_iter = sampler_class.__init__, sampler_class.__iter__

    def init(self: Any, dataset: Any, num_replicas: int, rank: int, ratio: float = 1) -> None:
        stock_init(self, dataset, num_replicas, rank, ratio)
        self.ratio = ratio
        if hasattr(dataset, 'draws'):
            self.num_samples = dataset.batches_per_epoch(ratio, num_replicas) * dataset.batch_size
            self.total_size = self.num_samples * num_replicas

    def iterate(self: Any) -> Any:
        if hasattr(self.dataset, 'draws'):
            return self.dataset.draws(self.epoch, self.rank, self.num_replicas, self.ratio)
        return stock_iter(self)

    sampler_class.__init__, sampler_class.__iter__ = init, iterate


# --------------------------------------------------------------------------------------------- options and resuming


def parse_options(root_path: str, is_train: bool = True, *,
                  check: Callable[[dict[str, Any], bool], None]) -> tuple[dict[str, Any], argparse.Namespace]:
    """BasicSR's ``parse_options`` behind a command line that is safe to type.

    Accepts ``--local-rank`` and ``--local_rank``; ``--force_yml a:b=value`` is parsed as YAML, never executed; text
    that is a number (``1e-4``) becomes one. ``check`` sees the options before anything else does.
    """
    from basicsr.utils import options

    args = _command_line(is_train).parse_args()
    opt = _read_yaml(args.opt)
    for entry in args.force_yml or []:
        _override(opt, entry)
    check(opt, is_train)
    with tempfile.TemporaryDirectory() as folder:
        processed = osp.join(folder, osp.basename(args.opt))
        with open(processed, 'w', encoding='utf-8') as file:
            yaml.safe_dump(opt, file, sort_keys=False)
        flags = [f for f in ('auto_resume', 'debug') if getattr(args, f)]
        argv, sys.argv = sys.argv, [sys.argv[0], '-opt', processed, '--launcher', args.launcher,
                                    *(f'--{flag}' for flag in flags)]
        try:
            opt, _ = options.parse_options(root_path, is_train)
        finally:
            sys.argv = argv
    return opt, args


def _command_line(is_train: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='BasicSR with the IARN plugin. Results land below the current directory.',
        epilog='several GPUs (or CPU processes): torchrun --nproc_per_node=2 -m iarn_basicsr.train -opt FILE '
        '--launcher pytorch')
    parser.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='pytorch: torchrun')
    parser.add_argument('--auto_resume', action='store_true', help='go on from the newest saved state of this run')
    parser.add_argument('--debug', action='store_true', help='log and validate often')
    if is_train:
        parser.add_argument('--minutes', type=float, help='save and stop after so many; --auto_resume goes on')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument('--force_yml', nargs='+', metavar='SECTION:KEY=VALUE',
                        help='change options, for example train:ema_decay=0.99 datasets:train:gt_size=96')
    return parser


def _read_yaml(path: str) -> dict[str, Any]:
    from basicsr.utils.options import ordered_yaml
    if not osp.isfile(path):
        raise OptionError(f'-opt: {path!r} does not exist (current directory {os.getcwd()})')
    with open(path, encoding='utf-8') as file:
        try:
            opt = yaml.load(file, Loader=ordered_yaml()[0])
        except yaml.YAMLError as error:
            raise OptionError(f'-opt: {path!r} is not valid YAML: {" ".join(str(error).split())}') from None
    if not isinstance(opt, dict):
        raise OptionError(f'-opt: {path!r} is not an option file: expected a YAML mapping with name, model_type, ...')
    return _plain(opt)


def _plain(value: Any) -> Any:
    """Plain dicts and lists, with numeric text as numbers."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, str) and _FLOAT_TEXT.fullmatch(value):
        return float(value)
    return value


def _override(opt: dict[str, Any], entry: str) -> None:
    """Set one option from ``section:key=value``; the sections must exist, the value is YAML."""
    keys, separator, text = entry.partition('=')
    *sections, last = (k.strip() for k in keys.split(':'))
    if not separator or not last:
        raise OptionError(f'--force_yml {entry!r}: expected section:key=value')
    place = opt
    for section in sections:
        if not isinstance(place.get(section), dict):
            raise OptionError(f'--force_yml {entry!r}: no section {section!r}; {near(section, place)}')
        place = place[section]
    place[last] = _plain(yaml.safe_load(text))


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """The state to resume from, or None for a new run; tells the training set at which iteration it goes on.

    ``--auto_resume`` takes the newest ``.state`` of the run's own folder; ``path.resume_state`` names one.

    Raises:
        OptionError: naming the file, if it is missing or not a training state.
    """
    from basicsr.utils import check_resume

    path = opt['path'].get('resume_state')
    if opt['auto_resume']:
        path = _newest_state(opt['path']['training_states'])
    if not path:
        return None
    if not osp.isfile(path):
        raise OptionError(f'path.resume_state: {path!r} does not exist: name a file training_states/ITER.state')
    state = torch.load(path, map_location='cpu', weights_only=True)
    if not isinstance(state, dict) or not {'epoch', 'iter', 'optimizers', 'schedulers'} <= state.keys():
        raise OptionError(f'path.resume_state: {path!r} is not a training state: name a training_states/ITER.state')
    opt['path']['resume_state'] = path
    check_resume(opt, state['iter'])
    opt['datasets']['train']['start_iter'] = state['iter']
    return state


def _newest_state(folder: str) -> str | None:
    names = [n for n in os.listdir(folder)] if osp.isdir(folder) else []
    iterations = [int(n[:-6]) for n in names if n.endswith('.state') and n[:-6].isdigit()]
    return osp.join(folder, f'{max(iterations)}.state') if iterations else None
