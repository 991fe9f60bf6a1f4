"""JPEG between the two directions of training."""

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from test_models.batches import batch

from iarn_basicsr.config.schema import JPEGOptions, check
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.models.jpeg_channel import JPEGChannel
from iarn_basicsr.ops.image import to_pixels, to_tensor
from iarn_basicsr.ops.jpeg import jpeg_copy


def psnr(a, b):
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


@pytest.fixture(scope='module')
def photo():
    """(3, 100, 120): no multiple of a block."""
    return to_tensor(read_picture(PHOTOGRAPH).rgb[90:190, 120:240])


def channel(count=1, iteration=1, seed=0, rank=0, **options):
    options = {'prob': 1.0, 'quality': [75, 75], 'subsampling': ['4:2:0'], **options}
    made = JPEGChannel(check('train.jpeg', JPEGOptions, options), seed, rank)
    made.draw(iteration, count)
    return made


def gradient(made, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad((made(x) * torch.linspace(-1, 1, x.numel()).view_as(x)).sum(), x)[0]


@pytest.mark.parametrize(('quality', 'subsampling'), [(95, '4:2:0'), (60, '4:4:4'), (10, '4:2:0')])
def test_pixels_are_those_of_libjpeg_and_the_gradient_is_the_simulations(photo, quality, subsampling):
    options = {'quality': [quality, quality], 'subsampling': [subsampling]}
    made = to_pixels(channel(**options)(photo[None]))[0]
    assert np.array_equal(made, jpeg_copy(to_pixels(photo), quality, subsampling))
    ours = gradient(channel(**options), photo[None])
    assert torch.equal(ours, gradient(channel(**options, encoder='diff'), photo[None]))
    straight = channel(**options, encoder='straight')
    assert np.array_equal(to_pixels(straight(photo[None]))[0], made)
    straight.draw(1, 1)
    passed = gradient(straight, photo[None])
    assert torch.equal(passed, torch.linspace(-1, 1, passed.numel()).view_as(passed))
    assert not torch.allclose(ours, passed)


@pytest.mark.parametrize(('subsampling', 'other'), [('4:2:0', '4:4:4'), ('4:4:4', '4:2:0')])
def test_simulation_is_near_libjpeg(photo, subsampling, other):
    """Nearer than the other subsampling, also at the edges, which DiffJPEG alone pads with black."""
    simulated = to_pixels(channel(encoder='diff', quality=[90, 90], subsampling=[subsampling])(photo[None]))[0]
    real, wrong = (jpeg_copy(to_pixels(photo), 90, name) for name in (subsampling, other))
    assert psnr(simulated, real) > max(37, psnr(simulated, wrong) + 1)
    assert psnr(simulated[-4:], real[-4:]) > 35


def test_what_is_drawn(photo):
    """Each image has its own quality, by seed, rank and iteration alone; a share of the images stays as it is."""
    batch = photo[None, :, :32, :32].repeat(64, 1, 1, 1)
    options = {'count': 64, 'prob': 0.5, 'quality': [20, 95]}
    out = channel(**options)(batch)
    untouched = [torch.equal(a, b) for a, b in zip(out, batch)]
    assert 20 <= sum(untouched) <= 44
    assert len({image.numpy().tobytes() for image in out}) > 15
    assert torch.equal(out, channel(**options)(batch))
    for change in ({'seed': 1}, {'rank': 1}, {'iteration': 2}):
        assert not torch.equal(out, channel(**options, **change)(batch))
    assert torch.equal(channel(64, prob=0.0)(batch), batch)


def test_parts_of_a_batch_see_what_the_whole_sees(photo):
    batch = photo[None, :, :32, :32].repeat(5, 1, 1, 1)
    options = {'count': 5, 'prob': 0.7, 'quality': [20, 95]}
    parts = channel(**options)
    assert torch.equal(torch.cat([parts(batch[:2]), parts(batch[2:])]), channel(**options)(batch))


def test_training_passes_through_it(make_model, make_options):
    plain, stored = (make_model(train=options) for options in ({}, {'jpeg': {'quality': [10, 10]}}))
    stored.net_g.load_state_dict(plain.net_g.state_dict())
    data = batch()
    for model in (plain, stored):
        model.feed_data(data)
        model.optimize_parameters(1)
    assert stored.get_current_log()['l_rec'] > 1.01 * plain.get_current_log()['l_rec']
    opt = make_options(train={'jpeg': {'quality': [10, 10]}})
    opt['datasets']['train']['seed'] = 5
    jpeg = build_model({**opt, 'rank': 1}).jpeg
    assert (jpeg.seed, jpeg.rank) == (5, 1)
