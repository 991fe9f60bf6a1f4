"""The work of ``iarn-train``: BasicSR's training pipeline, which here can be stopped and goes on."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import basicsr.train as pipeline
import torch

from iarn_basicsr.config.option_file import copy_option_file, load_resume_state, parse_options
from iarn_basicsr.errors import OptionError

from .launch import INTERRUPTED, in_group, running, say
from .registered import check_file

__all__ = ['train']

# What clusters send before the end, Ctrl-C, and the end of a terminal
_STOP_SIGNALS = [getattr(signal, name) for name in ('SIGTERM', 'SIGINT', 'SIGHUP') if hasattr(signal, name)]
PATIENCE = 5.0  # seconds in which a loader's workers may end by themselves, with the batch that they are making


class StoppedError(Exception):
    """Training was told to stop, and has saved where it stands."""


class Stop:
    """When to stop before the last iteration: after ``minutes``, or on SIGTERM, SIGHUP and Ctrl-C.

    All ranks stop at the same iteration. A second Ctrl-C stops at once; under torchrun it does not, which itself
    passes on the first one and waits for half a minute.
    """

    def __init__(self, minutes: float | None) -> None:
        self.deadline = time.monotonic() + 60 * minutes if minutes else float('inf')
        self.told: int | None = None
        self.saved = False
        self.process = os.getpid()
        found = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
        self.earlier = {n: h for n, h in found.items() if h not in (signal.SIG_IGN, None)}  # nohup, or the background
        for number in self.earlier:
            signal.signal(number, self._tell)

    def _tell(self, number: int, frame: object) -> None:
        if self.saved or os.getpid() != self.process:  # a worker that was forked this very moment
            return
        first, self.told = self.told is None, number
        if number == signal.SIGINT and not in_group():
            if not first:
                raise KeyboardInterrupt
            say('\niarn-train: stopping after this iteration; Ctrl-C again stops at once, without saving')

    def now(self, opt: dict[str, Any], device: torch.device) -> bool:
        """Whether any rank wants to stop; called by all of them."""
        wanted = self.told is not None or time.monotonic() >= self.deadline
        if not opt['dist']:
            return wanted
        flag = torch.tensor(float(wanted), device=device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag)

    def end(self) -> None:
        """Leave the signals to whoever had them."""
        for number, handler in self.earlier.items():
            signal.signal(number, handler)


def _start_worker(stock: Callable[[int], object] | None, worker_id: int) -> None:
    """A loader's worker does not end on a signal that is sent to every process of a run: the step that is to be saved
    would fail with it. It ends with its loader.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if stock:
        stock(worker_id)


def _guard_workers(loader: Any) -> None:
    """Start the workers of a loader with the signals blocked, which :func:`_start_worker` comes too late to ignore.

    A signal that comes meanwhile reaches this process when all workers are there. ``loader.running`` is the iterator
    that started them last, which :func:`_end_workers` needs.
    """

    class Loader(type(loader)):  # type: ignore[misc]
        def _get_iterator(self) -> Any:
            mask = getattr(signal, 'pthread_sigmask', None)  # none on Windows
            earlier = mask(signal.SIG_BLOCK, _STOP_SIGNALS) if mask else None
            try:
                self.running = super()._get_iterator()
            finally:
                if mask:
                    mask(signal.SIG_SETMASK, earlier)
            return self.running

    loader.__class__ = Loader
    loader.running = None


def _end_workers(loader: Any) -> None:
    """End the loader's workers, for Python would tell them to with SIGTERM and wait for ever: they ignore it.

    First they may end by themselves: a worker that is killed in the wrong moment keeps a lock that torch needs when
    it takes down their queues, and torch would wait for it for ever. One that was killed from outside may have kept it
    already, so torch gets a thread and :data:`PATIENCE`. Torch watches the workers by SIGCHLD, and would take all this
    for an accident.
    """
    watch = signal.getsignal(signal.SIGCHLD) if hasattr(signal, 'SIGCHLD') else None
    if watch:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    shut_down = getattr(getattr(loader, 'running', None), '_shutdown_workers', None)  # none of its own without workers
    if shut_down:
        ending = threading.Thread(target=shut_down, daemon=True)
        ending.start()
        ending.join(PATIENCE)
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    if watch:
        signal.signal(signal.SIGCHLD, watch)


def _stoppable(model: Any, opt: dict[str, Any], stop: Stop) -> Any:
    """The model, whose step ends the run when it is time."""
    step = type(model).optimize_parameters
    reference = weakref.ref(model)  # a cycle would keep DDP alive after its process group, and abort the process

    def stoppable_step(current_iter: int) -> None:
        this = reference()
        step(this, current_iter)
        if this is not None and stop.now(opt, this.device):
            this.save(0, current_iter)  # a resumed run finds the epoch from the iteration
            stop.saved = True
            raise StoppedError(f'stopped and saved at iteration {current_iter} of {opt["train"]["total_iter"]}; '
                               'the same command with --auto_resume goes on')

    model.optimize_parameters = stoppable_step
    return model


def _loggers(stock: Callable[[dict[str, Any]], Any], opt: dict[str, Any]) -> Any:
    """Tensorboard and wandb.

    Raises:
        OptionError: if one of them is not installed, or wandb does not start.
    """
    try:
        return stock(opt)
    except ImportError as error:
        raise OptionError(f'logger: {error} (pip install {error.name}, or leave out logger.wandb and set '
                          'logger.use_tb_logger to false)') from None
    except Exception as error:
        if type(error).__module__.split('.')[0] != 'wandb':
            raise
        raise OptionError(f'logger.wandb: {" ".join(str(error).split())}') from None


def train() -> None:
    """Train as the option file says."""
    state: dict[str, Any] | None = None
    stop: Stop | None = None
    loader: Any = None

    def options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
        nonlocal stop
        opt, args = parse_options(root_path, is_train, check=check_file)
        stop = Stop(args.minutes)
        return opt, args

    def resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        nonlocal state
        state = load_resume_state(opt)
        return state

    def loaders(opt: dict[str, Any], logger: Any) -> Any:
        nonlocal loader
        made = stock_loaders(opt, logger)
        loader = made[0]
        loader.worker_init_fn = functools.partial(_start_worker, loader.worker_init_fn)
        _guard_workers(loader)
        if state:  # its own epoch may have had another length, or a stopped run has not written it
            state['epoch'] = state['iter'] // max(1, len(loader))
        return made

    def model(opt: dict[str, Any]) -> Any:
        assert stop is not None
        return _stoppable(stock_model(opt), opt, stop)

    stock_loaders, stock_model = pipeline.create_train_val_dataloader, pipeline.build_model
    with running(pipeline, parse_options=options, load_resume_state=resume_state, copy_opt_file=copy_option_file,
                 init_tb_loggers=functools.partial(_loggers, pipeline.init_tb_loggers),
                 create_train_val_dataloader=loaders, build_model=model):
        try:
            pipeline.train_pipeline(os.getcwd())
        except StoppedError as stopped:
            pipeline.get_root_logger().info(str(stopped))
            if stop and stop.told == signal.SIGINT:
                sys.exit(INTERRUPTED)
        finally:
            _end_workers(loader)
            if stop:
                stop.end()
