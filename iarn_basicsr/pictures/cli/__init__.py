"""The ``iarn`` command: rescale pictures with released or own weights; nothing here trains."""

from __future__ import annotations

import io
import os
import sys

from .arguments import make_parser

__all__ = ['main']


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if all went well, 1 if a file failed, 2 for a wrong command line, 130 if interrupted."""
    args = make_parser().parse_args(argv)
    try:
        from .commands import run_command
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors='backslashreplace')  # file names may be no text
        status = run_command(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # of ``iarn info * | head``; nothing is left to be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f'iarn {args.command}: interrupted; every file that was written is complete', file=sys.stderr)
        return 130
