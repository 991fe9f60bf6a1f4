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

from iarn_basicsr import errors

__all__ = ['INTERRUPTED', 'launch', 'one_line', 'print_now']

INTERRUPTED = 130  # exit code of a shell's command after Ctrl-C

_NOT_BUGS = (errors.IARNError, OSError, FloatingPointError, MemoryError)
_RUNTIME_ERRORS = (  # of torch, that are not bugs either; {} is the first line
    (re.compile('out of memory'),
     '{}; a smaller batch_size_per_gpu, or more parts by train.grad_accumulation, need less'),
    (re.compile(r'DataLoader worker \(pid'),
     '{}; it was ended from outside, usually because memory is short: try fewer workers, by num_worker_per_gpu'),
    (re.compile('gloo|NCCL|Connection (closed|reset) by peer|Broken pipe'),
     'another process of this run has ended, or cannot be reached ({})'),
)


def launch(program: str, load: Callable[[], Callable[[], None]]) -> None:
    """Import what a program needs, by ``load``, and run what that returns.

    Ends the process with one line after an error that people can mend (exit code 1) and after Ctrl-C (130).
    """
    logger, terminal = logging.getLogger('iarn_basicsr'), logging.StreamHandler()
    terminal.setFormatter(logging.Formatter(f'{program}: %(message)s'))
    logger.addHandler(terminal)
    try:
        with _ctrl_c_ends_at_once(program):
            job = load()
        job()
    except KeyboardInterrupt:
        print_now(f'{program}: interrupted')
        sys.exit(INTERRUPTED)
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        sys.exit(f'{program}: {line}')
    finally:
        logger.removeHandler(terminal)


def print_now(line: str) -> None:
    """A line on stderr, past all buffers and locks, so that signal handlers can use it; none if stderr is closed."""
    with suppress(OSError):
        os.write(2, f'{line}\n'.encode())


def one_line(error: Exception) -> str | None:
    """What to print of an error; None for a bug, whose traceback is wanted.

    From an error in a loader's worker torch makes one of the same type, with the worker's whole traceback as its text.
    """
    text, worker_error = str(error), None
    caught = re.match(r'Caught (\w+) in \S+ worker', text)
    if caught:  # the message follows the last line of the traceback, with the name of the type in front
        lines = text.rstrip().splitlines()
        last_frame = max((k for k, line in enumerate(lines) if line.startswith(' ')), default=0)
        text, worker_error = re.sub(r'^[\w.]+: ', '', '\n'.join(lines[last_frame + 1:])), caught[1]
    if isinstance(error, _NOT_BUGS) or worker_error in errors.__all__:
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            text = f'{os.fsdecode(error.filename)}: {error.strerror}'
        return ' '.join(text.split()) or type(error).__name__
    if isinstance(error, RuntimeError):
        for pattern, meaning in _RUNTIME_ERRORS:
            if pattern.search(text):
                return meaning.format(text.splitlines()[0][:200])
    return None


@contextmanager
def _ctrl_c_ends_at_once(program: str) -> Iterator[None]:
    """Ctrl-C ends the process without an exception, which some modules do not survive while they are imported."""

    def end(number: int, frame: object) -> None:
        print_now(f'{program}: interrupted')
        os._exit(INTERRUPTED)

    earlier = signal.getsignal(signal.SIGINT)
    if earlier is not signal.default_int_handler:  # ignored, as in the background, or somebody's own
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
