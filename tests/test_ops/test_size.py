"""The size rule, the LR range, scales as text and padding."""

import math

import pytest
import torch
from helpers import few
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from iarn_basicsr.ops.size import (
    SIZE_RULES,
    check_hr_size,
    check_lr_size,
    compute_padding,
    largest_hr_size,
    lr_size,
    max_scale_of,
    parse_scale,
    scale_label,
    smallest_lr_size,
)

lengths = st.integers(1, 9000)
scales = st.floats(1, 8, allow_nan=False)


@pytest.mark.parametrize(('n', 'scale', 'nearest', 'ceil', 'floor'), [
    (12, 2, 6, 6, 6),
    (5, 2, 3, 3, 2),  # 2.5: halves up; half-to-even would give 2
    (7, 2, 4, 4, 3),
    (9, 4, 2, 3, 2),  # 2.25
    (11, 4, 3, 3, 2),  # 2.75
    (10, 1.5, 7, 7, 6),
    (30, 1.2, 25, 25, 25),
    (21, 1.4, 15, 15, 15),  # 15.000000000000002 in floating point
    (33, 1.1, 30, 30, 30),  # 29.999999999999996
    (33, 2.2, 15, 15, 15),  # 14.999999999999998
    (1, 4, 1, 1, 1),  # never 0
    (17, 1, 17, 17, 17),
])
def test_rule_values(n, scale, nearest, ceil, floor):
    assert lr_size((n, 90), (scale, 3)) == lr_size((n, 90), (scale, 3), 'round') == (nearest, 30)
    assert lr_size((90, n), (3, scale), 'ceil') == (30, ceil)
    assert lr_size((n, n), scale, 'floor') == (floor, floor)


@few
@given(st.data(), lengths, st.sampled_from(sorted(SIZE_RULES)))
def test_true_ratio_gives_the_size_back(data, n, rule):
    """n / (n / m) is m for every rule, whatever binary floating point makes of it."""
    m = data.draw(st.integers(1, n))
    assert lr_size((n, n), n / m, rule) == (m, m)


@few
@given(lengths, scales)
def test_rules_are_ordered_and_near(n, scale):
    (floor, _), (nearest, _), (ceil, _) = (lr_size((n, n), scale, rule) for rule in ('floor', 'round', 'ceil'))
    assert 1 <= floor <= nearest <= ceil <= min(n, floor + 1)
    assert n < scale or abs(nearest - n / scale) <= 0.5 + 1e-8


def test_unknown_rule_names_the_choices():
    with pytest.raises(ValueError, match=r"size rule 'nearest' is unknown: choose one of .*'ceil', 'floor', 'round'"):
        lr_size((8, 8), 2, 'nearest')


@pytest.mark.parametrize(('scale', 'pair', 'label'), [
    (2, (2.0, 2.0), 'x2'),
    (2.5, (2.5, 2.5), 'x2.5'),
    ([1.5, 3], (1.5, 3.0), 'x1.5x3'),
    ((3, 3), (3.0, 3.0), 'x3'),
    ([2], (2.0, 2.0), 'x2'),
    ('2.5', (2.5, 2.5), 'x2.5'),
    ('x2.5', (2.5, 2.5), 'x2.5'),
    (' X1.5x3 ', (1.5, 3.0), 'x1.5x3'),
    ('1.5 x 3', (1.5, 3.0), 'x1.5x3'),
    ('1', (1.0, 1.0), 'x1'),
])
def test_parse_and_label(scale, pair, label):
    assert parse_scale(scale) == pair
    assert scale_label(scale) == label
    assert parse_scale(label) == pair


@pytest.mark.parametrize(('scale', 'message'), [
    *((scale, r'is not understood: write a number >= 1 \(2\.5\) or a vertical x') for scale in
      ('', 'two', '2x', 'xx2', None, {}, [[1, 2], 3], ['a', 2])),
    *((scale, 'is not a valid scale: write a number >= 1') for scale in
      (0, 0.99, -2, math.nan, math.inf, 'inf', [], [1, 2, 3], '1x2x3', (2, 0.5))),
], ids=str)
def test_scales_that_are_none(scale, message):
    with pytest.raises(ValueError, match=message):
        parse_scale(scale)


def test_max_scale_is_the_larger_axis():
    assert max_scale_of((12, 30), (6, 10)) == max_scale_of((30, 12), (10, 6)) == 3


@few
@given(st.tuples(lengths, lengths), st.tuples(st.floats(1, 4), st.floats(1, 4)), st.sampled_from(sorted(SIZE_RULES)))
def test_every_rule_stays_in_the_accepted_range(hr, scale, rule):
    size = lr_size(hr, scale, rule)
    assert check_lr_size(hr, size, 4) == size


@pytest.mark.parametrize('size', [(7, 10), (8, 9), (34, 40), (33, 41), (-8, 10)])
def test_out_of_range_names_size_and_range(size):
    assert check_lr_size((33, 40), smallest_lr_size((33, 40), 4), 4) == (8, 10)
    assert check_lr_size((33, 40), [33, 40], 4) == (33, 40)
    message = (rf'LR size {size[0]}x{size[1]} is out of range for HR 33x40 \(height x width\): '
               r'at scales 1 to 4 it must lie between 8x10 and 33x40')
    with pytest.raises(ValueError, match=message):
        check_lr_size((33, 40), size, 4)


@pytest.mark.parametrize('size', [(4,), (4, 4, 4), 4, '44', (4.5, 4), (10**13, 4)])
def test_size_that_is_no_pair_of_pixels(size):
    with pytest.raises(ValueError, match=r'LR size .* is not \(height, width\) in whole pixels'):
        check_lr_size((8, 8), size, 4)


@few
@given(st.tuples(st.integers(1, 500), st.integers(1, 500)), st.floats(1, 8))
def test_largest_hr_size_is_the_inverse_of_the_smallest_lr_size(lr, scale):
    """It is accepted, and one pixel more is not, on either axis."""
    height, width = largest_hr_size(lr, scale)
    assert check_hr_size(lr, (height, width), scale) == (height, width)
    assert check_lr_size((height, width), lr, scale) == lr
    for larger in ((height + 1, width), (height, width + 1)):
        with pytest.raises(ValueError, match='HR size .* is out of range for LR'):
            check_hr_size(lr, larger, scale)
        with pytest.raises(ValueError, match='LR size .* is out of range for HR'):
            check_lr_size(larger, lr, scale)


@few
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16))
def test_padding_law(height, width, multiple):
    """Padded sides are the next multiples, the image stays at the top left, unpad undoes pad."""
    x = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)
    pad, unpad = compute_padding((height, width), multiple)
    y = F.pad(x, pad)
    assert y.shape[-2:] == (math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple)
    assert torch.equal(y[..., :height, :width], x)
    assert torch.equal(F.pad(y, unpad), x)
