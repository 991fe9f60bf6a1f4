"""``iarn`` as a process: signals, output streams, and the library's errors worded for the command line."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO

from iarn_basicsr.errors import (
    DamagedMetadataError,
    LossyFileError,
    MetadataError,
    NoMetadataError,
    OtherWeightsError,
    SizeError,
    one_line,
)
from iarn_basicsr.ops.size import Size

__all__ = ['Bar', 'Remarks', 'drop', 'in_words', 'open_streams', 'postponed', 'print_error', 'print_lines',
           'stoppable', 'wh']

STOPPING = [int(getattr(signal, name)) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]
REMEDIES: dict[type[Exception], str] = {  # the first that fits
    LossyFileError: '; or pass --allow-lossy',
    NoMetadataError: '; pass --size WxH, the size to make',
    DamagedMetadataError: '; to enlarge rather than restore it, pass --size WxH and --force',
    OtherWeightsError: ': restore it with those (--weights), or pass --force',
    MetadataError: '; pass --force to try',
}

# ------------------------------------------------------------------------------------------------------------- words


def wh(size: Size) -> str:
    """Width x height, as people and --size write it."""
    return f'{size[1]}x{size[0]}'


def in_words(error: BaseException, path: str = '') -> str:
    """The message of an error about a file, with the option of the command that would help."""
    remedy = next((text for kind, text in REMEDIES.items() if isinstance(error, kind)), None)
    if remedy is not None:
        message = f'{error.reason}{remedy}'  # type: ignore[attr-defined]
    elif isinstance(error, SizeError):
        message = f'{wh(error.asked)} is out of range: the picture can become {wh(error.low)} to {wh(error.high)}'
    elif isinstance(error, OSError) and error.strerror:  # what cannot be read has an error of its own
        name = error.filename
        message = f'{name}: cannot be written ({error.strerror})' if name else f'standard output: {error.strerror}'
    else:
        message = ' '.join(str(error).split()) or 'not enough memory'  # of which alone Python says nothing
    prefix = f'{path}: ' if path else ''
    return message if message.startswith(prefix) else prefix + message


# ----------------------------------------------------------------------------------------------------------- streams


def open_streams() -> None:
    """Replace closed streams, and let all of them print any text."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (opened := os.open(os.devnull, os.O_RDWR)) < 3:  # or the next files would take their numbers
            pass
        os.close(opened)
    if sys.stdout is None:  # only a command that prints fails
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), 'w', encoding='utf-8')  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')


def print_lines(*lines: str) -> None:
    """Lines on standard output."""
    for line in lines:
        print(one_line(line))


def print_error(line: str) -> None:
    """A line on standard error; where that is full or its reader has left, nothing."""
    try:
        print(one_line(line), file=sys.stderr)
    except OSError:
        drop(sys.stderr)


def drop(stream: TextIO) -> None:
    """Discard what a stream still holds, and all that follows."""
    with suppress(OSError, ValueError):  # ValueError: a stream that is not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Remarks(logging.Handler):
    """Prints what the library logs to standard error, after the name of the command.

    Remarks on files come at the end, each once however many files it concerns.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.INFO)
        self._name = name
        self._files: dict[str, list[str]] = {}  # remark -> files

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, 'remark'):
            self._files.setdefault(record.remark, []).append(record.path)  # type: ignore[attr-defined]
        else:
            print_error(f'{self._name}: {record.getMessage()}')

    def __enter__(self) -> None:
        logger = logging.getLogger('iarn_basicsr')
        self._before = logger.level, logger.propagate
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger('iarn_basicsr')
        logger.removeHandler(self)
        logger.setLevel(self._before[0])
        logger.propagate = self._before[1]
        for remark, files in self._files.items():
            more = f' and {len(files) - 1} more' if len(files) > 1 else ''
            print_error(f'{self._name}: {files[0]}{more}: {remark}')


class Bar:
    """A progress bar on a terminal for a picture of several tiles or steps; gone when the picture is done."""

    _bar: Any = None

    def __call__(self, share: float) -> None:
        if self._bar is None and share < 1 and sys.stderr.isatty():
            from tqdm import tqdm
            self._bar = tqdm(total=100, unit='%', leave=False)
        if self._bar is not None:
            self._bar.update(round(100 * share) - self._bar.n)
            if share >= 1:
                self._bar.close()
                self._bar = None


# ----------------------------------------------------------------------------------------------------------- signals


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise ``KeyboardInterrupt(number)`` where they would end the process, so that nothing half
    written stays; not below nohup, nor in a thread."""
    main_thread = threading.current_thread() is threading.main_thread()
    ours = [number for number in STOPPING if main_thread and signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, frame: FrameType | None) -> None:
        for other in ours:  # a second one would stop the cleaning up
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def postponed() -> Iterator[None]:
    """Signals wait until the block is left: an interrupted import fails in many ways. Not on Windows."""
    if not hasattr(signal, 'pthread_sigmask'):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *STOPPING})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
