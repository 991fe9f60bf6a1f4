"""What was measured, one JSON line a result, appended at once: an interrupted benchmark goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

__all__ = ['Records']

Key = tuple[str, ...]


class Records:
    """Results by key, kept in a file.

    Args:
        path: the file; made if it is not there. A last line that an interruption cut short is dropped.

    Raises:
        ValueError: naming file and line, if another line is damaged.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._values: dict[Key, dict[str, Any]] = {}
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, 'a+', encoding='utf-8') as file:
            file.seek(0)
            length = 0
            for n, line in enumerate(file.read().splitlines(keepends=True), 1):
                if not line.endswith('\n'):
                    file.truncate(length)
                    break
                length += len(line.encode())
                try:
                    record = json.loads(line)
                    self._values[tuple(record['key'])] = record['values']
                except (json.JSONDecodeError, KeyError, TypeError):
                    raise ValueError(f'{path}, line {n} is damaged: remove it, or the file to start anew') from None

    def get(self, key: Key, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The values of a key; computed and stored first if they are not there."""
        if key not in self._values:
            values = compute()
            with open(self.path, 'a', encoding='utf-8') as file:
                file.write(json.dumps({'key': key, 'values': values}) + '\n')
                file.flush()
                os.fsync(file.fileno())
            self._values[key] = values
        return self._values[key]
