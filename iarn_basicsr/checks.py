"""Checks of options that say, in one line, what is wrong, what is near it and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import OptionError

__all__ = ['check_keys', 'near', 'number']


def near(name: object, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` or the whole list, for the end of an error message."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=2, cutoff=0.6)
    if close:
        return 'did you mean ' + ' or '.join(repr(c) for c in close) + '?'
    return f'known: {", ".join(known)}'


def check_keys(section: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise :class:`OptionError` for the first key of a section that nobody reads."""
    known = set(known)
    for key in options:
        if key not in known:
            raise OptionError(f'{section}: unknown option {key!r}; {near(key, known)}')


def number(section: str, options: Mapping[str, Any], key: str, default: Any, low: float, high: float,
           kind: type = float) -> Any:
    """A number from a section, checked.

    YAML reads ``1e-4`` as text (YAML 1.1 wants ``1.0e-4``), so numeric text is converted rather than compared.

    Raises:
        OptionError: naming section, key, value and range.
    """
    value = options.get(key, default)
    expected = f'expected a {"whole number" if kind is int else "number"} from {low:g} to {high:g}'
    try:
        converted = float(value)
    except (TypeError, ValueError):
        raise OptionError(f'{section}.{key}: {value!r} is not a number; {expected}') from None
    if isinstance(value, bool) or not low <= converted <= high or (kind is int and converted != int(converted)):
        raise OptionError(f'{section}.{key}: {value!r}; {expected}')
    return kind(converted)
