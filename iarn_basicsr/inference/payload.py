"""Coded detail without a network: the LR is the bicubic one, and the payload holds all that it lacks."""

from __future__ import annotations

import math

import numpy as np

from iarn_basicsr.ops.size import Size
from iarn_basicsr.payload.codec import Pull
from iarn_basicsr.payload.detail import MakePull, Predict

from .tiling import down_tiled, up_tiled

__all__ = ['without_network']


def without_network(hr: Size, lr: Size, k: float) -> tuple[Predict, MakePull]:
    """Prediction and pull where the LR is the bicubic one and nothing is hidden in it.

    The prediction is U of the right-inverse pair ``cubic``, and for more than max(1, log2(scale)) bits a sample, whose
    errors that would magnify, plain bicubic interpolation. The pull brings an image back to the LR that is known.
    """
    scale = math.sqrt(hr[0] * hr[1] / (lr[0] * lr[1]))
    split = 'cubic' if k <= max(1.0, math.log2(scale)) else 'cubic_interp'

    def pull(known: np.ndarray, prediction: np.ndarray) -> Pull:
        return lambda residual: up_tiled(known - down_tiled(prediction + residual, lr, 'cubic'), hr, 'cubic')

    return lambda known: up_tiled(known, hr, split), pull
