"""``iarn-benchmark`` end to end on two tiny images: tables, resuming, what is left out, messages."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import torch
import yaml
from helpers import make_image, tiny_net

from iarn_basicsr.benchmark import plots, run, tasks
from iarn_basicsr.benchmark.methods import build_method
from iarn_basicsr.benchmark.report import means, quality_table
from iarn_basicsr.benchmark.run import Records, main
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.payload import codec

SIZES = [(48, 36), (49, 40)]  # both are 48 x 36 when cropped to multiples of 12


@pytest.fixture
def options(tmp_path, image_folder):
    tiny_net(order=2).save(tmp_path / 'net.pth')
    return {
        'name': 'tiny', 'threads': 1, 'device': 'cpu',
        'datasets': {'two': {'dataroot_gt': str(image_folder('hr', SIZES)), 'mod_crop': 12,
                             'size_rule': 'ceil'},
                     'gone': {'dataroot_gt': 'nowhere'}},
        'scales': [2, 2.5, [1.5, 3]],
        'methods': {
            'ours': {'type': 'IARN', 'weights': str(tmp_path / 'net.pth')},
            'absent': {'type': 'SR', 'nets': [{'scale': 2, 'path': 'nope.pth', 'network': {'type': 'EDSR'}}]},
            'bicubic': {'type': 'bicubic'},
        },
        'cycles': {'scales': [2.5], 'counts': [1, 3]},
        'files': {'scales': [2.5], 'formats': ['jpeg', 'webp'], 'qualities': [90, 1], 'methods': ['bicubic']},
        'published': [{'source': 'the paper', 'metric': 'psnr_y', 'values': {
            'two': {'ours': {'x2': 12.34}, 'others': {'x2.5': 56.78}}}}],
    }


@pytest.fixture
def benchmark(tmp_path, options):
    """Runs the command: returns its exit code; files are in tmp_path / 'out'."""

    def call(*arguments: str) -> int:
        (tmp_path / 'b.yml').write_text(yaml.safe_dump(options, sort_keys=False), encoding='utf-8')
        return main(['-opt', str(tmp_path / 'b.yml'), '-o', str(tmp_path / 'out'), *arguments])

    return call


def results_of(tmp_path) -> dict:
    return json.loads((tmp_path / 'out/benchmark.json').read_text())


def table_of(text: str, title: str) -> list[list[str]]:
    """The cells of the table whose first heading, or the heading above it, is ``title``."""
    lines = text[text.index(title):].splitlines()
    first = next(n for n, line in enumerate(lines) if '|' in line)
    end = next((n for n, line in enumerate(lines) if n > first and not line.startswith('|')), len(lines))
    lines[first] = lines[first] if lines[first].startswith('|') else f'| {lines[first]}'
    return [[c.strip() for c in line.split('|')[1:-1]] for line in lines[first:end] if '---' not in line]


def test_report(tmp_path, benchmark, capsys):
    assert benchmark() == 0
    shown, out, results = capsys.readouterr(), tmp_path / 'out', results_of(tmp_path)
    text = (out / 'benchmark.md').read_text()
    assert 'absent: left out, weights not found: nope.pth' in shown.err and '- absent: weights not found' in text
    assert 'gone: left out, there is no folder nowhere\n' in shown.err and '- gone: there is no folder' in text
    assert '8-bit LR, 8-bit result, border of ceil(max scale) cropped' in text and 'multiples of 12' in text

    head, ours, absent, _ = table_of(shown.out, 'two HR, PSNR-RGB / Y')
    assert head[1:] == ['x2', 'x2.5', 'x1.5x3'] and absent == ['absent (bicubic LR)', '–', '–', '–']
    rows = [r for r in results['rows'] if r['method'] == 'ours' and r['key'][:3] == ['quality', 'two', 'x2']]
    mean = quality_table(results, 'two')['x2']['ours']
    assert len(rows) == 2 and mean['psnr_y'] == pytest.approx(np.mean([r['psnr_y'] for r in rows]))
    assert ours[1] == f'{mean["psnr_rgb"]:.2f} / {mean["psnr_y"]:.2f}'
    _, ours, _, bicubic = table_of(text, 'two LR, PSNR-RGB / Y')
    assert ours[1] == f'{mean["lr_psnr_rgb"]:.2f} / {mean["lr_psnr_y"]:.2f}' and bicubic[1] == 'exact'
    for where in (shown.out, text):
        assert table_of(where, 'two, published') == [
            ['two, published', 'metric', 'x2', 'x2.5', 'x1.5x3', 'source'],
            ['ours', 'PSNR-Y', '12.34', '–', '–', 'the paper'], ['others', 'PSNR-Y', '–', '56.78', '–', 'the paper']]
    ratio = sum(r['lr_bytes'] for r in rows) / sum(r['lr_bytes_bicubic'] for r in rows)
    assert mean['lr_bytes_ratio'] == pytest.approx(ratio) != 1
    assert mean['lr_bits'] == pytest.approx(8 * np.mean([r['lr_bytes'] for r in rows]) / (48 * 36))

    with open(out / 'benchmark.csv', encoding='utf-8', newline='') as file:
        table = list(csv.DictReader(file))
    assert {r['method'] for r in table} == {'ours', 'bicubic'}
    assert {r['what'] for r in table} == {'quality', 'cycles', 'files'}
    assert [float(r['value']) for r in table if (r['method'], r['scale'], r['metric'], r['what']) == (
        'ours', 'x2', 'psnr_y', 'quality')] == [r['psnr_y'] for r in rows]
    assert {p.name for p in out.glob('*.png')} == {'two_psnr_scale.png', 'two_psnr_lr.png'}  # no cost was asked for

    method = build_method('m', {'type': 'bicubic'})
    for which, size in enumerate(SIZES):
        pixels = make_image(*size, seed=which)[:48, :36, ::-1].copy()
        hr = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        expected = {('quality', s): tasks.quality(method, hr, bicubic_lr(hr, lr))
                    for s, lr in (('x2', (24, 18)), ('x2.5', (20, 15)), ('x1.5x3', (32, 12)))}
        expected['cycles', 'x2.5'] = tasks.cycles(method, hr, (20, 15), [1, 3])
        expected['files', 'x2.5'] = tasks.files(method, hr, (20, 15), ['jpeg', 'webp'], [90, 1])
        for (kind, scale), values in expected.items():
            row, = (r for r in results['rows'] if r['method'] == 'bicubic' and r['key'][:4] == [
                kind, 'two', scale, f'image{which}.png'])
            assert {k: v for k, v in row.items() if k not in ('method', 'key')} == pytest.approx(values)

    row = means(results, 'cycles')['x2.5']['bicubic']
    head, *_, line = table_of(text, '### Repeated down and up, x2.5')
    assert head == ['method', '1', '3']
    assert line == ['bicubic', *(f'{row[f"{k} psnr_rgb"]:.2f} / {row[f"{k} psnr_y"]:.2f}' for k in (1, 3))]

    row = means(results, 'files')['x2.5']['bicubic']
    head, *lines = table_of(text, '### Files of the LR, x2.5')
    assert head == ['method', 'LR as', 'bytes', 'bits', 'restored', 'JPEG', 'AVIF']
    assert [line[1] for line in lines] == ['png', 'webp lossless', 'jpeg 90', 'jpeg 1', 'webp 90', 'webp 1']
    for line in lines:
        count = row[f'{line[1]} bytes']
        assert line[2:5] == [f'{count:,.0f}', f'{8 * count / row["hr_pixels"]:.3f}', ' / '.join(
            f'{row[f"{line[1]} {metric}"]:.2f}' for metric in ('psnr_rgb', 'psnr_y'))]
    assert lines[-1][5] == '–', 'no JPEG is as small as that WebP'


def test_a_plain_file_that_one_image_lacks_is_not_averaged():
    rows = [{'method': 'm', 'key': ['files', 'two', 'x2', 'a'], 'x as jpeg bytes': 30, 'x as avif bytes': 20},
            {'method': 'm', 'key': ['files', 'two', 'x2', 'b'], 'x as avif bytes': 21}]
    assert means({'rows': rows}, 'files')['x2']['m'] == {'images': 2, 'x as avif bytes': 20.5}


def test_nothing_is_measured_twice(tmp_path, options, benchmark, monkeypatch):
    options['files'] = None
    monkeypatch.setattr(run, 'draw_plots', lambda results, folder: [])
    assert benchmark() == 0
    first = (tmp_path / 'out/benchmark.md').read_text()
    measured = []
    quality = tasks.quality
    monkeypatch.setattr(tasks, 'quality', lambda method, hr, lr: measured.append(1) or quality(method, hr, lr))

    def again() -> int:
        measured.clear()
        assert benchmark() == 0
        return len(measured)

    assert again() == 0
    assert (tmp_path / 'out/benchmark.md').read_text() == first
    lines = (tmp_path / 'out/records.jsonl').read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"cycles"' in line] + [line for line in lines if '"quality"' in line][:7]
    (tmp_path / 'out/records.jsonl').write_text(''.join(kept) + lines[-1][:20])  # cut short in the middle of a line
    assert again() == 12 - 7
    assert (tmp_path / 'out/benchmark.md').read_text() == first

    tiny_net(order=2, seed=1).save(tmp_path / 'net.pth')  # other weights under the same name
    assert again() == 6
    assert (tmp_path / 'out/benchmark.md').read_text() != first
    options['datasets']['two']['mod_crop'] = 4
    assert again() == 12
    options['datasets']['two'].update(mod_crop=12, scales=[2])  # a data set may have scales of its own
    assert again() == 0
    assert table_of((tmp_path / 'out/benchmark.md').read_text(), 'two HR')[0][1:] == ['x2']


def test_what_the_command_line_chooses(tmp_path, options, benchmark, capsys):
    options['files']['methods'] = ['ours']  # which is not chosen
    options['datasets']['two']['scales'] = [4]
    assert benchmark('--method', 'bicubic', 'absent', '--dataset', 'two', '--scale', '2', '1.5x3') == 0
    results = results_of(tmp_path)
    assert {(r['method'], *r['key'][:3:2]) for r in results['rows']} == {
        ('bicubic', 'quality', 'x2'), ('bicubic', 'quality', 'x1.5x3'), ('bicubic', 'cycles', 'x2'),
        ('bicubic', 'cycles', 'x1.5x3')}
    assert benchmark('--method', 'bicubic', '--quality') == 0
    assert {(r['key'][0], r['key'][2]) for r in results_of(tmp_path)['rows']} == {('quality', 'x4')}
    assert benchmark('--scale', 'two') == 2
    assert "scales: ['two']; expected" in capsys.readouterr().err
    assert benchmark('--method', 'bicubik') == 2
    assert "--method 'bicubik': not in the option file; did you mean 'bicubic'?" in capsys.readouterr().err
    assert benchmark('--dataset', 'gone') == 2
    assert capsys.readouterr().err == 'iarn-benchmark: datasets: none is there; gone: there is no folder nowhere\n'


@pytest.mark.slow
def test_cost(options, benchmark, tmp_path):
    options.update(cost={'hr_size': [32, 48], 'scales': [2], 'repeats': 1}, scales=[2], cycles=None, files=None)
    del options['methods']['bicubic']
    assert benchmark() == 0
    row = next(r for r in results_of(tmp_path)['rows'] if r['key'][0] == 'cost')
    cost = tiny_net(order=2).complexity((32, 48), (16, 24))
    assert row['params'] == cost['params']
    assert row['macs_down'] == row['macs_up'] == pytest.approx(cost['macs_per_pixel'])
    assert 0 < row['seconds_down'] < 1e4
    assert 50 < row['peak_mib'] < 10_000
    assert (tmp_path / 'out/two_psnr_cost.png').is_file()


def test_coded_detail(tmp_path, options, benchmark, monkeypatch, capsys):
    """Without AVIF it is left out, and so are files; in the plot, methods of the same weights are joined."""
    net = str(tmp_path / 'net.pth')
    options.update(scales=[2], cycles=None, methods={
        'effort': {'type': 'IARN', 'weights': net, 'effort': 1}, 'coded 1': {'type': 'IARN', 'weights': net, 'bits': 1},
        'ours': options['methods']['ours'], 'plain 1': {'type': 'IARN', 'weights': 'none', 'bits': 1},
        'least squares': {'type': 'IARN', 'weights': 'none'}})
    options['files']['methods'] = ['plain 1']
    with monkeypatch.context() as patch:
        patch.setattr(codec.features, 'check', lambda name: False)
        assert benchmark() == 0
    assert {*results_of(tmp_path)['skipped']} == {'gone', 'files', 'coded 1', 'plain 1'}
    assert 'plain 1: left out, the payload needs Pillow with AVIF' in capsys.readouterr().err
    assert benchmark() == 0
    results = results_of(tmp_path)
    assert plots._chains(results) == [['ours', 'effort'], ['ours', 'coded 1'], ['least squares', 'plain 1']]
    assert {*means(results, 'files')['x2.5']} == {'plain 1'}


def test_names_in_the_plot_do_not_overlap(options):
    """Published figures without those of their LR stand at the left edge, bicubic LR at the right one."""
    quality = {'psnr_y': 30, 'lr_bytes': 1, 'lr_bytes_bicubic': 1, 'lr_bytes_webp': 1, 'hr_pixels': 1}
    values = {'ours': (35.0, 42.0), 'absent': (35.1, 43.0), 'bicubic': (30.0, 100.0)}
    others = {'B': {'x2': 35.2}, 'C': {'x2': 35.2}}
    published = [{'metric': metric, 'values': {'two': {'A': {'x2': a}, **(others if b else {})}}}
                 for metric, a, b in (('psnr_rgb', 36.0, True), ('lr_psnr_rgb', 44.0, False), ('psnr_y', 20.0, True))]
    figure = plots._against_lr({'options': options, 'methods': list(values), 'published': published, 'rows': [
        {'method': m, 'key': ['quality', 'two', 'x2', 'a.png'], 'psnr_rgb': hr, 'lr_psnr_rgb': lr, **quality}
        for m, (hr, lr) in values.items()]}, 'two')
    axes, = figure.axes
    points = [(*line.get_xydata()[0], line.get_marker()) for line in axes.lines if line.get_marker() != 'None']
    assert sorted(points) == [
        (39, 35.2, 'x'), (39, 35.2, 'x'), (42, 35, 'o'), (43, 35.1, 'o'), (44, 36, 'x'), (47, 30, 'o')]
    heights = {text.get_text(): text.xy[1] for text in axes.texts}
    assert [heights['B'], heights['C']] == pytest.approx([35.2 - 0.315 / 2, 35.2 + 0.315 / 2])  # around their crosses
    assert heights['ours'] == 35 and heights['absent'] == pytest.approx(35.315)  # upwards
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['not\npublished', '42', '44', 'bicubic']


@pytest.mark.parametrize(('change', 'message'), [
    ({'method': {}}, "unknown option 'method'; did you mean 'methods'"),
    ({'datasets': {'two': {'dataroot_gt': '.', 'meta_info_file': 'nowhere.txt'}}}, 'nowhere.txt'),
    ({'methods': {'x': {'type': 'SR', 'nets': [{'scale': 2, 'path': 'net.pth', 'network': {'type': 'EDSR'}}]}},
      'files': None}, 'net.pth does not fit network EDSR'),
    ({'device': 'tpu'}, "device 'tpu' cannot be used"), ({'name': 5}, 'name: 5; expected text'),
])
def test_mistakes_end_with_one_line(tmp_path, options, benchmark, capsys, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    options.update(change)
    assert benchmark() == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.startswith('iarn-benchmark: ') and error.count('\n') == 1
    assert not list(tmp_path.glob('out/*.json'))


def test_damaged_records(tmp_path):
    path = tmp_path / 'r.jsonl'
    records = Records(str(path))
    assert records.get(('a', 'b'), lambda: {'x': 1}) == {'x': 1}
    assert Records(str(path)).get(('a', 'b'), lambda: 1 / 0) == {'x': 1}
    path.write_text('nonsense\n' + path.read_text())
    with pytest.raises(ValueError, match=r'r\.jsonl, line 1 is damaged'):
        Records(str(path))
