"""Files: which ones hold images, and writing them so that they are either complete or not there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from os import path as osp
from typing import Any

__all__ = ['IMAGE_ENDINGS', 'atomic_write', 'is_image', 'save_bytes', 'save_json', 'save_text']

IMAGE_ENDINGS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff', '.ppm')  # read and written everywhere

_UMASK = os.umask(0)  # it can only be read by setting it, for the whole process: once, on import
os.umask(_UMASK)


def is_image(name: str) -> bool:
    """Whether a file has the name of an image, and is not hidden."""
    return name.lower().endswith(IMAGE_ENDINGS) and not name.startswith('.')


def atomic_write(path: str, write: Callable[[str], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: an interruption leaves the old file intact.

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


def save_bytes(content: bytes, path: str) -> None:
    """Bytes, atomically."""

    def write(temporary: str) -> None:
        with open(temporary, 'wb') as file:
            file.write(content)

    atomic_write(path, write)


def save_text(text: str, path: str) -> None:
    """Text in UTF-8 with this system's line ends untouched, atomically."""
    save_bytes(text.encode('utf-8'), path)


def save_json(content: Any, path: str) -> None:
    """Indented JSON, atomically."""
    save_text(json.dumps(content, indent=1) + '\n', path)
