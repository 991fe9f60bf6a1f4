r"""IARN: one invertible network for every LR size.

Pan, Li, He, Wu, Ding, "Effective Invertible Arbitrary Image Rescaling", WACV 2023, arXiv:2209.13055. From the paper:
preemptive channel splitting, position-aware scale encoding, and one model for all scales, asymmetric ones too. The
exact form of each part, and the couplings on the LR grid, are this project's reading (README, "What is the paper's").

    down   x -- split --> l = D x ----- block 1 -- .. -- block n --> LR -- 8 bits --> stored
                    \---> r = x - U l -- block 1 -- .. -- block n --> z, the latent, dropped

    up     LR    -- block n backward -- .. -- block 1 backward --> l --\
           z = 0 -- block n backward -- .. -- block 1 backward --> r --- merge --> U l + r, the restored image
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import msgspec
import torch
from torch import Tensor, nn

from iarn_basicsr.config.schema import IARNOptions, check
from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.size import check_lr_size

from .base import Channel, Downscaled, RescalingNet, check_image
from .channel_split import merge, split
from .coupling import COUPLINGS, IMAGE_CHANNELS, Coupling
from .grid import AxisWindow, Grid, make_grid
from .subnets import DenseBlock, MakeSubnet, ResidualBlock

__all__ = ['IARN', 'Downscaled']


class IARN(RescalingNet):
    """Invertible arbitrary rescaling network.

    Images are RGB, float, in [0, 1], shape (N, 3, H, W), any H and W. With the true latent (and the true extra
    channels) and an unrounded LR the round trip is exact for any weights; with z = 0 it restores what training hid in
    the LR.

    Args:
        options: keyword arguments, which all have defaults; ``config.schema.IARNOptions`` says what each is.
            ``extra_channels`` make it an augmented flow (arXiv:2002.07101; ours here): they are zero at the start of
            both directions and dropped at the end, room in which the blocks hand on what the LR does not hold.

    Raises:
        OptionError: naming the option, its value and what would be right.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        o = check('IARN', IARNOptions, options)
        self.hparams = msgspec.structs.asdict(o)
        self.split, self.order, self.max_scale, self.extra_channels = o.split, o.order, o.max_scale, o.extra_channels
        make_subnet: MakeSubnet = partial(DenseBlock, width=o.width, init_last=o.init_last)
        if o.subnet == 'residual':
            make_subnet = partial(ResidualBlock, width=o.width, num_unit=o.num_unit, init_last=o.init_last)
        own = {'order': o.order, 'extra': o.extra_channels} if o.coupling == 'lr_grid' else {'fold': o.fold}
        self.blocks = nn.ModuleList(
            Coupling(COUPLINGS[o.coupling](subnet=make_subnet, encoding=o.encoding, **own), o.clamp)
            for _ in range(o.num_block))
        self.to(memory_format=torch.channels_last)

    def forward(self, hr: Tensor, size: tuple[int, int], channel: Channel | None = None,
                cycle: bool = False) -> dict[str, Tensor]:
        return self.forward_on(self.grid_of(hr, (hr.shape[-2], hr.shape[-1]), size), hr, channel, cycle)

    def forward_on(self, g: Grid, hr: Tensor, channel: Channel | None = None,
                   cycle: bool = False) -> dict[str, Tensor]:
        """``forward`` on a grid of ``grid_of``, or on a padded one.

        With ``cubic_interp`` the result also has ``low_projected``, U D l on the HR grid, to which a loss may pull
        ``low``.
        """
        out = self.round_trip(hr, partial(self.downscale_on, g), partial(self.upscale_on, g), channel, cycle)
        return out if g.exact else {**out, 'low_projected': g.up(out['lr_raw'])}

    def downscale(self, hr: Tensor, size: tuple[int, int]) -> Downscaled:
        return self.downscale_on(self.grid_of(hr, (hr.shape[-2], hr.shape[-1]), size), hr)

    def downscale_on(self, g: Grid, hr: Tensor) -> Downscaled:
        """``downscale`` on a grid of ``grid_of``, which may be a window of a larger one."""
        low, high = split(hr, g)
        low = self._augmented(low)
        for block in self._chain():
            low, high = block(low, high, g)
        return Downscaled(low[:, :IMAGE_CHANNELS] if g.exact else g.down(low), high, low)

    def upscale(self, lr: Tensor, size: tuple[int, int], latent: Tensor | None = None,
                low: Tensor | None = None) -> Tensor:
        """LR (N, 3, h, w) -> restored HR of ``size`` (H, W), not clamped.

        Args:
            lr, size, latent: as of ``RescalingNet``. A latent of N(0, sigma^2) gives a variant.
            low: the true low branch where the LR does not hold all of it, for the exact inverse: (N, 3, H, W) with
                ``cubic_interp``, (N, 3 + extra_channels, h, w) with extra channels.
        """
        return self.upscale_on(self.grid_of(lr, size, (lr.shape[-2], lr.shape[-1])), lr, latent, low)

    def upscale_on(self, g: Grid, lr: Tensor, latent: Tensor | None = None, low: Tensor | None = None) -> Tensor:
        """``upscale`` on a grid of ``grid_of``, which may be a window of a larger one."""
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
        return merge(low[:, :IMAGE_CHANNELS], high, g)

    def _augmented(self, low: Tensor) -> Tensor:
        """The low branch with its extra channels at zero, as both directions start."""
        if not self.extra_channels:
            return low
        return torch.cat([low, low.new_zeros(len(low), self.extra_channels, *low.shape[-2:])], 1)

    def _chain(self) -> list[Coupling]:
        return cast('list[Coupling]', list(self.blocks))

    def grid_of(self, like: Tensor, hr_size: tuple[int, int], lr_size: tuple[int, int],
                window: tuple[AxisWindow, AxisWindow] | None = None) -> Grid:
        """The grid of two sizes, or a window of it, on the device and in the precision of ``like``.

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
