"""The rule for LR sizes, the rule for padding, and how a scale is written.

A scale is HR / LR per axis, vertical first. The LR *size* is the primary quantity: a scale given by a user becomes a
size here and nowhere else, and everything after that works with the true ratios H / h and W / w.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Union

from iarn_basicsr.errors import OptionError, RegionError, SizeError, shortened

__all__ = ['SIZE_RULES', 'Part', 'Region', 'Scale', 'Size', 'check_hr_size', 'check_lr_size', 'compute_padding',
           'largest_hr_size', 'lr_size', 'max_scale_of', 'parse_scale', 'part_of', 'part_size', 'scale_label',
           'smallest_lr_size']

Scale = Union[float, Sequence[float], str]
Size = tuple[int, int]
Region = tuple[int, int, int, int]  # (top, left, height, width)
Part = tuple[slice, slice]  # rows and columns

_LARGEST_SIDE = 10**12
_FUZZ = 1e-9  # 33 / 1.1 means 30, and is 29.999999999999996 in binary floating point
SIZE_RULES = {
    'round': lambda n: math.floor(n + 0.5 + _FUZZ),  # nearest, halves up
    'ceil': lambda n: math.ceil(n - _FUZZ),
    'floor': lambda n: math.floor(n + _FUZZ),
}


def parse_scale(scale: Scale) -> tuple[float, float]:
    """(vertical, horizontal) scale from a number, a pair, or text such as ``2.5``, ``x2.5`` or ``1.5x3``.

    Raises:
        OptionError: if it is none of these, not finite, or below 1.
    """
    hint = 'write a number >= 1 (2.5) or a vertical x horizontal pair ([1.5, 3] or 1.5x3)'
    value: object = scale
    if isinstance(value, str):
        value = value.strip().lower().removeprefix('x').split('x')
    values = list(value) if isinstance(value, Sequence) else [value]
    if len(values) == 1:
        values *= 2
    try:
        pair = tuple(float(v) for v in values)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise OptionError(f'scale {scale!r} is not understood: {hint}') from None
    if len(pair) != 2 or any(not math.isfinite(v) or v < 1 for v in pair):
        raise OptionError(f'scale {scale!r} is not a valid scale: {hint}')
    return pair


def scale_label(scale: Scale) -> str:
    """Name of a scale for files, tables and logs: ``x2.5`` or ``x1.5x3`` (vertical x horizontal)."""
    v, h = parse_scale(scale)
    return f'x{v:g}' if v == h else f'x{v:g}x{h:g}'


def max_scale_of(hr_size: Size, lr_size: Size) -> float:
    """Larger of the two true ratios H / h and W / w."""
    return max(hr_size[0] / lr_size[0], hr_size[1] / lr_size[1])


def lr_size(hr_size: Size, scale: Scale, rule: str = 'round') -> Size:
    """LR size (h, w) of an HR size (H, W), at least 1: nearest integer (halves up), or by another of ``SIZE_RULES``.

    Raises:
        OptionError: if the rule is unknown or the scale is not valid.
    """
    if rule not in SIZE_RULES:
        raise OptionError(f'size rule {rule!r} is unknown: choose one of {sorted(SIZE_RULES)}')
    h, w = (max(1, SIZE_RULES[rule](n / s)) for n, s in zip(hr_size, parse_scale(scale)))
    return h, w


def smallest_lr_size(hr_size: Size, max_scale: float) -> Size:
    """Smallest LR size that any size rule gives at ``max_scale``, which is the smallest that a network accepts."""
    return lr_size(hr_size, max_scale, 'floor')


def largest_hr_size(lr_size: Size, max_scale: float) -> Size:
    """Largest HR size of which ``lr_size`` is an LR size at ``max_scale``: the inverse of ``smallest_lr_size``."""
    height, width = (math.ceil(max_scale * (n + 1 - _FUZZ)) - 1 for n in lr_size)
    return height, width


def check_lr_size(hr_size: Size, size: Size, max_scale: float) -> Size:
    """Return ``size`` as (int, int) if it is an LR size of ``hr_size`` for scales 1 to ``max_scale``.

    Raises:
        OptionError: if ``size`` is not a pair of integers.
        SizeError: naming the size and the accepted range.
    """
    h, w = _whole_pixels(size, 'LR size')
    low = smallest_lr_size(hr_size, max_scale)
    if not (low[0] <= h <= hr_size[0] and low[1] <= w <= hr_size[1]):
        raise SizeError(f'LR size {h}x{w} is out of range for HR {hr_size[0]}x{hr_size[1]} (height x width): '
                        f'at scales 1 to {max_scale:g} it must lie between {low[0]}x{low[1]} and '
                        f'{hr_size[0]}x{hr_size[1]}', (h, w), low, hr_size)
    return h, w


def check_hr_size(lr_size: Size, size: Size, max_scale: float) -> Size:
    """Return ``size`` as (int, int) if ``lr_size`` is an LR size of it; raises as ``check_lr_size`` does."""
    height, width = _whole_pixels(size, 'HR size')
    high = largest_hr_size(lr_size, max_scale)
    if not (lr_size[0] <= height <= high[0] and lr_size[1] <= width <= high[1]):
        raise SizeError(f'HR size {height}x{width} is out of range for LR {lr_size[0]}x{lr_size[1]} (height x width): '
                        f'at scales 1 to {max_scale:g} it must lie between {lr_size[0]}x{lr_size[1]} and '
                        f'{high[0]}x{high[1]}', (height, width), lr_size, high)
    return height, width


def part_of(size: Size, region: Region | None = None) -> Part:
    """The rows and columns of a region of a picture of ``size`` (H, W); all of them without a region.

    Raises:
        OptionError: if ``region`` is not four integers.
        RegionError: naming the region and the size, if it is empty or reaches outside the picture.
    """
    top, left, height, width = _whole_pixels((0, 0, *size) if region is None else region, 'region',
                                             ('top', 'left', 'height', 'width'))
    if not (0 <= top < top + height <= size[0] and 0 <= left < left + width <= size[1]):
        raise RegionError(f'region (top {top}, left {left}, height {height}, width {width}): expected at least one '
                          f'pixel, and all inside the picture, whose height is {size[0]} and width {size[1]}')
    return slice(top, top + height), slice(left, left + width)


def part_size(part: Part) -> Size:
    """(H, W) of a part."""
    rows, columns = part
    return rows.stop - rows.start, columns.stop - columns.start


def _whole_pixels(values: Sequence[int], what: str, names: tuple[str, ...] = ('height', 'width')) -> tuple[int, ...]:
    """Integral numbers as integers; else ``OptionError`` with ``what`` they should be, and the value."""
    try:
        pixels = tuple(int(value) for value in values)
        if isinstance(values, str) or len(pixels) != len(names) or pixels != tuple(values) \
                or max(map(abs, pixels)) > _LARGEST_SIDE:
            raise ValueError
        return pixels
    except (TypeError, ValueError, OverflowError):
        raise OptionError(f'{what} {shortened(values)} is not ({", ".join(names)}) in whole pixels') from None


def compute_padding(size: Size, multiple: int) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """(0, right, 0, bottom) for ``torch.nn.functional.pad``, to the next multiple, and its negative, to go back."""
    right, bottom = -size[1] % multiple, -size[0] % multiple
    return (0, right, 0, bottom), (0, -right, 0, -bottom)
