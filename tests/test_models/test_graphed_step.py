"""The step in fixed memory gives the losses and gradients of the plain step, whatever the scale."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny_net
from torch.nn import functional as F

from iarn_basicsr.archs.grid import PaddedGrid
from iarn_basicsr.models.graphed_step import GraphedStep
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import bicubic_downscale

LR = (8, 8)


def losses(out, gt, lq):
    return {'l_rec': F.l1_loss(out['sr'], gt), 'l_guide': F.mse_loss(out['lr_raw'], lq),
            'l_latent': F.mse_loss(out['latent'], torch.zeros_like(out['latent']))}


def autocast(device='cpu'):
    return torch.autocast(device, torch.bfloat16, enabled=False)


def batch(size, device='cpu', dtype=torch.float64):
    gt = torch.rand(2, 3, *size, dtype=dtype).to(device)
    return gt, quantise(bicubic_downscale(gt, LR))


def check_against_plain(net, step, size, device='cpu', dtype=torch.float64, tolerance=1e-10):
    gt, lq = batch(size, device, dtype)
    found = step(gt, lq)
    gradients = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    wanted = losses(net(gt, LR), gt, lq)
    sum(wanted.values()).backward()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].item() == pytest.approx(value.item(), rel=tolerance)
    for parameter, gradient in zip(net.parameters(), gradients):
        assert (gradient - parameter.grad).abs().max() <= tolerance * max(1, parameter.grad.abs().max().item())


@pytest.mark.parametrize('resample', ['area', 'cubic', 'cubic_interp'])
def test_equals_the_plain_step(resample):
    """Scales in turn, large, small and asymmetric: nothing of the last one stays in the memory."""
    net = tiny_net(std=0.1, num_block=2, split=resample).double()
    step = GraphedStep(net, losses, autocast, (32, 32))
    for size in ((32, 32), (9, 9), (13, 29), (32, 8), (16, 16)):
        check_against_plain(net, step, size)


def test_another_batch_size():
    net = tiny_net(std=0.1).double()
    step = GraphedStep(net, losses, autocast, (32, 32))
    for count in (2, 1):
        gt, lq = (x[:count] for x in batch((20, 20)))
        wanted = losses(net(gt, LR), gt, lq)
        assert step(gt, lq)['l_rec'].item() == pytest.approx(wanted['l_rec'].item(), rel=1e-10)


def test_memory_beyond_one_dense_matrix():
    with pytest.raises(ValueError, match=r'\(300, 40\).*at most 256'):
        PaddedGrid((300, 40), (100, 20), 'cubic', 4, torch.float32, torch.device('cpu'))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_graph_equals_the_plain_step():
    """Recorded at one scale, replayed at others."""
    net = tiny_net(std=0.1, num_block=2).double().cuda()
    step = GraphedStep(net, losses, lambda: autocast('cuda'), (32, 32))
    for size in ((32, 32), (9, 9), (13, 29), (16, 16)):
        check_against_plain(net, step, size, 'cuda', tolerance=1e-9)
    assert step.graph is not None
