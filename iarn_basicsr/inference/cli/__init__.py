"""The ``iarn`` command: rescale pictures with released or own weights; nothing here trains."""

from __future__ import annotations

import signal
import sys
import warnings

import click

from iarn_basicsr.errors import IARNError, ImageError

from .process import Remarks, drop, in_words, open_streams, postponed, print_error, stoppable

__all__ = ['main']


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 if all went well, 1 if a file failed, 2 for a wrong command line; of a signal 128 and its number.
    """
    words = sys.argv[1:] if argv is None else argv
    name = ' '.join(['iarn', *words[:1]])
    open_streams()
    try:
        with stoppable(), Remarks(name), warnings.catch_warnings():
            warnings.filterwarnings('ignore', module='PIL')  # of files that are odd, but can be read
            with postponed():
                from .commands import iarn
            status = iarn.main(words, prog_name='iarn', standalone_mode=False)
            sys.stdout.flush()
            return status or 0
    except (click.ClickException, KeyboardInterrupt, SystemExit, IARNError, MemoryError, OSError,
            RuntimeError) as error:  # RuntimeError: torch, out of memory, and click.Abort
        return _exit_code(name, error)


def _exit_code(name: str, error: BaseException) -> int:
    """Tell an error in one line; ``name`` is that of the command."""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):  # click makes the first of the second
        print_error(f'{name}: interrupted; every file that was written is complete')
        return 128 + next(iter((error.__cause__ or error).args), signal.SIGINT)
    if isinstance(error, click.ClickException):
        print_error(f'{name}: {" ".join(error.format_message().split())}')
        return 2
    if isinstance(error, (SystemExit, BrokenPipeError)):  # the reader of standard output has left; click raises both
        drop(sys.stdout)
        return 1
    print_error(f'{name}: {in_words(error)}')
    if isinstance(error, OSError):
        drop(sys.stdout)
    return 2 if isinstance(error, IARNError) and not isinstance(error, ImageError) else 1
