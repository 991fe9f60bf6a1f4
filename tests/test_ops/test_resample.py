"""The pairs (D, U): against outside authorities, dense linear algebra and closed forms."""

import numpy as np
import pytest
import torch
from helpers import few
from hypothesis import given
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


@pytest.mark.parametrize('scale', [1.5, 2, 3, 4])
def test_bicubic_matches_basicsr_imresize(scale):
    """BasicSR's MATLAB-style imresize is right where the scale divides the size."""
    from basicsr.utils.matlab_functions import imresize  # importable after iarn_basicsr only

    x = torch.rand(3, 48, 60)
    found = bicubic_downscale(x[None], (round(48 / scale), round(60 / scale)))[0]
    torch.testing.assert_close(found, imresize(x, 1 / scale), rtol=0, atol=1e-5)


@pytest.mark.parametrize(('size', 'border'), [((17, 23), 3), ((49, 12), 3), ((60, 71), 8), ((100, 94), 8)])
def test_bicubic_matches_torch_inside(size, border):
    """Down and up, any size, asymmetric too: torch has the same kernel and geometry, but other edges."""
    x = torch.rand(1, 2, 50, 47, dtype=torch.float64)
    found = (bicubic_downscale if size[0] < 50 else bicubic_upscale)(x, size)
    error = found - F.interpolate(x, size, mode='bicubic', antialias=True)
    assert error[..., border:-border, border:-border].abs().max() <= 1e-12


@pytest.mark.parametrize(('n', 'm'), [(6, 3), (10, 3), (7, 5), (9, 9), (5, 1), (100, 43)])
def test_area_is_the_mean_over_the_covered_interval(n, m):
    """Repeat each HR sample m times: LR sample i is then the mean of n whole neighbours."""
    expected = np.repeat(np.eye(n), m, axis=0).reshape(m, n, n).mean(1)
    np.testing.assert_allclose(area_matrix(n, m).toarray(), expected, atol=1e-12)


@pytest.mark.parametrize('pair', PAIRS)
def test_x1_is_the_identity_and_mirrored_signals_give_mirrored_results(pair):
    for matrix in pair_matrices(pair, 9, 9, TOLERANCE):
        np.testing.assert_allclose(matrix.toarray(), np.eye(9), atol=1e-14)
    for matrix in pair_matrices(pair, 37, 14, TOLERANCE):
        np.testing.assert_allclose(matrix.toarray()[::-1, ::-1], matrix.toarray(), atol=1e-12)


@pytest.mark.parametrize('pair', EXACT)
@pytest.mark.parametrize(('n', 'm'), [(12, 6), (31, 12), (40, 37), (9, 1), (1, 1)])
def test_right_inverse_is_the_pseudo_inverse(pair, n, m):
    d, u = (matrix.toarray() for matrix in pair_matrices(pair, n, m, TOLERANCE))
    np.testing.assert_allclose(u, np.linalg.pinv(d), atol=1e-10)


@few
@given(st.sampled_from(EXACT), st.one_of(short, long), st.one_of(short, long))
def test_down_of_up_is_the_identity(pair, vertical, horizontal):
    """Through the maps, dense and banded, with a scale of its own for each axis."""
    (height, h), (width, w) = axis(*vertical), axis(*horizontal)
    y = torch.rand(1, 1, h, w, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    up = apply_separable(*maps(f'up:{pair}', (height, width), (h, w)), y)
    assert up.shape == (1, 1, height, width)
    down = apply_separable(*maps(f'down:{pair}', (height, width), (h, w)), up)
    torch.testing.assert_close(down, y, rtol=0, atol=1e-10)


@pytest.mark.parametrize(('hr', 'lr'), [((300, 20), (77, 13)), ((20, 300), (13, 299)), ((31, 26), (8, 26)),
                                        ((257, 401), (257, 133))])
@pytest.mark.parametrize('kind', ['down:area', 'up:area', 'down:cubic', 'up:cubic', 'up:cubic_interp'])
def test_maps_equal_the_dense_product(kind, hr, lr):
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
def test_gradient_is_the_transposed_map(hr, lr):
    """Autograd gives the adjoint: D^T is the dense transpose, whole or banded."""
    vertical, horizontal = (torch.from_numpy(cubic_matrix(n, m).toarray()) for n, m in zip(hr, lr))
    x = torch.rand(2, 3, *hr, dtype=torch.float64, requires_grad=True)
    y = torch.rand(2, 3, *lr, dtype=torch.float64)
    adjoint, = torch.autograd.grad(apply_separable(*maps('down:cubic', hr, lr), x), x, y)
    torch.testing.assert_close(adjoint, vertical.T @ y @ horizontal, rtol=0, atol=1e-12)


def test_4k_axis_is_small_and_exact_in_float32():
    """3840 -> 1422: each map holds under a sixth of the dense matrix; entries dropped in float32 do not show."""
    down, up = (axis_map(f'{direction}:cubic', 3840, 1422, torch.float32, CPU) for direction in ('down', 'up'))
    for side in (down, up):
        assert side.blocks.numel() + side.window_index.numel() < 3840 * 1422 / 6 and side.taps < 40
    y = torch.rand(1, 1, 1, 1422)
    torch.testing.assert_close(down.columns(up.columns(y)), y, rtol=0, atol=3e-6)


def test_errors_name_the_choices():
    with pytest.raises(ValueError, match=r"split 'lanczos' is unknown: .*'area', 'cubic', 'cubic_interp'"):
        pair_matrices('lanczos', 8, 4, TOLERANCE)
    for m in (9, 0):
        with pytest.raises(ValueError, match=rf'cannot resample 8 HR pixels to {m}: an LR axis has 1 to 8 pixels'):
            bicubic_downscale(torch.rand(1, 3, 8, 8), (8, m))
