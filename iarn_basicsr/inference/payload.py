"""Coded detail without a network: a bicubic LR, and a payload with all that it lacks."""

from __future__ import annotations

import math

import numpy as np

from iarn_basicsr.ops.size import Size
from iarn_basicsr.payload.codec import Pull
from iarn_basicsr.payload.detail import MakePull, Predict

from .tiling import down_tiled, up_tiled

__all__ = ['without_network']


def without_network(hr: Size, lr: Size, k: float) -> tuple[Predict, MakePull]:
    """Prediction and pull for a bicubic LR in which no network has hidden anything.

    The prediction is U of the right-inverse pair ``cubic``. Above max(1, log2(scale)) bits a sample, whose errors that
    would magnify, it is plain bicubic interpolation. The pull brings an image back to the known part of the LR.
    """
    scale = math.sqrt(hr[0] * hr[1] / (lr[0] * lr[1]))
    split = 'cubic' if k <= max(1.0, math.log2(scale)) else 'cubic_interp'

    def pull(known: np.ndarray, prediction: np.ndarray) -> Pull:
        return lambda residual: up_tiled(known - down_tiled(prediction + residual, lr, 'cubic'), hr, 'cubic')

    return lambda known: up_tiled(known, hr, split), pull
