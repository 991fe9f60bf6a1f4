"""Images of any size in bounded memory: tiles cut in global coordinates, so that tiled equals untiled.

Every tile sees the maps of the whole image (a window of them), not maps of its own, and enough surroundings (the halo)
for what the convolutions and the right inverse reach; only the middle of its result is kept.
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
from iarn_basicsr.ops.size import Size

from .limits import SMALLEST_TILE

__all__ = ['HALO', 'AxisTile', 'bicubic_downscale_tiled', 'bicubic_upscale_tiled', 'default_tile', 'down_tiled',
           'downscale_tiled', 'maps_of', 'reuse_freed_memory', 'tiles_of', 'up_tiled', 'upscale_tiled']

HALO = 24  # LR pixels around a tile: 16 already leave differences of one grey level on 1e-5 of the pixels only
BICUBIC_TILE = 1024
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_trim: Callable[[int], object] | None = None  # glibc's malloc_trim, once reuse_freed_memory was called
Part = tuple[AxisWindow, AxisWindow]  # vertical and horizontal window of a grid
Maps = Callable[[Part], Grid]
Work = Callable[[Grid, torch.Tensor], torch.Tensor]  # maps and planes of a window -> planes


def _halo(n: int, m: int) -> int:
    """LR samples around a tile of an axis of n HR and m LR samples: :data:`HALO`, and more just above scale 1.

    There D averages two HR samples wherever an LR sample lies midway between them, and its right inverse reaches far:
    2.25 sqrt(n / (n - m)) samples until it falls below 1e-3 (measured for ``cubic`` and ``area``, n up to 16000).
    """
    reach = 0.0 if n == m else 2.25 * math.sqrt(n / (n - m))
    return HALO + max(0, math.ceil(reach) - 8)


class AxisTile(NamedTuple):
    """Along one axis: what is kept of the result, and the window that is computed."""

    lr: slice
    hr: slice
    window: AxisWindow

    @property
    def small(self) -> slice:
        """The window of the LR image."""
        return slice(self.window.lr_start, self.window.lr_stop)

    @property
    def large(self) -> slice:
        """The window of the HR image."""
        return slice(self.window.hr_start, self.window.hr_stop)

    @property
    def lr_inside(self) -> slice:
        """``lr`` within the window."""
        return slice(self.lr.start - self.window.lr_start, self.lr.stop - self.window.lr_start)

    @property
    def hr_inside(self) -> slice:
        """``hr`` within the window."""
        return slice(self.hr.start - self.window.hr_start, self.hr.stop - self.window.hr_start)


def _axis_tiles(n: int, m: int, tile: int) -> list[AxisTile]:
    """Tiles of about ``tile`` HR samples along an axis of n HR and m LR samples.

    Their windows are equally large, at both ends too: the tensors of a tile then fit where those of the one before it
    lay. With windows of many sizes the C library held 0.5 GB more after 30 tiles of 33 megapixels at x2.
    """
    count, halo = max(1, math.ceil(n / tile)), _halo(n, m)
    edges = [round(k * m / count) for k in range(count + 1)]
    small = min(m, math.ceil(m / count) + 2 * halo)
    large = min(n, math.ceil(small * n / m) + 1)
    tiles = []
    for start, stop in zip(edges, edges[1:]):
        low = min(max(0, start - halo), m - small)
        first = min(math.floor(low * n / m), n - large)
        kept = slice(math.ceil(start * n / m), math.ceil(stop * n / m))
        tiles.append(AxisTile(slice(start, stop), kept, AxisWindow(first, first + large, low, low + small)))
    return [t for t in tiles if t.lr.stop > t.lr.start]


def tiles_of(hr: Size, lr: Size, tile: int, maps: Maps) -> list[tuple[AxisTile, AxisTile, Grid]]:
    """All tiles of an image, vertical and horizontal, and their maps.

    The maps of all are made before the first tile is computed: they stay while its tensors come and go, and made
    between them they would leave the C library holes that the next tile does not fit (0.25 GB after 24 tiles of 33
    megapixels at x2).
    """
    if _trim:
        _trim(0)
    return [(v, h, maps((v.window, h.window)))
            for v in _axis_tiles(hr[0], lr[0], tile) for h in _axis_tiles(hr[1], lr[1], tile)]


def tile_count(hr: Size, lr: Size, tile: int) -> int:
    """Number of tiles of an image."""
    return len(_axis_tiles(hr[0], lr[0], tile)) * len(_axis_tiles(hr[1], lr[1], tile))


def downscale_tiled(net: IARN, hr: np.ndarray, size: Size, tile: int, device: torch.device,
                    done: Callable[[], object] = lambda: None) -> np.ndarray:
    """HR (H, W, 3) uint8 or uint16 RGB -> LR (h, w, 3) uint8; ``done`` is called after every tile.

    Args:
        tile: side of a tile in HR pixels; the halo comes on top.
    """
    maps = maps_of(net, (hr.shape[0], hr.shape[1]), size)
    return _down(maps, lambda g, x: net.downscale_on(g, x).lr, hr, size, tile, device, done)


def upscale_tiled(net: IARN, lr: np.ndarray, size: Size, tile: int, device: torch.device,
                  done: Callable[[], object] = lambda: None,
                  values: Callable[[torch.Tensor], np.ndarray] = to_pixels) -> np.ndarray:
    """LR (h, w, 3) uint8 RGB, or levels, -> restored HR (H, W, 3) uint8, or what ``values`` makes of a tile.

    ``done`` is called after every tile.
    """
    small = (lr.shape[0], lr.shape[1])
    return _up(maps_of(net, size, small), net.upscale_on, lr, size, tile, device, done, values)


def maps_of(net: IARN, hr: Size, lr: Size) -> Maps:
    """Makes the maps of a window between two sizes of images."""
    return lambda part: net.grid_of(net.like, hr, lr, part).prepare()


def bicubic_downscale_tiled(hr: np.ndarray, size: Size) -> np.ndarray:
    """``ops.bicubic_downscale`` of (H, W, C) uint8 or uint16 pixels, to uint8."""
    return _down(_bicubic((hr.shape[0], hr.shape[1]), size), Grid.down, hr, size, BICUBIC_TILE, torch.device('cpu'))


def bicubic_upscale_tiled(lr: np.ndarray, size: Size) -> np.ndarray:
    """``ops.resample.bicubic_upscale`` of (h, w, C) uint8 or uint16 pixels, to uint8."""
    small = (lr.shape[0], lr.shape[1])
    return _up(_bicubic(size, small), Grid.up, lr, size, BICUBIC_TILE, torch.device('cpu'))


def down_tiled(hr: np.ndarray, size: Size, split: str) -> np.ndarray:
    """D of a split, of (H, W, C) pixels or levels -> (h, w, C) float32 levels."""
    maps = _linear((hr.shape[0], hr.shape[1]), size, split)
    return _down(maps, Grid.down, hr, size, BICUBIC_TILE, torch.device('cpu'), values=to_levels)


def up_tiled(lr: np.ndarray, size: Size, split: str) -> np.ndarray:
    """U of a split, of (h, w, C) pixels or levels -> (H, W, C) float32 levels."""
    maps = _linear(size, (lr.shape[0], lr.shape[1]), split)
    return _up(maps, Grid.up, lr, size, BICUBIC_TILE, torch.device('cpu'), values=to_levels)


def _bicubic(hr: Size, lr: Size) -> Maps:
    return _linear(hr, lr, 'cubic_interp')


def _linear(hr: Size, lr: Size, split: str) -> Maps:
    return lambda part: make_grid(hr, lr, split, 1, torch.float32, torch.device('cpu'), part)


@torch.no_grad()
def _down(maps: Maps, work: Work, hr: np.ndarray, size: Size, tile: int, device: torch.device,
          done: Callable[[], object] = lambda: None,
          values: Callable[[torch.Tensor], np.ndarray] = to_pixels) -> np.ndarray:
    """LR of every tile by ``work``, put together: pixels, or what ``values`` makes of it."""
    lr = np.empty((*size, hr.shape[2]), np.uint8 if values is to_pixels else np.float32)
    for v, h, g in tiles_of((hr.shape[0], hr.shape[1]), size, tile, maps):
        made = work(g, to_tensor(hr[v.large, h.large])[None].to(device))[0]
        lr[v.lr, h.lr] = values(made)[v.lr_inside, h.lr_inside]
        done()
    return lr


@torch.no_grad()
def _up(maps: Maps, work: Work, lr: np.ndarray, size: Size, tile: int, device: torch.device,
        done: Callable[[], object] = lambda: None,
        values: Callable[[torch.Tensor], np.ndarray] = to_pixels) -> np.ndarray:
    """HR of every tile by ``work``, put together: pixels, or what ``values`` makes of it."""
    hr = np.empty((*size, lr.shape[2]), np.uint8 if values is to_pixels else np.float32)
    for v, h, g in tiles_of(size, (lr.shape[0], lr.shape[1]), tile, maps):
        made = work(g, to_tensor(lr[v.small, h.small])[None].to(device))[0]
        hr[v.hr, h.hr] = values(made)[v.hr_inside, h.hr_inside]
        done()
    return hr


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
    clearing pages (8.3 megapixels, x2, 2 threads: 1.4 times as fast with this). What it then holds is given back before
    the next image. It concerns the whole process, so programs call it and the library does not.

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
