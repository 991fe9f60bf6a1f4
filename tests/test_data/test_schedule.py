"""What is drawn in training is a pure function of seed, step and sample number."""

from functools import partial

import numpy as np
import pytest
from helpers import few
from hypothesis import given
from hypothesis import strategies as st

from iarn_basicsr.config.schema import TrainDatasetOptions, check
from iarn_basicsr.data.schedule import batch_scale, batches_per_epoch, epoch_draws, generator, stored_scale

DATA = {'name': 'd', 'dataroot_gt': 'hr', 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 1}


def scale_schedule(**options):
    """Step -> scale."""
    return partial(batch_scale, check('d', TrainDatasetOptions, {**DATA, **options}))


def test_generator_depends_on_nothing_else():
    first = generator(3, 'augment', 7).random(4)
    np.random.seed(99)
    assert np.array_equal(first, generator(3, 'augment', 7).random(4))
    others = [generator(4, 'augment', 7), generator(3, 'scale', 7), generator(3, 'augment', 8)]
    assert all(not np.array_equal(first, g.random(4)) for g in others)


@few
@given(images=st.integers(1, 23), ratio=st.integers(1, 3), batch=st.integers(1, 5), epoch=st.integers(0, 3),
       seed=st.integers(0, 9))
def test_two_ranks_share_the_batch_of_one(images, ratio, batch, epoch, seed):
    one = list(epoch_draws(images, ratio, 2 * batch, 1, 0, seed, epoch))
    two = [list(epoch_draws(images, ratio, batch, 2, rank, seed, epoch)) for rank in range(2)]
    assert sorted(two[0] + two[1], key=lambda d: d.number) == one
    assert [d[2] for d in one[::2 * batch]] == list(
        range(epoch * len(one) // (2 * batch) + 1, (epoch + 1) * len(one) // (2 * batch) + 1))


@few
@given(images=st.integers(1, 23), batch=st.integers(1, 5), epoch=st.integers(0, 3), data=st.data())
def test_skipping_continues_the_same_sequence(images, batch, epoch, data):
    whole = list(epoch_draws(images, 2, batch, 1, 0, 0, epoch))
    skip = data.draw(st.integers(0, batches_per_epoch(images, 2, batch, 1)))
    assert list(epoch_draws(images, 2, batch, 1, 0, 0, epoch, skip)) == whole[skip * batch:]


def test_every_image_is_drawn_equally_often_and_epochs_differ():
    first, second = (list(epoch_draws(10, 4, 8, 1, 0, 0, epoch)) for epoch in (0, 1))
    assert sorted(d[0] for d in first) == sorted(list(range(10)) * 4)
    assert [d[0] for d in first] != [d[0] for d in second]
    assert not {d[1] for d in first} & {d[1] for d in second}


def test_scale_covers_the_range_uniformly_and_a_share_is_asymmetric():
    schedule = scale_schedule(asymmetric_prob=0.25)
    scales = np.array([schedule(step) for step in range(1, 2001)])
    assert scales.min() >= 1 and scales.max() <= 4 and scale_schedule(seed=1)(1)[0] != scales[0, 0]
    counts = np.histogram(scales[:, 0], bins=6, range=(1, 4))[0]
    assert abs(counts - 2000 / 6).max() < 70
    assert np.mean(scales[:, 0] != scales[:, 1]) == pytest.approx(0.25, abs=0.04)


def test_curriculum_holds_then_widens_linearly():
    schedule = scale_schedule(curriculum={'start': 2, 'hold': 100, 'widen': 200})
    assert {schedule(step) for step in range(1, 101)} == {(2.0, 2.0)}
    full = scale_schedule()
    for step in (150, 200, 300, 301, 5000):
        width, unit = min(1.0, (step - 100) / 200), (full(step)[0] - 1) / 3
        low, high = 2 - width, 2 + 2 * width
        assert schedule(step)[0] == pytest.approx(low + (high - low) * unit)


def test_common_scales_take_their_share_and_leave_the_other_draws_as_they_are():
    pairs = ((2.0, 2.0), (4.0, 4.0), (1.5, 3.0))
    plain = scale_schedule(asymmetric_prob=0.5)
    schedule = scale_schedule(asymmetric_prob=0.5, common_scales={'prob': 0.4, 'scales': [*map(list, pairs)]})
    drawn = [schedule(step) for step in range(1, 3001)]
    for pair in pairs:
        assert np.mean([d == pair for d in drawn]) == pytest.approx(0.4 / 3, abs=0.02)
    assert all(d == plain(step) for step, d in enumerate(drawn, 1) if d not in pairs)


def test_common_scales_wait_until_the_curriculum_reaches_them():
    schedule = scale_schedule(curriculum={'start': 2, 'hold': 100, 'widen': 200},
                              common_scales={'prob': 1, 'scales': [3, 4]})
    assert {schedule(step) for step in range(1, 101)} == {(2.0, 2.0)}
    assert {schedule(step) for step in range(201, 300)} == {(3.0, 3.0)}  # the range ends below x4
    assert {schedule(step) for step in range(300, 400)} == {(3.0, 3.0), (4.0, 4.0)}


def test_every_stored_scale_is_taken():
    scales = [(2.0, 2.0), (1.5, 3.0)]
    first, other = ([stored_scale(seed, step, scales) for step in range(1, 50)] for seed in (0, 1))
    assert set(first) == set(scales) and first != other
