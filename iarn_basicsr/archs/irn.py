"""IRN: an invertible network for one integer scale, the baseline that IARN generalises.

Xiao, Zheng, Liu, Wang, He, Ke, Bian, Lin, Liu, "Invertible Image Rescaling", ECCV 2020, arXiv:2005.05650. Our own code;
the state dict has the keys of the authors' repository, so that their weights load.

    x --[ Haar split, num_block coupling blocks ] x log2(scale)--> (LR, z)        x2, x4, x8
    x --[ learned 3x3 split, num_block coupling blocks ]---------> (LR, z)        x3

    LR, z = 0 -- the same operations backward --> restored x

The state is one tensor (N, C, h, w) on the grid of its level. Its first three channels are the low branch: an untrained
split replaces it by its mean over the cell, and it ends as the LR image.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iarn_basicsr.config.schema import IRNOptions, check
from iarn_basicsr.errors import OptionError, SizeError

from .base import Downscaled, RescalingNet, check_image
from .coupling import IMAGE_CHANNELS
from .subnets import HIDDEN_GAIN, conv_weights, dense, init_conv

__all__ = ['IRN']

LEVELS = {2: (2, ), 3: (3, ), 4: (2, 2), 8: (2, 2, 2)}  # factors of the splits by scale


class Split(nn.Module):
    """x (N, C, s h, s w) <-> y (N, s^2 C, h, w): an invertible matrix times the s^2 pixels of each cell and channel.

    y holds the first component of all channels, then the second of all, and so on. Both directions run in the precision
    of their input, whatever autocast says. Subclasses MUST define ``matrices``.

    Args:
        channels, factor: C and s.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.channels, self.factor = channels, factor

    def matrices(self) -> tuple[Tensor, Tensor]:
        """The (s^2, s^2) matrix, row by component and column by pixel of the cell, and its inverse."""
        raise NotImplementedError(type(self).__name__)

    def forward(self, x: Tensor) -> Tensor:
        pixels = F.pixel_unshuffle(x, self.factor)
        n, _, h, w = pixels.shape
        cells = pixels.reshape(n, self.channels, -1, h, w)
        return _product('kj,ncjhw->nkchw', self.matrices()[0], cells).reshape(n, -1, h, w)

    def inverse(self, y: Tensor) -> Tensor:
        """Undo ``forward``."""
        n, _, h, w = y.shape
        cells = _product('jk,nkchw->ncjhw', self.matrices()[1], y.reshape(n, -1, self.channels, h, w))
        return F.pixel_shuffle(cells.reshape(n, -1, h, w), self.factor)


class HaarSplit(Split):
    """Haar transform of 2x2 cells: mean, horizontal, vertical and diagonal difference, each divided by 4."""

    haar_weights: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2)
        one, step = torch.ones(2), torch.tensor([1.0, -1.0])
        filters = torch.stack([torch.outer(v, h) for v, h in ((one, one), (one, step), (step, one), (step, step))])
        self.register_buffer('haar_weights', filters[:, None].repeat(channels, 1, 1, 1))

    def matrices(self) -> tuple[Tensor, Tensor]:
        haar = self.haar_weights[:4].reshape(4, 4)
        return haar / 4, haar.T


class LearnedSplit(Split):
    """A learned matrix, the same for every cell and channel; it starts as the mean and all pixels but the first.

    Raises:
        torch.linalg.LinAlgError: by ``inverse``, if training made the matrix singular.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__(channels, factor)
        start = torch.eye(factor**2)
        start[0] = 1 / factor**2
        self.conv_weights = nn.Parameter(start)

    def matrices(self) -> tuple[Tensor, Tensor]:
        return self.conv_weights, torch.linalg.inv(self.conv_weights)


def _product(equation: str, matrix: Tensor, cells: Tensor) -> Tensor:
    with torch.autocast(cells.device.type, enabled=False):
        return torch.einsum(equation, matrix, cells)


class Subnet(nn.Module):
    """``DenseBlock`` with the authors' names conv1 to conv5, the last of which starts at zero."""

    def __init__(self, c_in: int, c_out: int, width: int) -> None:
        super().__init__()
        for k in range(5):
            conv = nn.Conv2d(c_in + k * width, width if k < 4 else c_out, 3, padding=1)
            init_conv(conv, HIDDEN_GAIN if k < 4 else 0)
            self.add_module(f'conv{k + 1}', conv)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.children()
        return dense(x, hidden, last)


class Block(nn.Module):
    r"""Coupling block on one grid, exact in both directions for any weights (the paper's enhanced coupling).

        forward   l <- l + F(r)                  r <- r * exp(s(l)) + G(l)
        backward  r <- (r - G(l)) * exp(-s(l))   l <- l - F(r)         s = clamp (2 sigmoid(H(l)) - 1)

    Args:
        channels: channels of the state (N, channels, h, w); l is the first three, r the others.
        width: width of the dense blocks.
        clamp: bound of the log-scale s.
    """

    def __init__(self, channels: int, width: int, clamp: float) -> None:
        super().__init__()
        self.sizes = [IMAGE_CHANNELS, channels - IMAGE_CHANNELS]
        self.clamp = clamp
        low, high = self.sizes
        self.F = Subnet(high, low, width)
        self.G = Subnet(low, high, width)
        self.H = Subnet(low, high, width)

    def forward(self, x: Tensor) -> Tensor:
        low, high = x.split(self.sizes, 1)
        low = low + self.F(high).to(x.dtype)
        return torch.cat([low, high * torch.exp(self._log_scale(low)) + self.G(low).to(x.dtype)], 1)

    def inverse(self, y: Tensor) -> Tensor:
        """Undo ``forward``."""
        low, high = y.split(self.sizes, 1)
        high = (high - self.G(low).to(y.dtype)) * torch.exp(-self._log_scale(low))
        return torch.cat([low - self.F(high).to(y.dtype), high], 1)

    def _log_scale(self, low: Tensor) -> Tensor:
        return self.clamp * torch.tanh(self.H(low).to(low.dtype) / 2)


class IRN(RescalingNet):
    """Invertible rescaling network for one integer scale.

    Images are RGB, float, in [0, 1]: HR (N, 3, H, W), LR (N, 3, H / scale, W / scale). The latent z has the other
    3 (scale^2 - 1) channels at LR resolution. With the true latent and an unrounded LR the round trip is exact for any
    weights. Restoration uses z = 0, as everywhere in this package; the authors draw z from N(0, 1), in training and in
    their tests.

    Args:
        options: keyword arguments; ``config.schema.IRNOptions`` says what each is. The authors' files have 8 blocks
            after each split, for x3 12.

    Raises:
        OptionError: naming the option, its value and what would be right.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        o = check('IRN', IRNOptions, options)
        self.hparams = msgspec.structs.asdict(o)
        self.scale = o.scale
        self.min_scale = self.max_scale = float(o.scale)
        operations: list[nn.Module] = []
        channels = IMAGE_CHANNELS
        for factor in LEVELS[o.scale]:
            operations.append(HaarSplit(channels) if factor == 2 else LearnedSplit(channels, factor))
            channels *= factor**2
            operations += [Block(channels, o.width, o.clamp) for _ in range(o.num_block)]
        self.operations = nn.ModuleList(operations)
        self.to(memory_format=torch.channels_last)

    def downscale(self, hr: Tensor, size: tuple[int, int]) -> Downscaled:
        """As of ``RescalingNet``; ``SizeError`` if ``size`` is not exactly (H / scale, W / scale)."""
        check_image(hr)
        self._check_sizes((hr.shape[-2], hr.shape[-1]), size)
        state = hr
        for operation in self._chain():
            state = operation(state)
        lr, latent = state[:, :IMAGE_CHANNELS], state[:, IMAGE_CHANNELS:]
        return Downscaled(lr, latent, lr)

    def upscale(self, lr: Tensor, size: tuple[int, int], latent: Tensor | None = None) -> Tensor:
        """As of ``RescalingNet``; ``SizeError`` if ``size`` is not exactly (scale h, scale w)."""
        check_image(lr)
        n, _, h, w = lr.shape
        self._check_sizes(size, (h, w))
        shape = (n, IMAGE_CHANNELS * (self.scale**2 - 1), h, w)
        if latent is not None and latent.shape != shape:
            raise OptionError(f'latent of shape {tuple(latent.shape)}: expected {shape}')
        state = torch.cat([lr, lr.new_zeros(shape) if latent is None else latent], 1)
        for operation in reversed(self._chain()):
            state = operation.inverse(state)
        return state

    def _chain(self) -> list[Split | Block]:
        return cast('list[Split | Block]', list(self.operations))

    def _check_sizes(self, hr_size: tuple[int, int], lr_size: tuple[int, int]) -> None:
        (height, width), (h, w) = hr_size, lr_size
        if (height, width) != (self.scale * h, self.scale * w):
            exact = (height // self.scale, width // self.scale)
            raise SizeError(f'HR {height}x{width} and LR {h}x{w} (height x width) do not fit IRN x{self.scale}: HR '
                            f'must be a multiple of {self.scale} on both axes and LR exactly HR / {self.scale} '
                            '(the benchmark resizes HR first, which gives IRN a number at any scale)', (h, w), exact,
                            exact)

    def _macs(self, hr_size: tuple[int, int], lr_size: tuple[int, int]) -> int:
        self._check_sizes(hr_size, lr_size)
        sites, macs = hr_size[0] * hr_size[1], 0
        for operation in self._chain():
            if isinstance(operation, Split):
                sites //= operation.factor**2
                macs += sites * operation.channels * operation.factor**4
            else:
                macs += sites * conv_weights(operation)
        return macs
