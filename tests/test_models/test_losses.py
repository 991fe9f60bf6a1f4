"""The loss that every image of a batch has an equal share in."""

import pytest
import torch

from iarn_basicsr.models.losses import ROUNDING, RMSELoss


def test_closed_form():
    """Two images with errors of 0.1 and 0.3 everywhere: the mean of their roots, not the root of the mean square."""
    target = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    error = torch.tensor([0.1, -0.3], dtype=torch.float64).reshape(2, 1, 1, 1)
    loss = RMSELoss(loss_weight=2)(target + error, target)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(((0.01 + ROUNDING) ** 0.5 + (0.09 + ROUNDING) ** 0.5), rel=1e-12)


def test_gradient_of_equal_images_is_zero():
    pred = torch.rand(2, 3, 4, 4, requires_grad=True)
    RMSELoss()(pred, pred.detach().clone()).backward()
    assert (pred.grad == 0).all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_reduced_precision_is_summed_in_float32(dtype):
    target = torch.zeros(1, 3, 64, 64, dtype=dtype)
    loss = RMSELoss()(target + 2**-8, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((2**-16 + ROUNDING) ** 0.5, rel=1e-6)
