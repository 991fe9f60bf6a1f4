"""One-way networks of others: they restore an LR that was made without them, by bicubic.

The package spandrel finds architecture and scale from the weight file: ESRGAN, SwinIR, HAT, DAT, SPAN, SAFMN, Compact
and many more. The file itself is read by ``zoo.weights``, so nothing in it is executed.
"""

from __future__ import annotations

import os
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from iarn_basicsr.errors import WeightsError
from iarn_basicsr.ops.resample import bicubic_downscale, bicubic_upscale
from iarn_basicsr.ops.size import Size, compute_padding, smallest_lr_size
from iarn_basicsr.zoo.weights import read_weights

__all__ = ['PaddedNet', 'SpandrelNet', 'reaches', 'resized']


class PaddedNet(nn.Module):
    """A one-way network for LR sizes that are no multiple of its window: extended by reflection, and cut again.

    Args:
        net: (N, 3, h, w) -> (N, 3, k h, k w) in [0, 1].
        scale: k.
        multiple: of which h and w must be one.
    """

    def __init__(self, net: nn.Module, scale: int, multiple: int = 1) -> None:
        super().__init__()
        self.net, self.scale, self.multiple = net, scale, multiple

    def padded_side(self, side: int) -> int:
        """Side of the square that the network computes on when it is given one."""
        return side + -side % self.multiple

    def forward(self, x: Tensor) -> Tensor:
        """Restored image of ``scale`` times the size."""
        pad, unpad = compute_padding((x.shape[-2], x.shape[-1]), self.multiple)
        return F.pad(self.net(F.pad(x, pad, mode='reflect')), [self.scale * n for n in unpad])


class SpandrelNet(nn.Module):
    """A network that spandrel knows: (N, 3, h, w) -> (N, 3, k h, k w), RGB in [0, 1], any h and w.

    Where the network needs another size (a multiple, a minimum, a square), spandrel extends the image by reflection at
    the bottom and on the right, and cuts the result.

    Attributes:
        scale: k.
        architecture: spandrel's name of it.
        file: name of the file that it came from.
    """

    multiple = 1

    def __init__(self, descriptor: Any, file: str = '') -> None:
        super().__init__()
        self._descriptor = descriptor
        self.model = descriptor.model
        self.scale = int(descriptor.scale)
        self.architecture = str(descriptor.architecture.name)
        self.file = file

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> SpandrelNet:
        """The network of a weight file.

        Raises:
            WeightsError: in one line, naming the file, if it is damaged or holds code, if spandrel does not know the
                network or is not installed, or if the network does not go from RGB to RGB.
        """
        path = os.fspath(path)
        try:
            import spandrel
        except ImportError:
            raise WeightsError(f'{path}: needs the package spandrel (pip install spandrel)') from None
        state = read_weights(path).state
        try:
            found = spandrel.ModelLoader().load_from_state_dict(state)
        except spandrel.UnsupportedModelError:
            raise WeightsError(f'{path}: spandrel {spandrel.__version__} knows no network with these weights') from None
        except Exception as error:  # whatever an architecture makes of weights that only resemble its own
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
            raise WeightsError(f'{path}: spandrel cannot build the network of these weights ({reason})') from None
        plain = isinstance(found, spandrel.ImageModelDescriptor) and found.purpose in ('SR', 'Restoration')
        if not plain or (found.input_channels, found.output_channels) != (3, 3) or found.scale < 1:
            raise WeightsError(f'{path} is {found.architecture.name} ({found.purpose}, {found.input_channels} to '
                               f'{found.output_channels} channels): expected super-resolution from RGB to RGB')
        return cls(found, os.path.basename(path)).eval()

    def padded_side(self, side: int) -> int:
        """As of ``PaddedNet``."""
        return side + int(self._descriptor.size_requirements.get_padding(side, side)[0])

    def forward(self, x: Tensor) -> Tensor:
        """Restored image, clamped to [0, 1]; no gradients."""
        return self._descriptor(x)


def reaches(scale: int, hr: Size, lr: Size) -> bool:
    """Whether a network of an integer scale serves an LR size: no side is smaller than at its own scale."""
    return all(n >= least for n, least in zip(lr, smallest_lr_size(hr, scale)))


def resized(x: Tensor, size: Size) -> Tensor:
    """Bicubic resize, each axis up, down or not at all; antialiased where it gets smaller."""
    low = min(size[0], x.shape[-2]), min(size[1], x.shape[-1])
    x = x if tuple(x.shape[-2:]) == low else bicubic_downscale(x, low)
    return x if low == tuple(size) else bicubic_upscale(x, size)
