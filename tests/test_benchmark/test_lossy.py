"""A lossy LR in the benchmark: its files, plain files of the same bytes, the section ``lossy`` and its tables."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
import yaml
from helpers import make_image, tiny_net
from PIL import Image

from iarn_basicsr.benchmark import codecs, run, tasks
from iarn_basicsr.benchmark.codecs import FORMATS, lossy_bytes
from iarn_basicsr.benchmark.methods import build_method
from iarn_basicsr.benchmark.run import main
from iarn_basicsr.benchmark.tables import lossy_table
from iarn_basicsr.inference.picture_file import png_bytes
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, evaluate
from iarn_basicsr.ops.jpeg import decoded, jpeg_bytes, jpeg_copy
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.payload.codec import MissingCodecError

SIZE, LR = (96, 84), (48, 42)


def pixels(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(make_image(*SIZE, seed)).permute(2, 0, 1)[None] / 255


def rgb_of(image: torch.Tensor) -> np.ndarray:
    return (image[0].permute(1, 2, 0) * 255).round().byte().numpy()


# ------------------------------------------------------------------------------------------------------------ the files


@pytest.mark.parametrize('form', FORMATS)
def test_quality_and_format_are_those_asked_for(form):
    rgb = make_image(*SIZE, 0)
    files = [lossy_bytes(rgb, form, q) for q in (10, 50, 90)]
    assert len(files[0]) < len(files[1]) < len(files[2]) < rgb.nbytes
    errors = [np.abs(decoded(data).astype(int) - rgb).mean() for data in files]
    assert 0 < errors[2] < errors[1] < errors[0]
    assert Image.open(io.BytesIO(files[0])).format == {'jpeg444': 'JPEG'}.get(form, form.upper())


def test_chroma_of_jpeg():
    rgb = make_image(*SIZE, 0)
    for form, factors in (('jpeg', (2, 2)), ('jpeg444', (1, 1))):
        with Image.open(io.BytesIO(lossy_bytes(rgb, form, 75))) as file:
            assert file.layer[0][1:3] == factors  # of brightness, against 1 x 1 of chroma
    assert np.array_equal(decoded(lossy_bytes(rgb, 'jpeg', 75)), jpeg_copy(rgb, 75))


@pytest.mark.parametrize('files', ['jpeg', 'avif'])
def test_the_best_that_fits(files):
    rgb = make_image(40, 52, 0)
    make, lowest = {'jpeg': (jpeg_bytes, 1), 'avif': (codecs.avif_bytes, 0)}[files]
    every = {q: make(rgb, q) for q in range(lowest, 101, 1 if files == 'jpeg' else 4)}
    shelf = {'jpeg': codecs.jpeg_files, 'avif': codecs.avif_files}[files](rgb)
    assert shelf.within(len(every[lowest]) - 1) == b''
    for q in (lowest, 52, 100):
        for budget in (len(every[q]), len(every[q]) + 5):
            found = shelf.within(budget)
            assert len(found) <= budget
            best = max(k for k, data in every.items() if len(data) <= budget)
            assert len(found) >= len(every[best]) and (found == every[best] or files == 'avif')
    assert shelf.within(10**6) == every[100]


def test_each_file_is_made_once():
    made = []
    files = codecs.Files(lambda q: made.append(q) or bytes(10 * q), 1, 100)
    assert [len(files.within(budget)) for budget in (9, 10, 425, 429, 1000, 5000)] == [0, 10, 420, 420, 1000, 1000]
    assert len(made) == len({*made}) < 6 * 7


# ----------------------------------------------------------------------------------------------------- what is measured


@torch.no_grad()
def test_values_are_what_one_gets_by_hand(tmp_path):
    tiny_net(order=2).save(tmp_path / 'net.pth')
    method = build_method('m', {'type': 'IARN', 'weights': str(tmp_path / 'net.pth')})
    hr = pixels()
    values = tasks.lossy(method, hr, LR, ['jpeg', 'webp'], [90, 1])
    lr, original, low = method.downscale(hr, LR), rgb_of(hr), bicubic_lr(hr, LR)

    def psnr(image: np.ndarray) -> dict[str, float]:
        found = evaluate((image[..., ::-1], original[..., ::-1]), (rgb_of(lr)[..., ::-1],) * 2, DEFAULT_METRICS)
        return {name: found[name] for name in ('psnr_y', 'psnr_rgb')}

    fidelity = evaluate((original, original), (rgb_of(lr)[..., ::-1], rgb_of(low)[..., ::-1]), DEFAULT_METRICS)
    expected = {'lr_psnr_rgb': fidelity['lr_psnr_rgb'], 'hr_pixels': SIZE[0] * SIZE[1]}
    assert expected['lr_psnr_rgb'] < 99
    files = {'png': png_bytes(rgb_of(lr)), **{f'{f} {q}': lossy_bytes(rgb_of(lr), f, q) for f in ('jpeg', 'webp')
                                             for q in (90, 1)}}
    for name, data in files.items():
        copy = torch.from_numpy(decoded(data)).permute(2, 0, 1)[None] / 255
        expected.update({f'{name} {k}': v for k, v in psnr(rgb_of(method.upscale(copy, SIZE))).items()})
        expected[f'{name} bytes'] = len(data)
        for codec, plain in (('jpeg', codecs.jpeg_files(original)), ('avif', codecs.avif_files(original))):
            same = plain.within(len(data)) if name != 'png' else b''
            if same:
                expected.update({f'{name} as {codec} {k}': v for k, v in psnr(decoded(same)).items()})
                expected[f'{name} as {codec} bytes'] = len(same)
    assert values == pytest.approx(expected)
    assert values['png psnr_y'] > values['jpeg 90 psnr_y'] > values['jpeg 1 psnr_y']
    assert values['jpeg 90 as jpeg bytes'] <= values['jpeg 90 bytes']
    assert 'webp 1 as jpeg bytes' not in values and 'webp 1 as jpeg psnr_y' not in values, 'no JPEG is as small'


@torch.no_grad()
def test_least_squares_is_the_payload_without_bits():
    squares, none = ({'type': 'least_squares'}, {'type': 'payload', 'bits': 0, 'weights': 'none'})
    found = [tasks.lossy(build_method('m', options), pixels(), LR, ['jpeg444'], [75]) for options in (squares, none)]
    assert found[0] == pytest.approx(found[1], abs=0.01)
    assert found[0]['lr_psnr_rgb'] == 100
    bicubic = tasks.lossy(build_method('m', {'type': 'bicubic'}), pixels(), LR, ['jpeg444'], [75])
    assert bicubic['jpeg444 75 bytes'] == found[0]['jpeg444 75 bytes']
    assert bicubic['png psnr_rgb'] < found[0]['png psnr_rgb']


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def benchmark(tmp_path, image_folder):
    """Runs the command with changes to the section; returns its results and its report."""
    options = {
        'name': 'lossy', 'threads': 1, 'device': 'cpu', 'scales': [2],
        'datasets': {'two': {'dataroot_gt': str(image_folder('hr', [SIZE, (72, 84)])), 'mod_crop': 12}},
        'methods': {'bicubic': {'type': 'bicubic'}, 'squares': {'type': 'least_squares'}, 'area': {'type': 'area'}},
        'lossy': {'scales': [2], 'formats': ['jpeg', 'webp'], 'qualities': [90, 1], 'methods': ['bicubic', 'squares']},
    }

    def run(**changes: object) -> tuple[dict, str]:
        options['lossy'].update(changes)
        (tmp_path / 'b.yml').write_text(yaml.safe_dump(options, sort_keys=False), encoding='utf-8')
        assert main(['-opt', str(tmp_path / 'b.yml'), '-o', str(tmp_path / 'out')]) == 0
        return json.loads((tmp_path / 'out/benchmark.json').read_text()), (tmp_path / 'out/benchmark.md').read_text()

    return run


def rows_of(text: str, title: str) -> list[list[str]]:
    """The table below a title."""
    lines = text[text.index(f'### {title}\n'):].splitlines()[2:]
    end = next((n for n, line in enumerate(lines) if not line.startswith('|')), len(lines))
    return [[c.strip() for c in line.split('|')[1:-1]] for line in lines[:end] if '---' not in line]


def test_tables(benchmark):
    results, text = benchmark()
    rows = [r for r in results['rows'] if r['key'][0] == 'lossy']
    assert [(r['method'], r['key'][3]) for r in rows] == [
        (m, f'image{k}.png') for m in ('bicubic', 'squares') for k in (0, 1)]

    def mean(method: str, name: str) -> float:
        return np.mean([r[name] for r in rows if r['method'] == method])

    for title, metric in (('PSNR-Y', 'psnr_y'), ('PSNR-RGB', 'psnr_rgb')):
        head, *lines = rows_of(text, f'Lossy LR, x2, {title}')
        assert head == ['method', 'LR', 'png', 'jpeg 90', 'jpeg 1', 'webp 90', 'webp 1']
        assert [line[0] for line in lines] == ['bicubic', 'squares']
        assert [line[1:] for line in lines] == [
            ['100.00', *(f'{mean(line[0], f"{file} {metric}"):.2f}' for file in head[2:])] for line in lines]
    head, *lines = rows_of(text, 'The bytes of a lossy LR, x2')
    assert head == ['method', 'LR as', 'bytes', 'bits', 'restored', 'JPEG', 'AVIF']
    assert [line[:2] for line in lines] == [[m, f'{f} {q}'] for f in ('jpeg', 'webp') for q in (90, 1)
                                            for m in ('bicubic', 'squares')]
    first = lines[1]
    assert first[2:4] == [f'{mean("squares", "jpeg 90 bytes"):,.0f}',
                          f'{8 * mean("squares", "jpeg 90 bytes") / mean("squares", "hr_pixels"):.3f}']
    for cell, of in zip(first[4:], ('', ' as jpeg', ' as avif')):
        assert cell == ' / '.join(f'{mean("squares", f"jpeg 90{of} psnr_{y}"):.2f}' for y in ('rgb', 'y'))
    assert lines[-1][5] == '–', 'no JPEG is as small as that WebP'
    assert 'jpeg: 4:2:0' in text


def test_a_plain_file_that_one_image_lacks_is_not_averaged():
    rows = [{'method': 'm', 'key': ['lossy', 'two', 'x2', str(k)], 'hr_pixels': 100 * (1 + k), 'jpeg 9 bytes': 50.0,
             'jpeg 9 as jpeg psnr_rgb': 30.0, 'jpeg 9 as avif psnr_rgb': 20.0 + k} for k in (0, 1)]
    del rows[0]['jpeg 9 as jpeg psnr_rgb']
    row = lossy_table({'rows': rows})['x2']['m']
    assert 'jpeg 9 as jpeg psnr_rgb' not in row and row['jpeg 9 as avif psnr_rgb'] == 20.5
    assert row['jpeg 9 bits'] == 8 * 50 / 150


def test_old_records_are_measured_again(tmp_path, benchmark, monkeypatch):
    results, _ = benchmark()
    path = tmp_path / 'out/records.jsonl'
    records = [json.loads(line) for line in path.read_text().splitlines()]
    old = [r for r in records if r['key'][2] == 'lossy']
    assert len(old) == 4
    for record in old:  # as they were when jpeg had whole chroma
        record['key'] = [*record['key'][:6], 'jpeg', 'webp', '90', '1']
        record['values'] = {'png': 1.0, 'jpeg 90': 1.0}
    path.write_text(''.join(json.dumps(r) + '\n' for r in records))
    measured = []
    quality = tasks.quality
    monkeypatch.setattr(tasks, 'quality', lambda *args: measured.append(1) or quality(*args))
    assert benchmark()[0]['rows'] == results['rows']
    assert not measured, 'other sections are not'


def test_left_out_without_avif(benchmark, monkeypatch, capsys):
    def missing() -> None:
        raise MissingCodecError

    monkeypatch.setattr(run, 'check_codec', missing)
    results, text = benchmark(formats=['jpeg'])
    assert not [r for r in results['rows'] if r['key'][0] == 'lossy'] and 'Lossy LR' not in text
    assert '- lossy: the payload needs Pillow with AVIF' in text
    assert 'lossy: left out, the payload needs Pillow with AVIF' in capsys.readouterr().err
