"""The work of ``iarn-train``: BasicSR's training pipeline, which here can be stopped and resumed."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import basicsr.train as pipeline
import torch
from basicsr.data.prefetch_dataloader import CPUPrefetcher, CUDAPrefetcher
from basicsr.models import build_model
from basicsr.train import create_train_val_dataloader, init_tb_loggers
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only

from iarn_basicsr.compat import complete_options, entered
from iarn_basicsr.config.option_file import copy_option_file
from iarn_basicsr.errors import OptionError
from iarn_basicsr.models.iarn_model import check_model

from .launch import INTERRUPTED, print_now
from .options import parse_arguments, read_options
from .resume import load_resume_state

__all__ = ['train']

# What clusters send before the end, Ctrl-C, and the end of a terminal
_STOP_SIGNALS = [getattr(signal, name) for name in ('SIGTERM', 'SIGINT', 'SIGHUP') if hasattr(signal, name)]
PATIENCE = 5.0  # seconds in which a loader's workers may end by themselves, with the batch that they are making


def train() -> None:
    """Train as the option file says; results are written below the current directory."""
    args = parse_arguments(is_train=True)
    opt = complete_options(read_options(args, is_train=True), args, is_train=True)
    run = _Run(Stop(args.minutes, several=opt['dist']))
    with entered(pipeline, opt, args, load_resume_state=run.load_resume_state, init_tb_loggers=run.make_loggers,
                 copy_opt_file=master_only(copy_option_file), create_train_val_dataloader=run.make_loaders,
                 build_model=run.make_model, CPUPrefetcher=run.make_prefetcher, CUDAPrefetcher=run.make_prefetcher):
        try:
            pipeline.train_pipeline(os.getcwd())
        except StoppedError as stopped:
            get_root_logger().info(str(stopped))
            if run.stop.signal == signal.SIGINT:
                sys.exit(INTERRUPTED)
        finally:
            _end_workers(run.prefetcher)
            run.stop.restore_signals()


class StoppedError(Exception):
    """Training was told to stop, and has saved where it stands."""


class Stop:
    """When to stop before the last iteration: after ``minutes``, or on SIGTERM, SIGHUP and Ctrl-C.

    Of ``several`` processes all stop at the same iteration. A second Ctrl-C stops at once, except under torchrun,
    which passes on the first one and then waits for half a minute.
    """

    def __init__(self, minutes: float | None, several: bool) -> None:
        self.deadline = time.monotonic() + 60 * minutes if minutes else float('inf')
        self.signal: int | None = None
        self.saved, self.several, self.process = False, several, os.getpid()
        found = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
        self.earlier = {n: h for n, h in found.items() if h not in (signal.SIG_IGN, None)}  # nohup, or the background
        for number in self.earlier:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        if self.saved or os.getpid() != self.process:  # in a worker that was forked this very moment
            return
        first, self.signal = self.signal is None, number
        if number == signal.SIGINT and not self.several:
            if not first:
                raise KeyboardInterrupt
            print_now('\niarn-train: stopping after this iteration; Ctrl-C again stops at once, without saving')

    def wanted(self, device: torch.device) -> bool:
        """Whether any rank is to stop; called by all of them."""
        wanted = self.signal is not None or time.monotonic() >= self.deadline
        if not self.several:
            return wanted
        flag = torch.tensor(float(wanted), device=device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag)

    def restore_signals(self) -> None:
        """Leave the signals to whoever had them."""
        for number, handler in self.earlier.items():
            signal.signal(number, handler)


class StoppableModel:
    """A model of BasicSR's that saves and ends the run after the step in which that was asked for."""

    def __init__(self, model: Any, stop: Stop, total_iter: int) -> None:
        self.model, self.stop, self.total_iter = model, stop, total_iter

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def optimize_parameters(self, current_iter: int) -> None:
        """One step, and ``StoppedError`` after it if the run was to stop."""
        self.model.optimize_parameters(current_iter)
        if self.stop.wanted(self.model.device):
            self.model.save(0, current_iter)  # a resumed run finds the epoch from the iteration
            self.stop.saved = True
            raise StoppedError(f'stopped and saved at iteration {current_iter} of {self.total_iter}; the same command '
                               'with --auto_resume resumes')


class _Run:
    """What BasicSR's training pipeline calls in place of its own functions."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.state: dict[str, Any] | None = None  # that the run resumes from
        self.prefetcher: Any = None

    def load_resume_state(self, opt: dict[str, Any]) -> dict[str, Any] | None:
        self.state = load_resume_state(opt)
        check_model(opt)  # BasicSR's next step puts the folder of an old run away
        return self.state

    def make_loggers(self, opt: dict[str, Any]) -> Any:
        """TensorBoard and wandb; ``OptionError`` if one of them is not installed, or wandb does not start."""
        try:
            return init_tb_loggers(opt)
        except ImportError as error:
            raise OptionError(f'logger: {error} (pip install {error.name}, or leave out logger.wandb and set '
                              'logger.use_tb_logger to false)') from None
        except Exception as error:
            if type(error).__module__.split('.')[0] != 'wandb':
                raise
            raise OptionError(f'logger.wandb: {" ".join(str(error).split())}') from None

    def make_loaders(self, opt: dict[str, Any], logger: Any) -> Any:
        made = create_train_val_dataloader(opt, logger)
        loader = made[0]
        loader.worker_init_fn = functools.partial(_start_worker, loader.worker_init_fn)
        if self.state:  # its own epoch may have had another length, or a stopped run has not written it
            self.state['epoch'] = self.state['iter'] // max(1, len(loader))
        return made

    def make_model(self, opt: dict[str, Any]) -> StoppableModel:
        return StoppableModel(build_model(opt), self.stop, opt['train']['total_iter'])

    def make_prefetcher(self, loader: Any, *opt: dict[str, Any]) -> Any:
        """With ``opt`` the one that copies batches to the GPU."""
        self.prefetcher = _CUDABatches(loader, *opt) if opt else _CPUBatches(loader)
        return self.prefetcher


class _Batches:
    """BasicSR's prefetchers, which start a loader's workers once, and where no signal can reach them."""

    def reset(self) -> None:
        """Start an epoch. A signal that comes meanwhile reaches this process when all workers are there."""
        mask = getattr(signal, 'pthread_sigmask', None)  # none on Windows
        earlier = mask(signal.SIG_BLOCK, _STOP_SIGNALS) if mask else None  # before _start_worker can ignore them
        try:
            super().reset()  # type: ignore[misc]
        finally:
            if mask:
                mask(signal.SIG_SETMASK, earlier)


class _CPUBatches(_Batches, CPUPrefetcher):
    def __init__(self, loader: Any) -> None:
        self.ori_loader, self.loader = loader, None


class _CUDABatches(_Batches, CUDAPrefetcher):
    def __init__(self, loader: Any, opt: dict[str, Any]) -> None:
        self.ori_loader, self.loader, self.opt = loader, None, opt
        self.stream, self.device = torch.cuda.Stream(), torch.device('cuda' if opt['num_gpu'] else 'cpu')


def _start_worker(stock: Callable[[int], object] | None, worker_id: int) -> None:
    """A loader's worker does not end on a signal that is sent to every process of a run: the step that is to be saved
    would fail with it. It ends with its loader.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if stock:
        stock(worker_id)


def _end_workers(prefetcher: Any) -> None:
    """End the loader's workers, for Python would tell them to with SIGTERM and wait for ever: they ignore it.

    First they may end by themselves: a worker that is killed in the wrong moment keeps a lock that torch needs when
    it takes down their queues, and torch would wait for it for ever. One that was killed from outside may have kept it
    already, so torch gets a thread and ``PATIENCE``. Torch watches the workers by SIGCHLD, and would take all this
    for an accident.
    """
    watch = signal.getsignal(signal.SIGCHLD) if hasattr(signal, 'SIGCHLD') else None
    if watch:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    running = getattr(prefetcher, 'loader', None)
    running = getattr(running, 'generator', running)  # with prefetch_mode cpu a thread of BasicSR's iterates over it
    shut_down = getattr(running, '_shutdown_workers', None)  # none without workers
    if shut_down:
        ending = threading.Thread(target=shut_down, daemon=True)
        ending.start()
        ending.join(PATIENCE)
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    if watch:
        signal.signal(signal.SIGCHLD, watch)
