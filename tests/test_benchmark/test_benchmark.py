"""``iarn-benchmark`` end to end on two tiny images: tables, resuming, missing weights, messages."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
import yaml
from helpers import make_image, tiny_net

from iarn_basicsr.benchmark import tasks
from iarn_basicsr.benchmark.methods import build_method
from iarn_basicsr.benchmark.records import Records
from iarn_basicsr.benchmark.run import main
from iarn_basicsr.benchmark.tables import quality_table
from iarn_basicsr.inference.picture_file import png_bytes
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import bicubic_downscale


@pytest.fixture
def options(tmp_path, image_folder):
    tiny_net(order=2).save(tmp_path / 'net.pth')
    return {
        'name': 'tiny', 'threads': 1, 'device': 'cpu',
        'datasets': {'two': {'dataroot_gt': str(image_folder('hr', [(48, 36), (49, 40)])), 'mod_crop': 12}},
        'scales': [2, 2.5, [1.5, 3]],
        'methods': {
            'ours': {'type': 'IARN', 'weights': str(tmp_path / 'net.pth')},
            'absent': {'type': 'SR', 'nets': [{'scale': 2, 'path': 'nope.pth', 'network': {'type': 'EDSR'}}]},
            'bicubic': {'type': 'bicubic'},
        },
        'cycles': {'scales': [2], 'counts': [1, 3]},
        'lossy': {'scales': [2], 'formats': ['jpeg', 'webp'], 'qualities': [95, 50], 'methods': ['bicubic']},
        'published': {'two': {'ours': {'x2': 12.34}, 'others': {'x2.5': 56.78}}},
    }


@pytest.fixture
def benchmark(tmp_path, options):
    """Runs the command: returns its exit code; files are in tmp_path / 'out'."""

    def run() -> int:
        (tmp_path / 'b.yml').write_text(yaml.safe_dump(options, sort_keys=False), encoding='utf-8')
        return main(['-opt', str(tmp_path / 'b.yml'), '-o', str(tmp_path / 'out')])

    return run


def test_report(tmp_path, options, benchmark, capsys):
    assert benchmark() == 0
    out = tmp_path / 'out'
    shown = capsys.readouterr()
    assert 'absent: left out, weights not found: nope.pth' in shown.err
    text = (out / 'benchmark.md').read_text()
    assert '8-bit LR, 8-bit result, border of ceil(max scale) cropped' in text
    assert 'multiples of 12' in text
    assert '- absent: weights not found: nope.pth' in text
    rows = {line.split('|')[1].strip(): [c.strip() for c in line.split('|')[2:-1]]
            for line in shown.out.splitlines() if line.startswith('|')}
    assert rows['two PSNR-Y'] == ['x2', 'x2.5', 'x1.5x3', 'x2 (published)', 'x2.5 (published)']
    assert rows['ours'][3:] == ['12.34', '–']
    assert rows['others'] == ['–', '–', '–', '–', '56.78']
    assert rows['absent (bicubic LR)'][:3] == ['–'] * 3
    results = json.loads((out / 'benchmark.json').read_text())
    values = [r['psnr_y'] for r in results['rows']
              if (r['method'], r['key'][:3]) == ('ours', ['quality', 'two', 'x2'])]
    assert len(values) == 2
    assert rows['ours'][0] == f'{np.mean(values):.2f}'
    ours = [r for r in results['rows'] if r['method'] == 'ours' and r['key'][:3] == ['quality', 'two', 'x2']]
    ratio = sum(r['lr_bytes'] for r in ours) / sum(r['lr_bytes_bicubic'] for r in ours)
    assert ratio != 1
    assert quality_table(results, 'two')['x2']['ours']['lr_bytes_ratio'] == pytest.approx(ratio)
    with open(out / 'benchmark.csv', encoding='utf-8', newline='') as file:
        table = list(csv.DictReader(file))
    assert {r['method'] for r in table} == {'ours', 'bicubic'}
    assert {r['what'] for r in table} == {'quality', 'cycles', 'lossy'}
    assert [float(r['value']) for r in table
            if (r['method'], r['scale'], r['metric'], r['what']) == ('ours', 'x2', 'psnr_y', 'quality')] == values
    for which, size in enumerate([(48, 36), (48, 36)]):  # 49 x 40 is cropped to multiples of 12
        hr = torch.from_numpy(make_image(*[(48, 36), (49, 40)][which], seed=which)[:size[0], :size[1], ::-1].copy())
        hr = hr.permute(2, 0, 1)[None] / 255
        method = build_method('m', {'type': 'bicubic'})
        for scale, lr in (('x2', (24, 18)), ('x2.5', (19, 14)), ('x1.5x3', (32, 12))):
            row = next(r for r in results['rows'] if r['method'] == 'bicubic' and
                       r['key'][:4] == ['quality', 'two', scale, f'image{which}.png'])
            direct = tasks.quality(method, hr, quantise(bicubic_downscale(hr, lr)))
            assert {k: v for k, v in row.items() if k not in ('method', 'key')} == pytest.approx(direct)
        row = next(r for r in results['rows'] if r['method'] == 'bicubic' and r['key'][0] == 'cycles' and
                   r['key'][3] == f'image{which}.png')
        assert row['3'] == pytest.approx(tasks.cycles(method, hr, (24, 18), [3])['3'])
    bicubic = [r for r in results['rows'] if r['method'] == 'bicubic' and r['key'][0] == 'quality']
    assert len(bicubic) == 6
    assert all(r['lr_psnr_y'] == 100 and r['lr_bytes'] == r['lr_bytes_bicubic'] for r in bicubic)
    assert all(r['lr_ciede2000'] == 0 for r in bicubic) and all(r['lr_ciede2000'] > 0 for r in ours)
    assert {p.name for p in out.glob('*.png')} == {'two_psnr_scale.png', 'two_psnr_bytes.png'}  # no cost was asked for


def test_nothing_is_measured_twice(tmp_path, options, benchmark, monkeypatch):
    assert benchmark() == 0
    first = (tmp_path / 'out/benchmark.md').read_text()
    measured = []
    quality = tasks.quality
    monkeypatch.setattr(tasks, 'quality', lambda method, hr, lr: measured.append(1) or quality(method, hr, lr))
    assert benchmark() == 0
    assert not measured
    assert (tmp_path / 'out/benchmark.md').read_text() == first

    lines = (tmp_path / 'out/records.jsonl').read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"cycles"' in line or '"lossy"' in line]
    kept += [line for line in lines if '"quality"' in line][:7]
    (tmp_path / 'out/records.jsonl').write_text(''.join(kept) + lines[-1][:20])  # cut short in the middle of a line
    assert benchmark() == 0
    assert len(measured) == 12 - 7
    assert (tmp_path / 'out/benchmark.md').read_text() == first

    tiny_net(order=2, seed=1).save(tmp_path / 'net.pth')  # other weights under the same name
    measured.clear()
    assert benchmark() == 0
    assert len(measured) == 6
    assert (tmp_path / 'out/benchmark.md').read_text() != first

    options['datasets']['two']['mod_crop'] = 4
    measured.clear()
    assert benchmark() == 0
    assert len(measured) == 12
    options['datasets']['two']['mod_crop'] = 12

    options['scales'] = [2]
    measured.clear()
    assert benchmark() == 0
    assert not measured
    assert 'x2.5' not in (tmp_path / 'out/benchmark.md').read_text().replace('x2.5 (published)', '')


def test_every_section_has_the_size_rule_of_the_dataset(options, benchmark, monkeypatch):
    """HR of 48 x 36: at x2.5 the LR has 19 x 14 pixels, and 20 x 15 by ``ceil``."""
    options['datasets']['two']['size_rule'] = 'ceil'
    options.update(scales=[2.5], cycles={'scales': [2.5], 'counts': [1]}, methods={'bicubic': {'type': 'bicubic'}})
    options['lossy'].update(scales=[2.5], formats=['jpeg'], qualities=[95])
    sizes = {'quality': lambda lr: tuple(lr.shape[-2:]), 'cycles': tuple, 'lossy': tuple}
    seen = []
    for section, of in sizes.items():
        measure = getattr(tasks, section)
        monkeypatch.setattr(tasks, section, lambda method, hr, size, *more, of=of, measure=measure:
                            seen.append((tuple(hr.shape[-2:]), of(size))) or measure(method, hr, size, *more))
    assert benchmark() == 0
    assert len(seen) == 6 and {size for hr, size in seen if hr == (48, 36)} == {(20, 15)}


@pytest.mark.slow
def test_cost(options, benchmark, tmp_path):
    options.update(cost={'hr_size': [32, 48], 'scales': [2], 'repeats': 1}, scales=[2], cycles=None, lossy=None)
    del options['methods']['bicubic']
    assert benchmark() == 0
    row = next(r for r in json.loads((tmp_path / 'out/benchmark.json').read_text())['rows'] if r['key'][0] == 'cost')
    net = tiny_net(order=2)
    cost = net.complexity((32, 48), (16, 24))
    assert row['params'] == cost['params']
    assert row['macs_down'] == row['macs_up'] == pytest.approx(cost['macs_per_pixel'])
    assert 0 < row['seconds_down'] < 1e4
    assert 50 < row['peak_mib'] < 10_000
    assert (tmp_path / 'out/two_psnr_cost.png').is_file()


@pytest.mark.parametrize(('change', 'message'), [
    ({'method': {}}, "unknown option 'method'; did you mean 'methods'"),
    ({'scales': []}, "option 'scales' is missing or empty"),
    ({'scales': [0.5]}, 'scales: .*0.5'),
    ({'cycles': {'scales': [2]}}, 'cycles.counts is missing'),
    ({'cycles': {'scales': [2], 'counts': [1], 'methods': ['our']}}, "cycles.methods: 'our' is not among ours"),
    ({'lossy': {'scales': [2], 'formats': ['gif'], 'qualities': [9]}}, "lossy.formats: 'gif'"),
    ({'lossy': {'scales': [2], 'formats': ['jpeg'], 'qualities': [9], 'dataset': 'three'}}, "'three' is not among two"),
    ({'threads': 0}, 'threads: 0; expected a whole number from 1'),
    ({'datasets': {'two': {'dataroot_gt': 'nowhere'}}}, 'nowhere'),
    ({'methods': {'x': {'type': 'y'}}, 'lossy': None}, "methods.x.type: 'y' is no method"),
])
def test_mistakes_end_with_one_line(options, benchmark, capsys, change, message):
    import re
    options.update(change)
    assert benchmark() == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.startswith('iarn-benchmark: ')
    assert error.count('\n') == 1


def test_damaged_records(tmp_path):
    path = tmp_path / 'r.jsonl'
    records = Records(str(path))
    assert records.get(('a', 'b'), lambda: {'x': 1}) == {'x': 1}
    assert Records(str(path)).get(('a', 'b'), lambda: 1 / 0) == {'x': 1}
    path.write_text('nonsense\n' + path.read_text())
    with pytest.raises(ValueError, match=r'r\.jsonl, line 1 is damaged'):
        Records(str(path))


def image(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(make_image(height, width, 0)).permute(2, 0, 1)[None] / 255


def test_quality_counts_the_bytes_of_the_lr():
    hr = image(48, 36)
    reference = quantise(bicubic_downscale(hr, (24, 18)))
    values = tasks.quality(build_method('m', {'type': 'area'}), hr, reference)
    lr = (build_method('m', {'type': 'area'}).downscale(hr, (24, 18))[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert values['lr_bytes'] == len(png_bytes(lr))
    assert values['lr_psnr_y'] < 100
    assert 'lr_niqe' not in values  # too small for its statistics


def test_niqe_of_a_large_lr():
    hr = image(400, 404)
    lr = quantise(bicubic_downscale(hr, (200, 202)))
    values = tasks.quality(build_method('m', {'type': 'bicubic'}), hr, lr)
    assert np.isfinite(values['lr_niqe'])
    assert values['lr_psnr_y'] == 100


def test_cycles_of_a_projection_and_of_a_blur():
    """Least squares projects: after the first time hardly anything changes. Bicubic blurs again and again."""
    hr = image(48, 48)
    squares, blur = (tasks.cycles(build_method('m', {'type': k}), hr, (20, 24), [1, 2, 5])
                     for k in ('least_squares', 'bicubic'))
    assert list(squares) == ['1', '2', '5']
    assert squares['1'] - squares['5'] < 0.2
    assert blur['1'] - blur['2'] > 0.5
    assert blur['2'] > blur['5']
