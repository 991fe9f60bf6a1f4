"""JPEG between the two directions of training, so that what is hidden in the LR survives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from basicsr.utils.diffjpeg import DiffJPEG
from torch import Tensor, nn

from iarn_basicsr.config.schema import JPEGOptions
from iarn_basicsr.ops.image import quantise, to_pixels, to_tensor
from iarn_basicsr.ops.jpeg import jpeg_copy

__all__ = ['JPEGChannel']

_BLOCK = 16  # pixels; side of the blocks of JPEG with halved chroma


class JPEGChannel:
    """What happens to the LR images of a batch on their way to restoration.

    Args:
        options: section ``train.jpeg``.
        seed: of the run; with iteration and rank it decides what is drawn, so that a resumed run draws the same.
        rank: of this process.
    """

    def __init__(self, options: JPEGOptions, seed: int, rank: int) -> None:
        self.options, self.seed, self.rank = options, seed, rank
        self._simulated = {name: _simulated_jpeg(name) for name in options.subsampling}

    def draw(self, iteration: int, count: int) -> None:
        """Draw what happens to the ``count`` images of a step."""
        rng, o = np.random.default_rng([self.seed, self.rank, iteration]), self.options
        self._drawn_subsampling = o.subsampling[int(rng.integers(len(o.subsampling)))]
        qualities = rng.integers(o.quality[0], o.quality[1] + 1, count)
        self._drawn = np.where(rng.random(count) < o.prob, qualities, 0)

    def __call__(self, lr: Tensor) -> Tensor:
        """8-bit LR (N, 3, h, w) -> the same after JPEG: of the next N images of the step."""
        qualities, self._drawn = self._drawn[:len(lr)], self._drawn[len(lr):]
        chosen = torch.from_numpy(np.flatnonzero(qualities)).to(lr.device)
        if not len(chosen):
            return lr
        images, qualities = lr[chosen].float(), qualities[qualities > 0]
        changed = images
        if self.options.encoder != 'straight':
            h, w = images.shape[-2:]
            padded = F.pad(images, (0, -w % _BLOCK, 0, -h % _BLOCK), mode='replicate')  # DiffJPEG pads with black
            jpeg = self._simulated[self._drawn_subsampling].to(images.device)
            with torch.autocast(images.device.type, enabled=False):
                changed = quantise(jpeg(padded, torch.from_numpy(qualities).to(images))[..., :h, :w])
        if self.options.encoder != 'diff':
            copies = [jpeg_copy(pixels, int(q), self._drawn_subsampling)
                      for pixels, q in zip(to_pixels(images.detach()), qualities)]
            changed = changed + (to_tensor(np.stack(copies)).to(images) - changed).detach()
        return lr.index_copy(0, chosen, changed.to(lr.dtype))


def _simulated_jpeg(subsampling: str) -> DiffJPEG:
    """BasicSR's DiffJPEG, which knows 4:2:0 alone; its parts make 4:4:4 too."""
    jpeg = DiffJPEG(differentiable=True).requires_grad_(False)
    if subsampling == '4:4:4':
        jpeg.compress.l1[1] = _Planes()
        jpeg.decompress = _WholeChroma(jpeg.decompress)
    return jpeg


class _Planes(nn.Module):
    """In place of DiffJPEG's ChromaSubsampling: (N, H, W, 3) -> three (N, H, W)."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return image.unbind(-1)


class _WholeChroma(nn.Module):
    """In place of DiffJPEG's DeCompressJpeg, of whose parts it is made."""

    def __init__(self, stock: nn.Module) -> None:
        super().__init__()
        self.stock = stock

    def forward(self, y: Tensor, cb: Tensor, cr: Tensor, height: int, width: int, factor: Tensor) -> Tensor:
        s: Any = self.stock
        coefficients = s.y_dequantize(y, factor), s.c_dequantize(cb, factor), s.c_dequantize(cr, factor)
        planes = [s.merging(s.idct(c), height, width) for c in coefficients]
        return s.colors(torch.stack(planes, -1)).clamp(0, 255) / 255
