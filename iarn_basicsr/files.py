"""Files: finding images, and writing so that a file is either complete or absent.

Content goes to a temporary file, ``.writing-RANDOM.ending`` in the same folder, which is then renamed. Leftovers of a
killed process are removed a day later, when another one first writes into the folder.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from os import path as osp
from typing import Any, NamedTuple

__all__ = ['IMAGE_ENDINGS', 'NO_PICTURES', 'Found', 'atomic_write', 'check_writable', 'identity', 'is_image',
           'pictures_below', 'readable_endings', 'save_bytes', 'save_json', 'save_text', 'without_ending']

IMAGE_ENDINGS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff', '.ppm')  # which are written
_HEIF_ENDINGS = ('.heic', '.heif', '.hif')  # of an optional plugin of Pillow; without it, reading says how to get it
NO_PICTURES = ('BUFR', 'EPS', 'GRIB', 'HDF5', 'MPEG', 'WMF')  # which Pillow opens, but does not decode by itself

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OLD = 24 * 3600  # seconds after which nobody is writing a temporary file any more
_UNFINISHED = re.compile(r'\.writing-[0-9a-f]{16}(?:\.[^.]*)?', re.DOTALL)
_tidied: set[str] = set()  # folders in which this process looked for what others left


def is_image(name: str) -> bool:
    """Whether a file has the name of an image that this package writes, and is not hidden."""
    return name.lower().endswith(IMAGE_ENDINGS) and not name.startswith('.')


@functools.lru_cache(maxsize=1)
def readable_endings() -> tuple[str, ...]:
    """Endings of the pictures that can be read, in lower case and sorted: all that the installed Pillow decodes."""
    from PIL import Image
    known = {ending for ending, kind in Image.registered_extensions().items()
             if (kind in Image.OPEN or kind == 'MPO') and kind not in NO_PICTURES}  # an MPO is opened as a JPEG
    return tuple(sorted(known.union(_HEIF_ENDINGS) - {'.pfm'}))  # of floating point, which is refused


def without_ending(path: str) -> str:
    """A path without the ending of a picture; ``photo.2019.best`` has none."""
    stem, ending = osp.splitext(path)
    return stem if ending.lower() in readable_endings() else path


class Found(NamedTuple):
    """Contents of a folder and its sub-folders.

    Attributes:
        pictures: paths of readable kinds relative to the folder, sorted.
        others: how many other files there are of each ending.
        hidden: how many hidden files and folders.
        unreadable: the errors of folders that cannot be listed.
    """

    pictures: list[str]
    others: Counter[str]
    hidden: int
    unreadable: list[OSError]


def pictures_below(root: str, output: str | None = None) -> Found:
    """The pictures below a folder. Links are followed; every folder is entered once, by its real name if possible.

    Args:
        root: the folder.
        output: a folder that is not entered if it lies below the root.
    """
    pictures, others, hidden, unreadable = [], Counter[str](), 0, []
    folders = [root]
    links: list[str] = []  # followed after all folders
    seen: set[tuple[int, int] | None] = set()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        place = identity(folder)
        if place and (place in seen or (folder != root and output and place == identity(output))):
            continue
        seen.add(place)
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            unreadable.append(error)
            continue
        for entry in entries:
            ending = osp.splitext(entry.name)[1].lower().rstrip('.')
            if entry.name.startswith('.'):
                hidden += 1
            elif entry.is_symlink() and osp.isdir(entry.path):
                links.append(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif ending in readable_endings():
                pictures.append(osp.relpath(entry.path, root))
            else:
                others[ending] += 1
    return Found(sorted(pictures), others, hidden, unreadable)


def identity(path: str) -> tuple[int, int] | None:
    """Equal for two names of one file; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def atomic_write(path: str, write: Callable[[str], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: an interruption leaves the old file intact.

    The temporary name keeps the ending, because image writers choose the format by it. A replaced file keeps its mode;
    a symbolic link is followed.

    Raises:
        OSError: naming ``path``; its ``strerror`` says why, on a full disk with the space that is free.
    """
    check_writable(path)
    target = _followed(path)
    folder = osp.dirname(target) or os.curdir
    mode = stat.S_IMODE(os.stat(target).st_mode) if osp.exists(target) else None
    temporary = osp.join(folder, f'.writing-{secrets.token_hex(8)}{osp.splitext(target)[1]}')
    try:
        os.makedirs(folder, exist_ok=True)
        _tidy(folder)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else 0o600))
        write(temporary)
        with open(temporary, 'r+b') as file:  # Windows flushes no descriptor that is only for reading
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):  # it may not be there yet, nor its folder
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno:
            if error.errno in _FULL:
                free = shutil.disk_usage(_part_that_exists(folder)).free
                error.strerror = f'{error.strerror}, {free / 1e6:.1f} MB free'
            elif isinstance(error, PermissionError):  # not of the folder, which was checked
                error.strerror = f'{error.strerror}; it may be open in another program, or belong to another user'
            error.filename = path  # not the temporary one
        raise


def check_writable(path: str) -> None:
    """Raise the ``OSError`` that ``atomic_write`` would, as far as it is known without writing."""
    there = _part_that_exists(osp.dirname(_followed(path)) or os.curdir)
    if not osp.isdir(there):
        raise NotADirectoryError(errno.ENOTDIR, f'{there} is not a folder', path)
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f'nothing can be written into {there}', path)
    with suppress(FileNotFoundError):
        os.lstat(osp.join(there, osp.basename(path)))  # a name that is too long, or that this system does not take


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


def _followed(path: str) -> str:
    """The target of a symbolic link, or the path itself; raises if it is not, or cannot become, a regular file."""
    target = osp.realpath(path) if osp.islink(path) else path
    if not osp.exists(target):
        if target != path:
            raise FileNotFoundError(errno.ENOENT, 'a symbolic link that leads nowhere', path)
    elif osp.isdir(target):
        raise IsADirectoryError(errno.EISDIR, 'a folder', path)
    elif not osp.isfile(target):
        raise OSError(errno.EINVAL, 'not a regular file', path)
    return target


def _part_that_exists(path: str) -> str:
    """The longest part of a path that exists; a broken symbolic link counts."""
    while not osp.lexists(path):
        path = osp.dirname(path) or os.curdir
    return path


def _tidy(folder: str) -> None:
    """Remove old unfinished files, once in a process and folder."""
    place = osp.realpath(folder)
    if place in _tidied:
        return
    _tidied.add(place)
    with os.scandir(folder) as entries:
        for entry in entries:
            if _UNFINISHED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):  # of another user, or another process was faster
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD:
                        os.unlink(entry.path)
