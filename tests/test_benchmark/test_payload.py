"""Coded detail in the benchmark: the method, its columns, the section ``bytes`` and the plot, on tiny pictures."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
import yaml
from helpers import make_image, tiny_net
from PIL import Image

from iarn_basicsr.benchmark import codecs, methods, plots, report, tasks
from iarn_basicsr.benchmark.methods import MissingWeightsError, UnsupportedSizeError, build_method, fingerprint
from iarn_basicsr.benchmark.run import main
from iarn_basicsr.benchmark.tables import means, quality_table
from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.inference.picture_file import png_bytes
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.metrics.colour import calculate_ciede2000
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.payload import codec
from iarn_basicsr.payload.codec import MissingCodecError

SIZE, LR = (96, 84), (48, 42)


def pixels(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(make_image(height, width, seed)).permute(2, 0, 1)[None] / 255


def coded(**options: object) -> methods.Method:
    return build_method('m', {'type': 'payload', **options})


@pytest.fixture
def weights(tmp_path) -> str:
    tiny_net(order=2).save(tmp_path / 'net.pth')
    return str(tmp_path / 'net.pth')


# ----------------------------------------------------------------------------------------------------------- the method


@pytest.mark.parametrize('with_network', [False, True])
@pytest.mark.parametrize('bits', [0, 1, 2.5])
@torch.no_grad()
def test_it_is_what_the_rescaler_makes(weights, bits, with_network):
    name, hr = weights if with_network else 'none', pixels(*SIZE)
    method = coded(bits=bits, weights=name)
    assert method.two_way and method.weights == ((weights, ) if with_network else ())
    lr = method.downscale(hr, LR)
    direct = Rescaler.load(name, device='cpu', payload=bits).roundtrip(hr, size=LR)
    assert torch.equal(lr, direct.lr)
    assert torch.equal(method.upscale(lr, SIZE), direct.restored)


@torch.no_grad()
def test_bits_trade_the_lr_for_the_hr():
    hr = pixels(*SIZE)
    found = [tasks.quality(coded(bits=k), hr, bicubic_lr(hr, LR)) for k in (0, 1, 2, 3)]
    restored, low, far = ([values[name] for values in found] for name in ('psnr_rgb', 'lr_psnr_rgb', 'lr_ciede2000'))
    assert low[0] == 100 and low == sorted(low, reverse=True)
    assert far[0] == 0 and far == sorted(far)
    assert restored[2] > restored[0] + 1
    squares = tasks.quality(build_method('m', {'type': 'least_squares'}), hr, bicubic_lr(hr, LR))
    assert found[0]['psnr_rgb'] == pytest.approx(squares['psnr_rgb'], abs=0.02)


def test_effort_moves_the_lr_although_no_gradients_are_kept(weights):
    """The benchmark runs under ``no_grad``."""
    hr = pixels(*SIZE)
    plain, refined = (coded(bits=1, weights=weights, effort=n) for n in (0, 3))
    with torch.no_grad():
        lr = refined.downscale(hr, LR)
        assert not torch.equal(lr, plain.downscale(hr, LR)) and not lr.requires_grad
    assert torch.equal(lr, Rescaler.load(weights, device='cpu', payload=1, effort=3).downscale(hr, size=LR))


def test_another_device_keeps_the_options(weights):
    method = coded(bits=2, weights=weights, effort=1).to(torch.device('cpu'))
    assert method.device == torch.device('cpu')
    lr = method.downscale(pixels(*SIZE), LR)
    assert torch.equal(lr, coded(bits=2, weights=weights, effort=1).downscale(pixels(*SIZE), LR))


def test_cost(weights):
    assert coded(bits=2).complexity(SIZE, LR) == {'params': 0, 'macs_down': 0, 'macs_up': 0}
    alone = build_method('m', {'type': 'IARN', 'weights': weights}).complexity(SIZE, LR)
    for bits, effort, passes in ((0, 0, 1), (1, 0, 2), (0, 5, 17), (1, 5, 18)):
        cost = coded(bits=bits, weights=weights, effort=effort).complexity(SIZE, LR)
        assert cost['params'] == alone['params'] and cost['macs_up'] == alone['macs_up']
        assert cost['macs_down'] == pytest.approx(passes * alone['macs_down'])


def test_records_depend_on_bits_effort_and_weights(weights):
    options = [{'bits': 1}, {'bits': 2}, {'bits': 1, 'weights': weights}, {'bits': 1, 'weights': weights, 'effort': 2}]
    options = [{'type': 'payload', **one} for one in options]
    prints = [fingerprint(one, build_method('m', one)) for one in options]
    assert len({*prints}) == 4
    tiny_net(order=2, seed=1).save(weights)
    again = [fingerprint(one, build_method('m', one)) for one in options]
    assert [a == b for a, b in zip(prints, again)] == [True, True, False, False]


def test_sizes_out_of_range():
    with pytest.raises(UnsupportedSizeError, match='at scales 1 to 4'):
        coded(bits=1).check((90, 90), (10, 90))


def test_weights_that_are_missing_or_none(tmp_path):
    with pytest.raises(MissingWeightsError, match=r'weights not found: nope\.pth'):
        coded(bits=1, weights='nope.pth')
    (tmp_path / 'bad.pth').write_bytes(b'no weights')
    with pytest.raises(WeightsError, match='bad.pth'):
        coded(bits=1, weights=str(tmp_path / 'bad.pth'))
    with pytest.raises(OptionError, match=r'methods\.m\.effort: 3; these steps go through a network'):
        coded(bits=1, effort=3)


# --------------------------------------------------------------------------------------------------------- what is told


@torch.no_grad()
def test_columns_of_the_lr():
    hr = pixels(*SIZE)
    method, reference = coded(bits=2), bicubic_lr(hr, LR)
    values = tasks.quality(method, hr, reference)
    low, bicubic = ((x[0] * 255).round().byte().permute(1, 2, 0).numpy() for x in (method.downscale(hr, LR), reference))
    border = 2
    for name, percentile in (('lr_ciede2000', None), ('lr_ciede2000_p99', 99)):
        direct = calculate_ciede2000(low[..., ::-1], bicubic[..., ::-1], border, percentile=percentile)
        assert values[name] == pytest.approx(direct)
    assert values['lr_ciede2000_p99'] > values['lr_ciede2000'] > 0
    assert values['hr_pixels'] == SIZE[0] * SIZE[1]
    data = codecs.webp_bytes(low)
    assert np.array_equal(np.array(Image.open(io.BytesIO(data))), low) and values['lr_bytes_webp'] == len(data)
    rows = [{'method': 'm', 'key': ['quality', 'two', 'x2', str(n)], **values} for n in (0, 1)]
    row = quality_table({'rows': rows}, 'two')['x2']['m']
    assert row['lr_bits'] == pytest.approx(8 * len(png_bytes(low)) / (SIZE[0] * SIZE[1]))
    assert row['lr_bits_webp'] == pytest.approx(8 * len(data) / (SIZE[0] * SIZE[1]))


@torch.no_grad()
def test_the_largest_avif_that_fits():
    rgb = make_image(*SIZE, 0)
    files = codecs.avif_files(rgb)
    sizes = [len(files.within(budget)) for budget in (10, 1500, 4000, 10**6)]
    assert sizes[0] == 0 and 0 < sizes[1] <= 1500 < sizes[2] <= 4000 < sizes[3]
    values = tasks.avif_of_same_size(build_method('m', {'type': 'bicubic'}), pixels(*SIZE), LR)
    assert {*values} == {f'{name} {what}' for name in ('png', 'webp') for what in ('bytes', 'avif', 'avif bytes')}
    assert values['webp avif bytes'] <= values['webp bytes'] < values['png bytes'] >= values['png avif bytes']
    assert 20 < values['webp avif'] <= values['png avif'] < 100


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def benchmark(tmp_path, image_folder, weights):
    """Runs the command on an option file with changes; returns its results and what it wrote."""
    options = {
        'name': 'coded', 'threads': 1, 'device': 'cpu', 'scales': [2, 3],
        'datasets': {'two': {'dataroot_gt': str(image_folder('hr', [SIZE, SIZE])), 'mod_crop': 12}},
        'methods': {'ours': {'type': 'IARN', 'weights': weights},
                    'coded 1': {'type': 'payload', 'bits': 1, 'weights': weights},
                    'plain 2': {'type': 'payload', 'bits': 2}, 'plain 1': {'type': 'payload', 'bits': 1},
                    'least squares': {'type': 'least_squares'}},
        'bytes': {'scales': [2], 'methods': ['plain 2', 'ours']},
    }

    def run(**changes: object) -> tuple[dict, str]:
        (tmp_path / 'b.yml').write_text(yaml.safe_dump({**options, **changes}, sort_keys=False), encoding='utf-8')
        assert main(['-opt', str(tmp_path / 'b.yml'), '-o', str(tmp_path / 'out')]) == 0
        return json.loads((tmp_path / 'out/benchmark.json').read_text()), (tmp_path / 'out/benchmark.md').read_text()

    return run


def test_report(tmp_path, benchmark):
    results, text = benchmark()
    row = quality_table(results, 'two')['x2']['plain 2']
    lines = [[c.strip() for c in line.split('|')[1:-1]] for line in text.splitlines() if line.startswith('|')]
    both = next(n for n, line in enumerate(lines) if line[0] == 'two PSNR-RGB / Y')
    assert lines[both][1:] == ['x2 HR', 'x2 LR', 'x3 HR', 'x3 LR']
    pair = [f'{row[k + "psnr_rgb"]:.2f} / {row[k + "psnr_y"]:.2f}' for k in ('', 'lr_')]
    assert next(line for line in lines[both:] if line[0] == 'plain 2')[1:3] == pair
    assert next(line for line in lines[both:] if line[0] == 'least squares')[2] == 'exact'
    head = next(line for line in lines if 'LR CIEDE2000' in line)
    assert {'PSNR-Y', 'PSNR-RGB', 'LR PSNR-Y', 'LR PSNR-RGB', 'its 99%', 'PNG bits', 'WebP bits'} <= {*head}
    assert '## The same bytes as AVIF' in text and '### The same bytes, x2' in text
    table = means(results, ('bytes', ))
    assert {*table} == {'x2'} and {*table['x2']} == {'plain 2', 'ours'}
    line = next(line for line in lines if line[0] == 'plain 2' and len(line) == 1 + len(report._BYTES))
    assert line[1:3] == [f'{row["psnr_rgb"]:.2f}', f'{row["lr_bytes"]:,.0f}']
    assert (tmp_path / 'out/two_psnr_lr.png').is_file() and '![two_psnr_lr.png](two_psnr_lr.png)' in text


def test_curves_of_the_plot(benchmark):
    results, _ = benchmark(bytes=None, scales=[2])
    assert plots._curves(results) == {'net.pth': {0: 'ours', 1: 'coded 1'},
                                      'no network': {0: 'least squares', 1: 'plain 1', 2: 'plain 2'}}
    of_one = {k: v for k, v in results['options']['methods'].items() if v['type'] != 'payload'}
    results = {**results, 'methods': [*of_one], 'options': {**results['options'], 'methods': of_one}}
    assert plots._curves(results) == {}


def test_no_plot_without_coded_detail(tmp_path, benchmark):
    benchmark(bytes=None, scales=[2], methods={'bicubic': {'type': 'bicubic'}})
    assert not (tmp_path / 'out/two_psnr_lr.png').exists()


def test_a_missing_codec_leaves_out_what_needs_it(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(codec.features, 'check', lambda name: False)
    with pytest.raises(MissingCodecError):
        coded(bits=1)
    coded(bits=0)  # needs none
    few = {'scales': [2], 'methods': {'ours': {'type': 'bicubic'}, 'plain 2': {'type': 'payload', 'bits': 2}}}
    results, text = benchmark(**few)
    assert {*results['skipped']} == {'bytes', 'plain 2'}
    assert {(row['method'], row['key'][0]) for row in results['rows']} == {('ours', 'quality')}
    assert 'plain 2: left out, the payload needs Pillow with AVIF' in capsys.readouterr().err
    assert '- bytes: the payload needs Pillow with AVIF' in text and 'The same bytes' not in text
    monkeypatch.undo()
    results, text = benchmark(**few)
    assert not results['skipped'] and 'The same bytes' in text
    assert {(row['method'], row['key'][0]) for row in results['rows']} == {
        (method, kind) for method in ('ours', 'plain 2') for kind in ('quality', 'bytes')}
