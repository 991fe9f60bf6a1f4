"""The pairs (D, U): against outside authorities, dense linear algebra and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from iarn_basicsr.ops.resample import (
    DENSE_LIMIT,
    PAIRS,
    AxisMap,
    apply_separable,
    area_matrix,
    axis_map,
    bicubic_downscale,
    bicubic_upscale,
    cubic_matrix,
    pair_matrices,
)

few = settings(max_examples=20, deadline=None, derandomize=True)
CPU = torch.device('cpu')
TOLERANCE = 1e-17  # of entries of U, float64
EXACT = ['area', 'cubic']

short = st.tuples(st.integers(1, 60), st.floats(1, 4))
long = st.tuples(st.integers(DENSE_LIMIT + 1, 500), st.floats(1, 4))


def axis(n: int, scale: float) -> tuple[int, int]:
    """(n, m) with 1 <= m <= n."""
    return n, min(n, max(1, round(n / scale)))


def maps(kind: str, hr: tuple[int, int], lr: tuple[int, int], dtype: torch.dtype = torch.float64) -> list[AxisMap]:
    """Vertical and horizontal map."""
    return [axis_map(kind, n, m, dtype, CPU) for n, m in zip(hr, lr)]


# ------------------------------------------------------------------------------------------- outside authorities


@pytest.mark.parametrize('scale', [1.5, 2, 3, 4])
def test_bicubic_matches_basicsr_imresize(scale: float) -> None:
    """BasicSR's MATLAB-style imresize is right where the scale divides the size."""
    from basicsr.utils.matlab_functions import imresize  # importable after iarn_basicsr only

    x = torch.rand(3, 48, 60)
    found = bicubic_downscale(x[None], (round(48 / scale), round(60 / scale)))[0]
    torch.testing.assert_close(found, imresize(x, 1 / scale), rtol=0, atol=1e-5)


@pytest.mark.parametrize(('size', 'border'), [((17, 23), 3), ((49, 12), 3), ((60, 71), 8), ((100, 94), 8)])
def test_bicubic_matches_torch_inside(size: tuple[int, int], border: int) -> None:
    """Down and up, any size, asymmetric too: torch has the same kernel and geometry, but other edges."""
    x = torch.rand(1, 2, 50, 47, dtype=torch.float64)
    found = (bicubic_downscale if size[0] < 50 else bicubic_upscale)(x, size)
    error = found - F.interpolate(x, size, mode='bicubic', antialias=True)
    assert error[..., border:-border, border:-border].abs().max() <= 1e-12


# -------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize(('n', 'm'), [(6, 3), (10, 3), (7, 5), (9, 9), (5, 1), (100, 43)])
def test_area_is_the_mean_over_the_covered_interval(n: int, m: int) -> None:
    """Repeat each HR sample m times: LR sample i is then the mean of n whole neighbours."""
    expected = np.repeat(np.eye(n), m, axis=0).reshape(m, n, n).mean(1)
    np.testing.assert_allclose(area_matrix(n, m).toarray(), expected, atol=1e-12)


def test_area_at_x2_is_haar() -> None:
    """Low-pass = mean of each 2x2 block; its right inverse repeats the mean over the block."""
    x = torch.rand(2, 3, 12, 8, dtype=torch.float64)
    low = apply_separable(*maps('down:area', (12, 8), (6, 4)), x)
    torch.testing.assert_close(low, F.avg_pool2d(x, 2), rtol=0, atol=1e-12)
    up = apply_separable(*maps('up:area', (12, 8), (6, 4)), low)
    torch.testing.assert_close(up, F.interpolate(low, scale_factor=2, mode='nearest'), rtol=0, atol=1e-12)


def test_cubic_at_x2_closed_form() -> None:
    """Keys' kernel at +-1/4, 3/4, 5/4, 7/4, halved: weights of an inner row; edges reflect."""
    weights = np.array([-0.0234375, -0.0703125, 0.2265625, 0.8671875]) / 2
    row = np.concatenate([weights, weights[::-1]])
    d = cubic_matrix(20, 10).toarray()
    np.testing.assert_allclose(d[4, 5:13], row, atol=1e-14)
    assert np.count_nonzero(d[4]) == 8
    edge = np.zeros(20)
    np.add.at(edge, [2, 1, 0, 0, 1, 2, 3, 4], row)  # HR coordinates -3 .. 4, mirrored at -0.5
    np.testing.assert_allclose(d[0], edge, atol=1e-14)
    np.testing.assert_allclose(d[9], edge[::-1], atol=1e-14)


@pytest.mark.parametrize('pair', PAIRS)
def test_x1_is_the_identity_and_mirrored_signals_give_mirrored_results(pair: str) -> None:
    for matrix in pair_matrices(pair, 9, 9, TOLERANCE):
        np.testing.assert_allclose(matrix.toarray(), np.eye(9), atol=1e-14)
    for matrix in pair_matrices(pair, 37, 14, TOLERANCE):
        np.testing.assert_allclose(matrix.toarray()[::-1, ::-1], matrix.toarray(), atol=1e-12)


@few
@given(st.sampled_from(PAIRS), st.one_of(short, long))
def test_rows_sum_to_one(pair: str, size: tuple[int, float]) -> None:
    for matrix in pair_matrices(pair, *axis(*size), TOLERANCE):
        np.testing.assert_allclose(np.asarray(matrix.sum(1)), 1, atol=1e-10)


# ------------------------------------------------------------------------------------------------- right inverse


@pytest.mark.parametrize('pair', EXACT)
@pytest.mark.parametrize(('n', 'm'), [(12, 6), (31, 12), (40, 37), (9, 1), (1, 1)])
def test_right_inverse_is_the_pseudo_inverse(pair: str, n: int, m: int) -> None:
    d, u = (matrix.toarray() for matrix in pair_matrices(pair, n, m, TOLERANCE))
    np.testing.assert_allclose(u, np.linalg.pinv(d), atol=1e-10)


@few
@given(st.sampled_from(EXACT), st.one_of(short, long))
def test_down_of_up_is_the_identity_per_axis(pair: str, size: tuple[int, float]) -> None:
    """D U = I, and U D is an orthogonal projection of rank m."""
    n, m = axis(*size)
    d, u = pair_matrices(pair, n, m, TOLERANCE)
    np.testing.assert_allclose((d @ u).toarray(), np.eye(m), atol=1e-10)
    projection = (u @ d).toarray()
    np.testing.assert_allclose(projection, projection.T, atol=1e-10)
    assert math.isclose(np.trace(projection), m, abs_tol=1e-8)


@few
@given(st.sampled_from(EXACT), st.one_of(short, long), st.one_of(short, long))
def test_down_of_up_is_the_identity(pair: str, vertical: tuple[int, float], horizontal: tuple[int, float]) -> None:
    """Through the maps, dense and banded, with a scale of its own for each axis."""
    (height, h), (width, w) = axis(*vertical), axis(*horizontal)
    y = torch.rand(1, 1, h, w, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    up = apply_separable(*maps(f'up:{pair}', (height, width), (h, w)), y)
    assert up.shape == (1, 1, height, width)
    down = apply_separable(*maps(f'down:{pair}', (height, width), (h, w)), up)
    torch.testing.assert_close(down, y, rtol=0, atol=1e-10)


def test_cubic_interp_is_not_an_inverse() -> None:
    """Plain interpolation loses: D U differs from I by about 0.2."""
    d, u = (matrix.toarray() for matrix in pair_matrices('cubic_interp', 40, 16, TOLERANCE))
    assert 0.05 < abs(d @ u - np.eye(16)).max() < 0.4
    np.testing.assert_array_equal(d, cubic_matrix(40, 16).toarray())
    np.testing.assert_array_equal(u, cubic_matrix(16, 40).toarray())


# ---------------------------------------------------------------------------------------------- maps in torch


@pytest.mark.parametrize(('hr', 'lr'), [((300, 20), (77, 13)), ((20, 300), (13, 299)), ((31, 26), (8, 26)),
                                        ((257, 401), (257, 133))])
@pytest.mark.parametrize('kind', ['down:area', 'up:area', 'down:cubic', 'up:cubic', 'up:cubic_interp'])
def test_maps_equal_the_dense_product(kind: str, hr: tuple, lr: tuple) -> None:
    """M_v x M_h^T, whichever axis goes first, in one dense block or in bands."""
    direction, pair = kind.split(':')
    pick = 0 if direction == 'down' else 1
    vertical, horizontal = (torch.from_numpy(pair_matrices(pair, n, m, TOLERANCE)[pick].toarray())
                            for n, m in zip(hr, lr))
    pair_of_maps = maps(kind, hr, lr)
    for side, length in zip(pair_of_maps, hr):
        assert (side.starts is not None) == (side.window_index is not None) == (length > DENSE_LIMIT)
    x = torch.rand(2, 3, *(hr if direction == 'down' else lr), dtype=torch.float64)
    torch.testing.assert_close(apply_separable(*pair_of_maps, x), vertical @ x @ horizontal.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize(('hr', 'lr'), [((20, 17), (9, 13)), ((300, 17), (113, 13))])
def test_gradient_is_the_transposed_map(hr: tuple, lr: tuple) -> None:
    """Autograd gives the adjoint: D^T is the dense transpose, whole or banded."""
    vertical, horizontal = (torch.from_numpy(cubic_matrix(n, m).toarray()) for n, m in zip(hr, lr))
    x = torch.rand(2, 3, *hr, dtype=torch.float64, requires_grad=True)
    y = torch.rand(2, 3, *lr, dtype=torch.float64)
    adjoint, = torch.autograd.grad(apply_separable(*maps('down:cubic', hr, lr), x), x, y)
    torch.testing.assert_close(adjoint, vertical.T @ y @ horizontal, rtol=0, atol=1e-12)


def test_4k_axis_is_small_and_exact_in_float32() -> None:
    """3840 -> 1422: each map holds under a sixth of the dense matrix; entries dropped in float32 do not show."""
    down, up = (axis_map(f'{direction}:cubic', 3840, 1422, torch.float32, CPU) for direction in ('down', 'up'))
    for side in (down, up):
        assert side.blocks.numel() + side.window_index.numel() < 3840 * 1422 / 6 and side.taps < 40
    y = torch.rand(1, 1, 1, 1422)
    torch.testing.assert_close(down.columns(up.columns(y)), y, rtol=0, atol=3e-6)


# --------------------------------------------------------------------------------------------------------- errors


def test_errors_name_the_choices() -> None:
    with pytest.raises(ValueError, match=r"split 'lanczos' is unknown: .*'area', 'cubic', 'cubic_interp'"):
        pair_matrices('lanczos', 8, 4, TOLERANCE)
    for m in (9, 0, -1):
        with pytest.raises(ValueError, match=rf'cannot resample 8 HR pixels to {m}: an LR axis has 1 to 8 pixels'):
            pair_matrices('area', 8, m, TOLERANCE)
        with pytest.raises(ValueError, match=f'cannot resample 8 HR pixels to {m}'):
            bicubic_downscale(torch.rand(1, 3, 8, 8), (8, m))
