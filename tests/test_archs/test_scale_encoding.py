"""Position of HR samples relative to the LR grid, and the pooling basis that follows from it."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from helpers import few
from hypothesis import given
from hypothesis import strategies as st

from iarn_basicsr.archs.grid import make_grid
from iarn_basicsr.archs.scale_encoding import cell_basis, pooling_matrix, position_offset, unpooling_matrix
from iarn_basicsr.ops.resample import AxisMap, area_matrix

CPU = torch.device('cpu')


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int]:
    """(n, m) with scale 1 to 4, odd lengths too."""
    m = draw(st.integers(1, 90))
    return draw(st.integers(m, 4 * m)), m


@pytest.mark.parametrize(('n', 'm', 'expected'), [
    (5, 5, [0]),
    (10, 5, [-1 / 4, 1 / 4]),
    (20, 5, [-3 / 8, -1 / 8, 1 / 8, 3 / 8]),
    (3, 2, [-1 / 6, -1 / 2, 1 / 6]),  # u = -1/6, 1/2, 7/6: the half goes to the next LR sample
])
def test_offset_values(n, m, expected):
    np.testing.assert_allclose(position_offset(n, m), expected * (n // len(expected)), atol=1e-12)


@few
@given(axes())
def test_offset_range_and_meaning(axis):
    """Within [-0.5, 0.5], and a whole number of LR samples away from u."""
    n, m = axis
    offset = position_offset(n, m)
    assert offset.shape == (n,)
    assert abs(offset).max() <= 0.5
    whole = (np.arange(n) + 0.5) * m / n - 0.5 - offset
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)


def test_encoding_planes():
    """Vertical offset, horizontal offset, h/H, w/W, in this order."""
    encoding = make_grid((6, 12), (3, 3), 'cubic', 2, torch.float64, CPU).encoding
    planes = encoding.scale_and_position(torch.rand(2, 7, 6, 12))
    assert planes.shape == (2, 4, 6, 12) and torch.equal(planes[0], planes[1])
    rows = torch.tensor([-0.25, 0.25] * 3, dtype=torch.float64)
    cols = torch.tensor([-0.375, -0.125, 0.125, 0.375] * 3, dtype=torch.float64)
    torch.testing.assert_close(planes[0, 0], rows[:, None].expand(6, 12))
    torch.testing.assert_close(planes[0, 1], cols[None, :].expand(6, 12))
    assert torch.equal(planes[0, 2], torch.full((6, 12), 0.5, dtype=torch.float64))
    assert torch.equal(planes[0, 3], torch.full((6, 12), 0.25, dtype=torch.float64))
    on_lr = encoding.scale(torch.rand(2, 7, 3, 3))
    assert torch.equal(on_lr, planes[:, 2:, :3, :3])


def test_zeros_of_the_basis_are_exact():
    """b_k(v) = 0 at v = j / (2 k), j odd; the cosine gives 1e-16 there."""
    for k in range(1, 6):
        zeros = np.arange(1, 2 * k, 2) / (2 * k)
        assert not cell_basis(zeros, 6)[k].any()


def test_block_dct_against_scipy():
    """At K = 4, x4, the coefficients are scipy's orthonormal DCT-II of each cell, halved."""
    x = np.random.default_rng(0).random(24)
    expected = scipy.fft.dct(x.reshape(6, 4), norm='ortho', axis=1) / 2
    np.testing.assert_allclose(pooling_matrix(24, 6, 4) @ x, expected.ravel(), atol=1e-14)


@few
@given(axes(), st.integers(1, 5))
def test_matrices_follow_their_definition(axis, order):
    """P_k = a * b_k and Q_k = (a^T with rows summing to 1) * b_k, entry by entry."""
    n, m = axis
    a = area_matrix(n, m).toarray()
    v = np.clip((np.arange(n) + 0.5) * m / n - np.arange(m)[:, None], 0, 1)
    share = a / a.sum(0)
    p, q = pooling_matrix(n, m, order).toarray(), unpooling_matrix(n, m, order).toarray()
    for k in range(order):
        basis = math.sqrt(2) * np.cos(math.pi * k * v) if k else np.ones_like(v)
        np.testing.assert_allclose(p[k::order], a * basis, atol=1e-12)
        np.testing.assert_allclose(q[:, k::order], (share * basis).T, atol=1e-12)
    np.testing.assert_allclose(q[:, ::order].sum(1), 1, atol=1e-12)


@pytest.mark.parametrize(('n', 'm'), [(60, 21), (300, 101), (342, 171)])
def test_maps_hold_the_matrices(n, m):
    """In one block and in bands; at x2 the last band of 342 -> 171 is b_2 = 0 of the last cell alone."""
    x = torch.rand(n, 2, dtype=torch.float64)
    pool, unpool = pooling_matrix(n, m, 3), unpooling_matrix(n, m, 3)
    pooled = AxisMap.from_matrix(pool, torch.float64, CPU).rows(x)
    np.testing.assert_allclose(pooled, pool @ x.numpy(), atol=1e-12)
    restored = AxisMap.from_matrix(unpool, torch.float64, CPU).rows(pooled)
    np.testing.assert_allclose(restored, unpool @ pooled.numpy(), atol=1e-12)
    for matrix, y in ((pool, x), (unpool, pooled)):
        axis_map = AxisMap.from_matrix(matrix, torch.float64, CPU)
        torch.testing.assert_close(axis_map.columns(y.mT), axis_map.rows(y).mT, rtol=0, atol=1e-12)
