"""What is measured of one method on one image: quality, repeated cycles, a lossy channel, bytes; and its cost."""

from __future__ import annotations

import io
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
from PIL import Image
from torch import Tensor

from iarn_basicsr.metrics.colour import calculate_ciede2000
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, PSNR_CAP, border_of, evaluate
from iarn_basicsr.ops.pixels import to_tensor
from iarn_basicsr.ops.precision import full_float32
from iarn_basicsr.ops.size import Size, lr_size, parse_scale
from iarn_basicsr.pictures.files import png_bytes

from .methods import Method, build_method
from .own import import_networks

__all__ = ['avif_of_same_size', 'avif_within', 'cost', 'cycles', 'lossy', 'lossy_copy', 'quality', 'webp_bytes']

PSNR_Y = {'psnr_y': DEFAULT_METRICS['psnr_y']}
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
    """PSNR-Y of the image restored from the LR as PNG and as lossy files (``jpeg 95``), and their bytes."""
    lr = method.downscale(hr, size)
    rgb = np.ascontiguousarray(tensor2img(lr)[..., ::-1])
    hr_size = hr.shape[-2], hr.shape[-1]
    values = {'png': _psnr_y(method.upscale(lr, hr_size), hr, lr), 'png bytes': len(png_bytes(rgb))}
    for form in formats:
        for q in qualities:
            copy, size_in_bytes = lossy_copy(rgb, form, q)
            tensor = to_tensor(copy)[None].to(lr)
            values[f'{form} {q}'] = _psnr_y(method.upscale(tensor, hr_size), hr, lr)
            values[f'{form} {q} bytes'] = size_in_bytes
    return values


def lossy_copy(rgb: np.ndarray, form: str, quality: int) -> tuple[np.ndarray, int]:
    """(pixels, bytes) of an image (H, W, 3) uint8 after JPEG without chroma subsampling, or WebP."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, form, quality=quality, **({'subsampling': 0} if form == 'jpeg' else {}))
    return np.array(Image.open(buffer).convert('RGB')), buffer.tell()


def avif_of_same_size(method: Method, hr: Tensor, size: Size) -> dict[str, float]:
    """What a plain AVIF of the original gives with the bytes of the LR file, as PNG and as lossless WebP.

    Returns:
        ``NAME bytes`` of the LR file, ``NAME avif bytes`` and ``NAME avif``, PSNR-RGB of the AVIF by the protocol;
        those of the AVIF are left out where none is as small.
    """
    lr, original = (np.ascontiguousarray(tensor2img(x)[..., ::-1]) for x in (method.downscale(hr, size), hr))
    border = border_of((hr.shape[-2], hr.shape[-1]), size)
    values: dict[str, float] = {}
    for name, count in (('png', len(png_bytes(lr))), ('webp', len(webp_bytes(lr)))):
        values[f'{name} bytes'] = count
        data = avif_within(original, count)
        if data:
            image = np.array(Image.open(io.BytesIO(data)).convert('RGB'))
            values[f'{name} avif bytes'] = len(data)
            values[f'{name} avif'] = min(calculate_psnr(image, original, border), PSNR_CAP)
    return values


def avif_within(rgb: np.ndarray, budget: int) -> bytes:
    """An AVIF (4:4:4, tuned for PSNR) of the highest quality that fits; empty where none does."""
    best, low, high = b'', 0, 100
    while low <= high:
        middle = (low + high) // 2
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, 'AVIF', quality=middle, subsampling='4:4:4', codec='aom', max_threads=1,
                                  advanced={'tune': 'psnr'})
        if buffer.tell() <= budget:
            best, low = buffer.getvalue(), middle + 1
        else:
            high = middle - 1
    return best


def webp_bytes(rgb: np.ndarray) -> bytes:
    """The pixels (H, W, 3) uint8 as a lossless WebP file, without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, 'WEBP', lossless=True)
    return buffer.getvalue()


def _psnr_y(image: Tensor, hr: Tensor, lr: Tensor) -> float:
    low = tensor2img(lr)
    return evaluate((tensor2img(image), tensor2img(hr)), (low, low), PSNR_Y)['psnr_y']


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
