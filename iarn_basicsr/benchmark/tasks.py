"""What is measured of one method on one image: quality, repeated cycles, files of the LR; and its cost."""

from __future__ import annotations

import functools
import io
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from PIL import Image
from torch import Tensor

from iarn_basicsr.inference.picture_file import png_bytes
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, evaluate
from iarn_basicsr.ops.image import full_float32, quantise, to_pixels, to_tensor
from iarn_basicsr.ops.jpeg import decoded, jpeg_bytes
from iarn_basicsr.ops.size import Size, lr_size, parse_scale

from .methods import Method, build_method, import_networks, size_of

__all__ = ['avif_bytes', 'best_fit', 'cost', 'cycles', 'files', 'lossy_bytes', 'quality', 'webp_bytes']

QUALITY = {**DEFAULT_METRICS, 'lr_ciede2000': {'type': 'calculate_ciede2000', 'compare': 'lr'},
           'lr_ciede2000_p99': {'type': 'calculate_ciede2000', 'compare': 'lr', 'percentile': 99}}
PSNR = {name: DEFAULT_METRICS[name] for name in ('psnr_y', 'psnr_rgb')}
NIQE_BLOCK = 96  # pixels; side of the blocks of which NIQE takes statistics
NIQE_BLOCKS = 4  # fewer blocks give no statistics: smaller LR images have no NIQE


def lossy_bytes(rgb: np.ndarray, form: str, quality: int) -> bytes:
    """A ``jpeg``, ``webp`` or ``avif`` file of an image (H, W, 3) uint8, as programs write it: with halved chroma."""
    if form == 'jpeg':
        return jpeg_bytes(rgb, quality)
    return _saved(rgb, form, quality=quality, max_threads=1)  # of AVIF; WebP has no such option, and ignores it


def avif_bytes(rgb: np.ndarray, quality: int) -> bytes:
    """An AVIF at its best: 4:4:4, tuned for PSNR."""
    return _saved(rgb, 'AVIF', quality=quality, subsampling='4:4:4', codec='aom', max_threads=1,
                  advanced={'tune': 'psnr'})


def webp_bytes(rgb: np.ndarray) -> bytes:
    """A lossless WebP file of an image (H, W, 3) uint8, without metadata."""
    return _saved(rgb, 'WEBP', lossless=True)


def _saved(rgb: np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, form, **options)
    return buffer.getvalue()


def best_fit(make: Callable[[int], bytes], budget: int, lowest: int) -> bytes:
    """The file of the highest quality, ``lowest`` to 100, that has at most ``budget`` bytes; empty if none has."""
    best, low, high = b'', lowest, 100
    while low <= high:
        middle = (low + high) // 2
        data = make(middle)
        if len(data) <= budget:
            best, low = data, middle + 1
        else:
            high = middle - 1
    return best


def _rgb(image: Tensor) -> np.ndarray:
    """(1, 3, H, W) -> (H, W, 3) uint8."""
    return to_pixels(image)[0]


def _evaluate(hr: tuple[np.ndarray, np.ndarray], lr: tuple[np.ndarray, np.ndarray],
              metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """``metrics.evaluate`` of RGB images."""
    restored, original, low, reference = (np.ascontiguousarray(image[..., ::-1]) for image in (*hr, *lr))
    return evaluate((restored, original), (low, reference), metrics)


def quality(method: Method, hr: Tensor, reference: Tensor) -> dict[str, float]:
    """Every metric of the protocol, CIEDE2000 and bytes of the LR, and its NIQE where it is large enough.

    ``hr`` is (1, 3, H, W) in [0, 1], ``reference`` its bicubic LR (1, 3, h, w) with 8-bit values.
    """
    size = size_of(reference)
    lr = method.downscale(hr, size)
    low, bicubic = _rgb(lr), _rgb(reference)
    values = _evaluate((_rgb(method.upscale(lr, size_of(hr))), _rgb(hr)), (low, bicubic), QUALITY)
    values.update(lr_bytes=len(png_bytes(low)), lr_bytes_webp=len(webp_bytes(low)),
                  lr_bytes_bicubic=len(png_bytes(bicubic)), hr_pixels=hr.shape[-2] * hr.shape[-1])
    if (size[0] // NIQE_BLOCK) * (size[1] // NIQE_BLOCK) >= NIQE_BLOCKS:
        bgr = np.ascontiguousarray(low[..., ::-1])
        values['lr_niqe'] = float(calculate_metric({'img': bgr}, {'type': 'calculate_niqe', 'crop_border': 0}))
    return values


def cycles(method: Method, hr: Tensor, size: Size, counts: Sequence[int]) -> dict[str, float]:
    """PSNR against the original after so many times down and up: for each of them ``K psnr_rgb`` and ``K psnr_y``."""
    image, original = hr, _rgb(hr)
    values: dict[str, float] = {}
    for k in range(1, max(counts) + 1):
        lr = method.downscale(image, size)
        image = method.upscale(lr, size_of(hr))
        if k in counts:
            low = _rgb(lr)
            found = _evaluate((_rgb(image), original), (low, low), PSNR)
            values.update({f'{k} {metric}': value for metric, value in found.items()})
    return values


def files(method: Method, hr: Tensor, size: Size, formats: Sequence[str], qualities: Sequence[int]) -> dict[str, float]:
    """The image restored from the LR as lossless and lossy files, beside plain files of the image of the same bytes.

    Returns:
        ``hr_pixels``; for each FILE of the LR (``png``, ``webp lossless``, ``jpeg 90``) ``FILE psnr_y``, ``FILE
        psnr_rgb`` and ``FILE bytes``; the same of ``FILE as jpeg`` and ``FILE as avif``, a plain JPEG or AVIF of the HR
        image with at most the bytes of the LR file, where there is one as small.
    """
    lr, original = method.downscale(hr, size), _rgb(hr)
    low = _rgb(lr)

    def measured(name: str, data: bytes, image: np.ndarray) -> dict[str, float]:
        found = _evaluate((image, original), (low, low), PSNR)
        return {**{f'{name} {metric}': value for metric, value in found.items()}, f'{name} bytes': len(data)}

    values: dict[str, float] = {'hr_pixels': hr.shape[-2] * hr.shape[-1]}
    made = {'png': png_bytes(low), 'webp lossless': webp_bytes(low),
            **{f'{form} {q}': lossy_bytes(low, form, q) for form, q in itertools.product(formats, qualities)}}
    plain = {codec: (functools.cache(functools.partial(make, original)), lowest)  # each file is made once
             for codec, make, lowest in (('jpeg', jpeg_bytes, 1), ('avif', avif_bytes, 0))}
    for name, data in made.items():
        values.update(measured(name, data, _rgb(method.upscale(to_tensor(decoded(data))[None].to(lr), size_of(hr)))))
        for codec, (make, lowest) in plain.items():
            same = best_fit(make, len(data), lowest)
            values.update(measured(f'{name} as {codec}', same, decoded(same)) if same else {})
    return values


# ---------------------------------------------------------------------------------------------------------------- cost


def cost(name: str, options: Mapping[str, Any], hr: Size, scale: str, repeats: int, threads: int, device: str,
         modules: Sequence[str] = ()) -> dict[str, float]:
    """Parameters, operations, seconds and memory at one size, in a process of its own, which imports ``modules``.

    Returns:
        ``params``; ``macs_down``, ``macs_up`` per HR pixel; ``seconds_down``, ``seconds_up`` per HR megapixel, median
        of ``repeats`` after one that warms up; ``peak_mib``, largest memory of the device, or of the process on Linux.
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
    method = build_method(name, options, where)
    size = lr_size(hr, parse_scale(scale))
    method.check(hr, size)
    image = quantise(torch.rand(1, 3, *hr, generator=torch.Generator().manual_seed(0))).to(where)
    values = method.complexity(hr, size)
    lr, down = _timed(lambda: method.downscale(image, size), repeats, where)
    _, up = _timed(lambda: method.upscale(lr, hr), repeats, where)
    megapixels = hr[0] * hr[1] / 1e6
    values.update(seconds_down=down / megapixels, seconds_up=up / megapixels)
    if where.type == 'cuda':
        values['peak_mib'] = torch.cuda.max_memory_allocated(where) / 2**20
    elif os.path.exists('/proc/self/status'):  # ru_maxrss would count the parent's memory before exec
        with open('/proc/self/status', encoding='ascii') as file:
            values['peak_mib'] = next(int(line.split()[1]) for line in file if line.startswith('VmHWM')) / 1024
    return values


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
