"""Coded detail: what the prediction from an LR lacks, as a payload in the low bits of that LR.

The prediction sees of each LR sample only what no payload changes (``payload.bits.high_part``), so nothing is circular:

    encode   known = high part of LR,  prediction = restore(known),  LR + code(HR - prediction)
    decode   known = high part of LR,  restored = clip(restore(known) + decode(payload))

An addition of this project's; the network of the paper works without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from iarn_basicsr.ops.size import Size
from iarn_basicsr.payload import bits, codec
from iarn_basicsr.payload.bits import PayloadError

from .files import eight_bit
from .tiling import down_tiled, up_tiled

__all__ = ['MakePull', 'Predict', 'read_detail', 'without_network', 'write_detail']

Predict = Callable[[np.ndarray], np.ndarray]  # (h, w, 3) float32 levels -> (H, W, 3) levels
MakePull = Callable[[np.ndarray, np.ndarray], codec.Pull]  # of what is known of the LR, and the prediction


def write_detail(hr: np.ndarray, lr: np.ndarray, k: float, predict: Predict,
                 pull: MakePull | None = None) -> np.ndarray:
    """``lr`` with the residual of ``hr`` in its low bits; ``lr`` itself where nothing fits.

    Args:
        hr: (H, W, 3) uint8 or uint16, of which 8 bits count.
        lr: (h, w, 3) uint8.
        k: bits a sample, 0 to 3.
        predict: the restoration.
        pull: see :func:`without_network`.

    Raises:
        MissingCodecError: if Pillow cannot write AVIF.
    """
    known = bits.high_part(lr, k)
    prediction = predict(known)
    residual = eight_bit(hr) - prediction.astype(np.float32)
    room = bits.capacity(lr.shape[0], lr.shape[1], lr.shape[2], k)
    message = codec.encode(residual, room, pull(known, prediction) if pull else None)
    return bits.write(lr, message, codec.CODEC, k)


def read_detail(lr: np.ndarray, size: Size, k: float, predict: Predict, pull: MakePull | None,
                say: Callable[[str], object]) -> np.ndarray:
    """The restored image (H, W, 3) uint8 of an LR with a payload of ``k`` bits a sample.

    A payload that cannot be used is left out, and ``say`` hears why: the prediction stands alone.

    Raises:
        MissingCodecError: if Pillow cannot read AVIF.
    """
    known = bits.high_part(lr, k)
    prediction = predict(known)
    try:
        message, kind, _ = bits.read(lr)
        if kind != codec.CODEC:
            raise PayloadError(f'its payload is coded in way {kind}, this iarn_basicsr reads {codec.CODEC}', 'codec')
        residual = codec.decode(message, size, pull(known, prediction) if pull else None)
    except PayloadError as error:
        say(f'{error}: restored without it')
        return np.clip(np.rint(prediction), 0, 255).astype(np.uint8)
    return np.clip(np.rint(prediction + residual), 0, 255).astype(np.uint8)


def without_network(hr: Size, lr: Size, k: float) -> tuple[Predict, MakePull]:
    """Prediction and pull where the LR is the bicubic one and nothing is hidden in it.

    The prediction is U of the right-inverse pair ``cubic``, and for more than max(1, log2(scale)) bits a sample, whose
    errors that would magnify, plain bicubic interpolation. The pull brings an image back to the LR that is known.
    """
    scale = math.sqrt(hr[0] * hr[1] / (lr[0] * lr[1]))
    split = 'cubic' if k <= max(1.0, math.log2(scale)) else 'cubic_interp'

    def pull(known: np.ndarray, prediction: np.ndarray) -> codec.Pull:
        return lambda residual: up_tiled(known - down_tiled(prediction + residual, lr, 'cubic'), hr, 'cubic')

    return lambda known: up_tiled(known, hr, split), pull
