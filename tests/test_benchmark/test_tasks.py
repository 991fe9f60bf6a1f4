"""What is measured of one image, against a computation by hand."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
import torch
from helpers import make_image, picture, tiny_net
from PIL import Image

from iarn_basicsr.benchmark import tasks
from iarn_basicsr.benchmark.methods import build_method
from iarn_basicsr.inference.picture_file import png_bytes
from iarn_basicsr.metrics.colour import calculate_ciede2000
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, evaluate
from iarn_basicsr.ops.image import to_pixels, to_tensor
from iarn_basicsr.ops.jpeg import decoded, jpeg_bytes, jpeg_copy
from iarn_basicsr.ops.resample import bicubic_lr

SIZE, LR = (96, 84), (48, 42)


def rgb_of(image: torch.Tensor) -> np.ndarray:
    return to_pixels(image)[0]


@pytest.mark.parametrize('form', ['jpeg', 'webp', 'avif'])
def test_quality_and_format_are_those_asked_for(form):
    rgb = make_image(*SIZE, 0)
    files = [tasks.lossy_bytes(rgb, form, q) for q in (10, 50, 90)]
    assert len(files[0]) < len(files[1]) < len(files[2]) < rgb.nbytes
    errors = [np.abs(decoded(data).astype(int) - rgb).mean() for data in files]
    assert 0 < errors[2] < errors[1] < errors[0]
    assert Image.open(io.BytesIO(files[0])).format == form.upper()
    if form == 'jpeg':
        assert np.array_equal(decoded(files[1]), jpeg_copy(rgb, 50)), '4:2:0'


def test_the_best_that_fits():
    lengths = [len(tasks.best_fit(lambda q: bytes(10 * q), budget, 1)) for budget in (9, 10, 425, 429, 1000, 5000)]
    assert lengths == [0, 10, 420, 420, 1000, 1000]


@torch.no_grad()
def test_quality():
    hr = picture(*SIZE)
    method, reference = build_method('m', {'type': 'area'}), bicubic_lr(hr, LR)
    values = tasks.quality(method, hr, reference)
    lr = method.downscale(hr, LR)
    low, bicubic, restored = rgb_of(lr), rgb_of(reference), rgb_of(method.upscale(lr, SIZE))
    bgr = [image[..., ::-1] for image in (restored, rgb_of(hr), low, bicubic)]
    webp = tasks.webp_bytes(low)
    assert np.array_equal(np.array(Image.open(io.BytesIO(webp))), low)
    expected = {**evaluate((bgr[0], bgr[1]), (bgr[2], bgr[3]), DEFAULT_METRICS),
                'lr_ciede2000': calculate_ciede2000(bgr[2], bgr[3], 2),
                'lr_ciede2000_p99': calculate_ciede2000(bgr[2], bgr[3], 2, percentile=99),
                'lr_bytes': len(png_bytes(low)), 'lr_bytes_webp': len(webp),
                'lr_bytes_bicubic': len(png_bytes(bicubic)), 'hr_pixels': SIZE[0] * SIZE[1]}
    assert values == pytest.approx(expected)  # and no NIQE: the LR is too small for its statistics
    hr = picture(400, 404)
    assert np.isfinite(tasks.quality(method, hr, bicubic_lr(hr, (200, 202)))['lr_niqe'])


def test_cycles_of_a_projection_and_of_a_blur():
    """Least squares projects: after the first time hardly anything changes. Bicubic blurs again and again."""
    hr = picture(48, 48)
    methods = [build_method('m', options) for options in ({'type': 'IARN', 'weights': 'none'}, {'type': 'bicubic'})]
    squares, blur = (tasks.cycles(method, hr, (20, 24), [1, 2, 5]) for method in methods)
    once = tasks.quality(methods[1], hr, bicubic_lr(hr, (20, 24)))
    assert set(squares) == {f'{k} {metric}' for k in (1, 2, 5) for metric in ('psnr_rgb', 'psnr_y')}
    for metric in ('psnr_rgb', 'psnr_y'):
        assert blur[f'1 {metric}'] == once[metric]
        assert squares[f'1 {metric}'] - squares[f'5 {metric}'] < 0.4
        assert blur[f'1 {metric}'] - blur[f'2 {metric}'] > 0.5
        assert blur[f'2 {metric}'] > blur[f'5 {metric}']


@torch.no_grad()
def test_files(tmp_path):
    tiny_net(order=2).save(tmp_path / 'net.pth')
    method = build_method('m', {'type': 'IARN', 'weights': str(tmp_path / 'net.pth')})
    hr = picture(*SIZE)
    values = tasks.files(method, hr, LR, ['jpeg', 'webp'], [90, 1])
    lr, original = method.downscale(hr, LR), rgb_of(hr)

    def psnr(image: np.ndarray) -> dict[str, float]:
        found = evaluate((image[..., ::-1], original[..., ::-1]), (rgb_of(lr)[..., ::-1],) * 2, DEFAULT_METRICS)
        return {name: found[name] for name in ('psnr_y', 'psnr_rgb')}

    expected = {'hr_pixels': SIZE[0] * SIZE[1]}
    files = {'png': png_bytes(rgb_of(lr)), 'webp lossless': tasks.webp_bytes(rgb_of(lr)),
             **{f'{f} {q}': tasks.lossy_bytes(rgb_of(lr), f, q) for f in ('jpeg', 'webp') for q in (90, 1)}}
    for name, data in files.items():
        copy = to_tensor(decoded(data))[None]
        expected.update({f'{name} {k}': v for k, v in psnr(rgb_of(method.upscale(copy, SIZE))).items()})
        expected[f'{name} bytes'] = len(data)
        for codec, make in (('jpeg', jpeg_bytes), ('avif', tasks.avif_bytes)):
            same = tasks.best_fit(functools.partial(make, original), len(data), 1)
            if same:
                expected.update({f'{name} as {codec} {k}': v for k, v in psnr(decoded(same)).items()})
                expected[f'{name} as {codec} bytes'] = len(same)
    assert values == pytest.approx(expected)
    assert values['png psnr_y'] == values['webp lossless psnr_y'] > values['jpeg 90 psnr_y'] > values['jpeg 1 psnr_y']
    assert 'webp 1 as jpeg bytes' not in values, 'no JPEG is as small'
