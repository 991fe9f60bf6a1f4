"""Pictures with alpha: what a viewer shows of the LR and of the restored picture is right over any background."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import make_image, tiny_net
from PIL import Image, features

from iarn_basicsr.inference.cli import main
from iarn_basicsr.inference.picture_file import Picture, read_picture, write_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.tiling import down_tiled
from iarn_basicsr.inference.verify import PHOTOGRAPH

AVIF = pytest.mark.skipif(not features.check('avif'), reason='this Pillow has no AVIF')
SIDE = 60
BACKGROUNDS = np.array([[0, 0, 0], [255, 255, 255], [200, 60, 60]], np.float32)


def disc(radius: float, softness: float = 1, at: float = SIDE / 2 + 0.3) -> np.ndarray:
    """Alpha (SIDE, SIDE) in [0, 1]: 1 inside, and an edge of so many pixels."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.clip((radius - np.hypot(y - at, x - at)) / softness + 0.5, 0, 1)


def levels(alpha: np.ndarray) -> np.ndarray:
    return np.round(255 * alpha).astype(np.uint8)


def white_disc(softness: float) -> Picture:
    """White; black under alpha 0."""
    alpha = levels(disc(20, softness))
    return Picture(np.repeat((alpha[..., None] > 0) * np.uint8(255), 3, 2), alpha)


def shadowed(strength: float) -> Picture:
    """A white disc above a soft black shadow."""
    icon, shadow = disc(15), strength * cv2.GaussianBlur(disc(16, at=SIDE / 2 + 3), (0, 0), 3)
    alpha = icon + shadow * (1 - icon)
    return Picture(np.repeat(levels(icon / np.maximum(alpha, 1e-9))[..., None], 3, 2), levels(alpha))


def cut_out() -> Picture:
    """Bright detail with a hard edge, and pixels of alpha 3 and of any colour around it."""
    visible, noise = disc(20, 0.01) > 0, np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    detail = 200 + make_image(SIDE, SIDE, seed=4) // 8
    return Picture(np.where(visible[..., None], detail, noise), np.where(visible, 255, 3).astype(np.uint8))


def composites(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(backgrounds, H, W, 3) levels."""
    share = alpha[..., None].astype(np.float32) / 255
    return rgb * share + (1 - share) * BACKGROUNDS[:, None, None]


def premultiplied_lr(picture: Picture, size: tuple[int, int]) -> np.ndarray:
    """Composites of the bicubic LR of premultiplied colours."""
    alpha = picture.alpha[..., None].astype(np.float32)
    small = down_tiled(alpha, size, 'cubic_interp').clip(0, 255)
    colours = (down_tiled(picture.rgb * alpha, size, 'cubic_interp') / 255).clip(0, small)
    return colours + (1 - small / 255) * BACKGROUNDS[:, None, None]


@pytest.mark.parametrize(('picture', 'most'), [
    (white_disc(0.01), 2), (white_disc(1), 2), (white_disc(12), 2), (shadowed(0.6), 20), (shadowed(0.2), 20),
    (shadowed(0.08), 20), (cut_out(), 20)], ids=['hard', 'smooth', 'soft', 'shadow', 'light', 'lighter', 'cut out'])
@pytest.mark.parametrize(('weights', 'scale'), [('none', 1.5), ('none', 2), ('none', 3), ('none', 4),
                                                ('iarn_light_x1-4', 2)])
def test_composites(weights: str, scale: float, picture: Picture, most: int) -> None:
    """The LR is within ``most`` grey levels of the premultiplied LR; with straight colours it is 32 to 72 away.

    The restored picture has the smooth edges of its bicubic alpha, but no rings: over no background does it leave the
    range of what its original shows within 1.5 LR pixels by more than ``most`` + 10; with straight colours by 60 to 90.
    """
    lr, restored = Rescaler.load(weights).roundtrip(picture, scale)
    assert np.abs(composites(lr.rgb, lr.alpha) - premultiplied_lr(picture, lr.size)).max() <= most
    window = np.ones((2 * round(1.5 * scale) + 1,) * 2, np.uint8)
    for shown, original in zip(composites(restored.rgb, restored.alpha), composites(picture.rgb, picture.alpha)):
        assert (shown - cv2.dilate(original, window)).max() <= most + 10
        assert (cv2.erode(original, window) - shown).max() <= most + 10


def cleared(lr: Picture) -> Picture:
    """As optimisers of files leave it: black under alpha 0."""
    return replace(lr, rgb=np.where(lr.alpha[..., None] > 0, lr.rgb, np.uint8(0)))


@pytest.mark.parametrize(('weights', 'payload'), [('iarn_light_x1-4', 0), pytest.param('none', 2.3, marks=AVIF)])
def test_clearing_what_is_hidden_changes_nothing(weights: str, payload: float, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    """The payload included, although its first samples are hidden."""
    rescaler = Rescaler.load(weights, payload=payload)
    picture = Picture(read_picture(PHOTOGRAPH).rgb[90:150, 120:180], levels(disc(24)))
    lr = rescaler.downscale(picture, 2)
    other = cleared(lr)
    assert not lr.alpha[0].any() and (other.rgb != lr.rgb).any() and (lr.metadata.payload > 0) == (payload > 0)
    write_picture(other, str(tmp_path / 'lr.png'))
    whole, restored = rescaler.upscale(lr), rescaler.upscale(tmp_path / 'lr.png')
    assert np.array_equal(restored.rgb, whole.rgb) and restored.remarks == ()
    part = rescaler.upscale(other, region=(5, 10, 30, 40))
    assert np.abs(part.rgb - whole.rgb[5:35, 10:50].astype(int)).max() <= 1
    assert not main(['info', str(tmp_path / 'lr.png')])
    assert 'damaged' not in capsys.readouterr().out
    if payload:
        plain, opaque = Rescaler.load(weights).roundtrip(picture, 2).restored, picture.alpha == 255
        better, worse = (np.square(image.rgb[opaque].astype(float) - picture.rgb[opaque]).mean()
                         for image in (restored, plain))
        assert better < 0.7 * worse


def test_a_change_that_can_be_seen_is_found() -> None:
    lr = Rescaler.load('none').downscale(white_disc(1), 2)
    y, x = np.argwhere(lr.alpha == lr.alpha[lr.alpha > 0].min())[0]
    lr.rgb[y, x] ^= 1
    assert 'edited' in lr.metadata.change(lr.visible)


@pytest.mark.parametrize('mode', ['LA', 'RGBA', 'P', 'I;16'])
@pytest.mark.parametrize('shown', ['disc', 'nothing', 'one pixel', 'faint'])
def test_kinds_of_files(mode: str, shown: str, tmp_path: Path) -> None:
    """Whatever lies under alpha 0, what is visible is restored the same."""
    alpha = {'disc': levels(disc(10)), 'nothing': np.zeros((SIDE, SIDE), np.uint8), 'faint': 1 + levels(disc(9)) % 254,
             'one pixel': (np.arange(SIDE**2) == 700).reshape(SIDE, SIDE) * np.uint8(255)}[shown]
    restored = []
    for hidden in (0, 99):
        rgb = np.where(alpha[..., None] > 0, make_image(SIDE, SIDE, seed=6), np.uint8(hidden))
        path = str(tmp_path / f'{hidden}.png')
        if mode == 'I;16':
            cv2.imwrite(path, np.dstack([rgb[..., ::-1], alpha]).astype(np.uint16) * 257)
        elif mode == 'P':
            index = np.where(alpha > 0, rgb[..., 0] // 64 + 1, 0).astype(np.uint8)
            file = Image.fromarray(index, 'P')
            file.putpalette([hidden] * 3 + [10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 220])
            file.save(path, transparency=0)
        else:
            Image.fromarray(np.dstack([rgb, alpha])).convert(mode).save(path)
        rescaler = Rescaler(tiny_net(), 'tiny', device='cpu')
        rescaler.downscale_file(path, str(tmp_path / 'lr.png'), scale=2.5)
        restored.append(rescaler.upscale_file(str(tmp_path / 'lr.png'), str(tmp_path / 'whole.png')))
        assert read_picture(path).alpha is not None
    assert np.array_equal(restored[0].rgb, restored[1].rgb) and np.array_equal(restored[0].alpha, restored[1].alpha)
