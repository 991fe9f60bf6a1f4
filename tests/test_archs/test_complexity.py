"""Parameters and multiply-accumulates: budget, closed form, and an independent count."""

import pytest
import torch
from torch import nn

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.archs.irn import IRN, LEVELS

LIGHT = {'num_block': 4, 'width': 16, 'order': 4, 'subnet': 'dense', 'extra_channels': 0}


def conv_macs(net: nn.Module, run: object) -> int:
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


def test_budget():
    """The default: 0.51 M parameters; IRN x2's 0.42 M multiply-accumulates per HR pixel are far away."""
    cost = IARN().complexity((144, 144), (72, 72))
    assert 0.50e6 < cost['params'] < 0.52e6
    assert cost['macs_per_pixel'] <= 0.15e6


@pytest.mark.parametrize(('hr', 'lr'), [((48, 40), (24, 20)), ((47, 39), (33, 11))])
@pytest.mark.parametrize('options', [{}, LIGHT, {**LIGHT, 'coupling': 'hr_grid'}])
def test_macs_match_an_independent_count(options, hr, lr):
    """Hooks on every Conv2d, for both directions; the resampling counted on top is a few per cent."""
    net = IARN(**options)
    down = conv_macs(net, lambda: net.downscale(torch.rand(1, 3, *hr), lr))
    up = conv_macs(net, lambda: net.upscale(torch.rand(1, 3, *lr), hr))
    cost = net.complexity(hr, lr)
    assert down == up and cost['params'] == sum(p.numel() for p in net.parameters())
    assert down < cost['macs'] <= 1.06 * down
    assert cost['macs_per_pixel'] == cost['macs'] / (hr[0] * hr[1])


@pytest.mark.parametrize('scale', sorted(LEVELS))
def test_macs_of_irn(scale):
    """The convolutions, and 4 (Haar) or 9 (learned) multiplications for every value that is split."""
    net, lr = IRN(scale=scale, num_block=2, width=4), (24 // scale, 48 // scale)
    convolutions = conv_macs(net, lambda: net.downscale(torch.rand(1, 3, 24, 48), lr))
    assert net.complexity((24, 48), lr)['macs'] == convolutions + sum(f**2 for f in LEVELS[scale]) * 3 * 24 * 48


@pytest.mark.parametrize('order', [1, 2])
def test_resampling_part_closed_form(order):
    """x2: a pooling row has 2 weights, an unpooling row K; what remains are the convolutions."""
    net, (height, width), k = IARN(**{**LIGHT, 'num_block': 1, 'width': 1, 'order': order}), (12, 20), order
    h, w = height // 2, width // 2
    convolutions = conv_macs(net, lambda: net.downscale(torch.rand(1, 3, height, width), (h, w)))
    pool = 3 * (k * h * 2 * width + k * h * k * w * 2)  # rows, then columns
    unpool = 6 * (k * h * width * k + height * width * k)  # columns, then rows; for s and t
    assert net.complexity((height, width), (h, w))['macs'] == convolutions + pool + unpool


def test_complexity_builds_on_the_network_dtype_and_checks_the_size():
    net = IARN(**LIGHT)
    assert net.double().complexity((48, 40), (24, 20)) == IARN(**LIGHT).complexity((48, 40), (24, 20))
    with pytest.raises(ValueError, match='LR size 5x20 is out of range for HR 48x40'):
        net.complexity((48, 40), (5, 20))
