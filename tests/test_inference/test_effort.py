"""Effort at encoding: the LR restores better, stays a tile's own, and never gets worse by its loss."""

import io
import sys

import numpy as np
import pytest
import torch
from helpers import make_image, tiny_net

from iarn_basicsr import IARN, Rescaler
from iarn_basicsr.inference import effort, pixel_rescaler
from iarn_basicsr.inference.cli.process import Bar
from iarn_basicsr.inference.effort import GUIDE, refine_tiled
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.tiling import bicubic_downscale_tiled, default_tile, downscale_tiled, upscale_tiled
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.ops.image import quantise

CPU = torch.device('cpu')


def error(a, b):
    return float(np.square(a.astype(float) - b).mean())


def loss(net, hr, lr):
    restored = upscale_tiled(net, lr, hr.shape[:2], 4096, CPU)
    return error(restored, hr) + GUIDE * error(lr, bicubic_downscale_tiled(hr, lr.shape[:2]))


def test_gains_in_hr_and_loss(monkeypatch):
    """With trained weights, on a detail of a photograph: eight steps gain a tenth of a decibel."""
    size = 20, 39
    net = IARN.from_pretrained('iarn_light_x1-4')
    hr = read_picture(PHOTOGRAPH).rgb[100:148, 120:216]
    lr = downscale_tiled(net, hr, size, 4096, CPU)
    better = refine_tiled(net, hr, lr, 8, 4096, CPU)
    assert better.dtype == np.uint8 and better.shape == lr.shape and (better != lr).any()
    assert loss(net, hr, better) < loss(net, hr, lr)
    before, after = (error(upscale_tiled(net, x, hr.shape[:2], 4096, CPU), hr) for x in (lr, better))
    assert after < 0.977 * before
    guide = bicubic_downscale_tiled(hr, size)
    monkeypatch.setattr(effort, 'GUIDE', 0.0)
    assert error(better, guide) < error(refine_tiled(net, hr, lr, 8, 4096, CPU), guide)


def test_leaves_its_arguments_and_repeats_itself():
    """Also where gradients are off; a deep picture is refined towards its own values."""
    net = tiny_net()
    hr = make_image(40, 36, seed=1)
    lr = downscale_tiled(net, hr, (20, 18), 4096, CPU)
    given, weights = lr.copy(), [p.clone() for p in net.parameters()]
    first = refine_tiled(net, hr, lr, 3, 4096, CPU)
    assert np.array_equal(lr, given) and all(torch.equal(p, q) for p, q in zip(net.parameters(), weights))
    with torch.no_grad():
        assert np.array_equal(first, refine_tiled(net, hr.astype(np.uint16) * 257, lr, 3, 4096, CPU))
    assert all(p.grad is None for p in net.parameters())


def test_only_the_kept_part_moves(monkeypatch):
    net, hr = tiny_net(), torch.rand(1, 3, 40, 36)
    seen, work = [], net.upscale_on
    monkeypatch.setattr(net, 'upscale_on', lambda *args: seen.append(args) or work(*args))
    grid = net.grid_of(hr, (40, 36), (20, 18))
    lr = quantise(torch.rand(1, 3, 20, 18))
    kept = slice(4, 11), slice(3, 9)
    better = effort.refined(net, grid, hr, lr, lr, kept, 5, 8, lambda step: None)
    assert len(seen) == 5 + 1, 'what the last step made may be the best'
    changed = (better != lr).any(1)[0]
    assert changed[kept].any()
    changed[kept] = False
    assert not changed.any()


@pytest.mark.parametrize(('payload', 'known'), [(0, 8), (1, 7), (1.5, 6), (2, 6)])
def test_a_payload_leaves_fewer_known_bits(monkeypatch, payload, known):
    seen = []

    def refine(*args, bits, **options):
        seen.append((bits, args[4]))
        return args[2]

    monkeypatch.setattr(pixel_rescaler, 'refine_tiled', refine)
    monkeypatch.setattr(pixel_rescaler, 'available_memory', lambda: 1e9)
    net = tiny_net()
    Rescaler(net, 'tiny', 'cpu', payload=payload, effort=1).downscale(make_image(40, 36, seed=1), 2)
    tile = default_tile(net, (40, 36), (20, 18), 0.4e9 / (2 * len(net.blocks)))  # a step keeps the tensors of all
    assert seen == [(known, tile)]


def test_steps_that_lose_are_not_kept(monkeypatch):
    """Steps of a hundred grey levels make it worse each time: the pixels stay."""
    monkeypatch.setattr(effort, 'RATE', 0.4)
    net, hr = tiny_net(), make_image(40, 36, seed=1)
    lr = downscale_tiled(net, hr, (20, 18), 4096, CPU)
    assert np.array_equal(refine_tiled(net, hr, lr, 2, 4096, CPU), lr)


def test_tiles_see_each_other_and_all_count():
    """Every tile gains on what the others left; the callback is called for each."""
    net = tiny_net()
    hr = make_image(150, 140, seed=2)
    lr = downscale_tiled(net, hr, (75, 70), 4096, CPU)
    done = []
    better = refine_tiled(net, hr, lr, 3, 64, CPU, progress=done.append)
    assert done == pytest.approx([(k + 1) / 27 for k in range(27)])
    assert loss(net, hr, better) < loss(net, hr, lr)
    moved = (better != lr).any(2)
    assert all(moved[y:y + 25, x:x + 23].any() for y in (0, 25, 50) for x in (0, 23, 46))


def test_bar_on_a_terminal_only(monkeypatch):
    for terminal in (True, False):
        stream = io.StringIO()
        stream.isatty = lambda terminal=terminal: terminal
        monkeypatch.setattr(sys, 'stderr', stream)
        bar = Bar()
        for share in (0.25, 1.0, 0.5, 1.0):  # two pictures
            bar(share)
        assert bar._bar is None and ('%' in stream.getvalue()) == terminal
