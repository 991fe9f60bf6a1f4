"""The work of ``iarn-test``: BasicSR's test pipeline."""

from __future__ import annotations

import os

import basicsr.test as pipeline

from iarn_basicsr.compat import complete_options, entered
from iarn_basicsr.models.iarn_model import check_model

from .options import parse_arguments, read_options

__all__ = ['test']


def test() -> None:
    """Test as the option file says; results are written below the current directory."""
    args = parse_arguments(is_train=False)
    opt = complete_options(read_options(args, is_train=False), args, is_train=False)
    check_model(opt)
    with entered(pipeline, opt, args):
        pipeline.test_pipeline(os.getcwd())
