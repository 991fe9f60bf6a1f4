r"""Coupling blocks between the low branch l and the high branch r, and how they cross between the HR and the LR grid.

    forward   l <- l + Phi(r)                  r <- r * exp(s(l)) + t(l)
    backward  r <- (r - t(l)) * exp(-s(l))     l <- l - Phi(r)

The form is that of IRN's enhanced coupling (Xiao et al., ECCV 2020, arXiv:2005.05650). Phi takes the HR grid to the LR
grid, s and t take the LR grid to the HR grid; how is this project's: ``LRGridMaps`` (all convolutions on the LR grid)
or ``HRGridMaps`` (on the HR grid, nearest to the paper).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iarn_basicsr.ops.size import compute_padding

from .grid import Grid
from .subnets import MakeSubnet, conv_weights

__all__ = ['COUPLINGS', 'IMAGE_CHANNELS', 'Coupling', 'GridMaps', 'HRGridMaps', 'LRGridMaps']

IMAGE_CHANNELS = 3


class Coupling(nn.Module):
    r"""One coupling block: (l, r) -> (l, r), exact in both directions for any weights.

        l ---- + -----+-----------> l        l' = l + Phi(r)
               |      |                      r' = r * exp(S) + t(l'),  S = clamp * tanh(s(l') / 2)
              Phi    s, t
               |      |
        r ---+-+-- * exp(S) + t --> r

    Law: ``inverse(*forward(l, r)) == (l, r)`` and ``forward(*inverse(l, r)) == (l, r)`` up to rounding, for any
    ``maps``, because each direction evaluates Phi, s and t at the same values.
    Sign: ``forward`` adds Phi and t and multiplies by exp(S), with log |det J| = sum of S; ``inverse`` subtracts and
    divides. clamp * tanh(s / 2) = clamp * (2 sigmoid(s) - 1), as IRN has it, keeps exp(S) within exp(-clamp) and
    exp(clamp).

    Shapes: r (N, 3, H, W); l (N, 3 + extra, h, w), or (N, 3, H, W) where D U != I. The maps always see l on the LR
    grid. Both branches keep their own precision, whatever autocast does in the maps.

    Args:
        maps: Phi, and s and t.
        clamp: bound of the log-scale S.
    """

    def __init__(self, maps: GridMaps, clamp: float) -> None:
        super().__init__()
        self.maps = maps
        self.clamp = clamp

    def forward(self, low: Tensor, high: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        low = low + self._shift(high, grid)
        s, t = self._affine(low, grid)
        return low, high * torch.exp(s) + t

    def inverse(self, low: Tensor, high: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Undo ``forward``."""
        s, t = self._affine(low, grid)
        high = (high - t) * torch.exp(-s)
        return low - self._shift(high, grid), high

    def _shift(self, high: Tensor, grid: Grid) -> Tensor:
        shift = self.maps.shift_low(high, grid).to(high.dtype)
        return shift if grid.exact else grid.up(shift)

    def _affine(self, low: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        s, t = self.maps.scale_and_shift_high(low if grid.exact else grid.down(low), grid)
        return self.clamp * torch.tanh(s.to(low.dtype) / 2), t.to(low.dtype)


class GridMaps(nn.Module):
    """Phi, s and t of a coupling, which cross the grids.

    Subclasses MUST define the three methods below, and enter themselves in ``COUPLINGS``. The three need not be
    invertible, linear or smooth: the coupling is exact for any. They MUST be deterministic, since both directions
    evaluate them, and leave nothing on the module. They may return another precision than they get.
    """

    def shift_low(self, r: Tensor, grid: Grid) -> Tensor:
        """Phi: (N, 3, H, W) -> (N, C, h, w), with C the channels of the low branch."""
        raise NotImplementedError(type(self).__name__)

    def scale_and_shift_high(self, low: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """(s, t), s before its bound: (N, C, h, w) -> (N, 3, H, W) each."""
        raise NotImplementedError(type(self).__name__)

    def macs(self, grid: Grid) -> int:
        """Multiply-accumulates of all three for one image, which is the cost of either direction."""
        raise NotImplementedError(type(self).__name__)


class LRGridMaps(GridMaps):
    """Phi(r) = net(pool(r), e),  (s, t) = unpool(net(l, e)), with e the planes of h/H and w/W.

    Position-aware by construction: every convolution runs on the LR grid, and the pooling holds where each HR pixel
    sits in its LR cell.

    Args:
        subnet: makes the two networks, of Phi and of (s, t).
        order: K of the pooling basis; each HR channel becomes K^2 channels on the LR grid.
        encoding: whether the networks get e.
        extra: channels of the low branch beside the three of the image; Phi shifts them, s and t see them.
    """

    def __init__(self, *, subnet: MakeSubnet, order: int, encoding: bool, extra: int = 0) -> None:
        super().__init__()
        self.encoding = encoding
        planes, low = 2 * encoding, IMAGE_CHANNELS + extra
        self.phi = subnet(IMAGE_CHANNELS * order**2 + planes, low)
        self.affine = subnet(low + planes, 2 * IMAGE_CHANNELS * order**2)

    def shift_low(self, r: Tensor, grid: Grid) -> Tensor:
        return self.phi(self._with_scale(grid.pool(r), grid))

    def scale_and_shift_high(self, low: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        s, t = grid.unpool(self.affine(self._with_scale(low, grid))).chunk(2, 1)
        return s, t

    def _with_scale(self, x: Tensor, grid: Grid) -> Tensor:
        return torch.cat([x, grid.encoding.scale(x)], 1) if self.encoding else x

    def macs(self, grid: Grid) -> int:
        (height, width), (h, w), v, hor = grid.hr, grid.lr, grid.vertical, grid.horizontal
        pool = v.pool.n_out * v.pool.taps * width + v.pool.n_out * hor.pool.n_out * hor.pool.taps
        unpool = width * hor.unpool.taps * v.unpool.n_in + height * v.unpool.taps * width
        return round(conv_weights(self) * h * w + IMAGE_CHANNELS * pool + 2 * IMAGE_CHANNELS * unpool)


class HRGridMaps(GridMaps):
    """Phi(r) = D net(r, e),  (s, t) = net(U l, e), with e the four planes of the position-aware scale encoding.

    The networks run on the HR grid after a space-to-depth by ``fold``; at 2 that is IRN's own resolution at x2.

    Args:
        subnet: makes the two networks, of Phi and of (s, t).
        fold: space-to-depth factor; 1 keeps HR resolution.
        encoding: whether the networks get e.
    """

    def __init__(self, *, subnet: MakeSubnet, fold: int, encoding: bool) -> None:
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
            x = torch.cat([x, grid.encoding.scale_and_position(x)], 1)
        pad, unpad = compute_padding(grid.hr, self.fold)
        y = net(F.pixel_unshuffle(F.pad(x, pad, mode='replicate'), self.fold))
        return F.pad(F.pixel_shuffle(y, self.fold), unpad)

    def macs(self, grid: Grid) -> int:
        (height, width), (h, w), v, hor = grid.hr, grid.lr, grid.vertical, grid.horizontal
        sites = -(-height // self.fold) * -(-width // self.fold)
        down = h * v.down.taps * width + h * w * hor.down.taps
        up = h * width * hor.up.taps + height * width * v.up.taps
        return round(conv_weights(self) * sites + IMAGE_CHANNELS * (down + up))


COUPLINGS: dict[str, type[GridMaps]] = {'lr_grid': LRGridMaps, 'hr_grid': HRGridMaps}
