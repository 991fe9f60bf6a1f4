"""8-bit images and tensors: the quantiser, the conversions both ways, and the float precision that an LR needs."""

from __future__ import annotations

import threading
from contextlib import ContextDecorator, ExitStack, suppress
from typing import Any

import numpy as np
import torch

__all__ = ['cpu_has_bf16', 'full_float32', 'quantise', 'to_levels', 'to_pixels', 'to_tensor']

WHITE = 255


def quantise(x: torch.Tensor, bits: int = 8) -> torch.Tensor:
    """Clamp to [0, 1] and round to 8 bits; the gradient passes straight through both.

    y = round(255 clamp(x, 0, 1)) / 255 (ties to even),  dy/dx := 1 everywhere: for clamped values too, so that the
    losses still pull back a colour that is out of range. Straight-through estimator of arXiv:1308.3432.

    This is the only quantiser of the package: what is stored as the LR image is exactly what is upscaled.

    Args:
        x: image of any shape, nominally in [0, 1].
        bits: below 8, keep only the high ``bits`` of the 8 and replace the low ones by their mean, a half-integer
            level. That is what a decoder knows of an LR whose low bits carry a payload (``payload.bits.high_part``).
    """
    return _StraightThrough.apply(x, bits)


class _StraightThrough(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bits: int) -> torch.Tensor:
        levels = x.clamp(0, 1).mul(WHITE).round()
        if bits < 8:
            step = 2**(8 - bits)
            levels = levels.div(step).floor().mul(step).add((step - 1) / 2)
        return levels.div(WHITE)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(..., H, W, C) -> float32 (..., C, H, W) in [0, 1], from uint8, uint16 or float levels of 0 to 255.

    numpy divides: on small patches its single thread is faster than torch's many.
    """
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, -3))
    white = WHITE if np.issubdtype(pixels.dtype, np.floating) else np.iinfo(pixels.dtype).max
    return torch.from_numpy(np.divide(planes, np.float32(white), dtype=np.float32))


def to_levels(x: torch.Tensor) -> np.ndarray:
    """Float (..., C, H, W), nominally in [0, 1] -> float32 (..., H, W, C) times 255, neither rounded nor clamped."""
    return (x.float() * WHITE).movedim(-3, -1).contiguous().cpu().numpy()


def to_pixels(x: torch.Tensor) -> np.ndarray:
    """Float (..., C, H, W), nominally in [0, 1] -> uint8 (..., H, W, C), rounded by ``quantise``."""
    levels = (quantise(x) * WHITE).round().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()


class full_float32(ContextDecorator):  # noqa: N801  (a function to its users)
    """Context or decorator: NVIDIA GPUs compute in float32, not in TF32, in which PyTorch convolves by default.

    TF32 has a mantissa of 10 bits and moves a pixel by up to 1/16 of a grey level. The LR hides its detail in single
    grey levels, and one made on a GPU must restore on a CPU. cuDNN does not benchmark its algorithms inside, as it
    would start again at every new size. Other devices are unaffected.

    These flags hold for the whole process: the first thread inside sets them, the last one out puts them back.
    """

    _lock, _inside, _before = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with full_float32._lock:
            if not full_float32._inside and torch.cuda.is_available():
                full_float32._before = _without_tf32()
            full_float32._inside += 1

    def __exit__(self, *error: object) -> None:
        with full_float32._lock:
            full_float32._inside -= 1
            if not full_float32._inside:
                full_float32._before.close()


def _without_tf32() -> ExitStack:
    """Switch TF32 off; closing the result puts back what was."""
    cudnn, matmul, before = torch.backends.cudnn, torch.backends.cuda.matmul, ExitStack()

    def put(owner: object, name: str, value: object) -> None:
        before.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    put(cudnn, 'benchmark', False)
    with suppress(RuntimeError):  # torch 2.9 has newer names; once the caller uses those, the older ones raise
        put(cudnn, 'allow_tf32', False)
    with suppress(RuntimeError):
        precision = torch.get_float32_matmul_precision()
        if precision != 'highest':
            before.callback(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision('highest')
    for newer in (getattr(cudnn, 'conv', None), matmul):
        if getattr(newer, 'fp32_precision', '') == 'tf32':
            put(newer, 'fp32_precision', 'ieee')
    return before


def cpu_has_bf16() -> bool:
    """Whether oneDNN has bfloat16 instructions for this CPU; without them bfloat16 is many times slower than float32.
    """
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
