"""The start and the end of a run: BasicSR's pipeline with some of its names replaced, and errors that are one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch

from iarn_basicsr.errors import OptionError

__all__ = ['running']


@contextmanager
def running(program: str, pipeline: ModuleType, **replacements: Any) -> Iterator[None]:
    """Run BasicSR's ``pipeline`` with some of its names replaced; a mistake in the options ends with one line."""
    try:
        with patch.multiple(pipeline, **replacements):
            yield
    except OptionError as error:
        sys.exit(f'{program}: {error}')
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
