"""A network as ONNX: one direction, one pair of sizes, the matrices between the grids as constants."""

from __future__ import annotations

import importlib.util
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import IARNError, OptionError
from iarn_basicsr.files import atomic_write
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.size import Size

__all__ = ['TOLERANCE', 'OneDirection', 'export_onnx']

TOLERANCE = 1e-4  # between what onnxruntime and torch compute, in units of [0, 1]
NEEDED = ('onnx', 'onnxscript', 'onnxruntime')


class OneDirection(nn.Module):
    """One direction of a network between two sizes. RGB in [0, 1]; the result is neither rounded nor clamped.

    ``down``: (1, 3, H, W) -> (1, 3, h, w) for ``hr`` (H, W) and ``lr`` (h, w); ``up``: back.

    Raises:
        SizeError: if the LR size is out of range.
    """

    def __init__(self, net: IARN, direction: Literal['down', 'up'], hr: Size, lr: Size) -> None:
        super().__init__()
        if direction not in ('down', 'up'):
            raise OptionError(f'direction {direction!r}: choose down or up')
        self.net, self.direction = net, direction
        self.grid = net.grid_of(net.like, hr, lr)

    def forward(self, image: Tensor) -> Tensor:
        if self.direction == 'down':
            return self.net.downscale_on(self.grid, image).lr
        return self.net.upscale_on(self.grid, image)


def export_onnx(net: IARN, path: str, direction: Literal['down', 'up'], hr: Size, lr: Size) -> None:
    """Compare onnxruntime with torch, on random pixels or their LR, then write the file, atomically.

    Input ``image`` and output ``result`` are float32 RGB (1, 3, height, width) in [0, 1]. As everywhere, the LR must be
    rounded to 8 bits before it is stored or restored.

    Raises:
        OptionError: if a package is missing.
        IARNError: if the results differ by more than ``TOLERANCE``; nothing is written then.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise OptionError(f'{path}: needs {", ".join(missing)} (pip install {" ".join(missing)})')
    module = OneDirection(net.cpu().eval(), direction, hr, lr).eval()
    image = torch.rand(1, 3, *hr, generator=torch.Generator().manual_seed(0))
    if direction == 'up':
        with torch.no_grad():
            image = quantise(net.downscale(image, lr).lr)

    def write(temporary: str) -> None:
        torch.onnx.export(module, (image, ), temporary, input_names=['image'], output_names=['result'], dynamo=True,
                          external_data=False, verbose=False)
        found = _difference(module, image, temporary)
        if not found <= TOLERANCE:
            raise IARNError(f'{path}: onnxruntime and torch differ by {found:.3g} (allowed: {TOLERANCE:g})')

    atomic_write(path, write)


@torch.no_grad()
def _difference(module: OneDirection, image: Tensor, path: str) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    (result, ) = session.run(None, {'image': image.numpy()})
    return float(np.abs(result - module(image).numpy()).max())
