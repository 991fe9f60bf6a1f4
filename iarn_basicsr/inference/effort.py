"""Effort at encoding: gradient steps on the LR through the restoration, before it is stored.

Restoring costs the same: the LR is restored as any other. The idea is that of collaborative downscaling
(arXiv:2211.10643, ICCV 2023); this form of it, on the stored 8-bit values and in tiles, is this project's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from iarn_basicsr.archs.grid import Grid
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.ops.image import quantise, to_pixels, to_tensor

from .tiling import Progress, bicubic_downscale_tiled, grid_factory, no_progress, tiles_of

__all__ = ['refine_tiled', 'refined']

RATE = 4e-3  # of Adam at the first step, one grey level; it falls to zero as a cosine
BETAS = 0.3, 0.9  # Adam's: short memories, as a run has few steps
GUIDE = 0.3  # weight of the squared distance from the bicubic LR beside that of the restored image from HR


def refine_tiled(net: IARN, hr: np.ndarray, lr: np.ndarray, steps: int, tile: int, device: torch.device,
                 progress: Progress = no_progress, bits: int = 8) -> np.ndarray:
    """An LR that restores better, (h, w, 3) uint8: ``steps`` gradient steps on each tile of ``lr``.

    A tile's own LR pixels move while those around it stay; the next tile sees what became of them. A tile whose loss
    did not fall keeps its pixels.

    Args:
        net: its parameters are not changed.
        hr: (H, W, 3) uint8 or uint16 RGB.
        lr: (h, w, 3) uint8, as the network made it.
        steps: at least 1; 10 gain most of what there is.
        tile, device, progress: as of ``downscale_tiled``; called after every step.
        bits: high bits of the LR that the restoration will see; fewer than 8 leave room for a payload.
    """
    size = (lr.shape[0], lr.shape[1])
    large = (hr.shape[0], hr.shape[1])
    lr, guide = lr.copy(), bicubic_downscale_tiled(hr, size)
    tiles = tiles_of(large, size, tile, grid_factory(net, large, size))
    for number, (v, h, grid) in enumerate(tiles):
        original, stored, near = (to_tensor(part)[None].to(device) for part in (
            hr[v.large, h.large], lr[v.small, h.small], guide[v.small, h.small]))
        kept = v.lr_inside, h.lr_inside

        def step_done(step: int, before: int = number) -> None:
            progress((before + step / steps) / len(tiles))

        better = refined(net, grid, original, stored, near, kept, steps, bits, step_done)
        lr[v.lr, h.lr] = to_pixels(better[0])[kept]
    return lr


@torch.enable_grad()  # whatever the caller is in
def refined(net: IARN, grid: Grid, hr: torch.Tensor, lr: torch.Tensor, guide: torch.Tensor, kept: tuple[slice, slice],
            steps: int, bits: int, done: Callable[[int], object]) -> torch.Tensor:
    """The best LR of ``steps`` steps of Adam on its part ``kept``, by |restored - HR|^2 + ``GUIDE`` |LR - bicubic|^2.

    Args:
        hr: (1, 3, H, W) of the window that ``grid`` maps.
        lr, guide: (1, 3, h, w), the LR and the bicubic LR, 8-bit values in [0, 1].
    """
    movable = torch.zeros_like(lr)
    movable[..., kept[0], kept[1]] = 1
    change = torch.zeros_like(lr, requires_grad=True)
    optimiser = torch.optim.Adam([change], lr=RATE, betas=BETAS)
    best, lowest = lr, math.inf
    for step in range(steps + 1):
        stored = quantise(lr + change * movable)
        restored = net.upscale_on(grid, quantise(stored, bits))
        loss = (restored - hr).square().mean() + GUIDE * (stored - guide).square().mean()
        if loss.item() < lowest:
            best, lowest = stored.detach(), loss.item()
        if step < steps:
            optimiser.param_groups[0]['lr'] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
            change.grad, = torch.autograd.grad(loss, change)
            optimiser.step()
            done(step + 1)
    return best
