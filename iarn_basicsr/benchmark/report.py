"""What a benchmark writes: means over images, as tables in Markdown; every value, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from os import path as osp
from statistics import fmean
from typing import Any

from iarn_basicsr.files import atomic_write, save_text
from iarn_basicsr.metrics.rescaling import PROTOCOL, PSNR_CAP
from iarn_basicsr.ops.size import parse_scale, scale_label

from .methods import ONE_WAY

__all__ = ['label', 'means', 'quality_table', 'summary', 'write_report']

Row = Mapping[str, float]
Table = dict[str, dict[str, dict[str, float]]]  # scale -> method -> metric -> value
Columns = Mapping[str, tuple[str, str]]  # heading -> (metric, format)

DETAIL: Columns = {
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
COST: Columns = {
    'parameters': ('params', ',.0f'),
    'MAC / pixel down': ('macs_down', ',.0f'),
    'MAC / pixel up': ('macs_up', ',.0f'),
    's / MP down': ('seconds_down', '.2f'),
    's / MP up': ('seconds_up', '.2f'),
    'peak MiB': ('peak_mib', ',.0f'),
}


def means(results: Mapping[str, Any], *kind: str) -> Table:
    """Means over the images of all rows whose key begins with ``kind``; ``images`` counts them.

    A value that only some images have is averaged over those, but that of a plain file of the same bytes (``... as
    jpeg``) is left out: a mean over the images that have one as small would mislead.
    """
    groups: dict[str, dict[str, list[dict[str, float]]]] = {}
    for row in results['rows']:
        key = tuple(row['key'])
        if key[:len(kind)] == kind and 'unsupported' not in row:
            groups.setdefault(key[2], {}).setdefault(row['method'], []).append(row)
    table: Table = {}
    for scale, methods in groups.items():
        for method, rows in methods.items():
            found = table.setdefault(scale, {})[method] = {'images': len(rows)}
            for name in dict.fromkeys(name for row in rows for name in row if name not in ('method', 'key')):
                values = [row[name] for row in rows if name in row]
                if len(values) == len(rows) or ' as ' not in name:
                    found[name] = fmean(values)
    return table


def quality_table(results: Mapping[str, Any], dataset: str) -> Table:
    """Means over the images of a data set.

    ``lr_bytes_ratio`` is the LR's share of bicubic's bytes, ``lr_bits`` and ``lr_bits_webp`` are bits per HR pixel.
    """
    table = means(results, 'quality', dataset)
    for row in (row for methods in table.values() for row in methods.values()):
        row['lr_bytes_ratio'] = row['lr_bytes'] / row['lr_bytes_bicubic']
        row['lr_bits'] = 8 * row['lr_bytes'] / row['hr_pixels']
        row['lr_bits_webp'] = 8 * row['lr_bytes_webp'] / row['hr_pixels']
    return table


def label(results: Mapping[str, Any], method: str) -> str:
    """Name of a method in tables and plots; that of a one-way network says that its LR is bicubic."""
    return f'{method} (bicubic LR)' if results['options']['methods'][method]['type'] in ONE_WAY else method


def write_report(results: Mapping[str, Any], folder: str, plots: Sequence[str] | str) -> None:
    """benchmark.md and benchmark.csv in ``folder``; ``plots``: names of the files in it, or why there are none."""
    save_text('\n'.join(_markdown(results, plots)) + '\n', osp.join(folder, 'benchmark.md'))
    atomic_write(osp.join(folder, 'benchmark.csv'), lambda path: _write_csv(results, path))


def summary(results: Mapping[str, Any]) -> str:
    """PSNR of every method at every scale, a table for each data set, and what is published."""
    return '\n'.join(line for dataset in results['datasets'] for line in _first_tables(results, dataset))


def _markdown(results: Mapping[str, Any], plots: Sequence[str] | str) -> Iterator[str]:
    yield f'# {results["name"]}\n'
    yield (f'{PROTOCOL}. PSNR in dB. LR bytes: PNG, relative to the bicubic LR; PNG and WebP bits: of the LR file, '
           'lossless, per HR pixel; 99%: percentile of CIEDE2000 over the pixels, mean over the images. Machine: '
           f'{results["machine"]}.')
    yield 'Methods with a bicubic LR are one-way networks: they restore an LR that was made without them.'
    for dataset in results['datasets']:
        crop = results['options']['datasets'][dataset].get('mod_crop')
        yield f'\n## {dataset}\n\nHR cropped to multiples of {crop}.' if crop else f'\n## {dataset}'
        yield from _first_tables(results, dataset)
        yield from _psnr_table(results, dataset, 'LR', 'lr_')
        for scale, methods in quality_table(results, dataset).items():
            images = next(iter(methods.values()))['images']
            columns = {c: v for c, v in DETAIL.items() if any(v[0] in row for row in methods.values())}
            yield f'\n### {dataset} {scale} ({images:.0f} images)\n'
            yield from _rows_table(results, methods, columns)
    yield from _cost_tables(results)
    yield from _cycles_tables(results)
    yield from _files_tables(results)
    if results['skipped']:
        yield '\n## Left out\n'
        yield from (f'- {name}: {reason}' for name, reason in results['skipped'].items())
    yield '\n## Plots\n'
    yield from [plots] if isinstance(plots, str) else (f'![{p}]({p})' for p in plots)


def _first_tables(results: Mapping[str, Any], dataset: str) -> Iterator[str]:
    """PSNR; and what others publish, with its source: apart from what was measured here."""
    yield from _psnr_table(results, dataset, 'HR', '')
    scales, rows = _scales(results, dataset), []
    for entry in results['published']:
        metric = ('LR ' if entry['metric'].startswith('lr_') else '') + \
            ('PSNR-Y' if entry['metric'].endswith('_y') else 'PSNR-RGB')
        rows += [[method, metric, *(_cell(row, s) for s in scales), entry['source']]
                 for method, row in entry['values'].get(dataset, {}).items() if any(s in row for s in scales)]
    if rows:
        yield '\nPublished by their authors, by their own protocol and training data; not measured here:\n'
        yield from _table([f'{dataset}, published', 'metric', *scales, 'source'], rows)


def _psnr_table(results: Mapping[str, Any], dataset: str, image: str, of: str) -> Iterator[str]:
    """A row for each method, a column for each scale; ``of``: before the names of the metrics of the image."""
    table, scales = quality_table(results, dataset), _scales(results, dataset)
    yield ''
    yield from _table([f'{dataset} {image}, PSNR-RGB / Y', *scales],
                      [[label(results, m), *(_pair(table.get(s, {}).get(m, {}), of) for s in scales)]
                       for m in results['methods']])


def _cost_tables(results: Mapping[str, Any]) -> Iterator[str]:
    table = means(results, 'cost')
    if table:
        options = results['options']['cost']
        height, width = options['hr_size']
        yield (f'\n## Cost\n\nHR {width}x{height}, median of {options.get("repeats", 5)} after one that warms up; '
               'MP: HR megapixel; peak: largest memory of a process that does nothing else.')
    for scale, methods in table.items():
        yield f'\n### {scale}\n'
        yield from _rows_table(results, methods, COST)


def _cycles_tables(results: Mapping[str, Any]) -> Iterator[str]:
    table = means(results, 'cycles')
    if table:
        yield ('\n## Repeated down and up\n\nPSNR-RGB / Y against the original after n cycles, '
               f'{_dataset(results, "cycles")}.')
    for scale, methods in table.items():
        counts = [key.split()[0] for key in next(iter(methods.values())) if key.endswith(' psnr_y')]
        yield f'\n### Repeated down and up, {scale}\n'
        yield from _table(['method', *counts], [[label(results, m), *(_pair(row, f'{n} ') for n in counts)]
                                                for m, row in methods.items()])


def _files_tables(results: Mapping[str, Any]) -> Iterator[str]:
    table = means(results, 'files')
    if table:
        yield (f'\n## Files of the LR\n\nThe LR as lossless and as lossy files, {_dataset(results, "files")}: bytes of '
               'the file, and its bits per HR pixel. jpeg: 4:2:0; webp, avif: as Pillow writes them. PSNR-RGB / Y: '
               'restored from it, and of a plain JPEG (4:2:0) and a plain AVIF (4:4:4, tuned for PSNR) of the HR image '
               'with at most its bytes. A dash: not every image has one as small.')
    for scale, methods in table.items():
        files = [name[:-6] for name in next(iter(methods.values())) if name.endswith(' bytes') and ' as ' not in name]
        yield f'\n### Files of the LR, {scale}\n'
        rows = [[label(results, m), file, _cell(row, f'{file} bytes', ',.0f'),
                 f'{8 * row[f"{file} bytes"] / row["hr_pixels"]:.3f}',
                 *(_pair(row, f'{file}{codec} ') for codec in ('', ' as jpeg', ' as avif'))]
                for file in files for m, row in methods.items()]
        yield from _table(['method', 'LR as', 'bytes', 'bits', 'restored', 'JPEG', 'AVIF'], rows)


def _scales(results: Mapping[str, Any], dataset: str) -> list[str]:
    """Names of the scales of a data set: its own, or those of all."""
    options = results['options']
    return [scale_label(parse_scale(s)) for s in options['datasets'][dataset].get('scales') or options['scales']]


def _dataset(results: Mapping[str, Any], section: str) -> str:
    return results['options'][section].get('dataset') or results['datasets'][0]


def _cell(row: Row, name: str, form: str = '.2f') -> str:
    return format(row[name], form) if name in row else '–'


def _pair(row: Row, of: str) -> str:
    """PSNR-RGB / PSNR-Y."""
    if f'{of}psnr_rgb' not in row:
        return '–'
    if row[f'{of}psnr_rgb'] == row[f'{of}psnr_y'] == PSNR_CAP:
        return 'exact'
    return f'{row[f"{of}psnr_rgb"]:.2f} / {row[f"{of}psnr_y"]:.2f}'


def _rows_table(results: Mapping[str, Any], methods: Mapping[str, Row], columns: Columns) -> Iterator[str]:
    """One row a method."""
    yield from _table(['method', *columns], [[label(results, m), *(_cell(row, *of) for of in columns.values())]
                                             for m, row in methods.items()])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table whose source is readable too."""
    widths = [max(len(line[k]) for line in (head, *rows)) for k in range(len(head))]
    for n, (first, *others) in enumerate((head, *rows)):
        yield f'| {" | ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:]))])} |'
        if n == 0:
            yield f'|{"-" * (widths[0] + 2)}|' + '|'.join('-' * (w + 1) + ':' for w in widths[1:]) + '|'


def _write_csv(results: Mapping[str, Any], path: str) -> None:
    with open(path, 'w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['method', 'what', 'on', 'scale', 'image', 'metric', 'value'])
        for row in results['rows']:
            what, on, scale, image = (*row['key'], '')[:4]
            for metric, value in row.items():
                if metric not in ('method', 'key'):
                    writer.writerow([row['method'], what, on, scale, image, metric, value])
