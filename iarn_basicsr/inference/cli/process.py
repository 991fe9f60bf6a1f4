"""``iarn`` as a process: streams that are closed or full, signals, and text that does nothing to a terminal."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from tqdm import tqdm

from iarn_basicsr.inference.text import printable, shortened

__all__ = ['EffortBar', 'postponed', 'run_as_process', 'show', 'tell']


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP: ends as Ctrl-C does, so that nothing half written stays."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class LostOutputError(Exception):
    """Standard output takes no more; no ``OSError``, of which commands would make the failure of a file."""


class EffortBar:
    """A bar on a terminal for the steps of ``--effort``, from the share that is done; gone when all is."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None

    def __call__(self, share: float) -> None:
        if self.bar is None:
            self.bar = tqdm(total=100, desc='effort', unit='%', leave=False, disable=not sys.stderr.isatty())
        self.bar.update(round(100 * share) - self.bar.n)
        if share >= 1:
            self.bar.close()
            self.bar = None


def show(*lines: str) -> None:
    """Lines on standard output."""
    try:
        for line in lines:
            print(shortened(printable(line)))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LostOutputError(error.strerror) from None


def tell(line: str) -> None:
    """A line on standard error."""
    print(shortened(printable(line)), file=sys.stderr)


def run_as_process(name: str, command: Callable[[], int]) -> int:
    """Exit code of a command: its own; 1 if what it showed went nowhere; 128 + the number of a signal that ended it.

    Args:
        name: of program and command, for messages.
        command: may raise ``SystemExit``, which goes through.
    """
    nowhere = _open_streams()
    try:
        with _stoppable():
            try:
                status: int | SystemExit = command()
            except SystemExit as stop:
                status = stop
            finally:
                sys.stdout.flush()
    except BrokenPipeError:  # of ``iarn info * | head``; nothing may be left to be flushed at exit
        _drop(sys.stdout)
        _drop(sys.stderr)
        return 1
    except (LostOutputError, OSError) as error:  # a command makes lines of its own errors; this one is of its streams
        _drop(sys.stdout)
        _last_words(f'{name}: standard output: {getattr(error, "strerror", None) or error}')
        return 1
    except KeyboardInterrupt as stop:
        _last_words(f'{name}: interrupted; every file that was written is complete')
        return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)
    if nowhere is not None and nowhere.getvalue():
        _last_words(f'{name}: standard output is closed, what it would show is lost')
        return status if isinstance(status, int) and status else 1
    if isinstance(status, SystemExit):
        raise status
    return status


@contextmanager
def postponed() -> Iterator[None]:
    """Signals that would end the process wait until the block is left: an interrupted import fails in many ways."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_stopping())}
    ours = {number: handler for number, handler in before.items() if callable(handler)}
    for number in ours:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise :class:`Stopped`, where they would end the process (not below nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in _stopping() if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, frame: object) -> None:
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


def _stopping() -> list[int]:
    return [int(getattr(signal, name)) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]


def _open_streams() -> io.StringIO | None:
    """Streams in place of those that are closed, and ready for any text; the one in place of standard output."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (opened := os.open(os.devnull, os.O_RDWR)) < 3:  # or the next files would take their numbers
            pass
        os.close(opened)
    nowhere = io.StringIO() if sys.stdout is None else None
    sys.stdout = nowhere or sys.stdout
    if sys.stderr is None:
        sys.stderr = open(os.devnull, 'w', encoding='utf-8')  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    return nowhere


def _last_words(line: str) -> None:
    try:
        tell(line)
    except OSError:  # standard error is full, or its reader has left
        _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere."""
    with suppress(OSError, ValueError):  # ValueError: a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
