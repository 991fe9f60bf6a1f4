"""Pixels down and up by a network: in tiles that fit the memory, with effort and with a payload where asked for."""

from __future__ import annotations

import copy
import functools
import logging
import math
import numbers
import os
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from iarn_basicsr import zoo
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import OptionError, one_line
from iarn_basicsr.ops.image import full_float32, to_levels
from iarn_basicsr.ops.size import Part, Size, part_of
from iarn_basicsr.ops.transparency import seen, whole
from iarn_basicsr.payload import MAX_BITS, bits, codec
from iarn_basicsr.payload.codec import Pull
from iarn_basicsr.payload.detail import MakePull, Predict, read_detail, write_detail

from . import MOST_EFFORT, SMALLEST_TILE
from .effort import refine_tiled
from .memory import available_memory
from .picture_file import eight_bit
from .tiling import Progress, default_tile, down_tiled, downscale_tiled, no_progress, up_tiled, upscale_tiled

__all__ = ['PixelRescaler', 'usable_device']

MEMORY_SHARE = 0.4  # of the memory that is free, for the tensors of one tile
MEMORY_LIMIT = 0.4e9  # bytes; larger tiles are not faster on a CPU
EFFORT_MEMORY = 2  # memory a block of a gradient step, which keeps all tensors, relative to a restoration
_logger = logging.getLogger('iarn_basicsr')


class PixelRescaler:
    """The base of ``Rescaler``: arrays of pixels, of sizes that are already checked. See there for the arguments."""

    def __init__(self, net: nn.Module, *, device: str | None, tile: int | None, payload: float | str, effort: int,
                 progress: Progress | None) -> None:
        if tile is not None and not (isinstance(tile, numbers.Integral) and tile >= SMALLEST_TILE):
            raise OptionError(f'tile {tile!r}: expected an integer number of HR pixels >= {SMALLEST_TILE}')
        if isinstance(effort, bool) or not isinstance(effort, int) or not 0 <= effort <= MOST_EFFORT:
            raise OptionError(f'effort {effort!r}: expected a number of steps from 0 to {MOST_EFFORT}')
        net = _unwrapped(net)
        if effort and not net.blocks:
            raise OptionError(f'effort {effort}: the steps go through a network, and the weights {zoo.NONE} have none')
        if payload == 'auto':
            payload = 1 if net.blocks else 2
        if isinstance(payload, bool) or not isinstance(payload, (int, float)) or not 0 <= payload <= MAX_BITS:
            raise OptionError(f'payload {payload!r}: expected a number of bits from 0 to {MAX_BITS}, or auto')
        if payload:
            codec.check_codec()  # now, not after the work
        self.device = usable_device(device if net.blocks else 'cpu')
        with torch.inference_mode(False):  # in which weights would have no gradient, as effort needs it
            self.net = copy.deepcopy(net).to(self.device, torch.float32).eval()
        _one_thread_in_forks()
        self.tile, self.payload, self.effort, self.progress = tile, payload, effort, progress or no_progress

    def downscale_pixels(self, rgb: np.ndarray, size: Size, alpha: np.ndarray | None = None) -> np.ndarray:
        """LR (h, w, 3) uint8 of ``size`` from (H, W, 3) uint8 or uint16; scale 1 only rounds to 8 bits.

        With the ``alpha`` of the LR, (h, w) uint8, nothing is hidden where it is 0.
        """
        hr = rgb.shape[0], rgb.shape[1]
        if size == hr:
            return eight_bit(rgb)
        stages = 1 + self.effort + bool(self.payload)  # of about the same work
        lr = self._in_tiles(functools.partial(downscale_tiled, self.net, rgb, size), hr, size, 0, 1 / stages)
        if self.effort:  # whose restoration knows nothing of the bits of a payload
            refine = functools.partial(refine_tiled, self.net, rgb, lr, self.effort, bits=8 - math.ceil(self.payload))
            lr = self._in_tiles(refine, hr, size, 1 / stages, (1 + self.effort) / stages,
                                memory=len(self.net.blocks) * EFFORT_MEMORY)
        if self.payload:
            predict, pull = self._prediction(hr, size, self.payload, 1 - 1 / stages)
            lr = write_detail(eight_bit(rgb), lr, alpha, self.payload, predict, pull)
        return whole(seen(lr, alpha), alpha)

    def upscale_pixels(self, rgb: np.ndarray, size: Size, part: Part, payload: float | None = None,
                       remark: Callable[[str], object] = _logger.warning,
                       alpha: np.ndarray | None = None) -> np.ndarray:
        """A part of the restored image (H, W, 3) uint8 of ``size``, from an LR (h, w, 3) uint8 or uint16.

        Args:
            part: what is restored. A payload without a network needs the whole image: it is restored and cut.
            payload: bits of each sample that hold coded detail; None where only the pixels say it.
            remark: receives why a payload could not be used, in one line.
            alpha: of the LR, (h, w) uint8; pixels where it is 0 make no difference.
        """
        lr, rgb = (rgb.shape[0], rgb.shape[1]), eight_bit(rgb)
        if size == lr:
            return np.ascontiguousarray(rgb[part])
        k = 0 if payload == 0 else bits.declared(seen(rgb, alpha)) or payload
        if k:
            needed = part if self.net.blocks else part_of(size)
            restored = read_detail(rgb, alpha, size, needed, k, *self._prediction(size, lr, k, part=needed), remark)
            return restored if needed is part else np.ascontiguousarray(restored[part])
        rgb = whole(seen(rgb, alpha), alpha)
        return self._in_tiles(functools.partial(upscale_tiled, self.net, rgb, size, part=part), size, lr)

    def _prediction(self, hr: Size, lr: Size, k: float, first: float = 0,
                    part: Part | None = None) -> tuple[Predict, MakePull | None]:
        """How the image is predicted that a payload of ``k`` bits completes: by the network, in levels.

        Without a network it is U of the right-inverse pair ``cubic``, and the pull brings an image back to the known
        part of the LR. Above max(1, log2(scale)) bits a sample, whose errors that would magnify, it is plain bicubic
        interpolation.
        """
        if self.net.blocks:
            def predict(known: np.ndarray) -> np.ndarray:
                run = functools.partial(upscale_tiled, self.net, known, hr, values=to_levels, part=part)
                return self._in_tiles(run, hr, lr, first)

            return predict, None
        scale = math.sqrt(hr[0] * hr[1] / (lr[0] * lr[1]))
        split = 'cubic' if k <= max(1.0, math.log2(scale)) else 'cubic_interp'

        def pull(known: np.ndarray, prediction: np.ndarray) -> Pull:
            return lambda residual: up_tiled(known - down_tiled(prediction + residual, lr, 'cubic'), hr, 'cubic')

        return lambda known: up_tiled(known, hr, split), pull

    def _in_tiles(self, run: Callable[[int, torch.device, Progress], np.ndarray], hr: Size, lr: Size,
                  first: float = 0, last: float = 1, memory: float = 1) -> np.ndarray:
        """``run`` with the tile that fits; on a GPU that runs out of memory, with half of it, and so on.

        It takes the picture from the share ``first`` to ``last``, and ``memory`` times that of a restoration.
        """
        def progress(share: float) -> None:
            self.progress(first + (last - first) * share)

        if self.device.type == 'cuda':
            free = MEMORY_SHARE * torch.cuda.mem_get_info(self.device)[0]
        else:
            free = min(MEMORY_LIMIT, MEMORY_SHARE * available_memory())
        tile = self.tile or default_tile(self.net, hr, lr, free / memory)
        while True:
            try:
                # whatever surrounds the call; grid and network have their own precision
                with torch.inference_mode(False), torch.autocast(self.device.type, enabled=False), self.device, \
                        full_float32():
                    return run(tile, self.device, progress)
            except torch.cuda.OutOfMemoryError:
                if tile // 2 < SMALLEST_TILE:
                    raise
                torch.cuda.empty_cache()
                tile //= 2
                _logger.info('out of GPU memory: going on with tiles of %d pixels', tile)


def _unwrapped(net: nn.Module) -> IARN:
    """The network inside the wrappers of torch.compile, DDP and DataParallel."""
    inner: nn.Module | None = net
    while inner is not None and not isinstance(inner, IARN):
        inner = inner._modules.get('_orig_mod') or inner._modules.get('module')
    if inner is None:
        raise OptionError(f'net {type(net).__name__}: expected an IARN')
    return inner


@functools.cache
def _one_thread_in_forks() -> None:
    """Let processes forked from here on compute with one thread, as torch's own DataLoader does in its workers.

    OpenMP's threads do not survive a fork: once a network was read or ran here, a child with several would wait for
    them for ever.
    """
    if hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def usable_device(name: str | None) -> torch.device:
    """The device of a name such as ``cuda:1``, or the GPU if there is one; ``OptionError`` if it cannot be used."""
    try:
        name = str(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
        getattr(torch, name.partition(':')[0])  # torch.device knows more kinds, and warns of those that are gone
        device = torch.device(name)
        (torch.ones(1, device=device) + 1).item()  # some exist by name alone
    except Exception as error:  # RuntimeError, AssertionError, ImportError: each kind of device has its own
        here = ['cpu', *(f'cuda:{k}' for k in range(torch.cuda.device_count()))]
        reason = one_line((str(error).splitlines() or [type(error).__name__])[0], 200)
        raise OptionError(f'device {name!r} cannot be used ({reason}); here are: {", ".join(here)}') from None
    return device
