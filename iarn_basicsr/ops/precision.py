"""Full float32 on GPUs."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

__all__ = ['full_float32']


def full_float32() -> AbstractContextManager[None]:
    """Convolutions on NVIDIA GPUs in float32, not in PyTorch's default TF32, for the time of a ``with``.

    TF32 has 10 bits of mantissa, 1/2 to 1/8 of a grey level, and the LR hides its detail in single grey levels: with
    it an LR made on a CPU is not the one made on a GPU. Elsewhere nothing changes.
    """
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
