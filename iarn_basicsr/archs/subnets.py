"""The networks inside the couplings: (N, c_in, h, w) -> (N, c_out, h, w) by 3x3 convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ['HIDDEN_GAIN', 'DenseBlock', 'MakeSubnet', 'ResidualBlock', 'conv_weights', 'dense', 'init_conv']

MakeSubnet = Callable[[int, int], nn.Module]  # (c_in, c_out) -> the network
HIDDEN_GAIN = 0.1  # at the start, on top of Xavier's: IRN's; here also for the last convolution of a residual unit


class DenseBlock(nn.Module):
    """Five 3x3 convolutions with dense connections, the subnet of IRN (arXiv:2005.05650).

    Args:
        c_in, c_out: input and output channels.
        width: channels that each hidden convolution adds.
        init_last: gain of the last convolution at the start, on top of Xavier's; at 0 the block starts as zero.
    """

    def __init__(self, c_in: int, c_out: int, width: int, init_last: float) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Conv2d(c_in + k * width, width, 3, padding=1) for k in range(4))
        self.last = nn.Conv2d(c_in + 4 * width, c_out, 3, padding=1)
        for conv in self.hidden:
            init_conv(conv, HIDDEN_GAIN)
        init_conv(self.last, init_last)

    def forward(self, x: Tensor) -> Tensor:
        return dense(x, self.hidden, self.last)


def dense(x: Tensor, hidden: Iterable[nn.Module], last: nn.Module) -> Tensor:
    """Dense connections: every convolution sees the input and the outputs of all before it.

    Under autocast the features stay in its low precision, to which each convolution would round its input anyway.
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
        init_conv(self.enter, 1)
        init_conv(self.leave, HIDDEN_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.leave(F.leaky_relu(self.enter(x), 0.2))


class ResidualBlock(nn.Module):
    """A convolution to ``width`` channels, residual units, a convolution out.

    IRRM (arXiv:2405.02945) found that invertible networks train better with residual connections in their subnets;
    this form, and how it starts, is this project's.

    Args:
        c_in, c_out: input and output channels.
        width: channels inside.
        num_unit: number of residual units, of two 3x3 convolutions each.
        init_last: as of ``DenseBlock``.
    """

    def __init__(self, c_in: int, c_out: int, width: int, num_unit: int, init_last: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, width, 3, padding=1)
        self.units = nn.Sequential(*(ResidualUnit(width) for _ in range(num_unit)))
        self.last = nn.Conv2d(width, c_out, 3, padding=1)
        init_conv(self.first, 1)
        init_conv(self.last, init_last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.contiguous(memory_format=torch.channels_last))
        return self.last(F.leaky_relu(self.units(x), 0.2))


def init_conv(conv: nn.Module, gain: float) -> None:
    """Xavier's normal weights times ``gain``, zero bias."""
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    nn.init.xavier_normal_(conv.weight)
    conv.weight.data.mul_(gain)
    nn.init.zeros_(conv.bias)


def conv_weights(net: nn.Module) -> int:
    """Weights of all convolutions of a network, which are also its multiply-accumulates at one pixel."""
    return sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d))
