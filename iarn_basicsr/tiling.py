"""Images of any size in bounded memory: tiles cut in global coordinates, so that tiled equals untiled.

Every tile sees the maps of the whole image (a window of them), not maps of its own, and enough surroundings (the halo)
for what the convolutions and the right inverse reach; only the middle of its result is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.ops import quantise
from iarn_basicsr.ops.grid import AxisWindow
from iarn_basicsr.ops.size import Size

__all__ = ['HALO', 'default_tile', 'downscale_tiled', 'upscale_tiled']

HALO = 24  # LR pixels around a tile: 16 already leave differences of one grey level on 1e-5 of the pixels only
SMALLEST_TILE = 64  # HR pixels


def _halo(n: int, m: int) -> int:
    """LR samples around a tile of an axis of n HR and m LR samples: :data:`HALO`, and more just above scale 1.

    There D averages two HR samples wherever an LR sample lies midway between them, and its right inverse reaches far:
    2.25 sqrt(n / (n - m)) samples until it falls below 1e-3 (measured for ``cubic`` and ``area``, n up to 16000).
    """
    reach = 0.0 if n == m else 2.25 * math.sqrt(n / (n - m))
    return HALO + max(0, math.ceil(reach) - 8)


class _Tile(NamedTuple):
    """Along one axis: what is kept of the result, and the window that is computed."""

    lr: slice
    hr: slice
    window: AxisWindow


def _axis_tiles(n: int, m: int, tile: int) -> list[_Tile]:
    """Tiles of about ``tile`` HR samples along an axis of n HR and m LR samples."""
    count = max(1, math.ceil(n / tile))
    edges, halo = [round(k * m / count) for k in range(count + 1)], _halo(n, m)
    tiles = []
    for start, stop in zip(edges, edges[1:]):
        low, high = max(0, start - halo), min(m, stop + halo)
        window = AxisWindow(math.floor(low * n / m), math.ceil(high * n / m), low, high)
        tiles.append(_Tile(slice(start, stop), slice(math.ceil(start * n / m), math.ceil(stop * n / m)), window))
    return [t for t in tiles if t.lr.stop > t.lr.start]


def _inside(part: slice, start: int) -> slice:
    return slice(part.start - start, part.stop - start)


def _tiles(hr: Size, lr: Size, tile: int) -> Iterator[tuple[_Tile, _Tile]]:
    for vertical in _axis_tiles(hr[0], lr[0], tile):
        for horizontal in _axis_tiles(hr[1], lr[1], tile):
            yield vertical, horizontal


def tile_count(hr: Size, lr: Size, tile: int) -> int:
    """Number of tiles of an image."""
    return len(_axis_tiles(hr[0], lr[0], tile)) * len(_axis_tiles(hr[1], lr[1], tile))


@torch.no_grad()
def downscale_tiled(net: IARN, hr: np.ndarray, size: Size, tile: int, device: torch.device,
                    done: Callable[[], object] = lambda: None) -> np.ndarray:
    """HR (H, W, 3) uint8 or uint16 RGB -> LR (h, w, 3) uint8; ``done`` is called after every tile.

    Args:
        tile: side of a tile in HR pixels; the halo comes on top.
    """
    whole = (hr.shape[0], hr.shape[1])
    lr = np.empty((*size, 3), np.uint8)
    peak = np.float32(np.iinfo(hr.dtype).max)
    for v, h in _tiles(whole, size, tile):
        part = hr[v.window.hr_start:v.window.hr_stop, h.window.hr_start:h.window.hr_stop]
        x = _planes(part, peak, device)
        g = net.grid(x, whole, size, (v.window, h.window))
        out = _pixels(net.downscale_on(g, x).lr)
        lr[v.lr, h.lr] = out[_inside(v.lr, v.window.lr_start), _inside(h.lr, h.window.lr_start)]
        done()
    return lr


@torch.no_grad()
def upscale_tiled(net: IARN, lr: np.ndarray, size: Size, tile: int, device: torch.device,
                  done: Callable[[], object] = lambda: None) -> np.ndarray:
    """LR (h, w, 3) uint8 RGB -> restored HR (H, W, 3) uint8; ``done`` is called after every tile."""
    small = (lr.shape[0], lr.shape[1])
    hr = np.empty((*size, 3), np.uint8)
    for v, h in _tiles(size, small, tile):
        part = lr[v.window.lr_start:v.window.lr_stop, h.window.lr_start:h.window.lr_stop]
        y = _planes(part, np.float32(255), device)
        g = net.grid(y, size, small, (v.window, h.window))
        out = _pixels(net.upscale_on(g, y))
        hr[v.hr, h.hr] = out[_inside(v.hr, v.window.hr_start), _inside(h.hr, h.window.hr_start)]
        done()
    return hr


def default_tile(net: IARN, hr: Size, lr: Size, memory: float) -> int:
    """Largest tile (HR pixels a side) whose computation stays within ``memory`` bytes.

    The cost of a pixel is counted from the widest tensors of a block: the input of the last convolution of the affine
    net and its output (twice, it is reordered) on the LR grid; state, log-scale and shift on the HR grid.
    """
    widest = max(p.shape[0] * 2 + p.shape[1] * 2 for p in net.parameters() if p.dim() == 4)
    ratio = (lr[0] / hr[0]) * (lr[1] / hr[1])
    per_pixel = 4 * (widest * ratio + 6 * net.order * math.sqrt(ratio) + 40)
    halo = max(_halo(n, m) for n, m in zip(hr, lr))
    side = math.sqrt(memory / per_pixel) - 2 * halo / math.sqrt(ratio)
    return max(SMALLEST_TILE, int(side))


def _planes(image: np.ndarray, peak: np.float32, device: torch.device) -> torch.Tensor:
    """(H, W, 3) -> float (1, 3, H, W) in [0, 1]."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(np.divide(planes, peak, dtype=np.float32))[None].to(device)


def _pixels(x: torch.Tensor) -> np.ndarray:
    """(1, 3, H, W) -> uint8 (H, W, 3), by the one quantiser."""
    return (quantise(x)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
