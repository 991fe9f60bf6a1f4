"""The ``iarn`` command: rescale pictures with released or own weights; nothing here trains."""

from __future__ import annotations

import sys

from .process import postponed, run_as_process

__all__ = ['main']


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if all went well, 1 if a file failed, 2 for a wrong command line, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv
    return run_as_process(' '.join(['iarn', *words[:1]]), lambda: _command(words))


def _command(argv: list[str]) -> int:
    with postponed():
        from .arguments import make_parser
    args = make_parser().parse_args(argv)
    with postponed():
        from .commands import run_command
    return run_command(args)
