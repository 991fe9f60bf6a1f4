"""The measuring protocol against closed forms and BasicSR's own functions."""

import numpy as np
import pytest
from basicsr.metrics import calculate_psnr, calculate_ssim

from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, border_of, evaluate


def image(shape=(40, 44, 3), seed=0):
    return np.random.default_rng(seed).integers(40, 200, shape).astype(np.uint8)


def test_offset_of_one_grey_level():
    hr, lr = image(), image((20, 22, 3))
    values = evaluate((hr + 1, hr), (lr, lr), DEFAULT_METRICS)
    assert values['psnr_rgb'] == pytest.approx(20 * np.log10(255), abs=1e-9)  # 48.13 dB
    luma = (65.481 + 128.553 + 24.966) / 255  # BT.601: one RGB level is 0.859 levels of Y
    assert values['psnr_y'] == pytest.approx(20 * np.log10(255 / luma), abs=1e-3)


def test_identical_images_are_capped():
    hr, lr = image(), image((20, 22, 3))
    values = evaluate((hr, hr), (lr, lr), DEFAULT_METRICS)
    assert values == {name: 100.0 if 'psnr' in name else pytest.approx(1.0) for name in DEFAULT_METRICS}


def test_equals_basicsr_with_the_border_of_the_larger_ratio():
    hr, restored, lr, bicubic = image(), image(seed=1), image((27, 15, 3), 2), image((27, 15, 3), 3)
    values = evaluate((restored, hr), (lr, bicubic), DEFAULT_METRICS)
    assert border_of((40, 44), (27, 15)) == 3
    for prefix, (a, b) in {'': (restored, hr), 'lr_': (lr, bicubic)}.items():
        for channel in ('y', 'rgb'):
            y = channel == 'y'
            assert values[f'{prefix}psnr_{channel}'] == calculate_psnr(a, b, 3, test_y_channel=y)
            if prefix == '':
                assert values[f'{prefix}ssim_{channel}'] == calculate_ssim(a, b, 3, test_y_channel=y)


@pytest.mark.parametrize(('hr', 'lr', 'border'), [((40, 40), (40, 40), 1), ((40, 40), (20, 20), 2),
                                                  ((40, 40), (16, 20), 3), ((41, 40), (20, 20), 3)])
def test_border(hr, lr, border):
    assert border_of(hr, lr) == border


def test_images_too_small_for_ssim_are_left_out():
    tiny = image((5, 5, 3))
    values = evaluate((tiny, tiny), (tiny[:2, :2], tiny[:2, :2]), DEFAULT_METRICS)
    assert set(values) == {n for n in DEFAULT_METRICS if 'psnr' in n}


def test_metrics_of_an_option_file():
    hr, restored, lr = image(), image(seed=1), image((20, 22, 3))
    metrics = {n: {'type': 'calculate_psnr', 'crop_border': n, 'test_y_channel': False} for n in (5, 50)}
    assert evaluate((restored, hr), (lr, lr), metrics) == {n: calculate_psnr(restored, hr, min(n, 19)) for n in (5, 50)}
