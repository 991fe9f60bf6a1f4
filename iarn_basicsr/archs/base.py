"""What the rescaling networks share: the contract, the round trip in one call, and weight files."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike, fspath
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from iarn_basicsr import zoo
from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.zoo.weights import read_weights, write_weights

__all__ = ['Channel', 'Downscaled', 'RescalingNet', 'check_image']

Net = TypeVar('Net', bound='RescalingNet')
Channel = Callable[[Tensor], Tensor]


class Downscaled(NamedTuple):
    """Result of ``downscale``, before the LR is rounded to 8 bits.

    Attributes:
        lr: LR image (N, 3, h, w), nominally in [0, 1], not clamped.
        latent: z, what the LR does not hold and training makes negligible: (N, 3, H, W) from an IARN,
            (N, 3 (s^2 - 1), h, w) from an IRN of scale s.
        low: the low branch at the end of the chain: ``lr`` itself; (N, 3 + extra_channels, h, w) with extra channels,
            which are dropped like the latent; (N, 3, H, W) with ``cubic_interp``.
    """

    lr: Tensor
    latent: Tensor
    low: Tensor


class RescalingNet(nn.Module):
    """A bijection HR <-> (LR, z), used with z = 0; images are RGB, float, in [0, 1], shape (N, 3, height, width).

    Law: with ``d = downscale(hr, size)``, ``upscale(d.lr, (H, W), d.latent) == hr`` up to rounding, for any weights;
    an IARN whose LR does not hold the whole low branch also needs ``d.low``.
    Subclasses MUST define ``downscale``, ``upscale`` and ``_macs``, set ``hparams`` and ``max_scale``, and keep no
    result on the module.

    Attributes:
        hparams: the keyword arguments that rebuild the network.
        min_scale, max_scale: smallest and largest HR / LR that is accepted, on both axes.
    """

    hparams: dict[str, Any]
    min_scale: float = 1.0
    max_scale: float

    def forward(self, hr: Tensor, size: tuple[int, int], channel: Channel | None = None,
                cycle: bool = False) -> dict[str, Tensor]:
        """Downscale, round to 8 bits and restore, in one call, because DDP expects one forward per backward.

        Args:
            hr: HR image (N, 3, H, W) in [0, 1].
            size: LR size (h, w).
            channel: applied to the 8-bit LR before restoration: JPEG, for example.
            cycle: also downscale the 8-bit restored image.

        Returns:
            ``lr``: 8-bit LR (N, 3, h, w), straight-through gradient; ``sr``: restored HR from it, not clamped;
            ``lr_raw``: LR before rounding; ``latent`` and ``low``: see ``Downscaled``; with ``cycle`` also
            ``lr_again``: LR of the 8-bit ``sr``, not rounded.
        """
        hr_size = hr.shape[-2], hr.shape[-1]
        return self.round_trip(hr, lambda x: self.downscale(x, size), lambda lr: self.upscale(lr, hr_size), channel,
                               cycle)

    @staticmethod
    def round_trip(hr: Tensor, down: Callable[[Tensor], Downscaled], up: Callable[[Tensor], Tensor],
                   channel: Channel | None, cycle: bool) -> dict[str, Tensor]:
        """``forward`` with the two directions given."""
        found = down(hr)
        lr = quantise(found.lr)
        restored = up(channel(lr) if channel else lr)
        out = {'lr': lr, 'sr': restored, 'lr_raw': found.lr, 'latent': found.latent, 'low': found.low}
        return {**out, 'lr_again': down(quantise(restored)).lr} if cycle else out

    def downscale(self, hr: Tensor, size: tuple[int, int]) -> Downscaled:
        """HR (N, 3, H, W) -> LR of ``size`` (h, w) and the latent; quantise the LR before storing it."""
        raise NotImplementedError(type(self).__name__)

    def upscale(self, lr: Tensor, size: tuple[int, int], latent: Tensor | None = None) -> Tensor:
        """LR (N, 3, h, w) -> restored HR of ``size`` (H, W), not clamped; ``latent`` None stands for zeros."""
        raise NotImplementedError(type(self).__name__)

    def complexity(self, hr_size: tuple[int, int], lr_size: tuple[int, int]) -> dict[str, float]:
        """``params``, ``macs`` (multiply-accumulates) and ``macs_per_pixel`` of one image in either direction.

        Pooling and unpooling count their non-zero weights; additions, and the few multiplications of split and merge,
        are not counted.
        """
        macs = float(self._macs(hr_size, lr_size))
        params = sum(p.numel() for p in self.parameters())
        return {'params': params, 'macs': macs, 'macs_per_pixel': macs / (hr_size[0] * hr_size[1])}

    def _macs(self, hr_size: tuple[int, int], lr_size: tuple[int, int]) -> int:
        raise NotImplementedError(type(self).__name__)

    @classmethod
    def from_pretrained(cls: type[Net], name: str = zoo.DEFAULT) -> Net:
        """A network with released weights (``iarn_basicsr.list_models`` names them), or with those of a file.

        Raises:
            WeightsError: if they do not exist, or are for another network.
        """
        return cls.from_file(zoo.resolve(name)[0])

    @classmethod
    def from_file(cls: type[Net], path: str | PathLike[str], *, ema: bool = True) -> Net:
        """Rebuild a network from a ``.pth`` saved by ``IARNModel`` or a ``.safetensors`` made by ``iarn export``.

        With ``ema`` it takes ``params_ema`` where the file has it.

        Raises:
            WeightsError: naming the file, if it is not one.
        """
        state, arch = read_weights(path, ema=ema)
        if arch is None or arch.get('type') != cls.__name__:
            found = 'no architecture options' if arch is None else f'architecture options {arch!r}'
            raise WeightsError(f'{fspath(path)} holds {found}: expected a file saved by IARNModel, with arch.type '
                               f'{cls.__name__}')
        try:
            with torch.device('meta'):  # neither random numbers nor time for weights that are replaced
                net = cls(**{k: v for k, v in arch.items() if k != 'type'}).float()
            net.to_empty(device='cpu').load_state_dict(state)
        except (TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f'{fspath(path)}: weights and architecture options do not make an {cls.__name__}: '
                               f'{" ".join(str(error).split())[:300]}') from None
        return net.eval()

    def save(self, path: str | PathLike[str]) -> None:
        """Write weights and arguments, atomically, as a ``.pth`` or ``.safetensors`` that ``from_file`` reads."""
        write_weights(path, self.arch, params=self.state_dict())

    @property
    def like(self) -> Tensor:
        """A tensor (1, 3, 1, 1) of the network's precision and device; its values are arbitrary."""
        return next(self.parameters(), torch.empty(0, dtype=torch.float32, device='cpu')).new_empty(1, 3, 1, 1)

    @property
    def arch(self) -> dict[str, Any]:
        """Type and arguments, as weight files hold them."""
        return {'type': type(self).__name__, **self.hparams}


def check_image(image: Tensor) -> None:
    """Raise ``OptionError`` if ``image`` is not a float (N, 3, height, width)."""
    if image.dim() != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise OptionError(f'image of shape {tuple(image.shape)} and type {image.dtype}: expected RGB float '
                          '(N, 3, height, width) in [0, 1]')
