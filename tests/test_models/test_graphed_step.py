"""The step in fixed memory gives the losses and gradients of the plain step, whatever the scale."""

import pytest
import torch
from helpers import tiny_net, train_options
from test_models.batches import MSE
from torch.nn import functional as F

from iarn_basicsr import quantise
from iarn_basicsr.errors import OptionError
from iarn_basicsr.models.graphed_step import GraphedStep
from iarn_basicsr.ops.resample import DENSE_LIMIT, bicubic_downscale

LR = (8, 8)


def losses(out, gt, lq):
    values = {'l_rec': F.l1_loss(out['sr'], gt), 'l_guide': F.mse_loss(out['lr_raw'], lq),
              'l_latent': F.mse_loss(out['latent'], torch.zeros_like(out['latent']))}
    if 'lr_again' in out:
        values['l_cycle'] = F.l1_loss(out['lr_again'], out['lr'].detach())
    return values


def autocast(device='cpu'):
    return torch.autocast(device, torch.bfloat16, enabled=False)


def check_against_plain(net, step, size, cycle, device='cpu', tolerance=1e-10, count=2):
    gt = torch.rand(count, 3, *size, dtype=torch.float64).to(device)
    lq = quantise(bicubic_downscale(gt, LR))
    found = step(gt, lq, cycle)
    gradients = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    wanted = losses(net(gt, LR, cycle=cycle), gt, lq)
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
    for k, size in enumerate(((32, 32), (9, 9), (13, 29), (32, 8), (16, 16))):
        check_against_plain(net, step, size, cycle=k % 2 == 1)
    check_against_plain(net, step, (16, 16), cycle=False, count=1)


def test_patches_longer_than_what_is_usually_one_dense_block():
    net = tiny_net(std=0.1, max_scale=64).double()
    step = GraphedStep(net, losses, autocast, (2 * DENSE_LIMIT, 40))
    for size in ((DENSE_LIMIT + 1, 32), (2 * DENSE_LIMIT, 9)):
        check_against_plain(net, step, size, cycle=False)


def data(lq_size=8, scale_range=(1.5, 3)):
    """Options of the data sets with LR patches of one size."""
    return {'train': {**train_options('hr')['datasets']['train'], 'lq_size': lq_size, 'gt_size': None,
                      'scale_range': list(scale_range)}}


def test_training_is_the_plain_one(make_model):
    """Three steps at three scales, with clipping and EMA."""
    plain, graphed = (make_model(datasets=data(), train={'cuda_graph': graph, 'grad_clip': 0.05})
                      for graph in (False, True))
    graphed.net_g.load_state_dict(plain.net_g.state_dict())
    graphed.net_g_ema.load_state_dict(plain.net_g_ema.state_dict())
    for step, size in enumerate(((16, 16), (24, 12), (13, 13)), 1):
        gt = torch.rand(2, 3, *size)
        for model in (plain, graphed):
            model.feed_data({'gt': gt, 'lq': quantise(bicubic_downscale(gt, LR))})
            model.optimize_parameters(step)
        assert graphed.get_current_log() == pytest.approx(plain.get_current_log(), rel=1e-4)
    for name in ('net_g', 'net_g_ema'):
        for a, b in zip(getattr(plain, name).parameters(), getattr(graphed, name).parameters()):
            assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(('sections', 'message'), [
    ({'network_g': {'coupling': 'hr_grid', 'extra_channels': 0}}, 'network_g of type IARN with coupling: lr_grid$'),
    ({'train': {'grad_accumulation': 2, 'jpeg': {'prob': 0.5, 'quality': [60, 95]}}},
     'grad_accumulation: 1; no jpeg$'),
    ({'network_g': {'split': 'cubic_interp', 'extra_channels': 0}, 'train': {'inv_opt': MSE}},
     'no inv_opt or perceptual_opt$'),
    ({'datasets': data(None)}, 'datasets.train.lq_size'),
])
def test_what_it_needs(make_model, sections, message):
    sections = {'datasets': data(), **sections}
    with pytest.raises(OptionError, match='train.cuda_graph: true needs .*' + message):
        make_model(**{**sections, 'train': {'cuda_graph': True, **sections.get('train', {})}})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_graph_equals_the_plain_step():
    """Recorded at one scale, replayed at others."""
    net = tiny_net(std=0.1, num_block=2).double().cuda()
    step = GraphedStep(net, losses, lambda: autocast('cuda'), (32, 32))
    for k, size in enumerate(((32, 32), (9, 9), (13, 29), (16, 16))):
        check_against_plain(net, step, size, k % 2 == 1, 'cuda', tolerance=1e-9)
    assert step.graphs.keys() == {False, True}
