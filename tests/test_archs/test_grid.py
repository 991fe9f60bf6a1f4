"""Grid and channel split: the two-dimensional maps, their channel order, gradients and precision."""

import pytest
import torch
from helpers import few
from hypothesis import given
from hypothesis import strategies as st

from iarn_basicsr.archs.channel_split import merge, split
from iarn_basicsr.archs.grid import AxisWindow, Grid, make_grid
from iarn_basicsr.archs.scale_encoding import pooling_matrix, unpooling_matrix
from iarn_basicsr.ops.resample import PAIRS
from iarn_basicsr.ops.size import lr_size

CPU = torch.device('cpu')


def make(hr: tuple, lr: tuple, pair: str = 'cubic', order: int = 2, dtype: torch.dtype = torch.float64) -> Grid:
    return make_grid(hr, lr, pair, order, dtype, CPU)


def dense(matrices: list) -> list[torch.Tensor]:
    return [torch.from_numpy(m.toarray()) for m in matrices]


@pytest.mark.parametrize('order', [1, 2, 4])
@pytest.mark.parametrize(('hr', 'lr'), [((11, 14), (4, 9)), ((9, 13), (9, 4)), ((300, 8), (113, 5))])
def test_pool_and_unpool_equal_the_dense_matrices(order, hr, lr):
    """Channel (c K + k_v) K + k_h holds P_kv x_c P_kh^T; unpooling sums Q_kv y Q_kh^T over the orders."""
    g, (h, w), k = make(hr, lr, order=order), lr, order
    x = torch.rand(2, 3, *hr, dtype=torch.float64)
    vertical, horizontal = dense([pooling_matrix(n, m, k) for n, m in zip(hr, lr)])
    rows = torch.einsum('pkH,ncHW->nckpW', vertical.view(h, k, -1), x)
    expected = torch.einsum('qlW,nckpW->ncklpq', horizontal.view(w, k, -1), rows)
    pooled = g.pool(x)
    assert pooled.shape == (2, 3 * k * k, h, w)
    torch.testing.assert_close(pooled, expected.reshape(2, 3 * k * k, h, w), rtol=0, atol=1e-12)

    y = torch.rand(2, 3 * k * k, h, w, dtype=torch.float64)
    vertical, horizontal = dense([unpooling_matrix(n, m, k) for n, m in zip(hr, lr)])
    columns = torch.einsum('Wql,ncklpq->nckpW', horizontal.view(-1, w, k), y.view(2, 3, k, k, h, w))
    expected = torch.einsum('Hpk,nckpW->ncHW', vertical.view(-1, h, k), columns)
    torch.testing.assert_close(g.unpool(y), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('hr', [(24, 30), (300, 30)])
def test_autocast_does_not_lower_the_precision(hr):
    g = make(hr, (11, 13), dtype=torch.float32)
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


@few
@given(st.sampled_from(PAIRS), st.integers(7, 40), st.integers(7, 40), st.floats(1, 4), st.floats(1, 4))
def test_channel_split(pair, height, width, vertical, horizontal):
    """(D x, x - U D x), and x comes back; with a right inverse D of the high branch is zero."""
    lr = lr_size((height, width), (vertical, horizontal))
    g = make((height, width), lr, pair)
    x = torch.rand(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low, high = split(x, g)
    torch.testing.assert_close(low, g.down(x) if g.exact else g.up(g.down(x)), rtol=0, atol=0)
    torch.testing.assert_close(high, x - g.up(g.down(x)), rtol=0, atol=0)
    torch.testing.assert_close(merge(low, high, g), x, rtol=0, atol=1e-12)
    assert g.exact == (pair != 'cubic_interp')
    if g.exact:
        torch.testing.assert_close(g.down(high), torch.zeros_like(low), rtol=0, atol=1e-10)
        torch.testing.assert_close(merge(low + 1, high, g), x + 1, rtol=0, atol=1e-10)  # low carries the mean


def test_a_window_keeps_the_geometry_of_the_whole():
    """Every map of a window is the part of the whole map; ratios are those of the whole image."""
    whole = make((40, 36), (19, 11), order=3)
    window = AxisWindow(8, 30, 4, 15), AxisWindow(3, 36, 1, 11)
    part = make_grid((40, 36), (19, 11), 'cubic', 3, torch.float64, CPU, window)
    assert (part.hr, part.lr) == ((22, 33), (11, 10))
    for name in ('down', 'up', 'pool', 'unpool'):
        full, found = (getattr(g.vertical, name).blocks[0] for g in (whole, part))
        hr, lr, cells = slice(8, 30), slice(4, 15), slice(12, 45)
        rows, cols = {'down': (lr, hr), 'up': (hr, lr), 'pool': (cells, hr), 'unpool': (hr, cells)}[name]
        assert torch.equal(found, full[rows, cols])
    assert torch.equal(part.encoding.ratios, whole.encoding.ratios)
    assert torch.equal(part.encoding.vertical, whole.encoding.vertical[8:30])
    assert torch.equal(part.encoding.horizontal, whole.encoding.horizontal[3:])


def test_grids_are_cached():
    assert make((12, 14), (6, 7)) is make((12, 14), (6, 7))
    assert make((12, 14), (6, 7)) is not make((12, 14), (7, 6))


def test_errors():
    with pytest.raises(ValueError, match="split 'haar' is unknown: choose one of"):
        make((8, 8), (4, 4), 'haar')
    with pytest.raises(ValueError, match='cannot resample 8 HR pixels to 9'):
        make((8, 8), (4, 9))
