"""CIEDE2000 as a metric of BasicSR: known colours, border, percentile, use in validation."""

import numpy as np
import pytest
from basicsr.metrics import calculate_metric

from iarn_basicsr.metrics.colour import calculate_ciede2000
from iarn_basicsr.metrics.rescaling import evaluate


def flat(*rgb):
    return np.full((9, 7, 3), rgb[::-1], np.uint8)


@pytest.mark.parametrize(('a', 'b', 'expected', 'tolerance'), [
    ((10, 20, 30), (10, 20, 30), 0, 0),
    ((0, 0, 0), (255, 255, 255), 100, 1e-3),
    ((255, 0, 0), (0, 0, 255), 52.88, 0.01),  # RGB order matters: red against blue, as published calculators have it
    ((255, 0, 0), (0, 255, 0), 86.61, 0.01),
    ((128, 128, 128), (129, 129, 129), 0.33, 0.05),
])
def test_known_colours(a, b, expected, tolerance):
    assert calculate_ciede2000(flat(*a), flat(*b), 0) == pytest.approx(expected, abs=tolerance)


def test_border_and_percentile():
    a, b = flat(90, 90, 90), flat(90, 90, 90)
    b[0] = 255
    assert calculate_ciede2000(a, b, 1) == 0 < calculate_ciede2000(a, b, 0)
    assert calculate_ciede2000(a, b, 0, percentile=50) == 0
    assert calculate_ciede2000(a, b, 0, percentile=100) > 40
    with pytest.raises(ValueError, match='different shapes'):
        calculate_ciede2000(a, a[1:], 0)


def test_as_a_metric_of_an_option_file():
    image, other = flat(200, 40, 40), flat(200, 40, 60)
    options = {'type': 'calculate_ciede2000', 'compare': 'lr', 'crop_border': 0}
    value = evaluate((image, image), (image, other), {'lr_ciede2000': options})['lr_ciede2000']
    assert value == pytest.approx(calculate_metric({'img': image, 'img2': other},
                                                   {'type': 'calculate_ciede2000', 'crop_border': 0}))
    assert value > 1
