"""The network: exactness, its start, options, files, precision, and what it may not depend on."""

import os
import subprocess
import sys
import textwrap
import typing
from pathlib import Path

import pytest
import torch
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

EXPECTED = Path(__file__).parents[1] / 'expected' / 'iarn_state_dict.txt'
TINY = {'num_block': 2, 'width': 4, 'order': 4, 'extra_channels': 0, 'subnet': 'dense'}
BOTH = sorted(COUPLINGS)


def randomise(net: IARN, std: float = 0.05) -> IARN:
    """Move every parameter, so that nothing holds by the initialisation alone."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype) * std)
    return net


def image(*size: int, dtype: torch.dtype = torch.float32, n: int = 1) -> torch.Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def objective(out: dict[str, torch.Tensor], hr: torch.Tensor) -> torch.Tensor:
    """l_rec + l_guide, without a latent term."""
    return F.l1_loss(out['sr'], hr) + F.mse_loss(out['lr'], bicubic_downscale(hr, out['lr'].shape[-2:]))


# ------------------------------------------------------------------------------------------------------ exactness


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@pytest.mark.parametrize('split', ['area', 'cubic'])
@pytest.mark.parametrize('coupling', BOTH)
@pytest.mark.parametrize('subnet', ['dense', 'residual'])
def test_round_trip(subnet: str, coupling: str, split: str, dtype: torch.dtype, tolerance: float) -> None:
    """x -> (LR, z) -> x for random weights, any size 7 to 48, scales 1 to 4, asymmetric ones and odd sizes too."""
    net = randomise(IARN(split=split, coupling=coupling, **{**TINY, 'subnet': subnet, 'num_unit': 1})).to(dtype)

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
def test_cubic_interp_is_exact_with_the_true_low_branch(coupling: str, size: tuple) -> None:
    net = randomise(IARN(split='cubic_interp', coupling=coupling, **TINY)).double()
    x = image(17, 20, dtype=torch.float64)
    lr, latent, low = net.downscale(x, size)
    assert low.shape == x.shape
    torch.testing.assert_close(lr, net.grid_of(x, (17, 20), size).down(low), rtol=0, atol=1e-12)
    torch.testing.assert_close(net.upscale(lr, (17, 20), latent, low), x, rtol=0, atol=1e-8)
    assert (net.upscale(lr, (17, 20), latent) - x).abs().max() > 1e-3  # the LR alone does not hold l


def test_images_of_a_batch_do_not_mix(n: int = 3) -> None:
    net, x = randomise(IARN(**TINY)).double(), image(13, 11, dtype=torch.float64, n=n)
    whole = net(x, (6, 7))
    for k in range(n):
        torch.testing.assert_close(net(x[k:k + 1], (6, 7))['sr'], whole['sr'][k:k + 1], rtol=0, atol=1e-10)


# ------------------------------------------------------------------------------------------------------ the start


@pytest.mark.parametrize('split', sorted(PAIRS))
@pytest.mark.parametrize('coupling', BOTH)
def test_start_at_zero_is_the_plain_pair(coupling: str, split: str) -> None:
    """init_last 0: LR = D x, z = x - U D x, and the restoration is U LR."""
    net = IARN(split=split, coupling=coupling, init_last=0, **TINY)
    x = image(19, 22)
    g = net.grid_of(x, (19, 22), (8, 15))
    lr, latent, _ = net.downscale(x, (8, 15))
    expected = g.down(x) if g.exact else g.down(g.up(g.down(x)))
    torch.testing.assert_close(lr, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(latent, x - g.up(g.down(x)), rtol=0, atol=1e-6)
    torch.testing.assert_close(net.upscale(lr, (19, 22)), g.up(lr), rtol=0, atol=1e-6)


def test_default_start_is_near_the_bicubic_lr_but_not_the_identity() -> None:
    x = image(19, 22)
    bicubic = bicubic_downscale(x, (8, 15))
    lr = IARN(split='cubic', **{**TINY, 'init_last': 0}).downscale(x, (8, 15)).lr
    torch.testing.assert_close(lr, bicubic, rtol=0, atol=1e-6)
    assert (IARN().downscale(x, (8, 15)).lr - bicubic).abs().max() > 1e-3


# -------------------------------------------------------------------------------------------------------- forward


@pytest.mark.parametrize('split', sorted(PAIRS))
@pytest.mark.parametrize('coupling', BOTH)
def test_forward(coupling: str, split: str) -> None:
    """The documented keys; the LR is 8 bits; what is upscaled is that LR and nothing else."""
    net, x = randomise(IARN(split=split, coupling=coupling, **TINY)), image(13, 18, n=2)
    out = net(x, (7, 9))
    projected = out.pop('low_projected', None)
    assert (projected is not None) == (split == 'cubic_interp')
    if projected is not None:
        g = net.grid_of(x, (13, 18), (7, 9))
        torch.testing.assert_close(projected, g.up(g.down(out['low'])), rtol=0, atol=1e-6)
    assert set(out) == {'lr', 'sr', 'lr_raw', 'latent', 'low'}
    assert {k: tuple(v.shape[-2:]) for k, v in out.items()} == {
        'lr': (7, 9), 'sr': (13, 18), 'lr_raw': (7, 9), 'latent': (13, 18),
        'low': (13, 18) if split == 'cubic_interp' else (7, 9)}
    levels = (out['lr'] * 255).round()
    assert torch.equal(out['lr'], levels / 255)
    assert 0 <= levels.min() <= levels.max() <= 255
    assert torch.equal(out['lr'], quantise(out['lr_raw']))
    assert not torch.equal(out['lr'], out['lr_raw'])
    stored = levels.byte().float() / 255  # as read from a PNG
    torch.testing.assert_close(out['sr'], net.upscale(stored, (13, 18)), rtol=0, atol=1e-6)
    down = net.downscale(x, (7, 9))
    torch.testing.assert_close([out['lr_raw'], out['latent'], out['low']], list(down), rtol=0, atol=1e-6)


def test_latent_is_used() -> None:
    net, lr = randomise(IARN(**TINY)), image(7, 9)
    zero = net.upscale(lr, (13, 18))
    assert torch.equal(net.upscale(lr, (13, 18), torch.zeros(1, 3, 13, 18)), zero)
    assert not torch.allclose(net.upscale(lr, (13, 18), torch.ones(1, 3, 13, 18)), zero, atol=1e-2)


@pytest.mark.parametrize('options', [{}, {'encoding': False}, {'init_last': 0}, {'split': 'cubic_interp'},
                                     {'order': 1}], ids=str)
@pytest.mark.parametrize('scale', [1, 4])
@pytest.mark.parametrize('coupling', BOTH)
def test_every_parameter_gets_a_gradient(coupling: str, scale: int, options: dict) -> None:
    """DDP with find_unused_parameters=False hangs or raises where one gets none; x1 has no high branch."""
    net, x = IARN(**{**TINY, 'coupling': coupling, **options}), image(16, 12)
    objective(net(x, (16 // scale, 12 // scale)), x).backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
    if options.get('init_last', 1):
        assert all(p.grad.any() for p in net.parameters())


def test_guide_gradient_passes_the_quantiser() -> None:
    """d/dLR of the guide reaches the raw LR unchanged."""
    net, x = IARN(**TINY), image(12, 12)
    out = net(x, (6, 6))
    upstream = torch.randn(1, 3, 6, 6)
    raw, = torch.autograd.grad(out['lr'], out['lr_raw'], upstream)
    assert torch.equal(raw, upstream)


@pytest.mark.parametrize('split', sorted(PAIRS))
def test_x1(split: str) -> None:
    """No scale to undo: at the start only the 8-bit rounding is lost."""
    x = image(9, 14)
    sr = IARN(split=split, init_last=0, **TINY)(x, (9, 14))['sr']
    assert (sr - x).abs().max() <= 0.5 / 255 + 1e-6
    net = randomise(IARN(split=split, **TINY))
    lr, latent, low = net.downscale(x, (9, 14))
    torch.testing.assert_close(net.upscale(lr, (9, 14), latent, None if low is lr else low), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize('coupling', BOTH)
def test_forward_leaves_nothing_on_the_network(coupling: str) -> None:
    net = IARN(coupling=coupling, **TINY)
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    before = [(m, dict(vars(m))) for m in net.modules()]
    x = image(12, 15)
    first = net(x, (5, 7))
    for module, attributes in before:
        assert vars(module).keys() == attributes.keys()
        assert all(vars(module)[k] is v for k, v in attributes.items())
        assert not any(isinstance(v, torch.Tensor) for v in vars(module).values())
    assert not list(net.buffers())
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    net(image(20, 9), (10, 9))
    assert torch.equal(net(x, (5, 7))['sr'], first['sr'])


# ----------------------------------------------------------------------------------------------- options and input

def test_without_blocks() -> None:
    """The split alone: the LR is D x, U restores its part, and with the latent the round trip is exact."""
    net, hr = IARN(**{**TINY, 'num_block': 0}), image(12, 18, n=1).double()
    down = net.double().downscale(hr, (5, 9))
    torch.testing.assert_close(net.upscale(down.lr, (12, 18), down.latent), hr, rtol=0, atol=1e-12)
    torch.testing.assert_close(net.downscale(net.upscale(down.lr, (12, 18)), (5, 9)).lr, down.lr, rtol=0, atol=1e-9)
    assert net.complexity((12, 18), (5, 9)) == {'params': 0, 'macs': 0, 'macs_per_pixel': 0}


@pytest.mark.parametrize(('options', 'message'), [
    ({'split': 'lanczos'}, "IARN.split: 'lanczos'"), ({'coupling': None}, 'IARN.coupling: None'),
    ({'subnet': 'rdb'}, "IARN.subnet: 'rdb'"), ({'encoding': 1}, 'IARN.encoding: 1; expected true or false'),
    ({'order': 0}, 'IARN.order: 0; expected an integer from 1 to 8'),
    ({'width': '2'}, "IARN.width: '2'; expected an integer"),
    ({'num_block': 1000}, 'IARN.num_block: 1000; .*to 64'), ({'clamp': 0}, r'IARN.clamp: 0; .*from 0\.01'),
    ({'init_last': float('nan')}, 'IARN.init_last: nan'), ({'max_scale': 0.99}, 'IARN.max_scale: 0.99'),
    ({'blocks': 8}, "unknown option 'blocks'; did you mean 'num_block'"),
    ({'extra_channels': 2, 'coupling': 'hr_grid'}, 'extra_channels: 2 needs coupling: lr_grid and split: area or'),
    ({'extra_channels': 2, 'split': 'cubic_interp'}, 'extra_channels: 2 needs coupling: lr_grid and split: area or'),
], ids=str)
def test_invalid_options(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        IARN(**options)


def test_every_choice_is_one_that_the_network_knows() -> None:
    """The schema, the pairs (D, U) and the couplings name the same."""
    for name, known in (('split', PAIRS), ('coupling', COUPLINGS)):
        kind = typing.get_type_hints(IARNOptions)[name]
        assert {*typing.get_args(kind)} == {*known}


def test_default_design() -> None:
    """The residual design; hparams hold every option, and rebuild it."""
    hparams = IARN().hparams
    assert hparams == {
        'num_block': 2, 'width': 32, 'subnet': 'residual', 'num_unit': 6, 'split': 'cubic', 'coupling': 'lr_grid',
        'order': 3, 'fold': 2, 'encoding': True, 'clamp': 1.0, 'init_last': 0.3, 'max_scale': 4.0,
        'extra_channels': 13}
    with pytest.raises(TypeError, match='positional'):
        IARN(8)


def test_options_reach_the_blocks() -> None:
    net = IARN(**{**TINY, 'num_block': 3, 'width': 5, 'order': 3, 'clamp': 0.7})
    assert len(net.blocks) == 3
    assert {block.clamp for block in net.blocks} == {0.7}
    assert net.blocks[0].maps.phi.last.in_channels == 27 + 2 + 4 * 5
    x = image(12, 12)
    assert net.grid_of(x, (12, 12), (6, 6)).pool(x).shape == (1, 27, 6, 6)
    low = IARN(split='area', **TINY).grid_of(x, (12, 12), (6, 6)).down(x)
    torch.testing.assert_close(low, F.avg_pool2d(x, 2), rtol=0, atol=1e-6)


def test_max_scale_is_enforced() -> None:
    net, x = IARN(max_scale=2, **TINY), image(33, 20)
    assert net.downscale(x, (16, 10)).lr.shape[-2:] == (16, 10)
    message = r'LR size 15x10 is out of range for HR 33x20 \(height x width\): at scales 1 to 2 .* 16x10 and 33x20'
    with pytest.raises(ValueError, match=message):
        net.downscale(x, (15, 10))
    with pytest.raises(ValueError, match='LR size 15x10 is out of range'):
        net(x, (15, 10))
    with pytest.raises(ValueError, match='LR size 10x10 is out of range for HR 41x20'):
        net.upscale(image(10, 10), (41, 20))
    with pytest.raises(ValueError, match='LR size 10x10 is out of range for HR 9x20'):
        net.upscale(image(10, 10), (9, 20))  # larger than HR


@pytest.mark.parametrize('x', [
    torch.rand(1, 1, 12, 12), torch.rand(1, 4, 12, 12), torch.zeros(1, 3, 12, 12, dtype=torch.uint8),
    torch.rand(3, 12, 12), torch.rand(12, 12, 3), torch.rand(1, 12, 12, 3),
], ids=lambda x: f'{tuple(x.shape)} {x.dtype}')
def test_wrong_image(x: torch.Tensor) -> None:
    net = IARN(**TINY)
    for call in (lambda: net.downscale(x, (6, 6)), lambda: net(x, (6, 6)), lambda: net.upscale(x, (24, 24))):
        with pytest.raises(ValueError, match=r'image of shape \(.*\) and type .*: expected RGB float \(N, 3, height, '):
            call()


# ---------------------------------------------------------------------------------------------------------- files


def save(path: Path, net: IARN, **content: object) -> Path:
    torch.save({'params': net.state_dict(), 'arch': {'type': 'IARN', **net.hparams}, **content}, path)
    return path


@pytest.mark.parametrize('options', [
    {'split': 'area', 'order': 2, 'subnet': 'residual', 'num_unit': 1, 'extra_channels': 3},
    {'coupling': 'hr_grid', 'fold': 1, 'clamp': 0.5, 'max_scale': 8.0, 'split': 'cubic_interp', 'encoding': False},
], ids=str)
def test_from_file(tmp_path: Path, options: dict) -> None:
    """Options and weights come back, from plain containers that ``weights_only`` accepts."""
    net, x = randomise(IARN(**{**TINY, **options})), image(13, 18)
    path = save(tmp_path / 'net.pth', net)
    assert torch.load(path, weights_only=True)['arch']['type'] == 'IARN'
    again = IARN.from_file(path)
    assert again.hparams == net.hparams
    assert not again.training
    out, expected = again(x, (7, 9)), net(x, (7, 9))
    assert all(torch.equal(out[k], expected[k]) for k in expected)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in again.parameters() if p.dim() == 4)


def test_from_file_prefers_ema(tmp_path: Path) -> None:
    net, ema = IARN(**TINY), randomise(IARN(**TINY))
    path = save(tmp_path / 'net.pth', net, params_ema=ema.state_dict())
    for loaded, source in [(IARN.from_file(str(path)), ema), (IARN.from_file(path, ema=False), net)]:
        assert all(torch.equal(v, source.state_dict()[k]) for k, v in loaded.state_dict().items())
    path = save(tmp_path / 'plain.pth', net)
    assert torch.equal(next(IARN.from_file(path, ema=True).parameters()), next(net.parameters()))


def test_from_file_runs_no_code(tmp_path: Path) -> None:
    """A pickled call is refused, not made."""
    marker = tmp_path / 'marker'

    class Call:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(marker),)

    path = save(tmp_path / 'net.pth', IARN(**TINY), extra=Call())
    with pytest.raises(ValueError, match='is not a PyTorch weight file'):
        IARN.from_file(path)
    assert not marker.exists()


def test_state_dict_snapshot() -> None:
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


# ------------------------------------------------------------------------------------------- precision and layout


@pytest.mark.parametrize('coupling', BOTH)
def test_weights_are_channels_last(coupling: str) -> None:
    net = IARN(coupling=coupling, **TINY)
    weights = [p for p in net.parameters() if p.dim() == 4]
    assert len(weights) == 20
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    contiguous = IARN(coupling=coupling, **TINY).to(memory_format=torch.contiguous_format)
    contiguous.load_state_dict(net.state_dict())
    x = image(13, 18)
    torch.testing.assert_close(net(x, (7, 9))['lr_raw'], contiguous(x, (7, 9))['lr_raw'], rtol=0, atol=1e-5)


def train(coupling: str, steps: int) -> float:
    """bfloat16-autocast training on one tiny batch, each step at another of four sizes; everything stays finite.

    Returns:
        Loss of the last eight steps over that of the first eight.
    """
    net, x = IARN(coupling=coupling, **{**TINY, 'width': 8}), image(24, 20, n=2)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    losses = []
    for step in range(steps):
        with torch.autocast('cpu', torch.bfloat16):
            out = net(x, [(12, 10), (24, 20), (6, 5), (17, 9)][step % 4])
        assert all(v.dtype == torch.float32 for v in out.values())
        assert torch.equal(out['lr'], (out['lr'] * 255).round() / 255)
        loss = objective(out, x)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert all(p.isfinite().all() for p in net.parameters())
    return sum(losses[-8:]) / sum(losses[:8])


@pytest.mark.parametrize('coupling', BOTH)
def test_bfloat16_training(coupling: str) -> None:
    assert train(coupling, 24) < 0.9


# --------------------------------------------------------------------------------------------------- dependencies


@pytest.mark.slow
def test_networks_run_without_basicsr() -> None:
    """Nor cv2, lmdb or torchvision."""
    program = textwrap.dedent('''
        import sys
        sys.modules.update(dict.fromkeys(['basicsr', 'cv2', 'lmdb', 'torchvision']))  # None: cannot be imported
        import torch
        from iarn_basicsr.archs.iarn import IARN
        from iarn_basicsr.archs.irn import IRN
        for net in (IARN(num_block=1, width=1), IRN(scale=2, num_block=1, width=1)):
            assert net(torch.rand(1, 3, 12, 10), (6, 5))['sr'].shape == (1, 3, 12, 10)
    ''')
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_from_pretrained_is_the_released_file() -> None:
    net = IARN.from_pretrained()
    assert not net.training and sum(p.numel() for p in net.parameters()) == 495784
    with pytest.raises(WeightsError, match="weights 'iarn_ligth_x1-4': no such file, .*did you mean 'iarn_light_x1-4"):
        IARN.from_pretrained('iarn_ligth_x1-4')


# ------------------------------------------------------------------------------------------------- augmented low branch


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(1, 20), st.floats(1, 4), st.floats(1, 4), st.sampled_from(['area', 'cubic']))
def test_augmented_round_trip_is_exact(extra: int, s_v: float, s_h: float, split: str) -> None:
    """With the true latent and the true low branch; with its extra channels at zero something is lost."""
    net = randomise(IARN(**{**TINY, 'extra_channels': extra, 'order': 3, 'split': split})).double()
    x = image(19, 22).double()
    size = (max(5, round(19 / s_v)), max(6, round(22 / s_h)))
    with torch.no_grad():
        lr, latent, low = net.downscale(x, size)
        assert low.shape == (1, 3 + extra, *size) and low[:, 3:].abs().max() > 1e-4 and torch.equal(low[:, :3], lr)
        torch.testing.assert_close(net.upscale(lr, (19, 22), latent, low), x, rtol=0, atol=1e-9)
        assert (net.upscale(lr, (19, 22), latent) - x).abs().max() > 1e-6


def test_extra_channels_start_at_zero() -> None:
    """An untrained network whose last convolutions are zero gives D x, and nothing in the extra channels."""
    net, x = IARN(**{**TINY, 'extra_channels': 5, 'init_last': 0}), image(16, 12)
    down = net.downscale(x, (8, 6))
    assert not down.low[:, 3:].any()
    torch.testing.assert_close(down.lr, net.grid_of(x, (16, 12), (8, 6)).down(x), rtol=0, atol=1e-6)


def test_wrong_low_branch_is_refused() -> None:
    net, lr = IARN(**{**TINY, 'extra_channels': 4}), torch.rand(1, 3, 7, 7)
    with pytest.raises(OptionError, match=r'low of shape \(1, 6, 7, 7\): expected \(1, 7, 7, 7\)'):
        net.upscale(lr, (14, 14), low=torch.rand(1, 6, 7, 7))


def test_gradient_reaches_the_extra_channels() -> None:
    net = randomise(IARN(**{**TINY, 'extra_channels': 3}))
    net(image(12, 12), (6, 6))['sr'].square().mean().backward()
    for block in net.blocks:
        assert block.maps.phi.last.weight.grad[3:].abs().max() > 0
