"""Tiles: they partition the image, and what they make equals what the whole image makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_image, tiny_net
from hypothesis import example, given, settings
from hypothesis import strategies as st

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.inference import SMALLEST_TILE, tiling
from iarn_basicsr.inference.tiling import (
    BICUBIC_TILE,
    HALO,
    bicubic_downscale_tiled,
    bicubic_upscale_tiled,
    default_tile,
    downscale_tiled,
    upscale_tiled,
)
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import bicubic_downscale, bicubic_upscale
from iarn_basicsr.ops.size import lr_size

CPU = torch.device('cpu')
WHOLE = 10**6  # a tile that holds any image
KINDS = {  # network, HR and LR size: nothing divides anything
    'randomised': ({'std': 0.05, 'num_block': 2}, (157, 211), (63, 84)),
    'like a trained one': ({'std': 0.005, 'num_block': 3, 'width': 8}, (127, 173), (115, 43)),
    'area': ({'std': 0.01, 'split': 'area'}, (131, 167), (59, 75)),
    'cubic_interp': ({'std': 0.01, 'split': 'cubic_interp'}, (131, 167), (59, 75)),
    'hr_grid': ({'std': 0.01, 'coupling': 'hr_grid', 'fold': 1}, (131, 167), (59, 75)),
}


def tile_count(hr: tuple[int, int], lr: tuple[int, int], tile: int) -> int:
    return len(tiling.tiles_of(hr, lr, tile, lambda window: None))


def noisy_image(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-25, 26, (height, width, 3))
    return (make_image(height, width, seed=1)[..., ::-1].astype(int) + noise).clip(0, 255).astype(np.uint8)


def check_close(tiled: np.ndarray, whole: np.ndarray, same: float = 0.998) -> None:
    """The promise: one grey level on 99.99 % of the pixels, two on the rest. In fact nearly all are the same."""
    difference = np.abs(tiled.astype(int) - whole.astype(int)).max(2)
    assert tiled.shape == whole.shape
    assert difference.max() <= 2
    assert (difference <= 1).mean() >= 0.9999
    assert (difference == 0).mean() >= same


# ------------------------------------------------------------------------------------------------------ partition


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.floats(1, 8), st.integers(1, 500), st.floats(0, 1), st.floats(0, 1))
@example(n=1, share=1, tile=1, begin=0, end=1)
@example(n=400, share=4, tile=1, begin=0, end=1)
@example(n=8192, share=1.0001, tile=500, begin=0, end=1)
def test_axis_tiles_partition(n: int, share: float, tile: int, begin: float, end: float) -> None:
    """Every sample of the part, and of the LR of a whole, is written once; windows hold what is written, and the halo
    where there is room, and are equally large: tensors of many sizes fragment the memory."""
    m, start = max(1, round(n / share)), min(n - 1, int(begin * n))
    part = slice(start, start + max(1, int(end * (n - start))))
    tiles = tiling._axis_tiles(n, m, tile, part)
    assert len({(t.window.hr_stop - t.window.hr_start, t.window.lr_stop - t.window.lr_start) for t in tiles}) == 1
    written, of_lr = ([k for t in tiles for k in range(*getattr(t, name).indices(n))] for name in ('hr', 'lr'))
    assert written == list(range(part.stop - part.start))
    assert of_lr == list(range(of_lr[0], of_lr[-1] + 1)) and (part != slice(0, n) or len(of_lr) == m)
    for t in tiles:
        w = t.window
        assert 0 <= w.hr_start <= part.start + t.hr.start < part.start + t.hr.stop <= w.hr_stop <= n
        assert w.hr_start + t.hr_inside.start == part.start + t.hr.start
        assert t.hr_inside.stop - t.hr_inside.start == t.hr.stop - t.hr.start
        assert 0 <= w.lr_start <= max(0, t.lr.start - tiling._halo(n, m))
        assert m >= w.lr_stop >= min(m, t.lr.stop + tiling._halo(n, m))
        assert w.hr_start * m <= w.lr_start * n and w.hr_stop * m >= w.lr_stop * n  # all that its LR samples cover


# ------------------------------------------------------------------------------------------------------- equality


@pytest.mark.parametrize('kind', KINDS)
def test_tiled_equals_untiled(kind: str) -> None:
    options, hr, size = KINDS[kind]
    net, image = tiny_net(**options), noisy_image(*hr)
    assert tile_count(hr, size, 60) >= 4 and tile_count(hr, size, WHOLE) == 1
    lr = downscale_tiled(net, image, size, WHOLE, CPU)
    assert np.abs(lr.astype(int) - bicubic_downscale_tiled(image, size)).max() > 3  # the network does something
    check_close(downscale_tiled(net, image, size, 60, CPU), lr)
    check_close(upscale_tiled(net, lr, hr, 60, CPU), upscale_tiled(net, lr, hr, WHOLE, CPU))


@pytest.mark.parametrize(('resample', 'n', 'm'), [('cubic', 700, 699), ('area', 650, 640)])
def test_just_above_scale_1_the_halo_grows(resample: str, n: int, m: int) -> None:
    """There the right inverse reaches far; with the plain halo some pixels are off by 16 grey levels."""
    assert tiling._halo(1000, 999) > tiling._halo(1000, 980) > tiling._halo(1000, 900) == HALO
    net, image = tiny_net(std=0.005, split=resample), noisy_image(12, n)
    lr = downscale_tiled(net, image, (12, m), WHOLE, CPU)
    check_close(downscale_tiled(net, image, (12, m), n // 4, CPU), lr)
    check_close(upscale_tiled(net, lr, (12, n), n // 4, CPU), upscale_tiled(net, lr, (12, n), WHOLE, CPU))


def test_bicubic(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the whole at once, to the bit where there is one tile, in tiles where the image is larger than one."""
    image, size = noisy_image(157, 211)[..., :1], (63, 84)
    whole = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255

    def pixels(x: torch.Tensor) -> np.ndarray:
        return (quantise(x)[0] * 255).round().byte().permute(1, 2, 0).numpy()

    small = pixels(bicubic_downscale(whole, size))
    large = pixels(bicubic_upscale(torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255, (157, 211)))
    assert np.array_equal(bicubic_downscale_tiled(image, size), small) and BICUBIC_TILE > 211
    assert np.array_equal(bicubic_upscale_tiled(small, (157, 211)), large)
    planes, sizes = tiling.to_tensor, list[tuple[int, ...]]()
    monkeypatch.setattr(tiling, 'to_tensor', lambda part: sizes.append(part.shape) or planes(part))
    monkeypatch.setattr(tiling, 'BICUBIC_TILE', 40)
    check_close(bicubic_downscale_tiled(image, size), small)
    check_close(bicubic_upscale_tiled(small, (157, 211)), large)
    assert len(sizes) == 2 * tile_count((157, 211), size, 40) and (157, 211, 1) not in sizes


# -------------------------------------------------------------------------------------------------- size of a tile


@settings(max_examples=50, deadline=None)
@given(st.floats(1e3, 1e12), st.floats(1, 100), st.tuples(st.floats(1, 4), st.floats(1, 4)))
def test_default_tile_is_monotone_in_memory(memory: float, more: float, scale: tuple[float, float]) -> None:
    net, hr = IARN(num_block=1, width=4), (3000, 4000)
    lr = lr_size(hr, scale)
    small, large = default_tile(net, hr, lr, memory), default_tile(net, hr, lr, memory * more)
    assert SMALLEST_TILE <= small <= large
    for tile, room in ((small, memory), (large, memory * more)):  # 40 floats a pixel at least, with the halo
        assert tile == SMALLEST_TILE or 4 * 40 * (tile + 2 * HALO)**2 <= room


def test_default_tile_knows_network_and_scale() -> None:
    small, large = IARN(num_block=1, width=4), IARN(num_block=1, width=64)
    assert default_tile(large, (3000, 4000), (1500, 2000), 5e8) < default_tile(small, (3000, 4000), (1500, 2000), 5e8)
    assert default_tile(small, (3000, 4000), (2900, 3900), 5e8) < default_tile(small, (3000, 4000), (750, 1000), 5e8)
    assert default_tile(small, (3000, 4000), (1500, 2000), 0) == SMALLEST_TILE
    bare = IARN(num_block=0, extra_channels=0)  # 4 (6 x order 3 / 2 + 40) bytes a pixel
    assert default_tile(bare, (3000, 4000), (1500, 2000), 196e6) == 1000 - 2 * 2 * HALO


@pytest.mark.parametrize('run', [downscale_tiled, upscale_tiled])
def test_maps_come_before_the_first_tile_and_memory_is_given_back_once(monkeypatch: pytest.MonkeyPatch,
                                                                      run: object) -> None:
    """Maps made between the tiles would pin the C library's memory; giving back has to be asked for."""
    net, events = tiny_net(), []
    image, size = (make_image(150, 170, 0), (75, 85)) if run is downscale_tiled else (make_image(75, 85, 0), (150, 170))
    count, make = tile_count((150, 170), (75, 85), 48), net.grid_of
    monkeypatch.setattr(net, 'grid_of', lambda *args: events.append('maps') or make(*args))
    for trim, first in ((None, []), (lambda pad: events.append('trim'), ['trim'])):
        monkeypatch.setattr(tiling, '_trim', trim)
        events.clear()
        run(net, image, size, 48, CPU, lambda share: events.append('tile'))
        assert count >= 4 and events == first + ['maps'] * count + ['tile'] * count
