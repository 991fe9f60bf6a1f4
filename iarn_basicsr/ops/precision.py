"""Full float32 on GPUs, and bfloat16 only where a CPU has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ['cpu_has_bf16', 'full_float32']


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


def cpu_has_bf16() -> bool:
    """Whether this CPU has instructions that oneDNN takes for bfloat16.

    Without them a convolution in bfloat16 takes many times as long as one in float32.
    """
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
