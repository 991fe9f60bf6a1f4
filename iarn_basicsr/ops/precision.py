"""Full float32 on GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ['full_float32']


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions on NVIDIA GPUs in float32, not in PyTorch's default TF32: a context, or a decorator.

    TF32 has 10 bits of mantissa and rounds a pixel by up to 1/16 of a grey level; the LR hides its detail in single
    grey levels, and one made on a GPU is to be restored on a CPU. No search for the
    fastest algorithm, which every new size would start again. Elsewhere nothing changes.
    """
    now = torch.backends.cudnn
    with now.flags(enabled=now.enabled, deterministic=now.deterministic, allow_tf32=False):
        yield
