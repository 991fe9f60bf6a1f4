"""The network: exactness, its start, options, files, precision, and what it may not depend on."""

import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from iarn_basicsr.archs.coupling import COUPLINGS
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import PAIRS, bicubic_downscale
from iarn_basicsr.ops.size import lr_size

EXPECTED = Path(__file__).parents[1] / 'expected' / 'iarn_state_dict.txt'
TINY = {'num_block': 2, 'width': 4}
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
@pytest.mark.parametrize('resample', ['area', 'cubic'])
@pytest.mark.parametrize('coupling', BOTH)
@pytest.mark.parametrize('subnet', ['dense', 'residual'])
def test_round_trip(subnet: str, coupling: str, resample: str, dtype: torch.dtype, tolerance: float) -> None:
    """x -> (LR, z) -> x for random weights, any size 7 to 64, scales 1 to 4, asymmetric ones and odd sizes too."""
    net = randomise(IARN(split=resample, coupling=coupling, subnet=subnet, **TINY)).to(dtype)

    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(st.tuples(st.integers(7, 64), st.integers(7, 64)), st.tuples(st.floats(1, 4), st.floats(1, 4)))
    def check(hr: tuple[int, int], scale: tuple[float, float]) -> None:
        x, size = image(*hr, dtype=dtype), lr_size(hr, scale)
        with torch.no_grad():
            lr, latent, low = net.downscale(x, size)
            back = net.upscale(lr, hr, latent)
        assert lr.shape == (1, 3, *size)
        assert latent.shape == x.shape
        assert low is lr
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


@pytest.mark.parametrize('n', [1, 3])
def test_images_of_a_batch_do_not_mix(n: int) -> None:
    net, x = randomise(IARN(**TINY)).double(), image(13, 11, dtype=torch.float64, n=n)
    whole = net(x, (6, 7))
    for k in range(n):
        torch.testing.assert_close(net(x[k:k + 1], (6, 7))['sr'], whole['sr'][k:k + 1], rtol=0, atol=1e-10)


# ------------------------------------------------------------------------------------------------------ the start


@pytest.mark.parametrize('resample', sorted(PAIRS))
@pytest.mark.parametrize('coupling', BOTH)
def test_start_at_zero_is_the_plain_pair(coupling: str, resample: str) -> None:
    """init_last 0: LR = D x, z = x - U D x, and the restoration is U LR."""
    net = IARN(split=resample, coupling=coupling, init_last=0, **TINY)
    x = image(19, 22)
    g = net.grid_of(x, (19, 22), (8, 15))
    lr, latent, _ = net.downscale(x, (8, 15))
    expected = g.down(x) if g.exact else g.down(g.up(g.down(x)))
    torch.testing.assert_close(lr, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(latent, x - g.up(g.down(x)), rtol=0, atol=1e-6)
    torch.testing.assert_close(net.upscale(lr, (19, 22)), g.up(lr), rtol=0, atol=1e-6)


def test_start_of_cubic_is_the_bicubic_lr() -> None:
    x = image(19, 22)
    lr = IARN(split='cubic', init_last=0, **TINY).downscale(x, (8, 15)).lr
    torch.testing.assert_close(lr, bicubic_downscale(x, (8, 15)), rtol=0, atol=1e-6)


def test_default_start_is_not_the_identity() -> None:
    x = image(19, 22)
    assert (IARN(**TINY).downscale(x, (8, 15)).lr - bicubic_downscale(x, (8, 15))).abs().max() > 1e-3


# -------------------------------------------------------------------------------------------------------- forward


@pytest.mark.parametrize('resample', sorted(PAIRS))
@pytest.mark.parametrize('coupling', BOTH)
def test_forward(coupling: str, resample: str) -> None:
    """The documented keys; the LR is 8 bits; what is upscaled is that LR and nothing else."""
    net, x = randomise(IARN(split=resample, coupling=coupling, **TINY)), image(13, 18, n=2)
    out = net(x, (7, 9))
    projected = out.pop('low_projected', None)
    assert (projected is not None) == (resample == 'cubic_interp')
    if projected is not None:
        g = net.grid_of(x, (13, 18), (7, 9))
        torch.testing.assert_close(projected, g.up(g.down(out['low'])), rtol=0, atol=1e-6)
    assert set(out) == {'lr', 'sr', 'lr_raw', 'latent', 'low'}
    assert {k: tuple(v.shape[-2:]) for k, v in out.items()} == {
        'lr': (7, 9), 'sr': (13, 18), 'lr_raw': (7, 9), 'latent': (13, 18),
        'low': (13, 18) if resample == 'cubic_interp' else (7, 9)}
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


@pytest.mark.parametrize('options', [{}, {'encoding': False}, {'init_last': 0}, {'resample': 'area'},
                                     {'resample': 'cubic_interp'}, {'order': 1}], ids=str)
@pytest.mark.parametrize('scale', [1, 2, 4])
@pytest.mark.parametrize('coupling', BOTH)
def test_every_parameter_gets_a_gradient(coupling: str, scale: int, options: dict) -> None:
    """DDP with find_unused_parameters=False hangs or raises where one gets none; x1 has no high branch."""
    net, x = IARN(coupling=coupling, **TINY, **options), image(16, 12)
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


@pytest.mark.parametrize('resample', sorted(PAIRS))
def test_x1(resample: str) -> None:
    """No scale to undo: at the start only the 8-bit rounding is lost."""
    x = image(9, 14)
    sr = IARN(split=resample, init_last=0, **TINY)(x, (9, 14))['sr']
    assert (sr - x).abs().max() <= 0.5 / 255 + 1e-6
    net = randomise(IARN(split=resample, **TINY))
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

INVALID = [
    *(('split', v) for v in ('lanczos', 'Cubic', None, True, 2)),
    *(('coupling', v) for v in ('lr', None, False)),
    *(('encoding', v) for v in ('yes', 1, 0, None)),
    *(('subnet', v) for v in ('rdb', None, True)),
    *((name, v) for name in ('width', 'order', 'fold') for v in (0, -1, 2.0, '2', True, None, 1000)),
    *(('num_unit', v) for v in (-1, 2.0, '2', True, None, 1000)),
    *(('num_block', v) for v in (-1, 2.0, '2', True, None, 1000)),
    *((name, v) for name in ('clamp', 'init_last', 'max_scale') for v in (-1, '1', True, None, float('nan'), 1e9)),
    ('clamp', 0), ('max_scale', 0.99),
]
CHOICES = {'split': sorted(PAIRS), 'coupling': BOTH, 'encoding': ['True', 'False'], 'subnet': ['dense', 'residual']}


def test_without_blocks() -> None:
    """The split alone: the LR is D x, U restores its part, and with the latent the round trip is exact."""
    net, hr = IARN(num_block=0), image(12, 18, n=1).double()
    down = net.double().downscale(hr, (5, 9))
    torch.testing.assert_close(net.upscale(down.lr, (12, 18), down.latent), hr, rtol=0, atol=1e-12)
    torch.testing.assert_close(net.downscale(net.upscale(down.lr, (12, 18)), (5, 9)).lr, down.lr, rtol=0, atol=1e-9)
    assert net.complexity((12, 18), (5, 9)) == {'params': 0, 'macs': 0, 'macs_per_pixel': 0}


@pytest.mark.parametrize(('name', 'value'), INVALID)
def test_invalid_option_names_itself_and_the_choices(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf'IARN option {name}: ') as error:
        IARN(**{name: value})
    message = str(error.value)
    assert repr(value) in message
    assert all(choice in message for choice in CHOICES.get(name, [' from ', ' to ']))


@pytest.mark.parametrize('options', [
    {'num_block': 1, 'width': 1}, {'order': 8, **TINY}, {'coupling': 'hr_grid', 'fold': 8, **TINY},
    {'clamp': 10, 'init_last': 10, 'max_scale': 64, **TINY}, {'clamp': 0.01, 'init_last': 0, 'max_scale': 1, **TINY},
], ids=str)
def test_limits_of_options_are_accepted(options: dict) -> None:
    assert {k: IARN(**options).hparams[k] for k in options} == options


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError, match='positional'):
        IARN(8)


def test_unknown_option() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'blocks'"):
        IARN(blocks=8)


def test_hparams_hold_every_option() -> None:
    names = [n for n in inspect.signature(IARN.__init__).parameters if n not in ('self', 'resample')]
    assert list(IARN(**TINY).hparams) == names
    assert IARN(**TINY).hparams['num_block'] == 2


def test_options_reach_the_blocks() -> None:
    net = IARN(num_block=3, width=5, order=3, clamp=0.7)
    assert len(net.blocks) == 3
    assert {block.clamp for block in net.blocks} == {0.7}
    assert net.blocks[0].maps.phi.last.in_channels == 27 + 2 + 4 * 5
    x = image(12, 12)
    assert net.grid_of(x, (12, 12), (6, 6)).pool(x).shape == (1, 27, 6, 6)
    low = IARN(split='area').grid_of(x, (12, 12), (6, 6)).down(x)
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
    {}, {'resample': 'area', 'order': 2}, {'resample': 'cubic_interp', 'encoding': False},
    {'coupling': 'hr_grid', 'fold': 1}, {'coupling': 'hr_grid', 'clamp': 0.5, 'max_scale': 8.0, 'init_last': 0},
], ids=str)
def test_from_file(tmp_path: Path, options: dict) -> None:
    """Options and weights come back, from plain containers that ``weights_only`` accepts."""
    net, x = randomise(IARN(**TINY, **options)), image(13, 18)
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


STATE = {'weight': torch.ones(1)}


@pytest.mark.parametrize(('content', 'found'), [
    ({'params': STATE}, 'no architecture options: expected a file saved by IARNModel'),
    ({'params': {}}, 'no state dict'),
    ({}, 'no state dict'),
    ([1, 2], 'no state dict'),
    ({'params': STATE, 'arch': {'type': 'EDSR'}},
     "architecture options {'type': 'EDSR'}: expected a file saved by IARNModel, with arch.type IARN"),
    ({'params': STATE, 'arch': 'IARN'}, 'no architecture options'),
], ids=str)
def test_from_file_of_another_kind(tmp_path: Path, content: object, found: str) -> None:
    path = tmp_path / 'other.pth'
    torch.save(content, path)
    with pytest.raises(WeightsError) as error:
        IARN.from_file(path)
    assert f'{path} holds {found}' in str(error.value)


@pytest.mark.parametrize('damage', ['text', 'empty', 'cut'])
def test_from_damaged_file(tmp_path: Path, damage: str) -> None:
    path = save(tmp_path / 'net.pth', IARN(**TINY))
    whole = path.read_bytes()
    path.write_bytes({'text': b'<html>404: Not Found</html>', 'empty': b'', 'cut': whole[:len(whole) // 2]}[damage])
    with pytest.raises(ValueError, match=r'net\.pth is not a PyTorch weight file'):
        IARN.from_file(path)


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
    for options in ({}, {'coupling': 'hr_grid', 'num_block': 1}):
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
    net, x = IARN(coupling=coupling, num_block=2, width=8), image(24, 20, n=2)
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
    assert train(coupling, 32) < 0.85


@pytest.mark.slow
@pytest.mark.parametrize('coupling', BOTH)
def test_bfloat16_training_longer(coupling: str) -> None:
    assert train(coupling, 200) < 0.7


# --------------------------------------------------------------------------------------------------- dependencies


@pytest.mark.slow
def test_mathematics_needs_torch_numpy_and_scipy_only() -> None:
    """ops and the network import and run where basicsr, cv2, lmdb and torchvision are not installed."""
    program = textwrap.dedent('''
        import sys

        HIDDEN = {'basicsr', 'cv2', 'lmdb', 'torchvision'}

        class Hiding:  # a finder that does not find what is hidden
            def __init__(self, finder):
                self.finder = finder

            def find_spec(self, name, path=None, target=None):
                hidden = name.partition('.')[0] in HIDDEN
                return None if hidden else self.finder.find_spec(name, path, target)

            def __getattr__(self, name):
                return getattr(self.finder, name)

        sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
        for name in HIDDEN:
            try:
                __import__(name)
            except ModuleNotFoundError:
                continue
            raise SystemExit(f'{name} is not hidden')

        import torch

        import iarn_basicsr.ops
        from iarn_basicsr.archs.iarn import IARN

        out = IARN(num_block=1, width=1)(torch.rand(1, 3, 12, 10), (6, 7))
        assert out['sr'].shape == (1, 3, 12, 10)
        assert not HIDDEN & {name.partition('.')[0] for name in sys.modules}
        assert iarn_basicsr.__version__
    ''')
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(p for p in sys.path if p)}
    result = subprocess.run([sys.executable, '-c', program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# ------------------------------------------------------------------------------------------------- older names


def test_resample_is_the_old_name_of_split(tmp_path: Path) -> None:
    """In calls, in option files and in weight files made before the name was changed."""
    old = IARN(resample='area', **TINY)
    assert old.split == 'area' and old.hparams['split'] == 'area' and 'resample' not in old.hparams
    arch = {'type': 'IARN', **{k: v for k, v in old.hparams.items() if k != 'split'}, 'resample': 'area'}
    torch.save({'params': old.state_dict(), 'arch': arch}, tmp_path / 'old.pth')
    assert IARN.from_file(tmp_path / 'old.pth').hparams == old.hparams
    with pytest.raises(OptionError, match="split: 'area' and resample: 'cubic'.*leave out resample"):
        IARN(split='area', resample='cubic')
    with pytest.raises(OptionError, match="IARN option split: 'haar'"):
        IARN(resample='haar')


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
    net = randomise(IARN(extra_channels=extra, order=3, split=split, **TINY)).double()
    x = image(19, 22).double()
    size = (max(5, round(19 / s_v)), max(6, round(22 / s_h)))
    with torch.no_grad():
        lr, latent, low = net.downscale(x, size)
        assert low.shape == (1, 3 + extra, *size) and low[:, 3:].abs().max() > 1e-4 and torch.equal(low[:, :3], lr)
        torch.testing.assert_close(net.upscale(lr, (19, 22), latent, low), x, rtol=0, atol=1e-9)
        assert (net.upscale(lr, (19, 22), latent) - x).abs().max() > 1e-6


def test_extra_channels_start_at_zero() -> None:
    """An untrained network whose last convolutions are zero gives D x, and nothing in the extra channels."""
    net, x = IARN(extra_channels=5, init_last=0, **TINY), image(16, 12)
    down = net.downscale(x, (8, 6))
    assert not down.low[:, 3:].any()
    torch.testing.assert_close(down.lr, net.grid_of(x, (16, 12), (8, 6)).down(x), rtol=0, atol=1e-6)


def test_wrong_low_branch_is_refused() -> None:
    net, lr = IARN(extra_channels=4, **TINY), torch.rand(1, 3, 7, 7)
    with pytest.raises(OptionError, match=r'low of shape \(1, 6, 7, 7\): expected \(1, 7, 7, 7\)'):
        net.upscale(lr, (14, 14), low=torch.rand(1, 6, 7, 7))


@pytest.mark.parametrize('options', [{'coupling': 'hr_grid'}, {'split': 'cubic_interp'}])
def test_extra_channels_need_the_lr_grid_and_an_exact_split(options: dict) -> None:
    with pytest.raises(OptionError, match='extra_channels: 2 needs coupling: lr_grid and split: area or cubic'):
        IARN(extra_channels=2, **options)


def test_gradient_reaches_the_extra_channels() -> None:
    net = randomise(IARN(extra_channels=3, **TINY))
    net(image(12, 12), (6, 6))['sr'].square().mean().backward()
    for block in net.blocks:
        assert block.maps.phi.last.weight.grad[3:].abs().max() > 0
