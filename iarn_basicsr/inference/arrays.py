"""Kinds of arrays: whatever goes in as numpy pixels or a torch tensor comes out as the same kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import numpy as np
import torch

from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.image import to_tensor

__all__ = ['rescale_array']

Work = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 or uint16 -> uint8


@overload
def rescale_array(image: np.ndarray, work: Work) -> np.ndarray:
    ...


@overload
def rescale_array(image: torch.Tensor, work: Work) -> torch.Tensor:
    ...


def rescale_array(image: np.ndarray | torch.Tensor, work: Work) -> np.ndarray | torch.Tensor:
    """What ``work`` makes of an image, as the kind of array that the image is; never the image itself.

    Args:
        image: numpy (H, W, 3) uint8 or uint16, or a float tensor (3, H, W) or (N, 3, H, W) in [0, 1]. Of a bfloat16
            tensor, which does not hold 8-bit values, comes a float32 one.
        work: from pixels to 8-bit pixels.

    Raises:
        OptionError: if the image is of another kind.
    """
    if isinstance(image, torch.Tensor):
        if image.dim() == 4 and len(image):
            return torch.stack([rescale_array(one, work) for one in image])
        made = to_tensor(work(_pixels(image)))
        return made.to(image.device, image.dtype if torch.finfo(image.dtype).eps <= 2**-9 else torch.float32)
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 \
            or image.dtype not in (np.uint8, np.uint16):
        what = f'shape {image.shape}, type {image.dtype}' if isinstance(image, np.ndarray) else repr(image)
        raise OptionError(f'image ({what}): expected RGB (H, W, 3), uint8 or uint16')
    result = work(image)
    return result.copy() if result is image else result


def _pixels(image: torch.Tensor) -> np.ndarray:
    """Float (3, H, W) -> uint16 (H, W, 3), or uint8 where 8 bits hold it."""
    if image.dim() != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise OptionError(f'tensor of shape {tuple(image.shape)} and type {image.dtype}: expected float RGB '
                          '(3, H, W) or (N, 3, H, W) in [0, 1]')
    if not torch.isfinite(image).all():
        raise OptionError(f'tensor of shape {tuple(image.shape)} holds values that are not finite')
    deep = (image.detach().float().clamp(0, 1) * 65535).round().permute(1, 2, 0).cpu().numpy().astype(np.uint16)
    return deep if (deep % 257).any() else (deep // 257).astype(np.uint8)
