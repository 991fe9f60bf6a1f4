"""The quantiser and the conversions, to the bit; float32 on GPUs is switched and put back."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from iarn_basicsr.ops.image import full_float32, quantise, to_levels, to_pixels, to_tensor
from iarn_basicsr.payload.bits import high_part


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('requires_grad', [False, True])
def test_every_level_is_k_over_255_to_the_bit(dtype, requires_grad):
    levels = torch.arange(256, dtype=dtype)
    for shift in (-0.49, 0.0, 0.49):
        x = ((levels + shift) / 255).requires_grad_(requires_grad)
        before, y = x.detach().clone(), quantise(x)
        assert y.dtype == dtype and y.requires_grad == requires_grad
        assert torch.equal(y.detach(), levels / 255) and torch.equal(quantise(y).detach(), y.detach())
        assert torch.equal(x.detach(), before)


def test_ties_go_to_the_even_level():
    """They occur: the mean of two 8-bit pixels lies half way between two levels."""
    x = (torch.arange(255, dtype=torch.float64) + 0.5) / 255
    exact = x * 255 % 1 == 0.5  # where the division did not move it off the tie
    assert exact.sum() > 100
    assert torch.equal((quantise(x) * 255).round()[exact], torch.from_numpy(np.rint((x * 255).numpy()))[exact])


def test_what_is_out_of_range_is_clamped():
    x = torch.tensor([-1e30, -0.3, -0.001, 1.001, 1.7, 1e30])
    assert quantise(x).tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize('bits', [8, 6])
def test_gradient_is_exactly_straight_through(bits):
    """dy/dx = 1 everywhere: inside, on the limits, and for values that are clamped."""
    x = torch.tensor([-2.0, -0.001, 0.0, 0.3, 0.5 / 255, 1.0, 1.001, 7.0], requires_grad=True)
    upstream = torch.arange(1.0, 9.0)
    quantise(x, bits).backward(upstream)
    assert torch.equal(x.grad, upstream)


@pytest.mark.parametrize('bits', [8, 7, 6, 5])
def test_fewer_bits_are_the_high_part_of_the_stored_image(bits):
    """But for the samples of the payload's header, of which seven bits are known."""
    levels = torch.arange(512).remainder(256).to(torch.uint8).reshape(32, 16, 1).numpy()
    known = torch.from_numpy(high_part(levels, 8 - bits)).permute(2, 0, 1) / 255
    for shift in (-0.49, 0.0, 0.49):
        assert torch.equal(quantise(to_tensor(levels) + shift / 255, bits)[:, 16:], known[:, 16:])


def test_pixels_and_tensors():
    """Channels move, 255 (or 65535) is 1.0, 8-bit pixels come back to the bit, levels are neither rounded nor cut."""
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 4, 3) * 11
    x = to_tensor(pixels)
    assert x.shape == (3, 2, 4) and x.dtype == torch.float32
    assert torch.equal(x, torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).permute(2, 0, 1))
    assert torch.equal(to_tensor(pixels.astype(np.uint16) * 257), x)
    assert torch.equal(to_tensor(pixels.astype(np.float32)), x)
    assert np.array_equal(to_pixels(x[None]), pixels[None]) and to_pixels(x).dtype == np.uint8
    assert np.array_equal(to_pixels(x + 0.4 / 255), pixels)
    np.testing.assert_allclose(to_levels(x * 2 - 0.5), pixels * 2.0 - 127.5, rtol=0, atol=1e-4)


NEWER = hasattr(torch.backends.cudnn, 'conv')  # names of torch 2.9, beside which some of the older ones raise


def precision() -> tuple[object, ...]:
    """All that decides in which precision a GPU computes."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    found: list[object] = [cudnn.benchmark, cudnn.deterministic]
    for read in (lambda: cudnn.allow_tf32, lambda: matmul.allow_tf32, torch.get_float32_matmul_precision):
        try:
            found.append(read())
        except RuntimeError:
            found.append('mixed')
    return (*found, *((cudnn.conv.fp32_precision, matmul.fp32_precision) if NEWER else ()))


@pytest.fixture
def _precision_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)  # the flags are there without a GPU
    yield
    if NEWER:
        torch.backends.fp32_precision = torch.backends.cuda.matmul.fp32_precision = 'none'
    torch.set_float32_matmul_precision('highest')
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = True, False


@pytest.mark.usefixtures('_precision_restored')
@pytest.mark.parametrize('setting', [
    '', 'cudnn.allow_tf32 = False', 'cudnn.benchmark = True', 'cuda.matmul.allow_tf32 = True',
    *(['cudnn.conv.fp32_precision = "ieee"', 'cuda.matmul.fp32_precision = "tf32"', 'fp32_precision = "tf32"']
      if NEWER else ()),
])
def test_full_float32(setting: str) -> None:
    """No TF32 inside, whichever name allowed it, until the last one is out, by an error too; then all is as before."""
    exec(setting and f'torch.backends.{setting}')
    before, decorated = precision(), full_float32()(precision)
    first, second = full_float32(), full_float32()  # of two threads
    with pytest.raises(ZeroDivisionError), second:
        with first:
            second.__enter__()
        inside = precision()
        second.__exit__()
        assert precision() == inside
        raise ZeroDivisionError
    assert precision() == before
    assert [decorated(), decorated()] == [inside, inside] and precision() == before
    assert inside[0] is False and True not in inside[2:] and not {'high', 'medium', 'tf32'} & {*inside}
