"""The work of ``iarn-test``: BasicSR's test pipeline."""

from __future__ import annotations

import os
from functools import partial

import basicsr.test as pipeline

from iarn_basicsr.config.option_file import parse_options

from .launch import running
from .registered import check_file

__all__ = ['test']


def test() -> None:
    """Test as the option file says."""
    with running(pipeline, parse_options=partial(parse_options, check=check_file)):
        pipeline.test_pipeline(os.getcwd())
