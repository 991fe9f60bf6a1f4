"""Tables (Markdown, CSV) and plots of a benchmark's results."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from os import path as osp
from typing import Any

from iarn_basicsr.checks import FORMULA
from iarn_basicsr.files import atomic_write, save_text
from iarn_basicsr.metrics.rescaling import PROTOCOL, PSNR_CAP
from iarn_basicsr.ops.size import parse_scale, scale_label

from .plots import draw_plots
from .tables import Table, label, lossy_table, means, quality_table

__all__ = ['summary', 'write_report']

_DETAIL = {  # column -> (metric, format)
    'PSNR-Y': ('psnr_y', '.2f'),
    'SSIM-Y': ('ssim_y', '.4f'),
    'PSNR-RGB': ('psnr_rgb', '.2f'),
    'SSIM-RGB': ('ssim_rgb', '.4f'),
    'LR PSNR-Y': ('lr_psnr_y', '.2f'),
    'LR SSIM-Y': ('lr_ssim_y', '.4f'),
    'LR PSNR-RGB': ('lr_psnr_rgb', '.2f'),
    'LR SSIM-RGB': ('lr_ssim_rgb', '.4f'),
    'LR CIEDE2000': ('lr_ciede2000', '.2f'),
    'its 99%': ('lr_ciede2000_p99', '.2f'),
    'LR NIQE': ('lr_niqe', '.2f'),
    'LR bytes': ('lr_bytes_ratio', '.3f'),
    'PNG bits': ('lr_bits', '.2f'),
    'WebP bits': ('lr_bits_webp', '.2f'),
}
_BYTES = {
    'PSNR-RGB': ('psnr_rgb', '.2f'),
    'LR as PNG, bytes': ('png bytes', ',.0f'),
    'AVIF': ('png avif', '.2f'),
    'LR as WebP, bytes': ('webp bytes', ',.0f'),
    'AVIF of those': ('webp avif', '.2f'),
}
_COST = {
    'parameters': ('params', ',.0f'),
    'MAC / pixel down': ('macs_down', ',.0f'),
    'MAC / pixel up': ('macs_up', ',.0f'),
    's / MP down': ('seconds_down', '.2f'),
    's / MP up': ('seconds_up', '.2f'),
    'peak MiB': ('peak_mib', ',.0f'),
}


def write_report(results: dict[str, Any], folder: str) -> None:
    """benchmark.md, benchmark.csv and, where matplotlib is installed, the plots."""
    plots = draw_plots(results, folder)
    save_text('\n'.join(_markdown(results, plots)) + '\n', osp.join(folder, 'benchmark.md'))
    atomic_write(osp.join(folder, 'benchmark.csv'), lambda path: _write_csv(results, path))


def summary(results: dict[str, Any]) -> str:
    """PSNR-Y of every method at every scale, a table per dataset."""
    return '\n'.join(line for dataset in results['options']['datasets'] for line in _psnr_table(results, dataset))


def _markdown(results: dict[str, Any], plots: Sequence[str] | str) -> Iterator[str]:
    yield f'# {results["name"]}\n'
    yield (f'{PROTOCOL}. PSNR in dB. LR bytes: PNG, relative to the bicubic LR; PNG and WebP bits: of the LR file, '
           'lossless, per HR pixel; 99%: percentile of CIEDE2000 over the pixels, mean over the images. Machine: '
           f'{results["machine"]}.')
    yield 'Published figures are their authors\', by their own protocol and training data; the others were run here.'
    yield 'Methods with a bicubic LR are one-way networks: they restore an LR that was made without them.'
    for dataset, options in results['options']['datasets'].items():
        crop = options.get('mod_crop')
        yield f'\n## {dataset}\n\nHR cropped to multiples of {crop}.' if crop else f'\n## {dataset}'
        yield from _psnr_table(results, dataset)
        yield from _both_table(results, dataset)
        yield from _detail_tables(results, dataset)
    yield from _cost_tables(results)
    yield from _cycles_tables(results)
    yield from _lossy_tables(results)
    yield from _bytes_tables(results)
    if results['skipped']:
        yield '\n## Left out\n'
        yield from (f'- {name}: {reason}' for name, reason in results['skipped'].items())
    yield '\n## Plots\n'
    yield from [plots] if isinstance(plots, str) else (f'![{p}]({p})' for p in plots)


def _psnr_table(results: dict[str, Any], dataset: str) -> Iterator[str]:
    table = quality_table(results, dataset)
    scales = _labels(results['options']['scales'])
    published = results['published'].get(dataset) or {}
    shown = [s for s in scales if any(s in row for row in published.values())]
    methods = [*results['methods'], *(m for m in published if m not in results['methods'])]
    head = [f'{dataset} PSNR-Y', *scales, *(f'{s} (published)' for s in shown)]
    rows = [[label(results, m), *(_cell(table.get(s, {}).get(m), 'psnr_y', '.2f') for s in scales),
             *(_cell(published.get(m), s, '.2f') for s in shown)] for m in methods]
    yield ''
    yield from _table(head, rows)


def _both_table(results: dict[str, Any], dataset: str) -> Iterator[str]:
    """HR beside LR, in RGB and Y."""
    table = quality_table(results, dataset)
    scales = _labels(results['options']['scales'])
    rows = [[label(results, m), *(_pair(table.get(s, {}).get(m), of) for s in scales for of in ('', 'lr_'))]
            for m in results['methods']]
    yield ''
    yield from _table([f'{dataset} PSNR-RGB / Y', *(f'{s} {of}' for s in scales for of in ('HR', 'LR'))], rows)


def _pair(row: dict[str, float] | None, of: str) -> str:
    """PSNR-RGB / PSNR-Y."""
    if not row or f'{of}psnr_rgb' not in row:
        return '–'
    if row[f'{of}psnr_rgb'] == row[f'{of}psnr_y'] == PSNR_CAP:
        return 'exact'
    return f'{row[f"{of}psnr_rgb"]:.2f} / {row[f"{of}psnr_y"]:.2f}'


def _detail_tables(results: dict[str, Any], dataset: str) -> Iterator[str]:
    for scale, methods in quality_table(results, dataset).items():
        images = next(iter(methods.values()))['images']
        columns = {c: v for c, v in _DETAIL.items() if any(v[0] in row for row in methods.values())}
        yield f'\n### {dataset} {scale} ({images:.0f} images)\n'
        yield from _table(['method', *columns], _rows(results, methods, columns))


def _cost_tables(results: dict[str, Any]) -> Iterator[str]:
    table = means(results, ('cost',))
    for k, (scale, methods) in enumerate(table.items()):
        if not k:
            options = results['options']['cost']
            height, width = options['hr_size']
            yield (f'\n## Cost\n\nHR {width}x{height}, median of {options.get("repeats", 5)} after one that warms up; '
                   'MP: HR megapixel; peak: largest memory of a process that does nothing else.')
        yield f'\n### {scale}\n'
        yield from _table(['method', *_COST], _rows(results, methods, _COST))


def _cycles_tables(results: dict[str, Any]) -> Iterator[str]:
    for k, (scale, methods) in enumerate(means(results, ('cycles', )).items()):
        if not k:
            yield ('\n## Repeated down and up\n\nPSNR-Y against the original after n cycles, '
                   f'{_dataset_of(results, "cycles")}.')
        names = [n for n in next(iter(methods.values())) if n != 'images']
        yield f'\n### Repeated down and up, {scale}\n'
        yield from _table(['method', *names], _rows(results, methods, {n: (n, '.2f') for n in names}))


def _lossy_tables(results: dict[str, Any]) -> Iterator[str]:
    """What is restored from lossy files of the LR, beside plain files of the HR image of the same bytes."""
    table = lossy_table(results)
    if not table:
        return
    options = results['options']['lossy']
    files = [f'{form} {q}' for form in options['formats'] for q in options['qualities']]
    yield (f'\n## Lossy LR\n\nPSNR restored from the LR as PNG and as lossy files, {_dataset_of(results, "lossy")}. '
           'jpeg: 4:2:0; jpeg444: without chroma subsampling; webp, avif: as Pillow writes them. LR: PSNR-RGB of the '
           'LR, before it became a lossy file, against the bicubic LR.')
    for scale, methods in table.items():
        for kind, metric in (('PSNR-Y', 'psnr_y'), ('PSNR-RGB', 'psnr_rgb')):
            columns = {'LR': ('lr_psnr_rgb', '.2f'), **{f: (f'{f} {metric}', '.2f') for f in ('png', *files)}}
            yield f'\n### Lossy LR, {scale}, {kind}\n'
            yield from _table(['method', *columns], _rows(results, methods, columns))
    yield from _same_bytes_tables(results, table, files)


def _same_bytes_tables(results: dict[str, Any], table: Table, files: Sequence[str]) -> Iterator[str]:
    yield ('\n## The bytes of a lossy LR\n\nBytes of the LR file, and its bits per HR pixel. PSNR-RGB / Y: restored '
           'from it, and of a plain JPEG (4:2:0) and a plain AVIF (4:4:4, tuned for PSNR) of the HR image with at most '
           'its bytes. A dash: not every image has one as small.')
    for scale, methods in table.items():
        yield f'\n### The bytes of a lossy LR, {scale}\n'
        rows = [[label(results, m), file, _cell(row, f'{file} bytes', ',.0f'), _cell(row, f'{file} bits', '.3f'),
                 *(_pair(row, f'{file}{codec} ') for codec in ('', ' as jpeg', ' as avif'))]
                for file in files for m, row in methods.items()]
        yield from _table(['method', 'LR as', 'bytes', 'bits', 'restored', 'JPEG', 'AVIF'], rows)


def _dataset_of(results: dict[str, Any], section: str) -> str:
    """Name of the data set of a section."""
    return results['options'][section].get('dataset') or next(iter(results['options']['datasets']))


def _bytes_tables(results: dict[str, Any]) -> Iterator[str]:
    """What a codec makes of the bytes of an LR file, beside what is restored from it."""
    table = means(results, ('bytes', ))
    if not table:
        return
    dataset = _dataset_of(results, 'bytes')
    quality = quality_table(results, dataset)
    yield (f'\n## The same bytes as AVIF\n\nPSNR-RGB restored from the LR, and of a plain AVIF of the HR image (4:4:4, '
           f'tuned for PSNR) with at most the bytes of the LR file, {dataset}.')
    for scale, methods in table.items():
        rows = {m: {**row, **quality.get(scale, {}).get(m, {})} for m, row in methods.items()}
        yield f'\n### The same bytes, {scale}\n'
        yield from _table(['method', *_BYTES], _rows(results, rows, _BYTES))


def _rows(results: dict[str, Any], methods: dict[str, dict[str, float]],
          columns: dict[str, tuple[str, str]]) -> list[list[str]]:
    return [[label(results, m), *(_cell(row, name, form) for name, form in columns.values())]
            for m, row in methods.items()]


def _cell(row: dict[str, float] | None, name: str, form: str) -> str:
    return format(row[name], form) if row and name in row else '–'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table whose source is readable too."""
    widths = [max(len(line[k]) for line in (head, *rows)) for k in range(len(head))]

    def line(cells: Sequence[str], pad: Callable[[str, int], str]) -> str:
        return f'| {cells[0].ljust(widths[0])} | ' + ' | '.join(pad(c, w) for c, w in zip(cells[1:], widths[1:])) + ' |'

    yield line(head, str.rjust)
    yield f'|{"-" * (widths[0] + 2)}|' + '|'.join('-' * (w + 1) + ':' for w in widths[1:]) + '|'
    for row in rows:
        yield line(row, str.rjust)


def _labels(scales: Sequence[Any]) -> list[str]:
    return [scale_label(parse_scale(s)) for s in scales]


def _write_csv(results: dict[str, Any], path: str) -> None:
    """Long form: one value a line."""
    with open(path, 'w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, lineterminator=os.linesep)
        writer.writerow(['method', 'what', 'on', 'scale', 'image', 'metric', 'value'])
        for row in results['rows']:
            what, on, scale, image = (*row['key'], '')[:4]
            for metric, value in row.items():
                if metric not in ('method', 'key'):
                    writer.writerow([row['method'], what, on, scale, _as_text(image), metric, value])


def _as_text(name: str) -> str:
    """The name of a file that a spreadsheet does not compute; those of methods and data sets are checked."""
    return f"'{name}" if name.startswith(FORMULA) else name
