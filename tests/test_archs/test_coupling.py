"""Coupling blocks: exact in both directions for any weights, bounded, in the state's own precision."""

import math
from functools import partial

import pytest
import torch
from helpers import randomised
from torch import nn
from torch.nn import functional as F

from iarn_basicsr.archs.coupling import COUPLINGS, Coupling, GridMaps, HRGridMaps, LRGridMaps
from iarn_basicsr.archs.grid import Grid, make_grid
from iarn_basicsr.archs.subnets import DenseBlock, ResidualBlock
from iarn_basicsr.ops.resample import PAIRS

CPU = torch.device('cpu')
SIZES = [((9, 13), (4, 8)), ((11, 7), (11, 2)), ((6, 10), (6, 10))]
dense = partial(DenseBlock, width=4, init_last=0.3)
BUILD = {
    'lr_grid': lambda **kw: LRGridMaps(**{'subnet': dense, 'order': 2, 'encoding': True, **kw}),
    'hr_grid': lambda **kw: HRGridMaps(**{'subnet': dense, 'fold': 2, 'encoding': True, **kw}),
    'lr_grid_residual': lambda: BUILD['lr_grid'](subnet=partial(ResidualBlock, width=4, num_unit=2, init_last=0.3)),
    'hr_grid_residual': lambda: BUILD['hr_grid'](subnet=partial(ResidualBlock, width=4, num_unit=2, init_last=0.3)),
}


def small_grid(hr: tuple, lr: tuple, split: str = 'cubic', order: int = 2,
               dtype: torch.dtype = torch.float64) -> Grid:
    return make_grid(hr, lr, split, order, dtype, CPU)


def state(g: Grid, n: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """A low and a high branch; the low one at HR resolution where D U != I."""
    dtype = g.encoding.ratios.dtype
    return torch.rand(n, 3, *(g.lr if g.exact else g.hr), dtype=dtype), torch.randn(n, 3, *g.hr, dtype=dtype)


def check_round_trip(block: Coupling, g: Grid, tolerance: float) -> None:
    """forward moves both branches, inverse undoes it, and so the other way round; shapes and types stay."""
    low, high = state(g)
    for there, back in [(block, block.inverse), (block.inverse, block)]:
        moved = there(low, high, g)
        for before, after in zip((low, high), moved):
            assert after.shape == before.shape
            assert after.dtype == before.dtype
            assert (after - before).abs().max() > 1e-2
        for before, after in zip((low, high), back(*moved, g)):
            torch.testing.assert_close(after, before, rtol=0, atol=tolerance)


class Constant(GridMaps):
    """Maps with given values in place of networks."""

    def __init__(self, phi: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> None:
        super().__init__()
        self.phi, self.s, self.t = phi, s, t

    def shift_low(self, r: torch.Tensor, grid: Grid) -> torch.Tensor:
        return self.phi

    def scale_and_shift_high(self, low: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        return self.s, self.t


@pytest.mark.parametrize(('hr', 'lr'), SIZES)
@pytest.mark.parametrize('split', sorted(PAIRS))
@pytest.mark.parametrize('coupling', sorted(BUILD))
def test_round_trip(coupling, split, hr, lr):
    block = randomised(Coupling(BUILD[coupling](), 1.0))
    check_round_trip(block, small_grid(hr, lr, split, dtype=torch.float32), 1e-5)
    check_round_trip(block.double(), small_grid(hr, lr, split), 1e-10)


@pytest.mark.parametrize(('coupling', 'option'), [
    ('lr_grid', {'order': 1}), ('lr_grid', {'order': 3}), ('lr_grid', {'encoding': False}),
    ('hr_grid', {'fold': 1}), ('hr_grid', {'fold': 3}), ('hr_grid', {'encoding': False}),
])
def test_round_trip_of_every_option(coupling, option):
    block = randomised(Coupling(BUILD[coupling](**option), 0.5)).double()
    check_round_trip(block, small_grid((9, 13), (4, 8), order=option.get('order', 2)), 1e-10)


@pytest.mark.parametrize('clamp', [0.5, 2.0])
def test_formula(clamp):
    """l + phi;  r exp(s) + t with s = clamp (2 sigmoid(raw) - 1), by values known in advance."""
    g = small_grid((4, 6), (2, 3))
    phi, s, t = (torch.randn(1, 3, *size, dtype=torch.float64) for size in ((2, 3), (4, 6), (4, 6)))
    block, (low, high) = Coupling(Constant(phi, s, t), clamp), state(g, 1)
    new_low, new_high = block(low, high, g)
    bounded = clamp * (2 * torch.sigmoid(s) - 1)
    torch.testing.assert_close(new_low, low + phi, rtol=0, atol=1e-14)
    torch.testing.assert_close(new_high, high * torch.exp(bounded) + t, rtol=0, atol=1e-12)
    old_low, old_high = block.inverse(low, high, g)
    torch.testing.assert_close(old_low, low - phi, rtol=0, atol=1e-14)
    torch.testing.assert_close(old_high, (high - t) / torch.exp(bounded), rtol=0, atol=1e-12)


def test_low_branch_of_a_lossy_pair_is_at_hr_resolution():
    """Where D U != I, Phi is brought to the HR grid by U, and (s, t) are made from D l."""
    g = small_grid((9, 13), (4, 8), 'cubic_interp')
    block, (low, high) = randomised(Coupling(BUILD['lr_grid'](), 1.0)).double(), state(g)
    new_low, new_high = block(low, high, g)
    torch.testing.assert_close(new_low, low + g.up(block.maps.shift_low(high, g)), rtol=0, atol=1e-12)
    s, t = block.maps.scale_and_shift_high(g.down(new_low), g)
    torch.testing.assert_close(new_high, high * torch.exp(torch.tanh(s / 2)) + t, rtol=0, atol=1e-12)


@pytest.mark.parametrize('coupling', sorted(COUPLINGS))
def test_log_scale_is_bounded_for_huge_weights(coupling, clamp=0.3):
    """d inverse / d r = exp(-s): within [exp(-clamp), exp(clamp)], and the bound is reached."""
    g = small_grid((9, 13), (4, 8))
    block = randomised(Coupling(BUILD[coupling](), clamp), 1000).double()
    low, high = state(g)
    high.requires_grad_()
    factor, = torch.autograd.grad(block.inverse(low, high, g)[1].sum(), high)
    assert math.exp(-clamp) - 1e-12 <= factor.min() <= factor.max() <= math.exp(clamp) + 1e-12
    assert factor.log().abs().max() > 0.99 * clamp


@pytest.mark.parametrize('coupling', sorted(COUPLINGS))
def test_log_determinant_is_the_sum_of_the_log_scale(coupling):
    """Of the full Jacobian, on an image of 4x4 pixels; that of the inverse is its negative."""
    g = small_grid((4, 4), (2, 3))
    block, (low, high) = randomised(Coupling(BUILD[coupling](), 1.0), 0.3).double(), state(g, 1)
    flat, n = torch.cat([low.flatten(), high.flatten()]), low.numel()

    def run(x: torch.Tensor, direction: str) -> torch.Tensor:
        moved = getattr(block, direction)(x[:n].view_as(low), x[n:].view_as(high), g)
        return torch.cat([branch.flatten() for branch in moved])

    there = torch.autograd.functional.jacobian(lambda x: run(x, 'forward'), flat)
    back = torch.autograd.functional.jacobian(lambda x: run(x, 'inverse'), run(flat, 'forward').detach())
    expected = torch.tanh(block.maps.scale_and_shift_high(block(low, high, g)[0], g)[0] / 2).sum()
    assert abs(expected) > 1e-2
    for jacobian, sign in ((there, 1), (back, -1)):
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, sign * expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize('coupling', sorted(COUPLINGS))
def test_networks_under_autocast(coupling):
    """The networks do run in bfloat16; the block's arithmetic around them is float32 to the bit."""
    g = small_grid((9, 13), (4, 8), dtype=torch.float32)
    block, (low, high) = randomised(Coupling(BUILD[coupling](), 1.0)), state(g)
    plain = block(low, high, g)
    with torch.autocast('cpu', torch.bfloat16):
        new_low, new_high = block(low, high, g)
        shift = block.maps.shift_low(high, g)
        s, t = block.maps.scale_and_shift_high(new_low, g)
    assert new_low.dtype == new_high.dtype == torch.float32
    assert torch.equal(new_low, low + shift.float())
    torch.testing.assert_close(new_high, high * torch.exp(torch.tanh(s.float() / 2)) + t.float(), rtol=0, atol=1e-6)
    assert not torch.equal(new_low, plain[0])
    torch.testing.assert_close(new_low, plain[0], rtol=0, atol=0.1)


@pytest.mark.parametrize('coupling', sorted(BUILD))
@pytest.mark.parametrize('direction', ['forward', 'inverse'])
def test_gradcheck(coupling, direction):
    """With respect to both branches and every parameter."""
    g = small_grid((4, 5), (2, 3))
    block = randomised(Coupling(BUILD[coupling](), 1.0)).double()
    names, values = zip(*block.named_parameters())
    block.forward = getattr(block, direction)

    def run(low: torch.Tensor, high: torch.Tensor, *parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.func.functional_call(block, dict(zip(names, parameters)), (low, high, g))

    low, high = (x.requires_grad_() for x in state(g, 1))
    assert torch.autograd.gradcheck(lambda *branches: run(*branches, *values), (low, high))
    assert torch.autograd.gradcheck(run, (low, high, *values), fast_mode=True)


def test_lr_grid_maps_are_networks_between_pool_and_unpool():
    """phi(pool(r), h/H, w/W);  (s, t) = unpool(affine(l, h/H, w/W)), s first."""
    g = small_grid((9, 13), (4, 8))
    maps, (low, high) = randomised(BUILD['lr_grid']()).double(), state(g)
    ratio = torch.tensor([4 / 9, 8 / 13], dtype=torch.float64).view(1, 2, 1, 1).expand(2, 2, 4, 8)
    expected = maps.phi(torch.cat([g.pool(high), ratio], 1))
    torch.testing.assert_close(maps.shift_low(high, g), expected, rtol=0, atol=1e-14)
    both = g.unpool(maps.affine(torch.cat([low, ratio], 1)))
    s, t = maps.scale_and_shift_high(low, g)
    torch.testing.assert_close(torch.cat([s, t], 1), both, rtol=0, atol=1e-14)
    assert s.shape == t.shape == high.shape


def test_hr_grid_maps_are_networks_between_up_and_down():
    """D phi(r, e);  (s, t) = affine(U l, e), folded by 2 where the size is even."""
    g = small_grid((8, 12), (5, 7))
    maps, (low, high) = randomised(BUILD['hr_grid']()).double(), state(g)

    def net(block: DenseBlock, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(block(F.pixel_unshuffle(torch.cat([x, g.encoding.scale_and_position(x)], 1), 2)), 2)

    torch.testing.assert_close(maps.shift_low(high, g), g.down(net(maps.phi, high)), rtol=0, atol=1e-14)
    s, t = maps.scale_and_shift_high(low, g)
    torch.testing.assert_close(torch.cat([s, t], 1), net(maps.affine, g.up(low)), rtol=0, atol=1e-14)


@pytest.mark.parametrize('fold', [1, 2, 3])
def test_folding_loses_nothing(fold):
    """With the identity in place of a network the image comes back, whatever its size."""
    g = small_grid((7, 11), (4, 8))
    maps = HRGridMaps(subnet=partial(DenseBlock, width=1, init_last=0), fold=fold, encoding=False)
    maps.phi = nn.Identity()
    high = state(g)[1]
    torch.testing.assert_close(maps.shift_low(high, g), g.down(high), rtol=0, atol=1e-14)
