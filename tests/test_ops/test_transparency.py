"""Colours blended by alpha: the formula pixel by pixel, and no trace of what lies under alpha 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import make_image

from iarn_basicsr.ops.transparency import blended, seen, whole


def expected(rgb: np.ndarray, alpha: np.ndarray, reach: tuple[int, int], y: int, x: int) -> np.ndarray:
    """The formula of the module at one pixel around which there is something to see."""
    near = np.s_[max(0, y - reach[0]):y + reach[0] + 1, max(0, x - reach[1]):x + reach[1] + 1]
    weights = alpha[near].astype(float)[..., None]
    w = alpha[y, x] / weights.max()
    return w * rgb[y, x] + (1 - w) * (weights * rgb[near]).sum((0, 1)) / weights.sum()


@pytest.mark.parametrize(('lr', 'reach'), [((65, 5), (1, 1)), ((90, 4), (1, 2)), ((37, 10), (3, 0))])
@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_every_visible_pixel(lr: tuple[int, int], reach: tuple[int, int], kind: type) -> None:
    """The picture is higher than two strips of rows."""
    rgb = make_image(130, 10, seed=3).astype(kind) * (257 if kind is np.uint16 else 1)
    alpha = np.random.default_rng(0).choice(np.array([0, 1, 30, 200, 255], np.uint8), (130, 10))
    found = blended(rgb, alpha, lr)
    assert found.dtype == kind and np.array_equal(found[alpha == 255], rgb[alpha == 255])
    for y, x in zip(*np.nonzero(alpha)):
        np.testing.assert_allclose(found[y, x], expected(rgb, alpha, reach, y, x), atol=0.51)


def test_what_leaves_all_as_it_is() -> None:
    rgb = make_image(20, 30, seed=1)
    assert blended(rgb, np.full((20, 30), 255, np.uint8), (10, 15)) is rgb
    assert np.array_equal(blended(rgb, np.full((20, 30), 7, np.uint8), (10, 15)), rgb)
    for opaque in (None, np.full((20, 30), 1, np.uint8)):
        assert seen(rgb, opaque) is rgb and whole(rgb, opaque) is rgb


@pytest.mark.parametrize('spot', [(0, 0), (150, 299), (70, 131)])
def test_one_visible_pixel_colours_all(spot: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (151, 300, 3), dtype=np.uint8)
    alpha = np.zeros((151, 300), np.uint8)
    alpha[spot] = 3
    for made in (blended(rgb, alpha, (50, 100)), whole(seen(rgb, alpha), alpha)):
        assert (made == rgb[spot]).all()


def test_nothing_visible_is_black() -> None:
    rgb, alpha = make_image(20, 30, seed=1), np.zeros((20, 30), np.uint8)
    assert not blended(rgb, alpha, (10, 15)).any() and not whole(seen(rgb, alpha), alpha).any()


@pytest.mark.parametrize('kind', [np.uint8, np.float32])
def test_hidden_pixels_follow_from_the_others(kind: type) -> None:
    """Near the visible ones they are the mean of those that touch them; levels are not rounded."""
    alpha = np.zeros((90, 40), np.uint8)
    alpha[:, :12] = 1 + np.arange(12)
    image = make_image(90, 40, seed=2).astype(kind) + kind(0.5)
    found = whole(seen(image, alpha), alpha)
    assert found.dtype == kind and np.array_equal(found[:, :12], image[:, :12])
    near = np.stack([image[y:y + 3, 11].mean(0, dtype=float) for y in range(88)])
    np.testing.assert_allclose(found[1:-1, 12], near, atol=0.51 if kind is np.uint8 else 1e-3)
    assert (found[:, 12:] != 0).any(-1).all()
    changed = np.where(alpha[..., None] > 0, image, kind(77))
    assert math.prod(seen(changed, alpha).shape) == 3 * 90 * 12
    assert np.array_equal(whole(seen(changed, alpha), alpha), found)
