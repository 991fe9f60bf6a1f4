"""What is drawn in training, as a pure function of the seed and of numbers that a resumed run knows.

* order of the images: (seed, epoch)
* LR size of a batch: (seed, step), the same on every rank, so that no rank waits for another's larger LR grid
* crop, flips and rotation of a sample: (seed, number of the sample in the whole run over all ranks)

So a resumed run goes on where it stopped, and two processes see what one process with the double batch sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from iarn_basicsr.ops.size import Size, lr_size

__all__ = ['CommonScales', 'Curriculum', 'Draw', 'ScaleSchedule', 'batches_per_epoch', 'epoch_draws', 'generator']

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


@dataclass(frozen=True)
class Curriculum:
    """Train at the scale ``start`` for ``hold`` iterations, then widen linearly to the full range over ``widen``."""

    start: float
    hold: int
    widen: int

    def width(self, step: int) -> float:
        """Share of the full range that is open at an iteration: 0 to 1."""
        if step <= self.hold:
            return 0.0
        return min(1.0, (step - self.hold) / self.widen) if self.widen else 1.0


@dataclass(frozen=True)
class CommonScales:
    """Scales that come more often than a uniform draw brings them (ours).

    At x2 every LR pixel covers the same 2 x 2 HR pixels; a network learns that only from batches at exactly x2, which
    are rare in a range, and not from those at x1.9 or x2.1.

    Args:
        prob: share of the batches that take one of the scales.
        scales: (vertical, horizontal) pairs, all as probable.
    """

    prob: float
    scales: tuple[tuple[float, float], ...]

    def pick(self, chance: float, which: float, low: float, high: float) -> tuple[float, float] | None:
        """By two numbers in [0, 1): a common scale within [low, high], or None for a draw from the whole range."""
        usable = [s for s in self.scales if low <= min(s) and max(s) <= high]
        return usable[int(which * len(usable))] if usable and chance < self.prob else None


@dataclass(frozen=True)
class ScaleSchedule:
    """Scale of a training batch as a function of the iteration.

    Args:
        low: smallest scale.
        high: largest scale.
        asymmetric_prob: share of batches whose two axes are drawn independently.
        curriculum: start narrow and widen, or None for the full range from the start.
        seed: of the run.
        common: scales that come more often, or None.
    """

    low: float
    high: float
    asymmetric_prob: float
    curriculum: Curriculum | None
    seed: int
    common: CommonScales | None = None

    def scale(self, step: int) -> tuple[float, float]:
        """(vertical, horizontal): a common scale, or uniform in the range that is open at ``step``."""
        low, high = self.low, self.high
        if self.curriculum:
            start, width = self.curriculum.start, self.curriculum.width(step)
            low, high = start + (low - start) * width, start + (high - start) * width
        asymmetric, vertical, horizontal, chance, which = generator(self.seed, 'scale', step).random(5)
        common = self.common and self.common.pick(chance, which, low, high)
        if common:
            return common
        v = low + (high - low) * vertical
        return v, low + (high - low) * horizontal if asymmetric < self.asymmetric_prob else v

    def size(self, step: int, hr_size: Size, rule: str = 'round') -> Size:
        """LR size for an HR patch."""
        return lr_size(hr_size, self.scale(step), rule)

    def pick(self, step: int, scales: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """One of a list of scales (stored LR images), uniform."""
        return scales[int(generator(self.seed, 'scale', step).integers(len(scales)))]
