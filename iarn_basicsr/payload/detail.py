"""Coded detail: what the prediction from an LR lacks, as a payload in the low bits of that LR.

The prediction sees only what no payload changes (``bits.high_part``), so that nothing is circular:

    encode   known = high part of LR,  prediction = restore(known),  LR + code(HR - prediction)
    decode   known = high part of LR,  restored = clip(restore(known) + decode(payload))

Pixels of alpha 0 hold no payload, for they may be cleared.

It is an addition of this project's; the paper's network works without it.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from iarn_basicsr.ops.size import Part
from iarn_basicsr.ops.transparency import seen, whole

from . import bits, codec
from .bits import PayloadError

__all__ = ['MakePull', 'Predict', 'read_detail', 'write_detail']

Predict = Callable[[np.ndarray], np.ndarray]  # (h, w, 3) float32 levels -> (H, W, 3) levels, or a part of them
MakePull = Callable[[np.ndarray, np.ndarray], codec.Pull]  # (known part of the LR, prediction) -> pull


def write_detail(hr: np.ndarray, lr: np.ndarray, alpha: np.ndarray | None, k: float, predict: Predict,
                 pull: MakePull | None = None) -> np.ndarray:
    """``lr`` with the residual of ``hr`` in its low bits; an unchanged copy if nothing fits.

    Args:
        hr, lr: (H, W, 3) and (h, w, 3) uint8.
        alpha: (h, w) uint8; None for an opaque LR.
        k: bits a sample, 0 to 3.
        predict: the restoration.
        pull: makes the codec's ``pull``, if the LR is D of the HR image.

    Raises:
        MissingCodecError: if Pillow cannot write AVIF.
    """
    carriers = seen(lr, alpha)
    known = whole(bits.high_part(carriers, k), alpha)
    prediction = predict(known)
    h, w, c = carriers.shape
    residual = hr - prediction.astype(np.float32)
    if alpha is not None:  # no bytes for what nobody sees
        residual[cv2.resize(alpha, residual.shape[1::-1]) == 0] = 0
    message = codec.encode(residual, bits.capacity(h, w, c, k), pull(known, prediction) if pull else None)
    return whole(bits.write(carriers, message, codec.CODEC, k), alpha)


def read_detail(lr: np.ndarray, alpha: np.ndarray | None, size: tuple[int, int], part: Part, k: float,
                predict: Predict, pull: MakePull | None, remark: Callable[[str], object]) -> np.ndarray:
    """The part of the restored image (H, W, 3) uint8 of an LR with a payload of ``k`` bits a sample.

    ``predict`` makes that part, which must be all of the image where there is ``pull``. The bits of the whole LR are
    read, for their checksum. A payload that cannot be used is left out, so that the prediction stands alone; ``remark``
    is told why.
    """
    carriers = seen(lr, alpha)
    known = whole(bits.high_part(carriers, k), alpha)
    prediction = predict(known)
    try:
        message, kind, _ = bits.read(carriers)
        if kind != codec.CODEC:
            raise PayloadError(f'its payload is coded in way {kind}, this iarn_basicsr reads {codec.CODEC}', 'codec')
        residual = codec.decode(message, size, pull(known, prediction) if pull else None, part)
    except PayloadError as error:
        remark(f'{error}: restored without it')
        return np.clip(np.rint(prediction), 0, 255).astype(np.uint8)
    return np.clip(np.rint(prediction + residual), 0, 255).astype(np.uint8)
