"""Three plots: PSNR against scale, PSNR against cost, bytes of the LR against PSNR."""

from __future__ import annotations

from importlib.util import find_spec
from os import path as osp
from typing import Any

from iarn_basicsr.files import atomic_write
from iarn_basicsr.ops.size import parse_scale, scale_label

from .tables import label, means, quality_table

__all__ = ['draw_plots']


def draw_plots(results: dict[str, Any], folder: str) -> list[str] | str:
    """File names of the plots in ``folder``, or why there are none."""
    if find_spec('matplotlib') is None:
        return 'None: matplotlib is not installed (pip install matplotlib).'
    names = []
    for dataset in results['options']['datasets']:
        for kind, draw in (('scale', _against_scale), ('cost', _against_cost), ('bytes', _bytes)):
            name = f'{dataset}_psnr_{kind}.png'
            if draw(results, dataset, osp.join(folder, name)):
                names.append(name)
    return names


def _figure(xlabel: str, ylabel: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120, layout='constrained')
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, axes: Any, path: str) -> bool:
    """Write the figure, unless nothing is drawn in it."""
    if not axes.has_data():
        return False
    axes.legend(fontsize=8)
    atomic_write(path, lambda temporary: figure.savefig(temporary))
    return True


def _against_scale(results: dict[str, Any], dataset: str, path: str) -> bool:
    table = quality_table(results, dataset)
    symmetric = sorted(v for v, h in map(parse_scale, results['options']['scales']) if v == h)
    figure, axes = _figure('scale', f'{dataset} PSNR-Y (dB)')
    for method in results['methods']:
        points = [(s, table[scale_label(s)][method]['psnr_y']) for s in symmetric
                  if method in table.get(scale_label(s), {})]
        if points:
            axes.plot(*zip(*points), marker='o', label=label(results, method))
    published = results['published'].get(dataset) or {}
    for method, row in published.items():
        points = [(s, row[scale_label(s)]) for s in symmetric if scale_label(s) in row]
        if points:
            axes.plot(*zip(*points), linestyle='none', marker='x', label=f'{method} (published)')
    return _save(figure, axes, path)


def _against_cost(results: dict[str, Any], dataset: str, path: str) -> bool:
    quality, cost = quality_table(results, dataset), means(results, ('cost',))
    figure, axes = _figure('seconds per HR megapixel, down + up', f'{dataset} PSNR-Y (dB)')
    axes.set_xscale('log')
    for method in results['methods']:
        points = [(row[method]['seconds_down'] + row[method]['seconds_up'], quality[s][method]['psnr_y'], s)
                  for s, row in cost.items() if method in row and method in quality.get(s, {})]
        if points:
            axes.plot(*zip(*[p[:2] for p in points]), marker='o', label=label(results, method))
            for x, y, s in points:
                axes.annotate(s, (x, y), fontsize=7, textcoords='offset points', xytext=(4, 4))
    return _save(figure, axes, path)


def _bytes(results: dict[str, Any], dataset: str, path: str) -> bool:
    figure, axes = _figure('LR bytes as PNG, relative to the bicubic LR', f'{dataset} PSNR-Y (dB)')
    table = quality_table(results, dataset)
    for method in results['methods']:
        points = [(row[method]['lr_bytes_ratio'], row[method]['psnr_y'], s)
                  for s, row in table.items() if method in row]
        if points:
            axes.plot(*zip(*[p[:2] for p in points]), linestyle='none', marker='o', label=label(results, method))
            for x, y, s in points:
                axes.annotate(s, (x, y), fontsize=6, textcoords='offset points', xytext=(3, 3))
    return _save(figure, axes, path)
