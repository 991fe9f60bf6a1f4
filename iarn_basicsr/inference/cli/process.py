"""``iarn`` as a process: signals, closed streams, and errors of the library in the words of a command."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

import click

from iarn_basicsr.errors import (
    DamagedMetadataError,
    LossyFileError,
    MetadataError,
    NoMetadataError,
    OtherWeightsError,
    SizeError,
    one_line,
)
from iarn_basicsr.ops.size import Size, scale_label

__all__ = ['Stopped', 'drop', 'in_words', 'open_streams', 'postponed', 'print_error', 'print_lines', 'stoppable', 'wh']

STOPPING = [int(getattr(signal, name)) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]
REMEDIES: dict[type[Exception], str] = {  # the first that fits
    LossyFileError: '; or pass --allow-lossy',
    NoMetadataError: '; pass --size WxH, the size to make',
    DamagedMetadataError: '; to enlarge rather than restore it, pass --size WxH and --force',
    OtherWeightsError: ': restore it with those (--weights), or pass --force',
    MetadataError: '; pass --force to try',
}


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP: ends as Ctrl-C does, so that nothing half written stays.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def wh(size: Size) -> str:
    """Width x height, as people and --size write it."""
    return f'{size[1]}x{size[0]}'


def in_words(error: BaseException) -> str:
    """The message of an error, with the options of the command that would help."""
    if isinstance(error, SizeError):
        context = click.get_current_context(silent=True)
        options = context.params if context else {}
        asked = wh(error.asked)
        if options.get('size'):
            asked = f'--size {asked}'
        elif options.get('max_side'):
            asked = f'--max-side {options["max_side"]}: {asked}'
        elif isinstance(options.get('scale'), tuple) and isinstance(options['scale'][0], float):
            asked = f'--scale {scale_label(options["scale"])[1:]}: {asked}'
        return f'{asked} is out of range: the picture can become {wh(error.low)} to {wh(error.high)}'
    for kind, remedy in REMEDIES.items():
        if isinstance(error, kind):
            return f'{error.reason}{remedy}'  # type: ignore[attr-defined]
    if isinstance(error, MemoryError):
        return 'not enough memory'
    if isinstance(error, OSError) and error.errno and not error.filename:
        return f'standard output: {error.strerror}'
    return ' '.join(str(error).split()) or type(error).__name__


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


def open_streams() -> None:
    """Put streams in place of closed ones, and make all ready for any text."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (opened := os.open(os.devnull, os.O_RDWR)) < 3:  # or the next files would take their numbers
            pass
        os.close(opened)
    sys.stdout = sys.stdout or open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise ``Stopped`` where they would end the process (not below nohup, nor in a thread)."""
    main_thread = threading.current_thread() is threading.main_thread()
    ours = [number for number in STOPPING if main_thread and signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, frame: FrameType | None) -> None:
        for other in ours:  # a second one would stop the cleaning up
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

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
