"""The subnets: formulas, initial weights, and their state under autocast."""

import math

import pytest
import torch
from helpers import randomised
from torch import nn
from torch.nn import functional as F

from iarn_basicsr.archs.subnets import DenseBlock, ResidualBlock


def test_dense_block_formula():
    block = randomised(DenseBlock(3, 2, 4, 0.3)).double()
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    seen = [x]
    for conv in block.hidden:
        seen.append(F.leaky_relu(F.conv2d(torch.cat(seen, 1), conv.weight, conv.bias, padding=1), 0.2))
    expected = F.conv2d(torch.cat(seen, 1), block.last.weight, block.last.bias, padding=1)
    assert len(seen) == 5
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_dense_block_holds_its_state_in_the_type_of_autocast():
    """Bit for bit what float32 between the convolutions gives: a convolution rounds its input to bfloat16 anyway."""
    block, x = randomised(DenseBlock(5, 7, 4, 0.3)), torch.rand(2, 5, 9, 11)
    kinds = []
    for conv in [*block.hidden, block.last]:
        conv.register_forward_pre_hook(lambda _, args: kinds.append(args[0].dtype))
    with torch.autocast('cpu', torch.bfloat16):
        y, z = block(x), x
        for conv in block.hidden:
            z = torch.cat([z, F.leaky_relu(conv(z).float(), 0.2)], 1)
        z = block.last(z)
    assert torch.equal(y, z)
    assert kinds[1:5] == [torch.bfloat16] * 4


def test_residual_block_formula():
    block = randomised(ResidualBlock(3, 2, 4, 2, 0.3)).double()
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    weights = [*block.state_dict().values()]
    convs = [lambda y, w=w, b=b: F.conv2d(y, w, b, padding=1) for w, b in zip(weights[::2], weights[1::2])]
    first, enter_1, leave_1, enter_2, leave_2, last = convs
    y = first(x)
    y = y + leave_1(F.leaky_relu(enter_1(y), 0.2))
    y = y + leave_2(F.leaky_relu(enter_2(y), 0.2))
    torch.testing.assert_close(block(x), last(F.leaky_relu(y, 0.2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize('init_last', [0.0, 0.3])
@pytest.mark.parametrize('kind', ['dense', 'residual'])
def test_initial_weights(kind, init_last):
    """Xavier's deviation sqrt(2 / (fan_in + fan_out)) times the gains; biases zero."""
    block = DenseBlock(24, 48, 24, init_last) if kind == 'dense' else ResidualBlock(24, 48, 24, 2, init_last)
    gains = [0.1] * 4 if kind == 'dense' else [1, 1, 0.1, 1, 0.1]
    convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    for conv, gain in zip(convs, [*gains, init_last]):
        expected = gain * math.sqrt(2 / (9 * (conv.in_channels + conv.out_channels)))
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.1)
        assert not conv.bias.any()
    assert block(torch.rand(1, 24, 5, 5)).any() == (init_last > 0)
