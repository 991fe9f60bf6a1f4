"""Checks of options that say, in one line, what is wrong, what is near it and what would be right.

A section is checked against a table: option -> :class:`Kind` of its value. A kind is a test, and the words for it.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import OptionError

__all__ = ['ANYTHING', 'FILE_NAME', 'FLAG', 'FORMULA', 'TABLE_NAME', 'TEXT', 'Kind', 'Table', 'check_keys',
           'check_needed', 'check_size', 'check_values', 'choice', 'listed', 'near', 'number', 'place', 'real',
           'shown', 'whole']

_LONG = 100  # characters of a value or a key in a message
_MOST = 100_000  # values of an option file
FORMULA = ('=', '+', '-', '@')  # a spreadsheet computes a cell that begins so


@dataclass(frozen=True)
class Kind:
    """What the value of an option may be.

    Attributes:
        words: what would be right, to stand after "expected".
        fits: whether a value is of this kind.
    """

    words: str
    fits: Callable[[Any], bool]

    def or_none(self) -> Kind:
        """The same, or nothing (``~``)."""
        return Kind(f'{self.words}, or ~ for none', lambda v: v is None or self.fits(v))


Table = Mapping[str, Kind]


def real(low: float | None = None, high: float | None = None, *, above: float | None = None,
         below: float | None = None) -> Kind:
    """A finite number; ``low`` and ``high`` belong to the range, ``above`` and ``below`` do not."""

    def fits(value: Any) -> bool:
        return _finite(value) and (low is None or value >= low) and (high is None or value <= high) \
            and (above is None or value > above) and (below is None or value < below)

    return Kind(f'a number{_range(low, high, above, below)}', fits)


def whole(low: int, high: int | None = None, *, point: bool = True) -> Kind:
    """A whole number; ``5e3`` is one, unless ``point`` is false, for values that go into PyTorch as they are."""

    def fits(value: Any) -> bool:
        return _finite(value) and (isinstance(value, int) or (point and value == int(value))) \
            and low <= value and (high is None or value <= high)

    return Kind(f'a whole number{_range(low, high)}{"" if point else ", without a point"}', fits)


def choice(*values: str) -> Kind:
    """One of some words."""
    return Kind(f'{", ".join(values[:-1])} or {values[-1]}', lambda v: isinstance(v, str) and v in values)


def listed(item: Kind, length: int | None = None, least: int = 0) -> Kind:
    """A list of one kind, of a fixed or a least length."""
    words = 'a list' if length is None and not least else f'a list of {length or f"at least {least}"}'
    return Kind(f'{words}, each {item.words}',
                lambda v: isinstance(v, (list, tuple)) and len(v) >= least and length in (None, len(v)) and
                all(map(item.fits, v)))


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _range(low: float | None, high: float | None, above: float | None = None, below: float | None = None) -> str:
    parts = [(' from ', low), (' above ', above), (' to ', high), (' below ', below)]
    return ''.join(f'{word}{bound}' for word, bound in parts if bound is not None)


def _names_a_file(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.encode('utf-8', 'replace')) <= 150 and value.isprintable() and \
        not set(value) & set('/\\') and value.strip() == value and value.strip('.') != ''


def _can_stand_in_a_table(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and value.strip() != '' and not value.startswith(FORMULA)


ANYTHING = Kind('anything', lambda v: True)
FLAG = Kind('true or false', lambda v: isinstance(v, bool))
TEXT = Kind('text', lambda v: isinstance(v, str) and v.isprintable())
FILE_NAME = Kind('text that can name a file (a number in quotes): printable, without / and \\, not . or .., at most '
                 '150 bytes', _names_a_file)
TABLE_NAME = Kind(f'printable text that a spreadsheet does not compute: it must not begin with {" ".join(FORMULA)}',
                  _can_stand_in_a_table)


def shown(value: object) -> str:
    """A value for an error message: in one line, cut short where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        text = 'a number too long to be shown'
    return text if len(text) <= _LONG else f'{text[:_LONG]}...'


def place(section: str, key: object) -> str:
    """``section.key`` for an error message, whatever the key is; the section may be empty."""
    plain = isinstance(key, str) and key.isprintable() and 0 < len(key) <= _LONG
    return f'{section}{"." if section else ""}{key if plain else shown(key)}'


def near(name: object, known: Iterable[object]) -> str:
    """``did you mean 'x'?`` or the whole list, for the end of an error message."""
    words = sorted(word if isinstance(word, str) and word.isprintable() else shown(word) for word in known)
    asked = name if isinstance(name, str) else shown(name)
    close = difflib.get_close_matches(asked[:_LONG], words, n=2, cutoff=0.6)
    if close:
        return 'did you mean ' + ' or '.join(repr(c) for c in close) + '?'
    return f'known: {", ".join(words)}'


def check_size(options: Any) -> None:
    """Raise :class:`OptionError` for more values than any option file has: nine lines of YAML can hold billions."""
    left, count = [options], 0
    while left:
        value = left.pop()
        inner = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
        count += len(inner)
        if count > _MOST:
            raise OptionError(f'more than {_MOST} values, or values that are nested without end: the anchors (&, *) '
                              'repeat each other')
        left.extend(inner)


def check_keys(section: str, options: Any, known: Iterable[str]) -> None:
    """Raise :class:`OptionError` if a section is no mapping, or for its first key that nobody reads."""
    known = set(known)
    if not isinstance(options, Mapping):
        raise OptionError(f'{section}: {shown(options)}; expected a mapping with {", ".join(sorted(known))}')
    for key in options:
        if key not in known:
            raise OptionError(f'{section}: unknown option {shown(key)}; {near(key, known)}')


def check_values(section: str, options: Any, table: Table, *, others: bool = False) -> None:
    """Check a section against a table; :class:`OptionError` for the first key or value that is wrong.

    Args:
        section: where the options stand, for messages.
        options: what should be a mapping.
        table: option -> kind of its value.
        others: let keys pass that are not in the table.
    """
    if not others or not isinstance(options, Mapping):
        check_keys(section, options, table)
    for key, value in options.items():
        if key in table and not table[key].fits(value):
            raise OptionError(f'{place(section, key)}: {shown(value)}; expected {table[key].words}')


def check_needed(section: str, options: Mapping[str, Any], keys: Iterable[str], table: Table) -> None:
    """Raise :class:`OptionError` for the first of some options that is missing."""
    for key in keys:
        if options.get(key) is None:
            raise OptionError(f'{section}: option {key!r} is missing; expected {table[key].words}')


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
    except (TypeError, ValueError, OverflowError):
        raise OptionError(f'{section}.{key}: {shown(value)} is not a number; {expected}') from None
    if isinstance(value, bool) or not low <= converted <= high or (kind is int and converted != int(converted)):
        raise OptionError(f'{section}.{key}: {shown(value)}; {expected}')
    return kind(converted)
