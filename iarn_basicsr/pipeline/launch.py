"""The start and the end of a program: what people can mend ends it with one line, a bug with its traceback.

Nothing heavy is imported here: torch, OpenCV and BasicSR take seconds, in which Ctrl-C has to work too.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from iarn_basicsr import errors

__all__ = ['INTERRUPTED', 'in_group', 'launch', 'one_line', 'running', 'say']

INTERRUPTED = 130  # exit code of a shell's command after Ctrl-C

_NOT_BUGS = (errors.IARNError, OSError, FloatingPointError, MemoryError)
_RUNTIME_ERRORS = (  # of torch, that are not bugs either; {} is the first line
    (re.compile('out of memory'),
     '{}; a smaller batch_size_per_gpu, or more parts by train.grad_accumulation, need less'),
    (re.compile(r'DataLoader worker \(pid'),
     '{}; it was ended from outside, mostly because memory is short: try fewer workers, by num_worker_per_gpu'),
    (re.compile('gloo|NCCL|Connection (closed|reset) by peer|Broken pipe'),
     'another process of this run has ended, or cannot be reached ({})'),
)

_stock_handle_error = logging.Handler.handleError
_told: set[logging.Handler] = set()


def launch(program: str, load: Callable[[], Callable[[], None]]) -> None:
    """Import what a program needs, by ``load``, and run what that returns.

    Ends the process with one line after an error that people can mend (exit code 1) and after Ctrl-C (130).
    """
    try:
        with _interrupted_at_once(program):
            job = load()
        job()
    except KeyboardInterrupt:
        say(f'{program}: interrupted')
        sys.exit(INTERRUPTED)
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        sys.exit(f'{program}: {line}')


@contextmanager
def running(pipeline: ModuleType, **replacements: Any) -> Iterator[None]:
    """BasicSR's ``pipeline`` with some of its names replaced."""
    from unittest.mock import patch
    try:
        with patch.multiple(pipeline, **replacements), patch.object(logging.Handler, 'handleError', _not_logged):
            yield
    finally:
        if in_group():
            sys.modules['torch'].distributed.destroy_process_group()


def in_group() -> bool:
    """Whether this process is one of several that train or test together."""
    distributed = sys.modules['torch'].distributed
    return bool(distributed.is_available() and distributed.is_initialized())


def say(line: str) -> None:
    """A line for whoever watches, if stderr can still be written."""
    with suppress(OSError):
        os.write(2, f'{line}\n'.encode())


def one_line(error: Exception) -> str | None:
    """What to tell of an error; None for a bug, whose traceback is wanted.

    Of an error in a loader's worker torch makes one of the same type, with the worker's whole traceback as its text.
    """
    text, name = _without_traceback(str(error))
    if isinstance(error, _NOT_BUGS) or name in errors.__all__:
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            text = f'{os.fsdecode(error.filename)}: {error.strerror}'
        return ' '.join(text.split()) or type(error).__name__
    if isinstance(error, RuntimeError):
        for sign, meaning in _RUNTIME_ERRORS:
            if sign.search(text):
                return meaning.format(text.splitlines()[0][:200])
    return None


def _without_traceback(text: str) -> tuple[str, str | None]:
    """The message of an error, and the name of its type where it comes from a worker."""
    caught = re.match(r'Caught (\w+) in \S+ worker', text)
    if not caught:
        return text, None
    lines = text.rstrip().splitlines()
    frames = [k for k, line in enumerate(lines) if line.startswith(' ')]
    message = '\n'.join(lines[frames[-1] + 1 if frames else 1:])
    return re.sub(r'^[\w.]+: ', '', message), caught[1]


@contextmanager
def _interrupted_at_once(program: str) -> Iterator[None]:
    """Ctrl-C ends the process without an exception: in the middle of an import, who knows what would become of it."""

    def end(number: int, frame: object) -> None:
        say(f'{program}: interrupted')
        os._exit(INTERRUPTED)

    earlier = signal.getsignal(signal.SIGINT)
    if earlier is not signal.default_int_handler:  # Ctrl-C is ignored, as in the background, or somebody's own
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


def _not_logged(handler: logging.Handler, record: logging.LogRecord) -> None:
    """A log that cannot be written, on a full disk for example, is told once, and does not end a run."""
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
        _stock_handle_error(handler, record)
    elif handler not in _told:
        _told.add(handler)
        say(f'the log cannot be written: {error}')
