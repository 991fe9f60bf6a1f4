"""Images of any size, and parts of them, in bounded memory: tiles in global coordinates, so that tiled equals untiled.

Every tile sees a window of the maps of the whole image, not maps of its own, and enough surroundings (the halo) for
what the convolutions and the right inverse reach; only the middle of its result is kept.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from iarn_basicsr.archs.grid import AxisWindow, Grid, make_grid
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.ops.image import to_levels, to_pixels, to_tensor
from iarn_basicsr.ops.size import Part, Size, part_of, part_size

from . import SMALLEST_TILE

__all__ = ['HALO', 'AxisTile', 'Progress', 'bicubic_downscale_tiled', 'bicubic_upscale_tiled', 'default_tile',
           'down_tiled', 'downscale_tiled', 'grid_factory', 'no_progress', 'reuse_freed_memory', 'tiles_of',
           'up_tiled', 'upscale_tiled']

HALO = 24  # LR pixels around a tile: 16 already leave differences of one grey level on 1e-5 of the pixels only
BICUBIC_TILE = 1024
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_CPU = torch.device('cpu')
_trim: Callable[[int], object] | None = None  # glibc's malloc_trim, once reuse_freed_memory was called
GridFactory = Callable[[tuple[AxisWindow, AxisWindow]], Grid]  # makes the grid of a vertical and a horizontal window
Progress = Callable[[float], object]  # receives the share that is done, up to 1
Values = Callable[[torch.Tensor], np.ndarray]  # planes to pixels or levels


def no_progress(share: float) -> None:
    """The ``Progress`` of those who do not ask."""


def _halo(n: int, m: int) -> int:
    """LR samples around a tile of an axis of n HR and m LR samples: ``HALO``, and more just above scale 1.

    There D averages two HR samples wherever an LR sample lies midway between them, and its right inverse reaches far:
    2.25 sqrt(n / (n - m)) samples until it falls below 1e-3 (measured for ``cubic`` and ``area``, n up to 16000).
    """
    reach = 0.0 if n == m else 2.25 * math.sqrt(n / (n - m))
    return HALO + max(0, math.ceil(reach) - 8)


class AxisTile(NamedTuple):
    """Along one axis: the window that is computed, and slices.

    Attributes:
        window: of the maps of the whole image.
        lr, hr: the kept part, within the LR image and within the part of the HR image that is made.
        small, large: the window, within the LR and the HR image.
        lr_inside, hr_inside: the kept part, within the window.
    """

    window: AxisWindow
    lr: slice
    hr: slice
    small: slice
    large: slice
    lr_inside: slice
    hr_inside: slice


def _axis_tiles(n: int, m: int, tile: int, part: slice) -> list[AxisTile]:
    """Tiles of about ``tile`` HR samples that cover a part of an axis of n HR and m LR samples.

    All windows have one size, at both ends too, so that each tile's tensors fit into the memory of the one before. With
    many sizes the C library held 0.5 GB more after 30 tiles of 33 megapixels at x2.
    """
    count, halo = math.ceil((part.stop - part.start) / tile), _halo(n, m)
    begin, end = part.start * m // n, (part.stop - 1) * m // n + 1  # LR samples that cover it
    edges = [begin + round(k * (end - begin) / count) for k in range(count + 1)]
    small = min(m, math.ceil((end - begin) / count) + 2 * halo)
    large = min(n, math.ceil(small * n / m) + 1)
    tiles = []
    for start, stop in zip(edges, edges[1:]):
        low = min(max(0, start - halo), m - small)
        first = min(math.floor(low * n / m), n - large)
        top, bottom = max(part.start, math.ceil(start * n / m)), min(part.stop, math.ceil(stop * n / m))
        tiles.append(AxisTile(
            AxisWindow(first, first + large, low, low + small), lr=slice(start, stop),
            hr=slice(top - part.start, bottom - part.start),
            small=slice(low, low + small), large=slice(first, first + large),
            lr_inside=slice(start - low, stop - low), hr_inside=slice(top - first, bottom - first)))
    return [t for t in tiles if t.lr.stop > t.lr.start]


def tiles_of(hr: Size, lr: Size, tile: int, grids: GridFactory,
             part: Part | None = None) -> list[tuple[AxisTile, AxisTile, Grid]]:
    """The tiles of an image or of a part of the HR one, vertical and horizontal, and their grids.

    All grids are made before the first tile is computed: they stay while its tensors come and go, and made between
    them they would leave the C library holes that the next tile does not fit (0.25 GB after 24 tiles of 33 megapixels
    at x2).
    """
    if _trim:
        _trim(0)
    vertical, horizontal = (_axis_tiles(n, m, tile, of) for n, m, of in zip(hr, lr, part or part_of(hr)))
    return [(v, h, grids((v.window, h.window))) for v in vertical for h in horizontal]


def grid_factory(net: IARN, hr: Size, lr: Size) -> GridFactory:
    """Makes the grids of a network for windows of an image."""
    return lambda window: net.grid_of(net.like, hr, lr, window)


@torch.no_grad()
def downscale_tiled(net: IARN, hr: np.ndarray, size: Size, tile: int, device: torch.device,
                    progress: Progress = no_progress) -> np.ndarray:
    """HR (H, W, 3) uint8 or uint16 RGB -> LR (h, w, 3) uint8.

    Args:
        net: the network.
        hr: the image.
        size: (h, w) of the LR.
        tile: side of a tile in HR pixels; the halo comes on top.
        device: that of the network.
        progress: called after every tile.
    """
    lr = np.empty((*size, 3), np.uint8)
    large = hr.shape[0], hr.shape[1]
    tiles = tiles_of(large, size, tile, grid_factory(net, large, size))
    for number, (v, h, grid) in enumerate(tiles, 1):
        made = net.downscale_on(grid, to_tensor(hr[v.large, h.large])[None].to(device)).lr[0]
        lr[v.lr, h.lr] = to_pixels(made)[v.lr_inside, h.lr_inside]
        progress(number / len(tiles))
    return lr


@torch.no_grad()
def upscale_tiled(net: IARN, lr: np.ndarray, size: Size, tile: int, device: torch.device,
                  progress: Progress = no_progress, values: Values = to_pixels, part: Part | None = None) -> np.ndarray:
    """LR (h, w, 3) uint8 RGB, or levels -> a part of the restored HR of ``size``, as ``values`` makes it of planes.

    The arguments are those of ``downscale_tiled``; without ``part`` it is all of the HR.
    """
    hr = _blank(size, part, 3, values)
    small = lr.shape[0], lr.shape[1]
    tiles = tiles_of(size, small, tile, grid_factory(net, size, small), part)
    for number, (v, h, grid) in enumerate(tiles, 1):
        made = net.upscale_on(grid, to_tensor(lr[v.small, h.small])[None].to(device))[0]
        hr[v.hr, h.hr] = values(made)[v.hr_inside, h.hr_inside]
        progress(number / len(tiles))
    return hr


def bicubic_downscale_tiled(hr: np.ndarray, size: Size) -> np.ndarray:
    """``ops.bicubic_downscale`` of (H, W, C) uint8 or uint16 pixels, to uint8."""
    return down_tiled(hr, size, 'cubic_interp', to_pixels)


def bicubic_upscale_tiled(lr: np.ndarray, size: Size, part: Part | None = None) -> np.ndarray:
    """``ops.resample.bicubic_upscale`` of (h, w, C) uint8 or uint16 pixels, to uint8; all of it or a part."""
    return up_tiled(lr, size, 'cubic_interp', to_pixels, part)


@torch.no_grad()
def down_tiled(hr: np.ndarray, size: Size, split: str, values: Values = to_levels) -> np.ndarray:
    """D of a split, of (H, W, C) pixels or levels -> (h, w, C), as ``values`` makes it of planes."""
    lr = _blank(size, None, hr.shape[2], values)
    large = hr.shape[0], hr.shape[1]
    for v, h, grid in tiles_of(large, size, BICUBIC_TILE, _linear_grids(large, size, split)):
        made = grid.down(to_tensor(hr[v.large, h.large])[None])[0]
        lr[v.lr, h.lr] = values(made)[v.lr_inside, h.lr_inside]
    return lr


@torch.no_grad()
def up_tiled(lr: np.ndarray, size: Size, split: str, values: Values = to_levels,
             part: Part | None = None) -> np.ndarray:
    """U of a split, of (h, w, C) pixels or levels -> (H, W, C) or a part, as ``values`` makes it of planes."""
    hr = _blank(size, part, lr.shape[2], values)
    small = lr.shape[0], lr.shape[1]
    for v, h, grid in tiles_of(size, small, BICUBIC_TILE, _linear_grids(size, small, split), part):
        made = grid.up(to_tensor(lr[v.small, h.small])[None])[0]
        hr[v.hr, h.hr] = values(made)[v.hr_inside, h.hr_inside]
    return hr


def _linear_grids(hr: Size, lr: Size, split: str) -> GridFactory:
    return lambda window: make_grid(hr, lr, split, 1, torch.float32, _CPU, window)


def _blank(size: Size, part: Part | None, channels: int, values: Values) -> np.ndarray:
    return np.empty((*part_size(part or part_of(size)), channels), np.uint8 if values is to_pixels else np.float32)


def default_tile(net: IARN, hr: Size, lr: Size, memory: float) -> int:
    """Largest tile (HR pixels a side) whose computation stays within ``memory`` bytes.

    The cost of a pixel is counted from the widest tensors of a block: the input of the last convolution of the affine
    net and its output (twice, it is reordered) on the LR grid; state, log-scale and shift on the HR grid.
    """
    widest = max((p.shape[0] * 2 + p.shape[1] * 2 for p in net.parameters() if p.dim() == 4), default=0)
    ratio = (lr[0] / hr[0]) * (lr[1] / hr[1])
    per_pixel = 4 * (widest * ratio + 6 * net.order * math.sqrt(ratio) + 40)
    halo = max(_halo(n, m) for n, m in zip(hr, lr))
    side = math.sqrt(memory / per_pixel) - 2 * halo / math.sqrt(ratio)
    return max(SMALLEST_TILE, int(side))


def reuse_freed_memory() -> bool:
    """Let glibc give the memory of freed tensors to the next ones; where there is no glibc, nothing happens.

    By default it maps every tensor of more than 32 MB anew and returns it at once, so that much of the time goes into
    clearing pages (8.3 megapixels, x2, 2 threads: 1.4 times as fast with this). What it holds is given back before the
    next image. This concerns the whole process, so programs call it and the library does not.

    Returns:
        whether it was set.
    """
    global _trim
    try:
        libc = ctypes.CDLL(None)
        mallopt, _trim = libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**28))
