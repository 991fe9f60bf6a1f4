"""Coded detail: what the prediction from an LR lacks, as a payload in the low bits of that LR.

The prediction sees of each LR sample only what no payload changes (``payload.bits.high_part``), so nothing is circular:

    encode   known = high part of LR,  prediction = restore(known),  LR + code(HR - prediction)
    decode   known = high part of LR,  restored = clip(restore(known) + decode(payload))

An addition of this project's; the network of the paper works without it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import bits, codec
from .bits import PayloadError

__all__ = ['MakePull', 'Predict', 'read_detail', 'write_detail']

Predict = Callable[[np.ndarray], np.ndarray]  # (h, w, 3) float32 levels -> (H, W, 3) levels
MakePull = Callable[[np.ndarray, np.ndarray], codec.Pull]  # of what is known of the LR, and the prediction


def write_detail(hr: np.ndarray, lr: np.ndarray, k: float, predict: Predict,
                 pull: MakePull | None = None) -> np.ndarray:
    """``lr`` with the residual of ``hr`` in its low bits; ``lr`` itself where nothing fits.

    Args:
        hr: (H, W, 3) uint8.
        lr: (h, w, 3) uint8.
        k: bits a sample, 0 to 3.
        predict: the restoration.
        pull: makes the codec's ``pull``, where the LR is D of the HR image.

    Raises:
        MissingCodecError: if Pillow cannot write AVIF.
    """
    known = bits.high_part(lr, k)
    prediction = predict(known)
    residual = hr - prediction.astype(np.float32)
    room = bits.capacity(lr.shape[0], lr.shape[1], lr.shape[2], k)
    message = codec.encode(residual, room, pull(known, prediction) if pull else None)
    return bits.write(lr, message, codec.CODEC, k)


def read_detail(lr: np.ndarray, size: tuple[int, int], k: float, predict: Predict, pull: MakePull | None,
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
