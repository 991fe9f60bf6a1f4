"""What is drawn in training, as a pure function of the seed and of numbers that a resumed run knows.

* order of the images: (seed, epoch)
* LR size of a batch: (seed, step), the same on every rank, so that no rank waits for another's larger LR grid
* crop, flips and rotation of a sample: (seed, number of the sample in the whole run over all ranks)

So a resumed run goes on where it stopped, and two processes see what one process with the double batch sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from iarn_basicsr.config.schema import DEFAULT_RANGE, TrainDatasetOptions

__all__ = ['Draw', 'batch_scale', 'batches_per_epoch', 'epoch_draws', 'generator', 'stored_scale']

_STREAMS = {'order': 0, 'scale': 1, 'augment': 2}


def generator(seed: int, stream: str, number: int) -> np.random.Generator:
    """A random generator that depends on nothing but its arguments (counter-based Philox)."""
    return np.random.Generator(np.random.Philox(key=[seed, _STREAMS[stream]], counter=[0, number, 0, 0]))


class Draw(NamedTuple):
    """What a sampler hands to the dataset: an image, and which draw it is.

    Attributes:
        image: its index.
        number: of the sample in the whole run, over all ranks, from 0.
        step: training iteration that uses it, from 1.
    """

    image: int
    number: int
    step: int


def batches_per_epoch(images: int, ratio: float, batch: int, world_size: int) -> int:
    """Iterations of one epoch; the last batch is filled up, so that a small dataset has one too."""
    return max(1, math.ceil(images * ratio / (batch * world_size)))


def epoch_draws(images: int, ratio: float, batch: int, world_size: int, rank: int, seed: int, epoch: int,
                skip: int = 0) -> Iterator[Draw]:
    """The draws of one rank in one epoch, after ``skip`` iterations of it.

    Over all ranks they are the first ``batches * batch * world_size`` of a shuffled, repeated list of the images, dealt
    out in turn: iteration k uses the same images however many processes share the batch.
    """
    batches = batches_per_epoch(images, ratio, batch, world_size)
    total = batches * batch * world_size
    order = generator(seed, 'order', epoch).permutation(total) % images
    for k in range(skip, batches):
        first = k * batch * world_size
        for position in range(first + rank, first + batch * world_size, world_size):
            yield Draw(int(order[position]), number=epoch * total + position, step=epoch * batches + k + 1)


def batch_scale(options: TrainDatasetOptions, step: int) -> tuple[float, float]:
    """(vertical, horizontal): a common scale, or uniform in the range that is open at ``step``.

    ``common_scales`` are ours: at x2 every LR pixel covers the same 2 x 2 HR pixels; a network learns that only from
    batches at exactly x2, which are rare in a range, and not from those at x1.9 or x2.1.
    """
    o = options
    low, high = o.scale_range or DEFAULT_RANGE
    if o.curriculum:
        start, beyond = o.curriculum.start, max(0, step - o.curriculum.hold)
        open_share = min(1.0, beyond / (o.curriculum.widen or 1))
        low, high = start + (low - start) * open_share, start + (high - start) * open_share
    asymmetric, vertical, horizontal, chance, which = generator(o.seed, 'scale', step).random(5)
    if o.common_scales and chance < o.common_scales.prob:
        usable = [s for s in o.common_scales.scales if low <= min(s) and max(s) <= high]
        if usable:
            return usable[int(which * len(usable))]
    v = low + (high - low) * vertical
    return v, low + (high - low) * horizontal if asymmetric < o.asymmetric_prob else v


def stored_scale(seed: int, step: int, scales: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """One of the scales of stored LR images, uniform."""
    return scales[int(generator(seed, 'scale', step).integers(len(scales)))]
