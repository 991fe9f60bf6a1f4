"""What is measured of one image, against a computation by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from helpers import make_image, tiny_net
from PIL import Image

from iarn_basicsr.benchmark import tasks
from iarn_basicsr.benchmark.methods import build_method
from iarn_basicsr.inference.picture_file import png_bytes
from iarn_basicsr.metrics.colour import calculate_ciede2000
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, evaluate
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.jpeg import decoded, jpeg_bytes, jpeg_copy
from iarn_basicsr.ops.resample import bicubic_downscale, bicubic_lr

SIZE, LR = (96, 84), (48, 42)


def pixels(height: int = SIZE[0], width: int = SIZE[1], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(make_image(height, width, seed)).permute(2, 0, 1)[None] / 255


def rgb_of(image: torch.Tensor) -> np.ndarray:
    return (image[0].permute(1, 2, 0) * 255).round().byte().numpy()


# -------------------------------------------------------------------------------------------------------------- codecs


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
    """Each file is made once."""
    made = []
    files = tasks.BestFit(lambda rgb, q: made.append(q) or bytes(10 * q), np.zeros(3))
    assert [len(files.within(budget)) for budget in (9, 10, 425, 429, 1000, 5000)] == [0, 10, 420, 420, 1000, 1000]
    assert len(made) == len({*made}) < 6 * 7
    rgb = make_image(40, 52, 0)
    for make in (jpeg_bytes, tasks.avif_bytes):
        files, whole = tasks.BestFit(make, rgb), make(rgb, 100)
        assert files.within(len(whole)) == whole and len(files.within(len(whole) - 1)) < len(whole)
        assert files.within(20) == b''


# ------------------------------------------------------------------------------------------------------------- quality


@torch.no_grad()
def test_quality():
    hr = pixels()
    method, reference = build_method('m', {'type': 'area'}), bicubic_lr(hr, LR)
    values = tasks.quality(method, hr, reference)
    lr = method.downscale(hr, LR)
    low, bicubic, restored = rgb_of(lr), rgb_of(reference), rgb_of(method.upscale(lr, SIZE))
    expected = evaluate((restored[..., ::-1], rgb_of(hr)[..., ::-1]), (low[..., ::-1], bicubic[..., ::-1]),
                        DEFAULT_METRICS)
    for name, percentile in (('lr_ciede2000', None), ('lr_ciede2000_p99', 99)):
        expected[name] = calculate_ciede2000(low[..., ::-1], bicubic[..., ::-1], 2, percentile=percentile)
    webp = tasks.webp_bytes(low)
    assert np.array_equal(np.array(Image.open(io.BytesIO(webp))), low)
    expected.update(lr_bytes=len(png_bytes(low)), lr_bytes_webp=len(webp), lr_bytes_bicubic=len(png_bytes(bicubic)),
                    hr_pixels=SIZE[0] * SIZE[1])
    assert values == pytest.approx(expected)  # and no NIQE: the LR is too small for its statistics
    assert values['lr_ciede2000_p99'] > values['lr_ciede2000'] > 0 and values['lr_psnr_y'] < 100


def test_niqe_of_a_large_lr():
    hr = pixels(400, 404)
    values = tasks.quality(build_method('m', {'type': 'bicubic'}), hr, quantise(bicubic_downscale(hr, (200, 202))))
    assert np.isfinite(values['lr_niqe'])
    assert values['lr_psnr_y'] == 100 and values['lr_ciede2000'] == 0


@torch.no_grad()
def test_bits_trade_the_lr_for_the_hr():
    hr = pixels()
    found = [tasks.quality(build_method('m', {'type': 'IARN', 'weights': 'none', 'bits': k}), hr, bicubic_lr(hr, LR))
             for k in (0, 1, 3)]
    restored, low, far = ([values[name] for values in found] for name in ('psnr_rgb', 'lr_psnr_rgb', 'lr_ciede2000'))
    assert low[0] == 100 and low == sorted(low, reverse=True)
    assert far[0] == 0 and far == sorted(far)
    assert restored[2] > restored[0] + 1


# -------------------------------------------------------------------------------------------------------------- others


def test_cycles_of_a_projection_and_of_a_blur():
    """Least squares projects: after the first time hardly anything changes. Bicubic blurs again and again."""
    hr = pixels(48, 48)
    squares, blur = (tasks.cycles(build_method('m', options), hr, (20, 24), [1, 2, 5])
                     for options in ({'type': 'IARN', 'weights': 'none'}, {'type': 'bicubic'}))
    assert list(squares) == ['1', '2', '5']
    assert squares['1'] - squares['5'] < 0.2
    assert blur['1'] - blur['2'] > 0.5
    assert blur['2'] > blur['5']


@torch.no_grad()
def test_files(tmp_path):
    tiny_net(order=2).save(tmp_path / 'net.pth')
    method = build_method('m', {'type': 'IARN', 'weights': str(tmp_path / 'net.pth')})
    hr = pixels()
    values = tasks.files(method, hr, LR, ['jpeg', 'webp'], [90, 1])
    lr, original = method.downscale(hr, LR), rgb_of(hr)

    def psnr(image: np.ndarray) -> dict[str, float]:
        found = evaluate((image[..., ::-1], original[..., ::-1]), (rgb_of(lr)[..., ::-1],) * 2, DEFAULT_METRICS)
        return {name: found[name] for name in ('psnr_y', 'psnr_rgb')}

    expected = {'hr_pixels': SIZE[0] * SIZE[1]}
    files = {'png': png_bytes(rgb_of(lr)), 'webp lossless': tasks.webp_bytes(rgb_of(lr)),
             **{f'{f} {q}': tasks.lossy_bytes(rgb_of(lr), f, q) for f in ('jpeg', 'webp') for q in (90, 1)}}
    for name, data in files.items():
        copy = torch.from_numpy(decoded(data)).permute(2, 0, 1)[None] / 255
        expected.update({f'{name} {k}': v for k, v in psnr(rgb_of(method.upscale(copy, SIZE))).items()})
        expected[f'{name} bytes'] = len(data)
        for codec, make in (('jpeg', jpeg_bytes), ('avif', tasks.avif_bytes)):
            same = tasks.BestFit(make, original).within(len(data))
            if same:
                expected.update({f'{name} as {codec} {k}': v for k, v in psnr(decoded(same)).items()})
                expected[f'{name} as {codec} bytes'] = len(same)
    assert values == pytest.approx(expected)
    assert values['png psnr_y'] == values['webp lossless psnr_y'] > values['jpeg 90 psnr_y'] > values['jpeg 1 psnr_y']
    assert values['webp lossless as avif bytes'] <= values['webp lossless bytes'] < values['png bytes']
    assert 'webp 1 as jpeg bytes' not in values and 'webp 1 as jpeg psnr_y' not in values, 'no JPEG is as small'
