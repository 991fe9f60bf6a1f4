"""The network: exactness, its start, options, files, precision, and what it may not depend on."""

import os
import typing
from pathlib import Path

import pytest
import torch
from helpers import DENSE, few, randomised
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from iarn_basicsr.archs.coupling import COUPLINGS
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.config.schema import IARNOptions
from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import PAIRS, bicubic_downscale
from iarn_basicsr.ops.size import lr_size
from iarn_basicsr.zoo.weights import write_weights

EXPECTED = Path(__file__).parents[1] / 'expected' / 'iarn_state_dict.txt'
TINY = {**DENSE, 'num_block': 2}
BOTH = sorted(COUPLINGS)


def image(*size: int, dtype: torch.dtype = torch.float32, n: int = 1) -> torch.Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def objective(out: dict[str, torch.Tensor], hr: torch.Tensor) -> torch.Tensor:
    """l_rec + l_guide, without a latent term."""
    return F.l1_loss(out['sr'], hr) + F.mse_loss(out['lr'], bicubic_downscale(hr, out['lr'].shape[-2:]))


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@pytest.mark.parametrize('split', ['area', 'cubic'])
@pytest.mark.parametrize('coupling', BOTH)
@pytest.mark.parametrize('subnet', ['dense', 'residual'])
def test_round_trip(subnet, coupling, split, dtype, tolerance):
    """x -> (LR, z) -> x for random weights, any size 7 to 48, scales 1 to 4, asymmetric ones and odd sizes too."""
    net = randomised(IARN(split=split, coupling=coupling, **{**TINY, 'subnet': subnet, 'num_unit': 1})).to(dtype)

    @settings(max_examples=12, deadline=None, derandomize=True)
    @given(st.tuples(st.integers(7, 48), st.integers(7, 48)), st.tuples(st.floats(1, 4), st.floats(1, 4)))
    def check(hr: tuple[int, int], scale: tuple[float, float]) -> None:
        x, size = image(*hr, dtype=dtype), lr_size(hr, scale)
        with torch.no_grad():
            lr, latent, low = net.downscale(x, size)
            back = net.upscale(lr, hr, latent)
        assert lr.shape == (1, 3, *size)
        assert latent.shape == x.shape
        assert torch.equal(low, lr)
        assert (lr - net.grid_of(x, hr, size).down(x)).abs().max() > 1e-2  # not the identity
        assert latent.abs().max() > 1e-2
        assert back.dtype == dtype
        assert (back - x).abs().max() <= tolerance

    check()


@pytest.mark.parametrize('coupling', BOTH)
@pytest.mark.parametrize('size', [(8, 10), (17, 13), (5, 20)])
def test_cubic_interp_is_exact_with_the_true_low_branch(coupling, size):
    net = randomised(IARN(split='cubic_interp', coupling=coupling, **TINY)).double()
    x = image(17, 20, dtype=torch.float64)
    lr, latent, low = net.downscale(x, size)
    assert low.shape == x.shape
    torch.testing.assert_close(lr, net.grid_of(x, (17, 20), size).down(low), rtol=0, atol=1e-12)
    torch.testing.assert_close(net.upscale(lr, (17, 20), latent, low), x, rtol=0, atol=1e-8)
    assert (net.upscale(lr, (17, 20), latent) - x).abs().max() > 1e-3  # the LR alone does not hold l


@pytest.mark.parametrize('options', [*({'split': split, 'coupling': coupling} for split in PAIRS for coupling in BOTH),
                                     {'extra_channels': 5}, {'subnet': 'residual', 'num_unit': 1}], ids=str)
def test_start_at_zero_is_the_plain_pair(options):
    """init_last 0: LR = D x, z = x - U D x, nothing in the extra channels, and the restoration is U LR."""
    net, x = IARN(**{**TINY, 'init_last': 0, **options}), image(19, 22)
    g = net.grid_of(x, (19, 22), (8, 15))
    lr, latent, low = net.downscale(x, (8, 15))
    assert not low[:, 3:].any()
    expected = g.down(x) if g.exact else g.down(g.up(g.down(x)))
    torch.testing.assert_close(lr, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(latent, x - g.up(g.down(x)), rtol=0, atol=1e-6)
    torch.testing.assert_close(net.upscale(lr, (19, 22)), g.up(lr), rtol=0, atol=1e-6)


@pytest.mark.parametrize('split', sorted(PAIRS))
@pytest.mark.parametrize('coupling', BOTH)
def test_forward(coupling, split):
    """The documented keys; the LR is 8 bits; what is upscaled is that LR and nothing else."""
    net, x = randomised(IARN(split=split, coupling=coupling, **TINY)), image(13, 18, n=2)
    out = net(x, (7, 9))
    projected = out.pop('low_projected', None)
    assert (projected is not None) == (split == 'cubic_interp')
    if projected is not None:
        g = net.grid_of(x, (13, 18), (7, 9))
        torch.testing.assert_close(projected, g.up(g.down(out['low'])), rtol=0, atol=1e-6)
    assert {k: tuple(v.shape[-2:]) for k, v in out.items()} == {
        'lr': (7, 9), 'sr': (13, 18), 'lr_raw': (7, 9), 'latent': (13, 18),
        'low': (13, 18) if split == 'cubic_interp' else (7, 9)}
    assert torch.equal(out['lr'], quantise(out['lr_raw'])) and not torch.equal(out['lr'], out['lr_raw'])
    stored = (out['lr'] * 255).round().byte().float() / 255  # as read from a PNG
    torch.testing.assert_close(out['sr'], net.upscale(stored, (13, 18)), rtol=0, atol=1e-6)
    down = net.downscale(x, (7, 9))
    torch.testing.assert_close([out['lr_raw'], out['latent'], out['low']], list(down), rtol=0, atol=1e-6)


@pytest.mark.parametrize('options', [{'coupling': 'hr_grid'}, {'encoding': False}, {'init_last': 0}, {'order': 1},
                                     {'split': 'cubic_interp'}, {'extra_channels': 3}], ids=str)
@pytest.mark.parametrize('scale', [1, 4])
def test_every_parameter_gets_a_gradient(scale, options):
    """DDP with find_unused_parameters=False hangs or raises where one gets none; x1 has no high branch."""
    net, x = IARN(**{**TINY, **options}), image(16, 12)
    objective(net(x, (16 // scale, 12 // scale)), x).backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
    if options.get('init_last', 1):
        assert all(p.grad.any() for p in net.parameters())


@pytest.mark.parametrize('coupling', BOTH)
def test_forward_leaves_nothing_on_the_network(coupling):
    net, x = IARN(coupling=coupling, **TINY), image(12, 15)
    before = [(m, dict(vars(m))) for m in net.modules()]
    first = net(x, (5, 7))
    for module, attributes in before:
        assert vars(module).keys() == attributes.keys()
        assert all(vars(module)[k] is v for k, v in attributes.items())
    assert not list(net.buffers())
    net(image(20, 9), (10, 9))
    assert torch.equal(net(x, (5, 7))['sr'], first['sr'])


def test_without_blocks():
    """The split alone: the LR is D x, U restores its part, and with the latent the round trip is exact."""
    net, hr = IARN(**{**TINY, 'num_block': 0}), image(12, 18, n=1).double()
    down = net.double().downscale(hr, (5, 9))
    torch.testing.assert_close(net.upscale(down.lr, (12, 18), down.latent), hr, rtol=0, atol=1e-12)
    torch.testing.assert_close(net.downscale(net.upscale(down.lr, (12, 18)), (5, 9)).lr, down.lr, rtol=0, atol=1e-9)
    assert net.complexity((12, 18), (5, 9)) == {'params': 0, 'macs': 0, 'macs_per_pixel': 0}


@pytest.mark.parametrize(('options', 'message'), [
    ({'split': 'lanczos'}, "IARN.split: 'lanczos'"), ({'order': 0}, 'IARN.order: 0; expected an integer from 1 to 8'),
    ({'init_last': float('nan')}, 'IARN.init_last: nan'),
    ({'blocks': 8}, "unknown option 'blocks'; did you mean 'num_block'"),
    ({'extra_channels': 2, 'coupling': 'hr_grid'}, 'extra_channels: 2 needs coupling: lr_grid and split: area or'),
    ({'extra_channels': 2, 'split': 'cubic_interp'}, 'extra_channels: 2 needs coupling: lr_grid and split: area or'),
], ids=str)
def test_invalid_options(options, message):
    with pytest.raises(OptionError, match=message):
        IARN(**options)


def test_every_choice_is_one_that_the_network_knows():
    """The schema, the pairs (D, U) and the couplings name the same."""
    for name, known in (('split', PAIRS), ('coupling', COUPLINGS)):
        kind = typing.get_type_hints(IARNOptions)[name]
        assert {*typing.get_args(kind)} == {*known}


def test_options_reach_the_blocks():
    net = IARN(**{**TINY, 'num_block': 3, 'width': 5, 'order': 3, 'clamp': 0.7})
    assert len(net.blocks) == 3
    assert {block.clamp for block in net.blocks} == {0.7}
    assert net.blocks[0].maps.phi.last.in_channels == 27 + 2 + 4 * 5
    x = image(12, 12)
    assert net.grid_of(x, (12, 12), (6, 6)).pool(x).shape == (1, 27, 6, 6)
    low = IARN(split='area', **TINY).grid_of(x, (12, 12), (6, 6)).down(x)
    torch.testing.assert_close(low, F.avg_pool2d(x, 2), rtol=0, atol=1e-6)


def test_max_scale_is_enforced():
    net, x = IARN(max_scale=2, **TINY), image(33, 20)
    assert net.downscale(x, (16, 10)).lr.shape[-2:] == (16, 10)
    message = r'LR size 15x10 is out of range for HR 33x20 \(height x width\): at scales 1 to 2 .* 16x10 and 33x20'
    with pytest.raises(ValueError, match=message):
        net.downscale(x, (15, 10))
    with pytest.raises(ValueError, match='LR size 10x10 is out of range for HR 41x20'):
        net.upscale(image(10, 10), (41, 20))


@pytest.mark.parametrize('x', [torch.rand(1, 4, 12, 12), torch.zeros(1, 3, 12, 12, dtype=torch.uint8),
                               torch.rand(3, 12, 12)], ids=lambda x: f'{tuple(x.shape)} {x.dtype}')
def test_wrong_image(x):
    net = IARN(**TINY)
    for call in (lambda: net.downscale(x, (6, 6)), lambda: net(x, (6, 6)), lambda: net.upscale(x, (24, 24))):
        with pytest.raises(ValueError, match=r'image of shape \(.*\) and type .*: expected RGB float \(N, 3, height, '):
            call()


@pytest.mark.parametrize('options', [
    {'split': 'area', 'order': 2, 'subnet': 'residual', 'num_unit': 1, 'extra_channels': 3},
    {'coupling': 'hr_grid', 'fold': 1, 'clamp': 0.5, 'max_scale': 8.0, 'split': 'cubic_interp', 'encoding': False},
], ids=str)
def test_from_file(tmp_path, options):
    """Options and weights come back."""
    net, x = randomised(IARN(**{**TINY, **options})), image(13, 18)
    net.save(tmp_path / 'net.pth')
    again = IARN.from_file(tmp_path / 'net.pth')
    assert again.hparams == net.hparams and not again.training
    out, expected = again(x, (7, 9)), net(x, (7, 9))
    assert all(torch.equal(out[k], expected[k]) for k in expected)


def test_from_file_prefers_ema(tmp_path):
    net, ema = IARN(**TINY), randomised(IARN(**TINY))
    path = tmp_path / 'net.pth'
    write_weights(path, net.arch, params=net.state_dict(), params_ema=ema.state_dict())
    for loaded, source in [(IARN.from_file(str(path)), ema), (IARN.from_file(path, ema=False), net)]:
        assert all(torch.equal(v, source.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_state_dict_snapshot():
    """Keys and shapes are a file format: GENERATE_EXPECTED=1 rewrites the list, a reviewer reads the difference."""
    lines = []
    for options in ({}, {**TINY, 'num_block': 1}, {**TINY, 'num_block': 1, 'coupling': 'hr_grid'}):
        lines.append('# IARN(' + ', '.join(f'{k}={v!r}' for k, v in options.items()) + ')')
        lines += sorted(f'{k}: {tuple(v.shape)}' for k, v in IARN(**options).state_dict().items())
    text = '\n'.join(lines) + '\n'
    if os.environ.get('GENERATE_EXPECTED') == '1':
        EXPECTED.parent.mkdir(exist_ok=True)
        EXPECTED.write_text(text, encoding='utf-8')
    assert text == EXPECTED.read_text(encoding='utf-8')


@pytest.mark.parametrize('coupling', BOTH)
def test_weights_are_channels_last(coupling):
    net = IARN(coupling=coupling, **TINY)
    weights = [p for p in net.parameters() if p.dim() == 4]
    assert weights and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


@pytest.mark.parametrize('coupling', BOTH)
def test_bfloat16_training(coupling):
    """On one tiny batch, each step at another of four sizes: everything stays finite, and the loss falls."""
    net, x = IARN(coupling=coupling, **{**TINY, 'width': 8}), image(24, 20, n=2)
    optimiser, losses = torch.optim.Adam(net.parameters(), 2e-3), []
    for step in range(24):
        with torch.autocast('cpu', torch.bfloat16):
            out = net(x, [(12, 10), (24, 20), (6, 5), (17, 9)][step % 4])
        assert all(v.dtype == torch.float32 for v in out.values())
        loss = objective(out, x)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])


def test_from_pretrained_is_the_released_file():
    net = IARN.from_pretrained()
    assert not net.training and sum(p.numel() for p in net.parameters()) == 495784
    with pytest.raises(WeightsError, match="weights 'iarn_ligth_x1-4': no such file, .*did you mean 'iarn_light_x1-4"):
        IARN.from_pretrained('iarn_ligth_x1-4')


@few
@given(st.integers(1, 20), st.floats(1, 4), st.floats(1, 4), st.sampled_from(['area', 'cubic']))
def test_augmented_round_trip_is_exact(extra, s_v, s_h, split):
    """With the true latent and the true low branch; with its extra channels at zero something is lost."""
    net = randomised(IARN(**{**TINY, 'extra_channels': extra, 'order': 3, 'split': split})).double()
    x = image(19, 22).double()
    size = (max(5, round(19 / s_v)), max(6, round(22 / s_h)))
    with torch.no_grad():
        lr, latent, low = net.downscale(x, size)
        assert low.shape == (1, 3 + extra, *size) and low[:, 3:].abs().max() > 1e-4 and torch.equal(low[:, :3], lr)
        torch.testing.assert_close(net.upscale(lr, (19, 22), latent, low), x, rtol=0, atol=1e-9)
        assert (net.upscale(lr, (19, 22), latent) - x).abs().max() > 1e-6


def test_wrong_low_branch_is_refused():
    net, lr = IARN(**{**TINY, 'extra_channels': 4}), torch.rand(1, 3, 7, 7)
    with pytest.raises(OptionError, match=r'low of shape \(1, 6, 7, 7\): expected \(1, 7, 7, 7\)'):
        net.upscale(lr, (14, 14), low=torch.rand(1, 6, 7, 7))
