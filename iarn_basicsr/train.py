"""BasicSR's training pipeline with the plugin: ``python -m iarn_basicsr.train -opt FILE``, or ``iarn-train``."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import iarn_basicsr  # noqa: F401  (makes basicsr importable and registers)
from iarn_basicsr.compat import load_resume_state, parse_options
from iarn_basicsr.launch import check_options, running

__all__ = ['main']


def main() -> None:
    """Train as the option file says; results land below the current directory."""
    import basicsr.train as pipeline

    state: dict[str, Any] | None = None

    def resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        nonlocal state
        state = load_resume_state(opt)
        return state

    def loaders(opt: dict[str, Any], logger: Any) -> Any:
        made = stock_loaders(opt, logger)
        train_set = made[0].dataset
        if state and hasattr(train_set, 'batches_per_epoch'):  # the epoch of the saved iteration, whatever its length
            ratio = opt['datasets']['train'].get('dataset_enlarge_ratio', 1)
            state['epoch'] = state['iter'] // train_set.batches_per_epoch(ratio, opt['world_size'])
        return made

    stock_loaders = pipeline.create_train_val_dataloader
    with running('iarn-train', pipeline, parse_options=partial(parse_options, check=check_options),
                 load_resume_state=resume_state, create_train_val_dataloader=loaders):
        pipeline.train_pipeline(os.getcwd())


if __name__ == '__main__':
    main()
