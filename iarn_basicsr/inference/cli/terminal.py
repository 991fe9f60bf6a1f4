"""What a computing command shows beside its results: what the library logs, and how far it is."""

from __future__ import annotations

import logging
import sys
from typing import Any

from .process import print_error

__all__ = ['Bar', 'Remarks']


class Remarks(logging.Handler):
    """Prints what the library logs to standard error; remarks on files at the end, each once however many it concerns.

    Args:
        name: of the command, before each line.
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

    def __enter__(self) -> Remarks:
        logger = logging.getLogger('iarn_basicsr')
        self._before = logger.level, logger.propagate
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        return self

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

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, share: float) -> None:
        if self._bar is None and share < 1 and sys.stderr.isatty():
            from tqdm import tqdm
            self._bar = tqdm(total=100, unit='%', leave=False)
        if self._bar is not None:
            self._bar.update(round(100 * share) - self._bar.n)
            if share >= 1:
                self._bar.close()
                self._bar = None
