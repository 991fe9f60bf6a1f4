"""Batches and networks for the tests of the model."""

from __future__ import annotations

import torch

from iarn_basicsr import quantise
from iarn_basicsr.ops.resample import bicubic_downscale

MSE = {'type': 'MSELoss', 'loss_weight': 0.5, 'reduction': 'mean'}


class Whole(dict):
    """All options of a section, where ``make_model`` would only change those that are given."""


def batch(n: int = 4, size: int = 16, lr: tuple[int, int] = (8, 6)) -> dict[str, torch.Tensor]:
    """HR noise and its bicubic LR."""
    gt = torch.rand(n, 3, size, size)
    return {'gt': gt, 'lq': quantise(bicubic_downscale(gt, lr))}


def gradient(model, data: dict[str, torch.Tensor], cycle: bool = False) -> torch.Tensor:
    """Of a batch, all parameters in one vector."""
    model.feed_data(data)
    model.optimizer_g.zero_grad()
    model._backward(cycle)
    return torch.cat([p.grad.flatten() for p in model.net_g.parameters()])
