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
    interpolation_matrix,
    pair_matrices,
    right_inverse,
)

few = settings(max_examples=25, deadline=None, derandomize=True)
CPU = torch.device('cpu')
TOLERANCE = 1e-17  # of entries of U, float64
EXACT = ['area', 'cubic']

short = st.tuples(st.integers(1, 60), st.floats(1, 4))
long = st.tuples(st.integers(DENSE_LIMIT + 1, 700), st.floats(1, 4))


def axis(n: int, scale: float) -> tuple[int, int]:
    """(n, m) with 1 <= m <= n."""
    return n, min(n, max(1, round(n / scale)))


def arrays(matrices: tuple) -> list[np.ndarray]:
    """The dense matrices of a pair."""
    return [m.toarray() for m in matrices]


def maps(kind: str, hr: tuple[int, int], lr: tuple[int, int], dtype: torch.dtype = torch.float64) -> list[AxisMap]:
    """Vertical and horizontal map."""
    return [axis_map(kind, n, m, dtype, CPU) for n, m in zip(hr, lr)]


# ------------------------------------------------------------------------------------------- outside authorities


@pytest.mark.parametrize('hr', [(48, 60), (24, 36), (36, 12)])
@pytest.mark.parametrize('scale', [1.5, 2, 3, 4])
def test_bicubic_matches_basicsr_imresize(scale: float, hr: tuple[int, int]) -> None:
    """BasicSR's MATLAB-style imresize is right where the scale divides the size."""
    from basicsr.utils.matlab_functions import imresize  # importable after iarn_basicsr only

    x = torch.rand(3, *hr)
    size = (round(hr[0] / scale), round(hr[1] / scale))
    expected = imresize(x, 1 / scale)
    assert expected.shape[1:] == size
    assert (bicubic_downscale(x[None], size)[0] - expected).abs().max() <= 1e-5


@pytest.mark.parametrize('size', [(17, 23), (49, 12), (33, 40), (50, 47)])
def test_bicubic_matches_torch_antialias_inside(size: tuple[int, int]) -> None:
    """Any size, asymmetric too: torch's antialiased bicubic has the same kernel and geometry, but other edges."""
    x = torch.rand(1, 2, 50, 47, dtype=torch.float64)
    error = bicubic_downscale(x, size) - F.interpolate(x, size, mode='bicubic', antialias=True)
    assert error[..., 3:-3, 3:-3].abs().max() <= 1e-12


@pytest.mark.parametrize('size', [(60, 71), (100, 94), (50, 47)])
def test_bicubic_upscale_matches_torch_inside(size: tuple[int, int]) -> None:
    x = torch.rand(1, 2, 50, 47, dtype=torch.float64)
    error = bicubic_upscale(x, size) - F.interpolate(x, size, mode='bicubic', antialias=True)
    assert error[..., 8:-8, 8:-8].abs().max() <= 1e-12


# -------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize(('n', 'm'), [(6, 3), (10, 3), (7, 5), (9, 9), (5, 1), (33, 10), (300, 130)])
def test_area_is_the_mean_over_the_covered_interval(n: int, m: int) -> None:
    """Repeat each HR sample m times: LR sample i is then the mean of n whole neighbours."""
    expected = np.repeat(np.eye(n), m, axis=0).reshape(m, n, n).mean(1)
    np.testing.assert_allclose(area_matrix(n, m).toarray(), expected, atol=1e-12)


def test_area_at_x2_is_haar() -> None:
    """The low-pass is the 2x2 mean and its inverse repeats each pixel."""
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


@pytest.mark.parametrize('pair', sorted(PAIRS))
def test_x1_is_the_identity(pair: str) -> None:
    for matrix in pair_matrices(pair, 9, 9, TOLERANCE):
        np.testing.assert_allclose(matrix.toarray(), np.eye(9), atol=1e-14)


@few
@given(st.sampled_from(sorted(PAIRS)), st.one_of(short, long))
def test_rows_sum_to_one(pair: str, size: tuple[int, float]) -> None:
    for matrix in pair_matrices(pair, *axis(*size), TOLERANCE):
        np.testing.assert_allclose(np.asarray(matrix.sum(1)), 1, atol=1e-10)


@pytest.mark.parametrize('pair', sorted(PAIRS))
@pytest.mark.parametrize(('hr', 'lr'), [((13, 20), (7, 20)), ((300, 31), (113, 9))])
def test_constants_are_preserved(pair: str, hr: tuple, lr: tuple) -> None:
    x = torch.full((1, 3, *hr), 0.7, dtype=torch.float64)
    low = apply_separable(*maps(f'down:{pair}', hr, lr), x)
    torch.testing.assert_close(low, torch.full((1, 3, *lr), 0.7, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(apply_separable(*maps(f'up:{pair}', hr, lr), low), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize('pair', sorted(PAIRS))
def test_maps_commute_with_mirroring(pair: str) -> None:
    """Neither end of an axis is special: a map of the mirrored signal is the mirrored map."""
    for matrix in arrays(pair_matrices(pair, 37, 14, TOLERANCE)):
        np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-12)


# ------------------------------------------------------------------------------------------------- right inverse


@pytest.mark.parametrize('pair', EXACT)
@pytest.mark.parametrize(('n', 'm'), [(12, 6), (31, 12), (40, 37), (9, 1), (1, 1), (50, 49), (57, 15)])
def test_right_inverse_is_the_pseudo_inverse(pair: str, n: int, m: int) -> None:
    d, u = arrays(pair_matrices(pair, n, m, TOLERANCE))
    np.testing.assert_allclose(u, np.linalg.pinv(d), atol=1e-10)


@few
@given(st.sampled_from(EXACT), st.one_of(short, long))
def test_down_of_up_is_the_identity_per_axis(pair: str, size: tuple[int, float]) -> None:
    n, m = axis(*size)
    d, u = pair_matrices(pair, n, m, TOLERANCE)
    assert abs((d @ u).toarray() - np.eye(m)).max() <= 1e-10
    projection = (u @ d).toarray()
    np.testing.assert_allclose(projection, projection.T, atol=1e-10)  # orthogonal projection
    assert math.isclose(np.trace(projection), m, abs_tol=1e-8)


@pytest.mark.parametrize('pair', EXACT)
@pytest.mark.parametrize('m', [511, 512, 513, 1030])
def test_right_inverse_across_its_chunks(pair: str, m: int) -> None:
    d, u = pair_matrices(pair, m + 211, m, TOLERANCE)
    error = d @ u
    error.setdiag(error.diagonal() - 1)
    assert abs(error).max() <= 1e-10


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


def test_float32_keeps_float32_precision() -> None:
    """Entries dropped in float32 do not show in float32."""
    y = torch.rand(1, 3, 131, 90)
    up = apply_separable(*maps('up:cubic', (300, 117), (131, 90), torch.float32), y)
    down = apply_separable(*maps('down:cubic', (300, 117), (131, 90), torch.float32), up)
    torch.testing.assert_close(down, y, rtol=0, atol=3e-6)


@pytest.mark.parametrize('m', [10, 16, 24, 29])
def test_cubic_interp_is_not_an_inverse(m: int) -> None:
    """Plain interpolation loses: 0.19 at scales from 1.5, up to 0.35 near 1."""
    d, u = arrays(pair_matrices('cubic_interp', 40, m, TOLERANCE))
    assert 0.05 < abs(d @ u - np.eye(m)).max() < 0.4
    np.testing.assert_array_equal(d, cubic_matrix(40, m).toarray())
    np.testing.assert_array_equal(u, interpolation_matrix(m, 40).toarray())


def test_right_inverse_of_any_banded_matrix() -> None:
    d = area_matrix(30, 20)
    np.testing.assert_allclose((d @ right_inverse(d, TOLERANCE)).toarray(), np.eye(20), atol=1e-12)


# ---------------------------------------------------------------------------------------------- maps in torch


@pytest.mark.parametrize(('hr', 'lr'), [((300, 20), (77, 13)), ((20, 300), (13, 299)), ((31, 26), (8, 26)),
                                        ((26, 31), (26, 8)), ((257, 401), (257, 133))])
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
    """<D x, y> = <x, D^T y>: autograd gives the adjoint, and D^T is the dense transpose."""
    vertical, horizontal = (torch.from_numpy(cubic_matrix(n, m).toarray()) for n, m in zip(hr, lr))
    x = torch.rand(2, 3, *hr, dtype=torch.float64, requires_grad=True)
    y = torch.rand(2, 3, *lr, dtype=torch.float64)
    product = (apply_separable(*maps('down:cubic', hr, lr), x) * y).sum()
    adjoint, = torch.autograd.grad(product, x)
    torch.testing.assert_close(adjoint, vertical.T @ y @ horizontal, rtol=0, atol=1e-12)
    torch.testing.assert_close((x * adjoint).sum(), product, rtol=1e-12, atol=0)


@pytest.mark.parametrize(('hr', 'lr'), [((7, 6), (3, 4)), ((300, 2), (113, 1)), ((2, 300), (1, 113))])
def test_gradcheck_bicubic(hr: tuple, lr: tuple) -> None:
    x = torch.rand(1, 1, *hr, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: bicubic_downscale(v, lr), x, fast_mode=hr[0] * hr[1] > 100)


@pytest.mark.slow
def test_8k_maps_are_small() -> None:
    """7680x4320 by 2.7: each map holds under a twelfth of the dense matrix, of the pairs with an inverse."""
    for pair in EXACT:
        for n, m in ((7680, 2844), (4320, 1600)):
            for direction in ('down', 'up'):
                side = axis_map(f'{direction}:{pair}', n, m, torch.float32, CPU)
                assert (side.n_in, side.n_out) == ((n, m) if direction == 'down' else (m, n))
                assert side.blocks.numel() + side.window_index.numel() < 550_000 < n * m / 12
                assert side.taps < 40


def test_8k_image_axis_round_trip() -> None:
    """The 8K maps are right as well as small, on a strip as wide as the image."""
    y = torch.rand(1, 1, 1, 2844)
    up = axis_map('up:cubic', 7680, 2844, torch.float32, CPU).columns(y)
    down = axis_map('down:cubic', 7680, 2844, torch.float32, CPU).columns(up)
    torch.testing.assert_close(down, y, rtol=0, atol=3e-6)


# --------------------------------------------------------------------------------------------------------- errors


def test_unknown_pair_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"split 'lanczos' is unknown: .*'area', 'cubic', 'cubic_interp'"):
        pair_matrices('lanczos', 8, 4, TOLERANCE)


@pytest.mark.parametrize(('n', 'm'), [(8, 9), (8, 0), (8, -1)])
def test_impossible_length(n: int, m: int) -> None:
    with pytest.raises(ValueError, match=rf'cannot resample 8 HR pixels to {m}: an LR axis has 1 to 8 pixels'):
        pair_matrices('area', n, m, TOLERANCE)
    with pytest.raises(ValueError, match=f'cannot resample 8 HR pixels to {m}'):
        bicubic_downscale(torch.rand(1, 3, 8, 8), (8, m))
