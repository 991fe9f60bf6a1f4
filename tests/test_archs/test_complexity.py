"""Parameters and multiply-accumulates: budget, closed form, and an independent count."""

import pytest
import torch
from torch import nn

from iarn_basicsr.archs.iarn import IARN

LIGHT = {'num_block': 4, 'width': 16, 'order': 4, 'subnet': 'dense', 'extra_channels': 0}


def dense_block_parameters(c_in: int, c_out: int, width: int) -> int:
    """Four hidden 3x3 convolutions and the last one, with their biases."""
    hidden = sum(9 * (c_in + k * width) * width + width for k in range(4))
    return hidden + 9 * (c_in + 4 * width) * c_out + c_out


def conv_macs(net: IARN, run: object) -> int:
    """Weights used times output sites of every Conv2d that ``run`` calls, for a batch of one."""
    total = 0

    def count(module: nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += module.weight.numel() * output[0, 0].numel()

    handles = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return total


def test_budget() -> None:
    """The default: 0.51 M parameters; IRN x2's 0.42 M multiply-accumulates per HR pixel are far away."""
    cost = IARN().complexity((144, 144), (72, 72))
    assert 0.50e6 < cost['params'] < 0.52e6
    assert cost['macs_per_pixel'] <= 0.15e6


@pytest.mark.parametrize('order', [2, 4])
@pytest.mark.parametrize('encoding', [False, True])
def test_parameters_lr_grid(order: int, encoding: bool) -> None:
    net = IARN(**{**LIGHT, 'num_block': 3, 'width': 8, 'order': order, 'encoding': encoding})
    told = 2 * encoding
    block = (dense_block_parameters(3 * order**2 + told, 3, 8) + dense_block_parameters(3 + told, 6 * order**2, 8))
    assert net.complexity((8, 8), (4, 4))['params'] == 3 * block
    assert sum(p.numel() for p in net.parameters()) == 3 * block


def test_parameters_residual() -> None:
    """The first convolution, four of the width, and the last one."""
    net = IARN(num_block=2, width=6, order=3, extra_channels=4, num_unit=2)
    block = sum(9 * (c_in * 6 + 4 * 6 * 6 + 6 * c_out) + 5 * 6 + c_out for c_in, c_out in ((29, 7), (9, 54)))
    assert net.complexity((8, 8), (4, 4))['params'] == 2 * block


@pytest.mark.parametrize('fold', [1, 2])
@pytest.mark.parametrize('encoding', [False, True])
def test_parameters_hr_grid(fold: int, encoding: bool) -> None:
    net = IARN(**{**LIGHT, 'num_block': 2, 'width': 8, 'coupling': 'hr_grid', 'fold': fold, 'encoding': encoding})
    c_in, c_low = (7 if encoding else 3) * fold**2, 3 * fold**2
    block = dense_block_parameters(c_in, c_low, 8) + dense_block_parameters(c_in, 2 * c_low, 8)
    assert net.complexity((8, 8), (4, 4))['params'] == 2 * block


@pytest.mark.parametrize(('hr', 'lr'), [((48, 40), (24, 20)), ((47, 39), (33, 11))])
@pytest.mark.parametrize('options', [{}, LIGHT, {**LIGHT, 'coupling': 'hr_grid'}])
def test_macs_match_an_independent_count(options: dict, hr: tuple, lr: tuple) -> None:
    """Hooks on every Conv2d, for both directions; the resampling counted on top is a few per cent."""
    net = IARN(**options)
    down = conv_macs(net, lambda: net.downscale(torch.rand(1, 3, *hr), lr))
    up = conv_macs(net, lambda: net.upscale(torch.rand(1, 3, *lr), hr))
    cost = net.complexity(hr, lr)
    assert down == up
    assert down < cost['macs'] <= 1.06 * down
    assert cost['macs_per_pixel'] == cost['macs'] / (hr[0] * hr[1])


@pytest.mark.parametrize('order', [1, 2])
def test_resampling_part_closed_form(order: int) -> None:
    """x2: a pooling row has 2 weights, an unpooling row K; what remains are the convolutions."""
    net, (height, width), k = IARN(**{**LIGHT, 'num_block': 1, 'width': 1, 'order': order}), (12, 20), order
    h, w = height // 2, width // 2
    convolutions = conv_macs(net, lambda: net.downscale(torch.rand(1, 3, height, width), (h, w)))
    pool = 3 * (k * h * 2 * width + k * h * k * w * 2)  # rows, then columns
    unpool = 6 * (k * h * width * k + height * width * k)  # columns, then rows; for s and t
    assert net.complexity((height, width), (h, w))['macs'] == convolutions + pool + unpool


def test_complexity_builds_on_the_network_dtype_and_checks_the_size() -> None:
    net = IARN(**LIGHT)
    assert net.double().complexity((48, 40), (24, 20)) == IARN(**LIGHT).complexity((48, 40), (24, 20))
    with pytest.raises(ValueError, match='LR size 5x20 is out of range for HR 48x40'):
        net.complexity((48, 40), (5, 20))
