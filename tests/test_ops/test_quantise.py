"""The quantiser: values, gradient, and equality to the bit with what a PNG stores."""

import pytest
import torch

from iarn_basicsr.ops.image import quantise, to_tensor
from iarn_basicsr.payload.bits import high_part


@pytest.mark.parametrize(('value', 'level'), [
    (0.0, 0), (1.0, 255), (-0.3, 0), (1.7, 255), (0.4 / 255, 0), (0.6 / 255, 1), (127.4 / 255, 127), (127.6 / 255, 128),
    (254.6 / 255, 255), (254.4 / 255, 254), (-1e30, 0), (1e30, 255),
])
@pytest.mark.parametrize('requires_grad', [False, True])
def test_values(value: float, level: int, requires_grad: bool) -> None:
    x = torch.tensor([value], requires_grad=requires_grad)
    assert torch.equal(quantise(x).detach(), torch.tensor([level], dtype=torch.float32) / 255)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('requires_grad', [False, True])
def test_every_level_is_k_over_255_to_the_bit(dtype: torch.dtype, requires_grad: bool) -> None:
    levels = torch.arange(256, dtype=dtype)
    for shift in (-0.49, -0.1, 0.0, 0.1, 0.49):
        x = ((levels + shift) / 255).requires_grad_(requires_grad)
        y = quantise(x)
        assert y.dtype == dtype
        assert torch.equal(y.detach(), levels / 255)
        assert y.requires_grad == requires_grad


@pytest.mark.parametrize('requires_grad', [False, True])
def test_idempotent(requires_grad: bool) -> None:
    x = (torch.rand(2, 3, 9, 7) * 1.4 - 0.2).requires_grad_(requires_grad)
    y = quantise(x)
    assert not torch.equal(x, y)
    assert torch.equal(quantise(y), y)
    assert torch.equal(quantise(y.detach()), y.detach())


def test_error_is_at_most_half_a_level() -> None:
    x = torch.rand(10000, dtype=torch.float64)
    assert (quantise(x) - x).abs().max() <= 0.5 / 255 + 1e-12


def test_gradient_is_exactly_straight_through() -> None:
    """dy/dx = 1 everywhere: inside, on the limits, and for values that are clamped."""
    x = torch.tensor([-2.0, -0.001, 0.0, 0.3, 0.5 / 255, 1.0, 1.001, 7.0], requires_grad=True)
    upstream = torch.arange(1.0, 9.0)
    quantise(x).backward(upstream)
    assert torch.equal(x.grad, upstream)


def test_input_is_not_changed() -> None:
    x = torch.rand(3, 5) * 3 - 1
    before = x.clone()
    quantise(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize('bits', [8, 7, 6, 5])
def test_fewer_bits_are_the_high_part_of_the_stored_image(bits: int) -> None:
    """But for the samples of the payload's header, of which seven bits are known."""
    levels = torch.arange(512).remainder(256).to(torch.uint8).reshape(32, 16, 1).numpy()
    known = torch.from_numpy(high_part(levels, 8 - bits)).permute(2, 0, 1) / 255
    for shift in (-0.49, 0.0, 0.49):
        assert torch.equal(quantise(to_tensor(levels) + shift / 255, bits)[:, 16:], known[:, 16:])


def test_gradient_with_fewer_bits() -> None:
    x = torch.linspace(-0.2, 1.2, 50, requires_grad=True)
    quantise(x, 6).sum().backward()
    assert torch.equal(x.grad, torch.ones(50))
