"""What is measured of one method on one image: quality, repeated cycles, a lossy channel, bytes; and its cost."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric, calculate_psnr
from basicsr.utils import tensor2img
from torch import Tensor

from iarn_basicsr.inference.picture_file import png_bytes
from iarn_basicsr.metrics.colour import calculate_ciede2000
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, PSNR_CAP, border_of, evaluate
from iarn_basicsr.ops.image import full_float32, to_tensor
from iarn_basicsr.ops.jpeg import decoded
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.ops.size import Size, lr_size, parse_scale

from .codecs import avif_files, jpeg_files, lossy_bytes, webp_bytes
from .methods import Method, build_method
from .own import import_networks

__all__ = ['avif_of_same_size', 'cost', 'cycles', 'lossy', 'quality']

PSNR = {name: DEFAULT_METRICS[name] for name in ('psnr_y', 'psnr_rgb')}
LR_PSNR_RGB = {'lr_psnr_rgb': DEFAULT_METRICS['lr_psnr_rgb']}
NIQE_BLOCK = 96  # pixels; side of the blocks of which NIQE takes statistics
NIQE_BLOCKS = 4  # fewer blocks give no statistics: smaller LR images have no NIQE


def quality(method: Method, hr: Tensor, reference: Tensor) -> dict[str, float]:
    """Every metric of the protocol, CIEDE2000 and bytes of the LR, and its NIQE where it is large enough.

    Args:
        method: what is measured.
        hr: original (1, 3, H, W) in [0, 1].
        reference: its bicubic LR (1, 3, h, w) with 8-bit values.
    """
    size = reference.shape[-2], reference.shape[-1]
    lr = method.downscale(hr, size)
    restored = method.upscale(lr, (hr.shape[-2], hr.shape[-1]))
    low, bicubic = tensor2img(lr), tensor2img(reference)
    values = evaluate((tensor2img(restored), tensor2img(hr)), (low, bicubic), DEFAULT_METRICS)
    border = border_of((hr.shape[-2], hr.shape[-1]), size)
    border = min(border, (min(size) - 1) // 2)
    values['lr_ciede2000'] = calculate_ciede2000(low, bicubic, border)
    values['lr_ciede2000_p99'] = calculate_ciede2000(low, bicubic, border, percentile=99)
    values['lr_bytes'] = len(png_bytes(low[..., ::-1]))
    values['lr_bytes_webp'] = len(webp_bytes(low[..., ::-1]))
    values['lr_bytes_bicubic'] = len(png_bytes(bicubic[..., ::-1]))
    values['hr_pixels'] = hr.shape[-2] * hr.shape[-1]
    if (size[0] // NIQE_BLOCK) * (size[1] // NIQE_BLOCK) >= NIQE_BLOCKS:
        values['lr_niqe'] = float(calculate_metric({'img': low}, {'type': 'calculate_niqe', 'crop_border': 0}))
    return values


def cycles(method: Method, hr: Tensor, size: Size, counts: Sequence[int]) -> dict[str, float]:
    """PSNR-Y against the original after so many times down and up."""
    image, values = hr, {}
    for k in range(1, max(counts) + 1):
        lr = method.downscale(image, size)
        image = method.upscale(lr, (hr.shape[-2], hr.shape[-1]))
        if k in counts:
            values[str(k)] = _psnr_y(image, hr, lr)
    return values


def lossy(method: Method, hr: Tensor, size: Size, formats: Sequence[str], qualities: Sequence[int]) -> dict[str, float]:
    """The image restored from the LR as PNG and as lossy files, beside plain files of the image of the same bytes.

    Returns:
        ``lr_psnr_rgb``, of the LR before it became a file, against the bicubic LR; ``hr_pixels``; for each FILE of the
        LR (``png``, ``jpeg 90``) ``FILE psnr_y``, ``FILE psnr_rgb`` and ``FILE bytes``; for a lossy one the same of
        ``FILE as jpeg`` and ``FILE as avif``, a plain JPEG or AVIF of the HR image with at most the bytes of the LR
        file, where there is one as small.
    """
    lr, original = method.downscale(hr, size), _rgb(hr)
    hr_size, low = (hr.shape[-2], hr.shape[-1]), _rgb(lr)

    def measured(name: str, data: bytes, image: np.ndarray) -> dict[str, float]:
        found = evaluate((image[..., ::-1], original[..., ::-1]), (low, low), PSNR)
        return {**{f'{name} {metric}': value for metric, value in found.items()}, f'{name} bytes': len(data)}

    values = {**evaluate((original, original), (low, _rgb(bicubic_lr(hr, size))), LR_PSNR_RGB),
              'hr_pixels': hr_size[0] * hr_size[1],
              **measured('png', png_bytes(low), _rgb(method.upscale(lr, hr_size)))}
    plain = {'jpeg': jpeg_files(original), 'avif': avif_files(original)}
    for form, q in itertools.product(formats, qualities):
        data, name = lossy_bytes(low, form, q), f'{form} {q}'
        restored = method.upscale(to_tensor(decoded(data))[None].to(lr), hr_size)
        values.update(measured(name, data, _rgb(restored)))
        for codec, files in plain.items():
            same = files.within(len(data))
            values.update(measured(f'{name} as {codec}', same, decoded(same)) if same else {})
    return values


def avif_of_same_size(method: Method, hr: Tensor, size: Size) -> dict[str, float]:
    """What a plain AVIF of the original gives with the bytes of the LR file, as PNG and as lossless WebP.

    Returns:
        ``NAME bytes`` of the LR file, ``NAME avif bytes`` and ``NAME avif``, PSNR-RGB of the AVIF by the protocol;
        those of the AVIF are left out where none is as small.
    """
    lr, original = _rgb(method.downscale(hr, size)), _rgb(hr)
    border, files = border_of((hr.shape[-2], hr.shape[-1]), size), avif_files(original)
    values: dict[str, float] = {}
    for name, count in (('png', len(png_bytes(lr))), ('webp', len(webp_bytes(lr)))):
        values[f'{name} bytes'] = count
        data = files.within(count)
        if data:
            values[f'{name} avif bytes'] = len(data)
            values[f'{name} avif'] = min(calculate_psnr(decoded(data), original, border), PSNR_CAP)
    return values


def _rgb(image: Tensor) -> np.ndarray:
    """(1, 3, H, W) -> (H, W, 3) uint8."""
    return np.ascontiguousarray(tensor2img(image)[..., ::-1])


def _psnr_y(image: Tensor, hr: Tensor, lr: Tensor) -> float:
    low = tensor2img(lr)
    return evaluate((tensor2img(image), tensor2img(hr)), (low, low), PSNR)['psnr_y']


def cost(name: str, options: Mapping[str, Any], hr: Size, scale: str, repeats: int, threads: int, device: str,
         modules: Sequence[str] = ()) -> dict[str, float]:
    """Parameters, operations, seconds and memory at one size, in a process of its own, which imports ``modules``.

    Returns:
        ``params``; ``macs_down``, ``macs_up`` per HR pixel; ``seconds_down``, ``seconds_up`` per HR megapixel, median
        of ``repeats`` after one that warms up; ``peak_mib``, largest memory of the process (CPU) or of the device.
    """
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, context, import_networks, (tuple(modules), )) as pool:
        return pool.submit(_cost, name, dict(options), hr, scale, repeats, threads, device).result()


@torch.no_grad()
@full_float32()
def _cost(name: str, options: dict[str, Any], hr: Size, scale: str, repeats: int, threads: int,
          device: str) -> dict[str, float]:
    torch.set_num_threads(threads)
    where = torch.device(device)
    method = build_method(name, options).to(where)
    size = lr_size(hr, parse_scale(scale))
    method.check(hr, size)
    image = torch.rand(1, 3, *hr, generator=torch.Generator().manual_seed(0)).to(where)
    values = method.complexity(hr, size)
    lr, down = _timed(lambda: method.downscale(image, size), repeats, where)
    _, up = _timed(lambda: method.upscale(lr, hr), repeats, where)
    megapixels = hr[0] * hr[1] / 1e6
    return {**values, 'seconds_down': down / megapixels, 'seconds_up': up / megapixels, 'peak_mib': _peak_mib(where)}


def _timed(run: Callable[[], Tensor], repeats: int, device: torch.device) -> tuple[Tensor, float]:
    """(result, median seconds) after one run that warms up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        result = run()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds[1:])


def _peak_mib(device: torch.device) -> float:
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2**20
    if os.path.exists('/proc/self/status'):  # ru_maxrss would count the parent's memory before exec
        with open('/proc/self/status', encoding='ascii') as file:
            return next(int(line.split()[1]) for line in file if line.startswith('VmHWM')) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
