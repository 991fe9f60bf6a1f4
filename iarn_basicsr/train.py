"""BasicSR's training pipeline with the plugin: ``python -m iarn_basicsr.train -opt FILE``, or ``iarn-train``."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import signal
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch

import iarn_basicsr.plugin  # noqa: F401  (makes basicsr importable and registers)
from iarn_basicsr.toolbox.launch import running
from iarn_basicsr.toolbox.option_checks import check_options
from iarn_basicsr.toolbox.option_file import copy_option_file, load_resume_state, parse_options

__all__ = ['main']


class StoppedError(Exception):
    """Training was told to stop, and has saved where it stands."""


class Stop:
    """When to stop before the last iteration: after ``minutes``, or on SIGTERM, with which clusters announce the end.

    All ranks stop at the same iteration.
    """

    def __init__(self, minutes: float | None) -> None:
        self.deadline = time.monotonic() + 60 * minutes if minutes else float('inf')
        self.told = False
        self.earlier = signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, number: int, frame: object) -> None:
        self.told = True

    def now(self, opt: dict[str, Any], device: torch.device) -> bool:
        """Whether any rank wants to stop; called by all of them."""
        wanted = self.told or time.monotonic() >= self.deadline
        if not opt['dist']:
            return wanted
        flag = torch.tensor(float(wanted), device=device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag)


def _start_worker(stock: Callable[[int], object] | None, worker_id: int) -> None:
    """A loader's worker does not end on SIGTERM, which clusters send to every process of a run: the step that is to be
    saved would fail with it. It ends with its loader.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if stock:
        stock(worker_id)


def _end_workers() -> None:
    """End the loaders' workers: Python would tell them to with SIGTERM and wait for ever, for they ignore it."""
    for child in multiprocessing.active_children():
        child.kill()


def main() -> None:
    """Train as the option file says; results land below the current directory."""
    import basicsr.train as pipeline

    state: dict[str, Any] | None = None
    stop: Stop | None = None

    def options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
        nonlocal stop
        opt, args = parse_options(root_path, is_train, check=check_options)
        stop = Stop(args.minutes)
        return opt, args

    def resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        nonlocal state
        state = load_resume_state(opt)
        return state

    def loaders(opt: dict[str, Any], logger: Any) -> Any:
        made = stock_loaders(opt, logger)
        made[0].worker_init_fn = functools.partial(_start_worker, made[0].worker_init_fn)
        train_set = made[0].dataset
        if state and hasattr(train_set, 'batches_per_epoch'):  # the epoch of the saved iteration, whatever its length
            ratio = opt['datasets']['train'].get('dataset_enlarge_ratio', 1)
            state['epoch'] = state['iter'] // train_set.batches_per_epoch(ratio, opt['world_size'])
        return made

    def model(opt: dict[str, Any]) -> Any:
        made = stock_model(opt)
        step = type(made).optimize_parameters
        reference = weakref.ref(made)  # a cycle would keep DDP alive after its process group, and abort the process

        def stoppable_step(current_iter: int) -> None:
            this = reference()
            step(this, current_iter)
            assert stop is not None and this is not None
            if stop.now(opt, this.device):
                this.save(0, current_iter)  # a resumed run finds the epoch from the iteration
                raise StoppedError(f'stopped and saved at iteration {current_iter} of {opt["train"]["total_iter"]}; '
                                   'the same command with --auto_resume goes on')

        made.optimize_parameters = stoppable_step
        return made

    stock_loaders, stock_model = pipeline.create_train_val_dataloader, pipeline.build_model
    with running('iarn-train', pipeline, parse_options=options, load_resume_state=resume_state,
                 copy_opt_file=copy_option_file, create_train_val_dataloader=loaders, build_model=model):
        try:
            pipeline.train_pipeline(os.getcwd())
        except StoppedError as stopped:
            pipeline.get_root_logger().info(str(stopped))
        finally:
            _end_workers()
            if stop:
                signal.signal(signal.SIGTERM, stop.earlier)


if __name__ == '__main__':
    main()
