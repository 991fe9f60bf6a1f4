"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from os import path as osp
from typing import Any

import torch

__all__ = ['atomic_write', 'save_json', 'save_torch']

_UMASK = os.umask(0)  # it can only be read by setting it, for the whole process: once, on import
os.umask(_UMASK)


def atomic_write(path: str, write: Callable[[str], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: an interruption leaves the old file whole.

    The temporary name keeps the ending, by which image writers choose the format.
    """
    folder = osp.dirname(osp.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix='.writing-', suffix=osp.splitext(path)[1])
    os.close(handle)
    try:
        write(temporary)
        with open(temporary, 'rb') as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)  # mkstemp makes private files; the result is an ordinary one
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def save_torch(content: dict[str, Any], path: str) -> None:
    """``torch.save``, atomically."""
    atomic_write(path, lambda temporary: torch.save(content, temporary))


def save_json(content: Any, path: str) -> None:
    """Indented JSON, atomically."""

    def write(temporary: str) -> None:
        with open(temporary, 'w', encoding='utf-8') as file:
            json.dump(content, file, indent=1)
            file.write('\n')

    atomic_write(path, write)
