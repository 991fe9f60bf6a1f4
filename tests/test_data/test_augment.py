"""Shrunk photographs and noise: closed-form patches, drawn shares, and what does not change without them."""

import cv2
import numpy as np
import pytest
import torch
from helpers import few
from hypothesis import given
from hypothesis import strategies as st

from iarn_basicsr.config.schema import ShrinkOptions
from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.data.augment import shrunk, source_size
from iarn_basicsr.data.schedule import Draw
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import bicubic_downscale

TRAIN = {'name': 'd', 'phase': 'train', 'type': 'ArbitraryScaleDataset', 'gt_size': 16, 'scale_range': [2, 2],
         'batch_size_per_gpu': 64, 'num_worker_per_gpu': 0, 'use_hflip': False, 'use_rot': False}


def batch(folder, count=64, **options):
    dataset = ArbitraryScaleDataset({**TRAIN, 'dataroot_gt': str(folder), **options})
    return dataset.__getitems__([Draw(0, number, 1) for number in range(count)])


def gts(items):
    return torch.stack([item['gt'] for item in items])


@pytest.fixture()
def ramp(tmp_path):
    """60 columns, each 4 grey levels brighter than the one before."""
    cv2.imwrite(str(tmp_path / 'ramp.png'), np.tile(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (60, 1, 3)))
    return tmp_path


def test_only_a_share_is_shrunk_by_factors_from_the_range(ramp):
    slopes = gts(batch(ramp, 400, shrink={'prob': 0.25, 'range': [2, 3]})).diff(dim=3).mean((1, 2, 3)) * 255
    smaller = slopes > 4.1
    assert 0.18 < smaller.float().mean() < 0.32
    assert slopes[smaller].min() > 7.5 and slopes[smaller].max() < 12.5 and slopes[smaller].std() > 0.5
    assert torch.allclose(slopes[~smaller], torch.full((), 4.0), atol=1e-3)
    spot = np.zeros((3, 6, 3), np.uint8)
    spot[0, 0] = 90
    assert shrunk(spot, (1, 2))[0].tolist() == [[10] * 3, [0] * 3], 'the mean of all its pixels'


@few
@given(patch=st.tuples(st.integers(1, 50), st.integers(1, 50)), extra=st.tuples(st.integers(0, 60), st.integers(0, 60)),
       factor=st.floats(1, 8), seed=st.integers(0, 9))
def test_the_crop_fits_the_image_and_becomes_the_patch(patch, extra, factor, seed):
    image = (patch[0] + extra[0], patch[1] + extra[1])
    source = source_size(ShrinkOptions(prob=1, range=[factor, factor]), patch, image, np.random.default_rng(seed))
    assert all(m <= s <= n for m, s, n in zip(patch, source, image))
    result = shrunk(np.full((*source, 3), 9, np.uint8), patch)
    assert result.shape == (*patch, 3) and (result == 9).all()


def test_noise_has_its_sigma_in_every_colour_and_the_lr_is_made_of_the_noisy_patch(tmp_path):
    cv2.imwrite(str(tmp_path / 'grey.png'), np.full((40, 40, 3), 128, np.uint8))
    items = batch(tmp_path, noise={'prob': 1, 'range': [5, 5]})
    gt = gts(items)
    assert torch.allclose(gt.std((0, 2, 3)) * 255, torch.full((3, ), 5.0), atol=0.15)
    assert np.corrcoef(gt.movedim(1, 0).reshape(3, -1))[0, 1] < 0.05
    assert torch.equal(torch.stack([i['lq'] for i in items]), quantise(bicubic_downscale(gt, (8, 8))))


def test_only_a_share_gets_noise_up_to_the_end_of_the_range(tmp_path):
    cv2.imwrite(str(tmp_path / 'grey.png'), np.full((40, 40, 3), 128, np.uint8))
    sigma = gts(batch(tmp_path, 400, noise={'prob': 0.5, 'range': [2, 8]})).std((1, 2, 3)) * 255
    noisy = sigma > 0
    assert 0.42 < noisy.float().mean() < 0.58
    assert 1.7 < sigma[noisy].min() < 3 and 7 < sigma[noisy].max() < 8.6


def test_noise_stops_at_black_and_white(tmp_path):
    cv2.imwrite(str(tmp_path / 'white.png'), np.full((40, 40, 3), 255, np.uint8))
    gt = gts(batch(tmp_path, 4, noise={'prob': 1, 'range': [50, 50]})) * 255
    assert gt.max() == 255 and 0.4 < (gt == 255).float().mean() < 0.6  # wrapped round, they would be black


def test_the_same_draw_is_the_same_patch(ramp):
    options = {'shrink': {'prob': 0.5, 'range': [1, 2]}, 'noise': {'prob': 0.5, 'range': [0, 10]}}
    assert torch.equal(gts(batch(ramp, **options)), gts(batch(ramp, **options)))
    assert not torch.equal(gts(batch(ramp, **options)), gts(batch(ramp, seed=1, **options)))
