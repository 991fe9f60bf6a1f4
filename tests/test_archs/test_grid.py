"""Grid: the two-dimensional maps, their channel order, gradients and precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iarn_basicsr.archs.grid import Grid, PaddedGrid, make_grid
from iarn_basicsr.archs.scale_encoding import pooling_matrix, unpooling_matrix
from iarn_basicsr.ops.resample import PAIRS
from iarn_basicsr.ops.size import lr_size

few = settings(max_examples=25, deadline=None, derandomize=True)
CPU = torch.device('cpu')


def make(hr: tuple, lr: tuple, split: str = 'cubic', order: int = 2, dtype: torch.dtype = torch.float64) -> Grid:
    return make_grid(hr, lr, split, order, dtype, CPU)


def dense(matrices: list) -> list[torch.Tensor]:
    return [torch.from_numpy(m.toarray()) for m in matrices]


@few
@given(st.sampled_from(['area', 'cubic']), st.integers(7, 64), st.integers(7, 64), st.floats(1, 4), st.floats(1, 4))
def test_down_of_up_is_the_identity(resample: str, height: int, width: int, vertical: float, horizontal: float) -> None:
    hr = (height, width)
    lr = lr_size(hr, (vertical, horizontal))
    g = make(hr, lr, resample)
    y = torch.rand(1, 3, *lr, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert g.exact
    assert g.up(y).shape == (1, 3, *hr)
    torch.testing.assert_close(g.down(g.up(y)), y, rtol=0, atol=1e-10)


def test_cubic_interp_is_not_exact() -> None:
    g = make((24, 30), (12, 20), 'cubic_interp')
    y = torch.rand(1, 3, 12, 20, dtype=torch.float64)
    assert not g.exact
    assert (g.down(g.up(y)) - y).abs().max() > 1e-2


@pytest.mark.parametrize('order', [1, 2, 4])
@pytest.mark.parametrize(('hr', 'lr'), [((11, 14), (4, 9)), ((9, 13), (9, 4)), ((300, 8), (113, 5))])
def test_pool_and_unpool_equal_the_dense_matrices(order: int, hr: tuple, lr: tuple) -> None:
    """Channel (c K + k_v) K + k_h holds P_kv x_c P_kh^T; unpooling sums Q_kv y Q_kh^T over the orders."""
    g, (h, w), k = make(hr, lr, order=order), lr, order
    x = torch.rand(2, 3, *hr, dtype=torch.float64)
    vertical, horizontal = dense([pooling_matrix(n, m, k) for n, m in zip(hr, lr)])
    rows = torch.einsum('pkH,ncHW->nckpW', vertical.view(h, k, -1), x)
    expected = torch.einsum('qlW,nckpW->ncklpq', horizontal.view(w, k, -1), rows)
    pooled = g.pool(x)
    assert pooled.shape == (2, 3 * k * k, h, w)
    torch.testing.assert_close(pooled, expected.reshape(2, 3 * k * k, h, w), rtol=0, atol=1e-12)
    for c, kv, kh in [(0, 0, k - 1), (1, k - 1, 0), (2, k - 1, k - 1)]:
        torch.testing.assert_close(pooled[:, (c * k + kv) * k + kh], expected[:, c, kv, kh], rtol=0, atol=1e-12)

    y = torch.rand(2, 3 * k * k, h, w, dtype=torch.float64)
    vertical, horizontal = dense([unpooling_matrix(n, m, k) for n, m in zip(hr, lr)])
    columns = torch.einsum('Wql,ncklpq->nckpW', horizontal.view(-1, w, k), y.view(2, 3, k, k, h, w))
    expected = torch.einsum('Hpk,nckpW->ncHW', vertical.view(-1, h, k), columns)
    torch.testing.assert_close(g.unpool(y), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('order', [1, 2, 3, 4])
def test_unpool_undoes_pool_at_integer_scale(order: int) -> None:
    x = torch.rand(2, 3, 4 * order, 5 * order, dtype=torch.float64)
    g = make((4 * order, 5 * order), (4, 5), order=order)
    torch.testing.assert_close(g.unpool(g.pool(x)), x, rtol=0, atol=1e-12)


def test_pool_is_haar_at_x2() -> None:
    """Mean, horizontal, vertical and diagonal difference of each 2x2 block, k_v slower than k_h."""
    x = torch.rand(1, 1, 6, 8, dtype=torch.float64)
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    expected = torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], 1) / 4
    torch.testing.assert_close(make((6, 8), (3, 4)).pool(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('order', [1, 2, 4])
def test_order_one_is_part_of_every_order(order: int) -> None:
    """The first channel of each colour is the mean over the LR cell."""
    x = torch.rand(1, 3, 17, 13, dtype=torch.float64)
    mean = make((17, 13), (7, 9), order=1).pool(x)
    torch.testing.assert_close(make((17, 13), (7, 9), order=order).pool(x)[:, ::order**2], mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(mean, make((17, 13), (7, 9), 'area').down(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize('resample', sorted(PAIRS))
@pytest.mark.parametrize('name', ['down', 'up', 'pool', 'unpool'])
def test_gradcheck(resample: str, name: str) -> None:
    g = make((6, 5), (3, 4), resample)
    shape = {'down': (1, 2, 6, 5), 'up': (1, 2, 3, 4), 'pool': (1, 1, 6, 5), 'unpool': (1, 4, 3, 4)}[name]
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(g, name), x)


@pytest.mark.parametrize('name', ['down', 'up', 'pool', 'unpool'])
def test_gradcheck_banded(name: str) -> None:
    g = make((300, 3), (100, 2))
    shape = {'down': (300, 3), 'up': (100, 2), 'pool': (300, 3), 'unpool': (100, 2)}[name]
    channels = 4 if name == 'unpool' else 1
    x = torch.rand(1, channels, *shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(g, name), x, fast_mode=True)


@pytest.mark.parametrize('resample', sorted(PAIRS))
@pytest.mark.parametrize('hr', [(24, 30), (300, 30)])
def test_autocast_does_not_lower_the_precision(resample: str, hr: tuple) -> None:
    g = make(hr, (11, 13), resample, dtype=torch.float32)
    x, y, z = torch.rand(1, 3, *hr), torch.rand(1, 3, 11, 13), torch.rand(1, 12, 11, 13)
    plain = [g.down(x), g.up(y), g.pool(x), g.unpool(z)]
    with torch.autocast('cpu', torch.bfloat16):
        cast = [g.down(x), g.up(y), g.pool(x), g.unpool(z)]
        from_low = g.up(y.bfloat16())
    for a, b in zip(plain, cast):
        assert b.dtype == torch.float32
        assert torch.equal(a, b)
    assert from_low.dtype == torch.float32
    assert torch.equal(from_low, g.up(y.bfloat16().float()))


def test_scale_and_position_aware_encoding() -> None:
    g = make((12, 30), (6, 10), dtype=torch.float32)
    planes = g.scale_encoding(2)
    assert planes.shape == (2, 2, 6, 10)
    assert torch.equal(planes[:, 0], torch.full((2, 6, 10), 0.5))
    torch.testing.assert_close(planes[:, 1], torch.full((2, 6, 10), 1 / 3))
    encoding = g.position_aware_encoding(2)
    assert encoding.shape == (2, 4, 12, 30)
    assert encoding.dtype == torch.float32
    torch.testing.assert_close(encoding[1, 0, :, 0], torch.tensor([-0.25, 0.25] * 6))
    torch.testing.assert_close(encoding[0, 1, 0], torch.tensor([-1 / 3, 0, 1 / 3] * 10))
    torch.testing.assert_close(encoding[:, 2:, ::2, ::3], planes)


def test_grids_are_cached() -> None:
    assert make((12, 14), (6, 7)) is make((12, 14), (6, 7))
    assert make((12, 14), (6, 7)) is not make((12, 14), (7, 6))


def test_errors() -> None:
    with pytest.raises(ValueError, match="split 'haar' is unknown: choose one of"):
        make((8, 8), (4, 4), 'haar')
    for largest, lr in (((300, 100), (50, 50)), ((144, 144), (72, 72))):  # 4 x 72 = 288 cells
        with pytest.raises(ValueError, match='is too large for fixed memory: at most 256 a side'):
            PaddedGrid(largest, lr, 'cubic', 4, torch.float32, torch.device('cpu'))
    with pytest.raises(ValueError, match='cannot resample 8 HR pixels to 9'):
        make((8, 8), (4, 9))
