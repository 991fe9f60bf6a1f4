"""IARN: one invertible network for every LR size.

Pan, Li, He, Wu, Ding, "Effective Invertible Arbitrary Image Rescaling", WACV 2023, arXiv:2209.13055. From the paper:
preemptive channel splitting, position-aware scale encoding, and one model for all scales, asymmetric ones too. The
exact form of each part, and the couplings on the LR grid, are this project's reading (README, "What is the paper's").

    x --split--> l0 = D x ------------ l <- l + Phi(r) -- ... --> LR --8 bits--> LR   (what is stored)
          \\--> r0 = x - U l0 --- r <- r exp(s(l)) + t(l) -- ... --> z   (the latent, dropped)

    LR, z = 0 -- the same blocks backward -- merge: U l + r --> restored x
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from iarn_basicsr.archs.grid import AxisWindow, Grid, make_grid
from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.quantise import quantise
from iarn_basicsr.ops.resample import PAIRS
from iarn_basicsr.ops.size import check_lr_size

from .base import Channel, Downscaled, RescalingNet, check_arguments, check_image
from .coupling import COUPLINGS, IMAGE_CHANNELS, Coupling, DenseBlock, ResidualBlock, Subnet

__all__ = ['IARN', 'Downscaled']


class IARN(RescalingNet):
    """Invertible arbitrary rescaling network.

    Images are RGB, float, in [0, 1], shape (N, 3, H, W), any H and W. With the true latent and an unrounded LR the
    round trip is exact for any weights (``area`` and ``cubic``); with z = 0 it restores what training hid in the LR.

    Args:
        num_block: number of coupling blocks; none: D and U alone, without weights.
        width: width of the dense blocks, or width of the residual ones.
        split: the pair (D, U) of the preemptive channel split: ``area``, ``cubic`` (the LR of an untrained network is
            the bicubic LR) or ``cubic_interp`` (see :mod:`iarn_basicsr.ops.resample`).
        coupling: grid on which the convolutions run: ``lr_grid`` or ``hr_grid`` (nearest to the paper).
        order: K of the position-aware pooling basis (``lr_grid`` only).
        fold: space-to-depth factor of the HR convolutions (``hr_grid`` only).
        encoding: whether the blocks are told the scale, and on the HR grid the position.
        clamp: bound of the log-scale of each block.
        init_last: initial gain of the last convolution of every subnet; 0 starts the network at (D x, U LR).
        max_scale: largest HR / LR that is accepted; 4 for the x1-4 model.
        extra_channels: channels of the low branch beside the three of the LR, zero at the start of both ways and
            dropped at the end (an augmented flow, arXiv:2002.07101; ours here): room in which the blocks hand on what
            the LR does not hold. ``lr_grid`` with ``area`` or ``cubic`` only.
        subnet: the networks in the couplings: ``dense`` blocks, IRN's, or ``residual`` ones (ours), which restore more
            after as much training.
        num_unit: number of units of a residual block (``residual`` only).
        resample: name of ``split`` in older files.

    Raises:
        OptionError: naming the option, its value and the choices.
    """

    def __init__(self,
                 *,
                 num_block: int = 8,
                 width: int = 24,
                 split: str = 'cubic',
                 coupling: str = 'lr_grid',
                 order: int = 4,
                 fold: int = 2,
                 encoding: bool = True,
                 clamp: float = 1.0,
                 init_last: float = 0.3,
                 max_scale: float = 4.0,
                 extra_channels: int = 0,
                 subnet: str = 'dense',
                 num_unit: int = 4,
                 resample: str | None = None) -> None:
        super().__init__()
        if resample is not None and split not in ('cubic', resample):
            raise OptionError(f'IARN options split: {split!r} and resample: {resample!r}: leave out resample, the old '
                              'name of split')
        split = resample or split
        self.hparams: dict[str, Any] = {
            'num_block': num_block, 'width': width, 'split': split, 'coupling': coupling, 'order': order,
            'fold': fold, 'encoding': encoding, 'clamp': clamp, 'init_last': init_last, 'max_scale': max_scale,
            'extra_channels': extra_channels, 'subnet': subnet, 'num_unit': num_unit,
        }
        check_arguments(
            'IARN', self.hparams,
            choices={'split': [*PAIRS], 'coupling': [*COUPLINGS], 'encoding': [False, True],
                     'subnet': ['dense', 'residual']},
            integers={'num_block': (0, 64), 'width': (1, 512), 'order': (1, 8), 'fold': (1, 8),
                      'extra_channels': (0, 512), 'num_unit': (0, 64)},
            reals={'clamp': (0.01, 10), 'init_last': (0, 10), 'max_scale': (1, 64)})
        self.split, self.max_scale = split, float(max_scale)
        self.order, self.extra_channels = order, extra_channels
        if extra_channels and (coupling != 'lr_grid' or split == 'cubic_interp'):
            raise OptionError(f'IARN option extra_channels: {extra_channels} needs coupling: lr_grid and split: area '
                              f'or cubic; here are {coupling} and {split}')
        own = {'order': order, 'extra': extra_channels} if coupling == 'lr_grid' else {'fold': fold}
        made: Subnet = partial(DenseBlock, width=width, init_last=init_last)
        if subnet == 'residual':
            made = partial(ResidualBlock, width=width, num_unit=num_unit, init_last=init_last)
        self.blocks = nn.ModuleList(
            Coupling(COUPLINGS[coupling](subnet=made, encoding=encoding, **own), clamp)
            for _ in range(num_block))
        self.to(memory_format=torch.channels_last)

    def forward(self, hr: Tensor, size: tuple[int, int], channel: Channel | None = None,
                cycle: bool = False) -> dict[str, Tensor]:
        return self.forward_on(self.grid_of(hr, (hr.shape[-2], hr.shape[-1]), size), hr, channel, cycle)

    def forward_on(self, g: Grid, hr: Tensor, channel: Channel | None = None,
                   cycle: bool = False) -> dict[str, Tensor]:
        """:meth:`forward` on a grid of :meth:`grid_of` or a padded one.

        With ``cubic_interp`` it also returns ``low_projected``, U D l on the HR grid, to which a loss may pull ``low``.
        """
        down = self.downscale_on(g, hr)
        lr = quantise(down.lr)
        out = down.outputs(lr, self.upscale_on(g, channel(lr) if channel else lr))
        if not g.exact:
            out['low_projected'] = g.up(down.lr)
        if cycle:
            out['lr_again'] = self.downscale_on(g, quantise(out['sr'])).lr
        return out

    def downscale(self, hr: Tensor, size: tuple[int, int]) -> Downscaled:
        """HR (N, 3, H, W) -> LR of ``size`` (h, w) and the latent; quantise the LR before storing it."""
        return self.downscale_on(self.grid_of(hr, (hr.shape[-2], hr.shape[-1]), size), hr)

    def downscale_on(self, g: Grid, hr: Tensor) -> Downscaled:
        """:meth:`downscale` on a grid of :meth:`grid_of`, which may be a window of a larger one."""
        low, high = g.split(hr)
        low = self._augmented(low)
        for block in self._chain():
            low, high = block(low, high, g)
        return Downscaled(self._image_part(low) if g.exact else g.down(low), high, low)

    def upscale(self, lr: Tensor, size: tuple[int, int], latent: Tensor | None = None,
                low: Tensor | None = None) -> Tensor:
        """LR (N, 3, h, w) -> restored HR of ``size`` (H, W), not clamped.

        Args:
            lr: LR image, as stored.
            size: HR size (H, W).
            latent: z (N, 3, H, W); zeros if None, as in use. A sample of N(0, sigma^2) gives a variant.
            low: the true low branch where the LR does not hold all of it, for the exact inverse: (N, 3, H, W) of
                ``cubic_interp``, (N, 3 + extra_channels, h, w) of an augmented one.
        """
        return self.upscale_on(self.grid_of(lr, size, (lr.shape[-2], lr.shape[-1])), lr, latent, low)

    def upscale_on(self, g: Grid, lr: Tensor, latent: Tensor | None = None, low: Tensor | None = None) -> Tensor:
        """:meth:`upscale` on a grid of :meth:`grid_of`, which may be a window of a larger one."""
        shapes = {'latent': (len(lr), lr.shape[1], *g.hr),
                  'low': (len(lr), IMAGE_CHANNELS + self.extra_channels, *(g.lr if g.exact else g.hr))}
        for name, given in (('latent', latent), ('low', low)):
            if given is not None and given.shape != shapes[name]:
                raise OptionError(f'{name} of shape {tuple(given.shape)}: expected {shapes[name]}')
        high = lr.new_zeros(shapes['latent']) if latent is None else latent
        if low is None:
            low = self._augmented(lr if g.exact else g.up(lr))
        for block in reversed(self._chain()):
            low, high = block.inverse(low, high, g)
        return g.merge(self._image_part(low), high)

    def _augmented(self, low: Tensor) -> Tensor:
        """The low branch with its extra channels, which start at zero on both ways."""
        if not self.extra_channels:
            return low
        return torch.cat([low, low.new_zeros(len(low), self.extra_channels, *low.shape[-2:])], 1)

    def _image_part(self, low: Tensor) -> Tensor:
        return low[:, :IMAGE_CHANNELS] if self.extra_channels else low

    def _chain(self) -> list[Coupling]:
        return cast('list[Coupling]', list(self.blocks))

    def grid_of(self, like: Tensor, hr_size: tuple[int, int], lr_size: tuple[int, int],
                window: tuple[AxisWindow, AxisWindow] | None = None) -> Grid:
        """The :class:`Grid` of two sizes, or a window of it, on the device and in the precision of ``like``.

        Raises:
            OptionError: if ``like`` is not a float (N, 3, height, width).
            SizeError: if the LR size is out of range.
        """
        check_image(like)
        size = check_lr_size(hr_size, lr_size, self.max_scale)
        return make_grid((int(hr_size[0]), int(hr_size[1])), size, self.split, self.order, like.dtype, like.device,
                         window)

    def _macs(self, hr_size: tuple[int, int], lr_size: tuple[int, int]) -> int:
        g = self.grid_of(self.like, hr_size, lr_size)
        return sum(block.maps.macs(g) for block in self._chain())
