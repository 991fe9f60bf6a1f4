"""Means over images, from the rows of a benchmark."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from .methods import ONE_WAY

__all__ = ['Table', 'label', 'lossy_table', 'means', 'quality_table']

Table = dict[str, dict[str, dict[str, float]]]  # scale -> method -> metric -> value


def label(results: dict[str, Any], method: str) -> str:
    """Name of a method in tables and plots; that of a one-way network says that its LR is bicubic."""
    options = results['options']['methods'].get(method) or {}
    return f'{method} (bicubic LR)' if options.get('type') in ONE_WAY else method


def quality_table(results: dict[str, Any], dataset: str) -> Table:
    """Means over the images of a dataset; ``images`` counts them.

    ``lr_bytes_ratio`` is the LR's share of bicubic's bytes, ``lr_bits`` and ``lr_bits_webp`` are bits per HR pixel.
    """
    return means(results, ('quality', dataset))


def lossy_table(results: dict[str, Any]) -> Table:
    """Means over the images of the section ``lossy``, and ``FILE bits`` per HR pixel.

    A plain file of the same bytes that some of the images lack is left out: of the others it would say nothing.
    """
    table: Table = {}
    for scale, methods in means(results, ('lossy', ), whole=True).items():
        table[scale] = {}
        for method, row in methods.items():
            bits = {f'{name[:-6]} bits': 8 * value / row['hr_pixels'] for name, value in row.items()
                    if name.endswith(' bytes')}
            table[scale][method] = {**row, **bits}
    return table


def means(results: dict[str, Any], kind: tuple[str, ...], whole: bool = False) -> Table:
    """Means over the images of all rows whose key begins with ``kind``; ``images`` counts them.

    Of a value that only some images have, the mean is theirs; if ``whole`` there is none.
    """
    groups: dict[str, dict[str, list[dict[str, float]]]] = {}
    for row in results['rows']:
        key = tuple(row['key'])
        if key[:len(kind)] == kind and 'unsupported' not in row:
            groups.setdefault(key[2], {}).setdefault(row['method'], []).append(row)
    return {scale: {method: _mean(rows, whole) for method, rows in methods.items()}
            for scale, methods in groups.items()}


def _mean(rows: list[dict[str, float]], whole: bool) -> dict[str, float]:
    """Mean of every metric over the images that have it; if ``whole``, only of those that all have."""
    names = [name for name in dict.fromkeys(n for row in rows for n in row) if name not in ('method', 'key')]
    if whole:
        names = [name for name in names if all(name in row for row in rows)]
    values = {name: fmean(row[name] for row in rows if name in row) for name in names}
    if 'lr_bytes' in values:
        values['lr_bytes_ratio'] = values['lr_bytes'] / values['lr_bytes_bicubic']
        values['lr_bits'] = 8 * values['lr_bytes'] / values['hr_pixels']
        values['lr_bits_webp'] = 8 * values['lr_bytes_webp'] / values['hr_pixels']
    return {**values, 'images': len(rows)}
