"""A section of an option file as a class: checked in one call, in words for messages, as a table for a page."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, inspect, structs

from iarn_basicsr.errors import OptionError, dotted, shortened, suggestion
from iarn_basicsr.ops.size import parse_scale

__all__ = ['Options', 'Scale', 'check', 'check_given', 'table', 'words']

UNBOUNDED = 10**9  # a bound from here on only keeps values finite, and is not put into words
_PLAIN_WORDS: dict[type, str] = {inspect.BoolType: 'true or false', inspect.StrType: 'text',
                                 inspect.DictType: 'a section', inspect.AnyType: 'anything'}


class Scale(tuple[float, float]):
    """A scale as people write it (2.5, '1.5x3' or [1.5, 3]), read as (vertical, horizontal)."""

    __slots__ = ()


class Options(Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections. Cross-checks stand in ``__post_init__`` and raise ``ValueError``."""


Section = TypeVar('Section', bound=Struct)


def check(section: str, kind: type[Section], options: Any) -> Section:
    """A section as values.

    Args:
        section: where it stands, ``datasets.train``, for messages; empty for the top of a file.
        kind: the class of the section.
        options: what the file says; floats without a fraction (``5e3``) count as integers.

    Raises:
        OptionError: in one line, with key, value and what would be right.
    """
    check_given(section, kind, options)
    where = section or 'option file'
    for field in structs.fields(kind):
        if field.required and field.encode_name not in options:
            raise OptionError(f'{where}: {field.encode_name} is missing; expected {words(field.type)}')
    try:
        return _convert(options, kind)
    except (msgspec.ValidationError, UnicodeError) as error:  # from __post_init__
        raise OptionError(f'{where}: {error.__cause__ or error}') from None


def check_given(section: str, kind: type[Struct], options: Any) -> None:
    """Check each key that is given by itself, where others may come from elsewhere; raises as ``check`` does."""
    if not isinstance(options, Mapping):
        raise OptionError(f'{section}: {shortened(options)}; expected {words(kind)}')
    fields = {f.encode_name: f for f in structs.fields(kind)}
    for key, value in options.items():
        if key in fields:
            _check_value(dotted(section, key), fields[key].type, value)
        elif kind.__struct_config__.forbid_unknown_fields or not isinstance(key, str):
            raise OptionError(f'{section or "option file"}: unknown option {shortened(key)}; {suggestion(key, fields)}')


def _check_value(where: str, kind: Any, value: Any) -> None:
    """Check a value; in a section, or in a mapping of names to sections, the values of it."""
    bare = _bare(inspect.type_info(kind))
    if isinstance(bare, inspect.StructType) and isinstance(value, Mapping):
        check(where, bare.cls, value)
        return
    if isinstance(bare, inspect.DictType) and isinstance(value, Mapping):
        inner = _bare(bare.value_type)
        for key, entry in value.items():
            if isinstance(bare.key_type, inspect.StrType) and not isinstance(key, str):
                raise OptionError(f'{where}: {shortened(key)}; expected text for a name')
            if isinstance(inner, inspect.StructType):
                _check_value(dotted(where, key), inner.cls, entry)
    try:
        _convert(value, kind)
    except (msgspec.ValidationError, UnicodeError):
        raise OptionError(f'{where}: {shortened(value)}; expected {words(kind)}') from None


def _convert(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(_integral(value), kind, dec_hook=_read_scale)
    except RecursionError:
        raise msgspec.ValidationError('nested without end') from None


def _integral(value: Any) -> Any:
    """The same with every float that has no fraction as an integer; msgspec takes one where it wants a float, too."""
    if isinstance(value, Mapping):
        return {k: _integral(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_integral(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read_scale(kind: type, value: Any) -> Any:
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(p, bool) or not isinstance(p, (int, float, str)) for p in parts):
        raise ValueError('neither numbers nor text')
    return Scale(parse_scale(value))


def _bare(kind: inspect.Type) -> inspect.Type:
    """A type without its description, and without the None of an optional one."""
    if isinstance(kind, inspect.Metadata):
        return _bare(kind.type)
    if isinstance(kind, inspect.UnionType):
        inner = [t for t in kind.types if not isinstance(t, inspect.NoneType)]
        return _bare(inner[0]) if len(inner) == 1 else kind
    return kind


# -------------------------------------------------------------------------------------------------------------- words


def words(kind: Any) -> str:
    """What a value of a type may be, for "expected ...": ``an integer >= 1``, ``a list of 2 numbers from 0 to 100``."""
    if not isinstance(kind, inspect.Type):
        kind = inspect.type_info(kind)
    if isinstance(kind, inspect.Metadata):
        return (kind.extra or {}).get('words') or words(kind.type)
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        return ('an integer' if isinstance(kind, inspect.IntType) else 'a number') + _range(kind)
    if isinstance(kind, inspect.ListType):
        return _list_words(kind)
    if isinstance(kind, inspect.UnionType):
        parts = [words(t) for t in kind.types if not isinstance(t, inspect.NoneType)]
        return ' or '.join(parts) + (', or ~ for none' if len(parts) < len(kind.types) else '')
    if isinstance(kind, inspect.LiteralType):
        *values, last = (str(v).lower() if isinstance(v, bool) else str(v) for v in kind.values)
        return f'{", ".join(values)} or {last}' if values else last
    if isinstance(kind, inspect.StructType):
        return f'a section with {", ".join(f.encode_name for f in kind.fields)}'
    if isinstance(kind, inspect.CustomType) and kind.cls is Scale:
        return 'a scale >= 1 such as 2.5 or 1.5x3'
    return _PLAIN_WORDS[type(kind)]


def _list_words(kind: inspect.ListType) -> str:
    """``a list of 2 integers from 1 to 100``."""
    count = f'{kind.min_length} ' if kind.min_length == kind.max_length and kind.min_length else \
        'one or more ' if kind.min_length else ''
    item = words(kind.item_type)
    article, _, rest = item.partition(' ')
    noun, space, rest = rest.partition(' ')
    return f'a list of {count}{noun}s{space}{rest}' if article in ('a', 'an') else f'a list of {item}'


def _range(kind: Any) -> str:
    """`` >= 1`` or `` from 0 to 1``, or nothing."""
    bounds = {sign: getattr(kind, name) for name, sign in (('ge', '>='), ('gt', '>'), ('le', '<='), ('lt', '<'))}
    given = {sign: f'{b:.9g}' for sign, b in bounds.items() if b is not None and abs(b) < UNBOUNDED}
    if given.keys() == {'>=', '<='}:
        return f' from {given[">="]} to {given["<="]}'
    return ' and'.join(f' {sign} {bound}' for sign, bound in given.items())


# -------------------------------------------------------------------------------------------------------------- table


def table(kind: type[Struct], leave_out: Collection[str] = ()) -> str:
    """The keys of a section as a Markdown table: key, value, default, meaning; those of its own sections follow it."""
    return '\n'.join(['| key | value | default | meaning |', '|---|---|---|---|', *_rows(kind, '', leave_out)])


def _rows(kind: type[Struct], prefix: str, leave_out: Collection[str]) -> Iterator[str]:
    for field in structs.fields(kind):
        if field.encode_name in leave_out:
            continue
        info = inspect.type_info(field.type)
        bare, meaning = _bare(info), ''
        if isinstance(info, inspect.Metadata):
            meaning = (info.extra_json_schema or {}).get('description', '')
        nested = isinstance(bare, inspect.StructType) and bare.cls.__struct_config__.forbid_unknown_fields
        value = 'section' if isinstance(bare, inspect.StructType) else re.sub('^an? ', '', words(bare))
        cells = f'`{prefix}{field.encode_name}`', value, _default(field), meaning
        yield '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'
        if nested:
            yield from _rows(bare.cls, f'{prefix}{field.encode_name}.', ())  # type: ignore[attr-defined]


def _default(field: structs.FieldInfo) -> str:
    """As YAML writes it."""
    if field.required:
        return 'needed'
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if value is None or isinstance(value, Struct):
        return ''
    return f'`{value:g}`' if isinstance(value, float) else f'`{msgspec.json.encode(value).decode()}`'.replace('"', '')
