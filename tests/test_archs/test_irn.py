"""IRN: the authors' numbers, exactness, its start, keys, cost, errors, and a run through BasicSR's pipeline."""

import json

import pytest
import torch
from basicsr.losses import build_loss
from helpers import ROOT, train_options, write_yaml
from torch import nn
from torch.nn import functional as F

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.archs.irn import IRN, LEVELS, HaarSplit, LearnedSplit
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.ops.image import quantise

TINY = {'num_block': 2, 'width': 4}
SCALES = sorted(LEVELS)

# Made by InvRescaleNet of github.com/pkuxmq/Invertible-Image-Rescaling at commit
# 0ebe8f9d91fe01e43826831946a01cbbc1ddbc75: subnet('DBNet', 'xavier', gc=4), 2 blocks a level, weights of
# ``formula_state``, input of ``formula_image(24, 24)`` in float64, down, then up from the unrounded LR with z = 0. Each
# row: sum of the LR, LR[0, 1, 1, 2], sum of z^2, z[0, -1, 2, 0], sum of the restored image, restored[0, 2, 5, 17].
OFFICIAL = {
    2: [198.458400027, 0.517514717248, 62.3997017618, 0.175199895163, 852.303125867, 0.527649812366],
    3: [98.0460889375, 0.410548385272, 532.388447509, 0.935395198916, 960.678928296, -0.339522338612],
    4: [53.7576353295, 0.712349849049, 59.1313160738, -0.141943905291, 841.71770675, 0.547759787369],
    8: [13.1971731302, 0.609118674756, 40.8942333235, 0.20063307335, 861.827480009, 0.229312066508],
}


def formula_state(net: nn.Module) -> dict[str, torch.Tensor]:
    """Weights without a random generator: sines of the index, as large as those of a trained network."""
    state = {}
    for i, (key, value) in enumerate(sorted(net.state_dict().items())):
        wave = torch.sin(1.7 * torch.arange(value.numel(), dtype=torch.float64) + i).reshape(value.shape)
        if 'haar_weights' in key:
            state[key] = value.double()
        elif 'conv_weights' in key:
            state[key] = value.double() + 0.1 * wave
        else:
            state[key] = wave * (0.7 / (value[0].numel()**0.5 if value.dim() == 4 else 5))
    return state


def formula_image(height: int, width: int) -> torch.Tensor:
    """(1, 3, height, width) in [0, 1], float64."""
    n = torch.arange(3 * height * width, dtype=torch.float64)
    return (0.5 + 0.25 * (torch.sin(0.37 * n) + torch.sin(0.011 * n**1.5))).reshape(1, 3, height, width)


def formula_net(scale: int) -> IRN:
    net = IRN(scale=scale, **TINY).double()
    net.load_state_dict(formula_state(net))
    return net


def lr_of(hr: torch.Tensor, scale: int) -> tuple[int, int]:
    return hr.shape[-2] // scale, hr.shape[-1] // scale


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_numbers_of_the_official_code(scale, dtype, tolerance):
    net, hr = formula_net(scale).to(dtype), formula_image(24, 24).to(dtype)
    with torch.no_grad():
        down = net.downscale(hr, lr_of(hr, scale))
        up = net.upscale(down.lr, (24, 24))
    found = [down.lr.sum(), down.lr[0, 1, 1, 2], down.latent.square().sum(), down.latent[0, -1, 2, 0], up.sum(),
             up[0, 2, 5, 17]]
    assert [v.item() for v in found] == pytest.approx(OFFICIAL[scale], rel=tolerance, abs=tolerance)


@pytest.mark.parametrize('scale', SCALES)
def test_keys_of_the_official_weights(scale):
    expected = set()
    for i in range(0, 3 * len(LEVELS[scale]), 3):
        expected |= {f'operations.{i}.{"conv" if scale == 3 else "haar"}_weights'}
        expected |= {f'operations.{j}.{net}.conv{k}.{kind}' for j in (i + 1, i + 2) for net in 'FGH'
                     for k in range(1, 6) for kind in ('weight', 'bias')}
    assert IRN(scale=scale, **TINY).state_dict().keys() == expected


@pytest.mark.parametrize(('scale', 'num_block', 'params'), [(2, 8, 1667952), (3, 12, 3139029), (4, 8, 4355136)])
def test_published_sizes(scale, num_block, params):
    """1.66 M and 4.35 M in the authors' table; the Haar filters are not learned."""
    net = IRN(scale=scale, num_block=num_block)
    assert sum(p.numel() for p in net.parameters()) == params
    assert net.complexity((48, 48), (48 // scale, ) * 2)['params'] == params


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
def test_round_trip(scale, dtype, tolerance):
    """x -> (LR, z) -> x with weights of which none is zero."""
    net, hr = formula_net(scale).to(dtype), torch.rand(2, 3, 24, 48, dtype=dtype)
    with torch.no_grad():
        lr, latent, low = net.downscale(hr, lr_of(hr, scale))
        back = net.upscale(lr, (24, 48), latent)
    assert low is lr and lr.shape == (2, 3, 24 // scale, 48 // scale)
    assert latent.shape == (2, 3 * (scale**2 - 1), 24 // scale, 48 // scale)
    assert (lr - F.avg_pool2d(hr, scale)).abs().max() > 1e-2  # not the start
    assert back.dtype == dtype
    assert (back - hr).abs().max() <= tolerance
    assert (net.upscale(lr, (24, 48)) - hr).abs().max() > 1e-2  # the latent matters


@pytest.mark.parametrize('split', [HaarSplit(6), LearnedSplit(6, 3)], ids=['haar', 'learned'])
def test_splits_keep_their_precision_under_autocast(split):
    x = torch.rand(2, 6, 12, 18)
    with torch.no_grad():
        expected = split(x)
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(split(x), expected)
            torch.testing.assert_close(split.inverse(expected), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize('scale', SCALES)
def test_start_is_the_area_mean(scale):
    """The last convolutions are zero: LR = mean of the cell; from it, Haar repeats the mean in the cell."""
    hr = torch.rand(2, 3, 24, 48)
    net = IRN(scale=scale, **TINY)
    lr = net.downscale(hr, lr_of(hr, scale)).lr
    torch.testing.assert_close(lr, F.avg_pool2d(hr, scale), rtol=0, atol=1e-6)
    restored = net.upscale(lr, (24, 48))
    if scale != 3:
        expected = F.interpolate(lr, scale_factor=scale, mode='nearest')
        torch.testing.assert_close(restored, expected, rtol=0, atol=1e-5)


def test_hidden_convolutions_start_small_and_the_last_ones_at_zero():
    for name, p in IRN(scale=2).named_parameters():
        zero = 'bias' in name or 'conv5' in name
        fans = (p.shape[0] + p.shape[1]) * 9 if p.dim() == 4 else 1
        assert p.std().item() == pytest.approx(0 if zero else 0.1 * (2 / fans)**0.5, rel=0.1), name


@pytest.mark.parametrize('scale', SCALES)
def test_forward(scale):
    """The documented keys; the LR is 8 bits; what is upscaled is that LR and nothing else."""
    net, hr = formula_net(scale).float(), torch.rand(2, 3, 24, 24)
    out = net(hr, lr_of(hr, scale))
    assert set(out) == {'lr', 'sr', 'lr_raw', 'latent', 'low'}
    assert torch.equal(out['lr'], quantise(out['lr_raw'])) and not torch.equal(out['lr'], out['lr_raw'])
    torch.testing.assert_close(out['sr'], net.upscale(out['lr'], (24, 24)), rtol=0, atol=1e-6)
    assert out['low'] is out['lr_raw']
    out['sr'].sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize(('options', 'message'), [
    ({}, 'IRN: .*scale'), ({'scale': 5}, 'IRN.scale: 5'), ({'scale': 2, 'num_block': 99}, 'IRN.num_block: 99; .*to 64'),
], ids=str)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        IRN(**options)


@pytest.mark.parametrize(('hr', 'lr'), [((25, 24), (12, 12)), ((24, 24), (11, 12)), ((24, 24), (12, 24)),
                                        ((24, 24), (6, 6))])
def test_sizes(hr, lr):
    net = IRN(scale=2, **TINY)
    message = (rf'HR {hr[0]}x{hr[1]} and LR {lr[0]}x{lr[1]} \(height x width\) do not fit IRN x2: HR must be a '
               r'multiple of 2 on both axes and LR exactly HR / 2 \(the benchmark resizes HR first')
    for call in (lambda: net.downscale(torch.rand(1, 3, *hr), lr), lambda: net.upscale(torch.rand(1, 3, *lr), hr),
                 lambda: net(torch.rand(1, 3, *hr), lr), lambda: net.complexity(hr, lr)):
        with pytest.raises(ValueError, match=message):
            call()


def test_images_and_latents():
    net = IRN(scale=2, **TINY)
    flat = torch.rand(3, 8, 8)
    for call in (lambda: net.downscale(flat, (4, 4)), lambda: net.upscale(flat, (16, 16))):
        with pytest.raises(ValueError, match='expected RGB float'):
            call()
    with pytest.raises(ValueError, match=r'latent of shape \(1, 3, 8, 8\): expected \(1, 9, 4, 4\)'):
        net.upscale(torch.rand(1, 3, 4, 4), (8, 8), torch.zeros(1, 3, 8, 8))


def test_train_and_validate(tmp_path, image_folder, pipeline):
    opt = train_options(image_folder('hr', [(32, 40), (25, 27)]))
    opt['network_g'] = {'type': 'IRN', 'scale': 2, 'num_block': 1, 'width': 4}
    opt['datasets']['train'].update(scale_range=[2, 2], asymmetric_prob=0)
    opt['datasets']['val'].update(scales=[2], mod_crop=2)
    pipeline('train', write_yaml(opt, tmp_path / 'train.yml'))
    folder = tmp_path / 'experiments' / 'run'
    assert set(json.loads(next((folder / 'metrics').glob('val_*.json')).read_text())['mean']) == {'x2'}
    path = folder / 'models' / 'net_g_latest.pth'
    net, content = IRN.from_file(path), torch.load(path, weights_only=True)
    assert content['arch'] == {'type': 'IRN', 'scale': 2, 'num_block': 1, 'width': 4, 'clamp': 1.0}
    assert all(torch.equal(v, content['params_ema'][k]) for k, v in net.state_dict().items())
    for name in 'FGH':  # all of them have left zero
        assert content['params'][f'operations.1.{name}.conv5.weight'].abs().max() > 0
    assert torch.equal(content['params']['operations.0.haar_weights'], HaarSplit(3).haar_weights)
    with pytest.raises(ValueError, match='expected a file saved by IARNModel, with arch.type IARN'):
        IARN.from_file(path)


def test_losses_of_the_option_file_are_the_published_sums(scale=2):
    """Sums over an image, mean over the batch: back 1 (L1, as sqrt(d^2 + 1e-6)), guide scale^2 (L2), latent 1 (L2)."""
    opt = read_option_file(str(ROOT / 'options' / f'train_IRN_x{scale}.yml'))
    n = opt['datasets']['train']['gt_size']
    published = {'pixel_opt': (3, n, lambda d: (d**2 + 1e-6).sqrt()),
                 'guide_opt': (3, n // scale, lambda d: scale**2 * d**2),
                 'latent_opt': (3 * (scale**2 - 1), n // scale, lambda d: d**2)}
    for key, (channels, size, value) in published.items():
        a, b = torch.rand(2, 2, channels, size, size, dtype=torch.float64)
        expected = value(a - b).sum() / 2
        assert build_loss(opt['train'][key])(a, b).item() == pytest.approx(expected.item(), rel=1e-9), key
