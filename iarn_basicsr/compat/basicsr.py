"""Patches that let stock BasicSR (1.4.2 from PyPI, and git master) work on today's PyTorch, with or without a GPU.

``prepare_import`` runs before the first import of basicsr, ``patch_basicsr`` after it; both are idempotent. Every
sub-package that imports basicsr calls the first, ``iarn_basicsr.plugin`` both. What each patch is for:

* modules that are gone (see ``stand_ins``): BasicSR imports them
* ``init_dist``: has NCCL and ``rank % gpus`` hard-coded, and never ends it; gloo serves where there is no GPU
* ``BaseModel.model_to_device``: wraps networks in DDP on CUDA only; here on a CPU too
* ``BaseModel.get_optimizer``: knows Adam only (1.4.2); here all of ``OPTIMISERS``
* ``FileClient('lmdb')``: cannot open an LMDB twice in a process, nor be sent to a loader's worker that is not forked
  (Python 3.14's default); here one environment per path, sent as the path
* ``PrefetchGenerator`` (``prefetch_mode: cpu``): waits for ever after an error; here it raises the error
* ``EnlargedSampler``: drops the last batch and restarts the epoch; here datasets may number their draws
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from os import path as osp
from typing import Any

import torch

from iarn_basicsr.errors import IARNError, OptionError, suggestion
from iarn_basicsr.ops.soap import SOAP

from . import stand_ins

__all__ = ['OPTIMISERS', 'NoBasicSRError', 'init_dist', 'patch_basicsr', 'prepare_import']

OPTIMISERS: dict[str, Any] = {name: kind for name, kind in {**vars(torch.optim), 'SOAP': SOAP}.items()
                              if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
                              and name != 'Optimizer'}
DIST_TIMEOUT = timedelta(hours=2)  # one rank may be busy saving or validating a large image


class NoBasicSRError(IARNError, ImportError):
    """BasicSR is not installed."""


def prepare_import() -> None:
    """Let ``import basicsr`` succeed on torchvision >= 0.17 and Python >= 3.12.

    Raises:
        NoBasicSRError: naming the line that installs BasicSR, if it is not there.
    """
    if 'basicsr' not in sys.modules and importlib.util.find_spec('basicsr') is None:
        raise NoBasicSRError(f'BasicSR is not installed; this line does it: {_install_line()}')
    stand_ins.install()


def _install_line() -> str:
    """The command that installs BasicSR: its script is in an installed package, or beside the package in a clone."""
    package = osp.dirname(osp.dirname(osp.abspath(__file__)))
    script = osp.join(osp.dirname(package), 'scripts', 'install', 'install_basicsr.py')
    if osp.isfile(osp.join(package, 'install_basicsr.py')) or not osp.isfile(script):
        return 'python -m iarn_basicsr.install_basicsr'
    return f'python "{script}"' if ' ' in script else f'python {script}'


def patch_basicsr() -> None:
    """Replace what fails in BasicSR; see the module's docstring."""
    from basicsr.data.data_sampler import EnlargedSampler
    from basicsr.data.prefetch_dataloader import PrefetchGenerator
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import dist_util, file_client, options

    if getattr(BaseModel, '_iarn_patched', False):
        return
    BaseModel._iarn_patched = True
    BaseModel.model_to_device = _model_to_device
    BaseModel.get_optimizer = _get_optimizer
    dist_util.init_dist = options.init_dist = init_dist
    file_client.LmdbBackend.__init__ = _lmdb_init
    file_client.LmdbBackend.__reduce__ = _lmdb_reduce
    PrefetchGenerator.run, PrefetchGenerator.__next__ = _prefetch, _prefetched
    _patch_sampler(EnlargedSampler)


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
    atexit.register(leave_dist)  # BasicSR's own commands do not
    torch.distributed.init_process_group(backend or ('nccl' if torch.cuda.is_available() else 'gloo'), **kwargs)


def leave_dist() -> None:
    """End torch.distributed: a process that exits while its threads run may abort."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
    """BasicSR's own, and DDP on a CPU."""
    net = net.to(self.device)
    if self.opt['dist']:
        return torch.nn.parallel.DistributedDataParallel(
            net, device_ids=None if self.device.type == 'cpu' else [torch.cuda.current_device()],
            find_unused_parameters=self.opt.get('find_unused_parameters', False))
    return torch.nn.DataParallel(net) if self.opt['num_gpu'] > 1 else net


def _get_optimizer(self: Any, optim_type: str, params: Any, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
    """Any of ``OPTIMISERS`` by its name."""
    if optim_type not in OPTIMISERS:
        raise OptionError(f'type of the optimiser: {optim_type!r} is not known; {suggestion(optim_type, OPTIMISERS)}')
    return OPTIMISERS[optim_type](params, lr=lr, **kwargs)


_lmdb_envs: dict[str, tuple[int, Any]] = {}  # real path -> (process, environment)


def _lmdb_init(self: Any, db_paths: Any, client_keys: Any = 'default', readonly: bool = True, lock: bool = False,
               readahead: bool = False, **kwargs: Any) -> None:
    """``LmdbBackend.__init__`` that shares one environment per path and process, in forked workers too."""
    keys = [client_keys] if isinstance(client_keys, str) else client_keys
    self.db_paths = [str(p) for p in (db_paths if isinstance(db_paths, list) else [db_paths])]
    if len(keys) != len(self.db_paths):
        raise ValueError(f'{len(keys)} client_keys for {len(self.db_paths)} db_paths: give one key for each path')
    options = {'readonly': readonly, 'lock': lock, 'readahead': readahead, **kwargs}
    self._iarn_arguments = self.db_paths, keys, options
    self._client = {key: lmdb_environment(path, **options) for key, path in zip(keys, self.db_paths)}


def _lmdb_reduce(self: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A loader's worker that is not forked (from Python 3.14 on none is) opens the LMDB itself."""
    return _lmdb_reopen, (type(self), *self._iarn_arguments)


def _lmdb_reopen(backend: Callable[..., Any], db_paths: list[str], client_keys: list[str],
                 options: dict[str, Any]) -> Any:
    patch_basicsr()
    return backend(db_paths, client_keys, **options)


def lmdb_environment(path: str, **options: Any) -> Any:
    """The open LMDB at a path: one per path and process, in forked workers too.

    Raises:
        OSError: if it is damaged.
    """
    import lmdb
    real_path = osp.realpath(path)
    process, env = _lmdb_envs.get(real_path, (0, None))
    if process != os.getpid():
        if env is not None:
            env.close()  # inherited by fork: this closes the child's copy only, and LMDB must not be used across a fork
        try:
            env = lmdb.open(path, **{'readonly': True, 'lock': False, 'readahead': False, **options})
        except lmdb.Error as error:
            raise OSError(f'{path}: not an LMDB, or it is damaged ({error})') from None
        data, expected = osp.join(path, 'data.mdb'), (env.info()['last_pgno'] + 1) * env.stat()['psize']
        if osp.isfile(data) and osp.getsize(data) < expected:  # beyond its end a page would be a bus error
            env.close()
            raise OSError(f'{data} is cut short: it has {osp.getsize(data)} bytes of {expected}; copy or make it again')
        _lmdb_envs[real_path] = os.getpid(), env
    return env


def _prefetch(self: Any) -> None:
    """``PrefetchGenerator.run`` that hands over the error by which the loader ended, in place of a batch."""
    end = None
    try:
        for item in self.generator:
            self.queue.put(item)
    except Exception as error:
        end = error
    self.queue.put(end)


def _prefetched(self: Any) -> Any:
    """``PrefetchGenerator.__next__`` that raises it."""
    item = self.queue.get()
    if isinstance(item, Exception):
        raise item
    if item is None:
        raise StopIteration
    return item


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
