"""One step of training: losses, accumulation, clipping, guards, averaged weights, messages."""

import copy
import logging
import math
from urllib.error import URLError

import pytest
import torch
from basicsr.utils.color_util import rgb2ycbcr_pt
from helpers import randomised
from test_models.batches import MSE, Whole, batch, gradient
from torch.nn import functional as F

from iarn_basicsr import quantise
from iarn_basicsr.errors import IARNError, OptionError
from iarn_basicsr.models.iarn_model import check_model
from iarn_basicsr.models.losses import luma


def step(model, data, iteration=1):
    model.feed_data(data)
    model.optimize_parameters(iteration)
    return model.get_current_log()


def test_losses_are_what_they_say(make_model):
    model = make_model(train={'pixel_opt': {'type': 'L1Loss', 'loss_weight': 2.0}, 'luma_opt': MSE})
    randomised(model.net_g)
    data = batch()
    with torch.no_grad():
        out = model.net_g(data['gt'], (8, 6))
    y, wanted = (rgb2ycbcr_pt(x, y_only=True) for x in (out['sr'], data['gt']))
    log = step(model, data)
    assert log.pop('grad_norm') > 0
    assert log == pytest.approx({
        'l_rec': 2 * F.l1_loss(out['sr'], data['gt']).item(), 'l_luma': 0.5 * F.mse_loss(y, wanted).item(),
        'l_guide': F.mse_loss(out['lr_raw'], data['lq']).item(),
        'l_latent': 0.1 * out['latent'].square().mean().item()}, rel=1e-5)
    red_for_green = torch.tensor([1 / 65.481, -1 / 128.553, 0]).view(1, 3, 1, 1)
    assert torch.allclose(luma(out['sr'] + red_for_green), luma(out['sr']), atol=1e-6)


def test_inverse_consistency_loss(make_model):
    model = make_model(network_g={'split': 'cubic_interp'}, train={'inv_opt': MSE})
    randomised(model.net_g)
    data = batch()
    with torch.no_grad():
        low = model.net_g(data['gt'], (8, 6))['low']
        g = model.net_g.grid_of(data['gt'], (16, 16), (8, 6))
    assert low.shape == data['gt'].shape
    assert step(model, data)['l_inv'] == pytest.approx(0.5 * F.mse_loss(low, g.up(g.down(low))).item(), rel=1e-4)


IRN = {'network_g': Whole(type='IRN', scale=2, num_block=1, width=4),
       'datasets': {name: {'name': name, 'type': 'ArbitraryScaleDataset', key: scales}
                    for name, key, scales in (('train', 'scale_range', [2, 2]), ('val', 'scales', [2]))}}


@pytest.mark.parametrize('sections', [{}, {'network_g': {'split': 'cubic_interp'}}, IRN])
def test_cycle_loss(make_model, sections):
    """Gradient by hand; one step in ``cycle_freq`` has it; in parts it is that of the batch."""
    model = make_model(**sections, train={'cycle_opt': MSE, 'cycle_freq': 3, 'ema_decay': 0})
    net, data = model.net_g.double(), {k: v.double() for k, v in batch(lr=(8, 8)).items()}
    randomised(net)
    without, with_it = gradient(model, data, cycle=False), gradient(model, data, cycle=True)
    out = net(data['gt'], (8, 8))
    again = net.downscale(quantise(out['sr']), (8, 8)).lr
    term = 0.5 * F.mse_loss(again, quantise(out['lr_raw']).detach())
    by_hand = torch.cat([g.flatten() for g in torch.autograd.grad(term, list(net.parameters()))])
    assert by_hand.abs().max() > 1e-6
    assert torch.allclose(with_it - without, by_hand, atol=1e-12)
    model.train_options.grad_accumulation = 2
    assert torch.allclose(gradient(model, data, cycle=True), with_it, atol=1e-12)
    assert 'l_cycle' not in {**step(model, data, 1), **step(model, data, 2)}
    with torch.no_grad():
        out = net(data['gt'], (8, 8), cycle=True)
    value = pytest.approx(0.5 * F.mse_loss(out['lr_again'], out['lr']).item(), rel=1e-6)
    assert step(model, data, 3)['l_cycle'] == value == step(model, data, 4)['l_cycle']  # the log keeps the last one


@pytest.mark.parametrize(('images', 'parts'), [(5, 3), (4, 4)])
def test_batch_in_parts(make_model, images, parts):
    """Of sizes that differ by one at most, and with the gradient of the whole batch."""
    model, data, sizes = make_model(), batch(images), []
    randomised(model.net_g)
    whole = gradient(model, data)
    model.net_g.register_forward_pre_hook(lambda net, inputs: sizes.append(len(inputs[0])))
    model.train_options.grad_accumulation = parts
    assert torch.allclose(gradient(model, data), whole, rtol=1e-4, atol=1e-7)
    assert len(sizes) == parts and sum(sizes) == images and max(sizes) - min(sizes) <= 1


def test_gradient_is_clipped(make_model):
    model = make_model(train={'grad_clip': 1e-3, 'optim_g': {'type': 'SGD', 'lr': 1.0}, 'ema_decay': 0})
    before = [p.clone() for p in model.net_g.parameters()]
    assert step(model, batch())['grad_norm'] > 1e-3
    moved = math.sqrt(sum((a - b).square().sum().item() for a, b in zip(before, model.net_g.parameters())))
    assert moved == pytest.approx(1e-3, rel=1e-3)


def test_non_finite_step_is_skipped_counted_and_fatal_in_the_end(make_model):
    model = make_model(train={'nonfinite_limit': 3})
    good, bad = batch(), batch()
    bad['gt'][0, 0, 0, 0] = float('nan')
    before, average = ({k: v.clone() for k, v in net.state_dict().items()} for net in (model.net_g, model.net_g_ema))
    for iteration in (1, 2):
        assert step(model, bad, iteration)['skipped'] == iteration
    assert all(torch.equal(v, before[k]) for k, v in model.net_g.state_dict().items())
    assert all(torch.equal(v, average[k]) for k, v in model.net_g_ema.state_dict().items())
    step(model, good, 3)
    assert any(not torch.equal(v, before[k]) for k, v in model.net_g.state_dict().items())
    for iteration in (4, 5):
        step(model, bad, iteration)
    with pytest.raises(FloatingPointError, match='3 steps in a row .* smaller train.optim_g.lr'):
        step(model, bad, 6)


def test_ema_follows(make_model):
    model = make_model(train={'ema_decay': 0.75})
    start = [p.clone() for p in model.net_g_ema.parameters()]
    step(model, batch())
    for ema, old, new in zip(model.net_g_ema.parameters(), start, model.net_g.parameters()):
        assert torch.allclose(ema, 0.75 * old + 0.25 * new)


@pytest.mark.parametrize('has', [True, False])
def test_bf16_without_its_instructions_is_float32(make_model, monkeypatch, caplog, has):
    monkeypatch.setattr('iarn_basicsr.models.iarn_model.cpu_has_bf16', lambda: has)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'handlers', [caplog.handler])
    model = make_model(train={'amp': 'bf16', 'cycle_opt': MSE})
    kinds = set()
    for module in model.net_g.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, given, out: kinds.add(out.dtype))
    assert math.isfinite(step(model, batch())['l_cycle'])
    assert kinds == {torch.bfloat16 if has else torch.float32}
    assert ('no instructions for bfloat16' in caplog.text) is not has


def test_cudnn_is_not_told_to_tune_for_every_size(make_model):
    torch.backends.cudnn.benchmark = True
    make_model()
    assert torch.backends.cudnn.benchmark is False


def test_weights_of_vgg_that_cannot_be_fetched(make_model, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise URLError('Name or service not known')

    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    with pytest.raises(OptionError, match=r'train.perceptual_opt: the weights of its VGG network cannot be fetched '
                       r'\(Name or service not known\).*experiments/pretrained_models/vgg19-dcbb9e9d.pth'):
        make_model(train={'perceptual_opt': {'type': 'PerceptualLoss', 'layer_weights': {'conv1_2': 1.0}}})


@pytest.mark.parametrize(('section', 'change', 'message'), [
    ('train', {'grad_accumulation': 5}, 'train.grad_accumulation: 5 parts .*batch_size_per_gpu: 2'),
    ('network_g', {'type': 'IRAN'}, "^network_g: No object named 'IRAN' found in 'arch' registry!$"),
    ('train', {'luma_opt': {'type': 'L1Loss', 'weight': 1}}, "^train.luma_opt: .* unexpected keyword .*'weight'"),
    ('train', {'optim_g': {'type': 'Adam', 'lr': 1e-3, 'eps': -1}}, '^train.optim_g: Invalid epsilon'),
    ('train', {'optim_g': {'type': 'SOAP', 'lr': 1e-3, 'refresh': 0}}, '^train.optim_g: refresh: 0; expected a whole'),
    ('train', {'optim_g': {'lr': 1e-3}}, '^train.optim_g: type'),
    ('train', {'scheduler': {'type': 'MultiStep'}}, '^train.scheduler: Scheduler MultiStep is not implemented yet.$'),
])
def test_messages(make_model, section, change, message):
    with pytest.raises(OptionError, match=message):
        make_model(**{section: change})


def test_options_are_checked_without_building_the_model(make_options):
    """With the words of the constructor, and without a random number drawn."""
    for sections, message in (
            ({'network_g': {'max_scale': 2.0}}, 'train.scale_range: x3 is out of range for .*, IARN for x1 to x2'),
            ({'network_g': IRN['network_g']}, 'train.scale_range: x1.5 is out of range for .*, IRN for x2 alone'),
            ({'train': {'inv_opt': MSE}}, 'train.inv_opt serves'),
            ({'train': {'cuda_graph': True}}, 'train.cuda_graph: true needs datasets.train.lq_size'),
            ({'train': {'grad_accumulation': 3}}, 'train.grad_accumulation: 3 parts'),
            ({'path': {'pretrain_network_g': 'none.pth'}}, "weights 'none.pth': no such file"),
            ({'path': {'pretrain_network_g': 'iarn_light_x1-4'}, 'network_g': Whole(type='IARN', num_block=3)},
             'network_g.num_block: 3, but iarn_light_x1-4 was made with 4')):
        with pytest.raises(IARNError, match=message):
            check_model(make_options(**sections))
    state = torch.get_rng_state()
    options = make_options()
    expected = copy.deepcopy(options)
    check_model(options)
    assert options == expected and torch.equal(torch.get_rng_state(), state)
