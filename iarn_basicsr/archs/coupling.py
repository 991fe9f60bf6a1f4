r"""Coupling blocks between the low branch l and the high branch r, exact in both directions for any weights.

    forward   l <- l + Phi(r)                  r <- r * exp(s(l)) + t(l)
    backward  r <- (r - t(l)) * exp(-s(l))     l <- l - Phi(r)

Form from IRN (arXiv:2005.05650, its enhanced coupling) with s = clamp * tanh(./2) = clamp * (2 sigmoid(.) - 1), so that
exp(s) stays within [exp(-clamp), exp(clamp)]. How Phi, s and t cross between the HR and the LR grid is this project's:
:class:`LRGridMaps` (all convolutions on the LR grid) or :class:`HRGridMaps` (on the HR grid, nearest to the paper).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iarn_basicsr.archs.grid import Grid
from iarn_basicsr.ops.size import compute_padding

__all__ = ['COUPLINGS', 'Coupling', 'DenseBlock', 'GridMaps', 'HRGridMaps', 'LRGridMaps', 'ResidualBlock']

IMAGE_CHANNELS = 3
Subnet = Callable[[int, int], nn.Module]  # (c_in, c_out) -> a network (N, c_in, h, w) -> (N, c_out, h, w)
INIT_GAIN = 0.1  # of the hidden convolutions of a dense block, IRN's, and of the last one in a residual unit


class DenseBlock(nn.Module):
    """Five 3x3 convolutions with dense connections, IRN's subnet: (N, c_in, h, w) -> (N, c_out, h, w).

    Args:
        c_in: input channels.
        c_out: output channels.
        width: channels that each hidden convolution adds.
        init_last: gain of the last convolution at the start, on top of Xavier's; 0 starts the block at zero.
    """

    def __init__(self, c_in: int, c_out: int, width: int, init_last: float) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Conv2d(c_in + k * width, width, 3, padding=1) for k in range(4))
        self.last = nn.Conv2d(c_in + 4 * width, c_out, 3, padding=1)
        for conv in self.hidden:
            _init(conv, INIT_GAIN)
        _init(self.last, init_last)

    def forward(self, x: Tensor) -> Tensor:
        return dense(x, self.hidden, self.last)


def dense(x: Tensor, hidden: Iterable[nn.Module], last: nn.Module) -> Tensor:
    """Dense connections: every convolution sees the input and the outputs of all before it.

    Under autocast the result has the type of ``last``: all convolutions take their input in one type, so that holding
    it in that type changes no bit, and nothing is converted twice.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    for conv in hidden:
        y = F.leaky_relu(conv(x), 0.2)
        x = torch.cat([x.to(y.dtype), y], 1)
    return last(x)


class ResidualUnit(nn.Module):
    """x + conv(activation(conv(x))), the unit of EDSR (arXiv:1707.02921): (N, width, h, w) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, width, 3, padding=1)
        _init(self.enter, 1)
        _init(self.leave, INIT_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.leave(F.leaky_relu(self.enter(x), 0.2))


class ResidualBlock(nn.Module):
    """Convolution to ``width`` channels, residual units, convolution out: (N, c_in, h, w) -> (N, c_out, h, w).

    In the place of a :class:`DenseBlock`. That invertible networks train better with residual connections in them is
    what IRRM found (arXiv:2405.02945); this form, and how it starts, is this project's.

    Args:
        c_in: input channels.
        c_out: output channels.
        width: channels inside.
        num_unit: number of residual units, of two 3x3 convolutions each.
        init_last: gain of the last convolution at the start, on top of Xavier's; 0 starts the block at zero.
    """

    def __init__(self, c_in: int, c_out: int, width: int, num_unit: int, init_last: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, width, 3, padding=1)
        self.units = nn.Sequential(*(ResidualUnit(width) for _ in range(num_unit)))
        self.last = nn.Conv2d(width, c_out, 3, padding=1)
        _init(self.first, 1)
        _init(self.last, init_last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.contiguous(memory_format=torch.channels_last))
        return self.last(F.leaky_relu(self.units(x), 0.2))


def _init(conv: nn.Module, gain: float) -> None:
    """Xavier's normal times ``gain``, zero bias."""
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    nn.init.xavier_normal_(conv.weight)
    conv.weight.data.mul_(gain)
    nn.init.zeros_(conv.bias)


class GridMaps(nn.Module):
    """How Phi, s and t cross between the grids. Subclasses MUST define all three functions."""

    def shift_low(self, r: Tensor, grid: Grid) -> Tensor:
        """Phi: HR (N, 3, H, W) -> LR, as many channels as the low branch has (N, C, h, w)."""
        raise NotImplementedError(type(self).__name__)

    def scale_and_shift_high(self, low: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """(s before its bound, t): LR (N, C, h, w) -> HR (N, 3, H, W) each."""
        raise NotImplementedError(type(self).__name__)

    def macs(self, grid: Grid) -> int:
        """Multiply-accumulates of both networks and of the crossings, for one image and direction."""
        raise NotImplementedError(type(self).__name__)

    def _weights(self) -> int:
        """Multiply-accumulates of the convolutions at one pixel of their grid."""
        return sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Conv2d))


class LRGridMaps(GridMaps):
    """Phi = net(pool(r)),  (s, t) = unpool(net(l)): position-aware by construction, every convolution on the LR grid.

    Args:
        subnet: makes the two networks, of Phi and of (s, t).
        order: K of the pooling basis; K^2 channels on the LR grid for each HR channel.
        encoding: whether the networks are told h/H and w/W.
        extra: channels of the low branch beside those of the image; Phi shifts them, s and t see them.
    """

    def __init__(self, *, subnet: Subnet, order: int, encoding: bool, extra: int = 0) -> None:
        super().__init__()
        self.encoding = encoding
        told, low = 2 * encoding, IMAGE_CHANNELS + extra
        self.phi = subnet(IMAGE_CHANNELS * order**2 + told, low)
        self.affine = subnet(low + told, 2 * IMAGE_CHANNELS * order**2)

    def shift_low(self, r: Tensor, grid: Grid) -> Tensor:
        return self.phi(self._tell_scale(grid.pool(r), grid))

    def scale_and_shift_high(self, low: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        s, t = grid.unpool(self.affine(self._tell_scale(low, grid))).chunk(2, 1)
        return s, t

    def _tell_scale(self, x: Tensor, grid: Grid) -> Tensor:
        return torch.cat([x, grid.scale_encoding(len(x))], 1) if self.encoding else x

    def macs(self, grid: Grid) -> int:
        (height, width), (h, w) = grid.hr, grid.lr
        convolutions = self._weights() * h * w
        pool_v, pool_h = grid.vertical.pool, grid.horizontal.pool
        unpool_v, unpool_h = grid.vertical.unpool, grid.horizontal.unpool
        pool = pool_v.n_out * pool_v.taps * width + pool_v.n_out * pool_h.n_out * pool_h.taps
        unpool = width * unpool_h.taps * unpool_v.n_in + height * unpool_v.taps * width
        return round(convolutions + IMAGE_CHANNELS * pool + 2 * IMAGE_CHANNELS * unpool)


class HRGridMaps(GridMaps):
    """Phi = D net(r, e),  (s, t) = net(U l, e) with e the position-aware scale encoding as input channels.

    The networks run on the HR grid, folded by space-to-depth: ``fold`` 2 is IRN's own working resolution at x2.

    Args:
        subnet: makes the two networks, of Phi and of (s, t).
        fold: space-to-depth factor; 1 keeps HR resolution.
        encoding: whether the four channels of the position-aware scale encoding are given.
    """

    def __init__(self, *, subnet: Subnet, fold: int, encoding: bool) -> None:
        super().__init__()
        self.encoding, self.fold = encoding, fold
        c_in, c_low = (IMAGE_CHANNELS + 4 * encoding) * fold**2, IMAGE_CHANNELS * fold**2
        self.phi = subnet(c_in, c_low)
        self.affine = subnet(c_in, 2 * c_low)

    def shift_low(self, r: Tensor, grid: Grid) -> Tensor:
        return grid.down(self._folded(self.phi, r, grid))

    def scale_and_shift_high(self, low: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        s, t = self._folded(self.affine, grid.up(low), grid).chunk(2, 1)
        return s, t

    def _folded(self, net: nn.Module, x: Tensor, grid: Grid) -> Tensor:
        if self.encoding:
            x = torch.cat([x, grid.position_aware_encoding(len(x))], 1)
        pad, unpad = compute_padding(grid.hr, self.fold)
        y = net(F.pixel_unshuffle(F.pad(x, pad, mode='replicate'), self.fold))
        return F.pad(F.pixel_shuffle(y, self.fold), unpad)

    def macs(self, grid: Grid) -> int:
        (height, width), (h, w) = grid.hr, grid.lr
        convolutions = self._weights() * -(-height // self.fold) * -(-width // self.fold)
        down_v, down_h = grid.vertical.down, grid.horizontal.down
        up_v, up_h = grid.vertical.up, grid.horizontal.up
        crossing = h * down_v.taps * width + h * w * down_h.taps + h * width * up_h.taps + height * width * up_v.taps
        return round(convolutions + IMAGE_CHANNELS * crossing)


COUPLINGS: dict[str, type[GridMaps]] = {'lr_grid': LRGridMaps, 'hr_grid': HRGridMaps}


class Coupling(nn.Module):
    r"""One coupling block; ``inverse(*forward(l, r)) == (l, r)`` for any weights, up to rounding.

    The low branch is held on the LR grid, or at HR resolution where D U != I (``cubic_interp``); the maps always see it
    on the LR grid, and their additions are made in the state's own precision whatever autocast does inside.

    Args:
        maps: gives ``shift_low`` (Phi) and ``scale_and_shift_high`` (s, t).
        clamp: bound of the log-scale s.
    """

    def __init__(self, maps: GridMaps, clamp: float) -> None:
        super().__init__()
        self.maps = maps
        self.clamp = clamp

    def forward(self, low: Tensor, high: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        low = low + self._shift_low(high, grid)
        s, t = self._affine(low, grid)
        return low, high * torch.exp(s) + t

    def inverse(self, low: Tensor, high: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Undo :meth:`forward`."""
        s, t = self._affine(low, grid)
        high = (high - t) * torch.exp(-s)
        return low - self._shift_low(high, grid), high

    def _shift_low(self, high: Tensor, grid: Grid) -> Tensor:
        shift = self.maps.shift_low(high, grid).to(high.dtype)
        return shift if grid.exact else grid.up(shift)

    def _affine(self, low: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        s, t = self.maps.scale_and_shift_high(low if grid.exact else grid.down(low), grid)
        return self.clamp * torch.tanh(s.to(low.dtype) / 2), t.to(low.dtype)
