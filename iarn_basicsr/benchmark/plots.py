"""PSNR against scale, against cost, against bytes of the LR and, with coded detail, against the fidelity of the LR."""

from __future__ import annotations

from importlib.util import find_spec
from os import path as osp
from typing import Any

from iarn_basicsr import zoo
from iarn_basicsr.files import atomic_write
from iarn_basicsr.metrics.rescaling import PSNR_CAP
from iarn_basicsr.ops.size import parse_scale, scale_label

from .tables import label, means, quality_table

__all__ = ['draw_plots']


def draw_plots(results: dict[str, Any], folder: str) -> list[str] | str:
    """File names of the plots in ``folder``, or why there are none."""
    if find_spec('matplotlib') is None:
        return 'None: matplotlib is not installed (pip install matplotlib).'
    names = []
    for dataset in results['options']['datasets']:
        draws = (('scale', _against_scale), ('cost', _against_cost), ('bytes', _bytes), ('lr', _against_lr))
        for kind, draw in draws:
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


def _against_lr(results: dict[str, Any], dataset: str, path: str) -> bool:
    """A panel a scale: what k bits of coded detail bring to the HR and cost the LR, with and without a network."""
    from matplotlib.figure import Figure

    table, curves = quality_table(results, dataset), _curves(results)
    scales = [s for s, row in table.items() if any(m in row for curve in curves.values() for m in curve.values())]
    if not scales:
        return False
    columns = min(3, len(scales))
    rows = -(-len(scales) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 2.9 * rows), dpi=100, layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for scale, axes in zip(scales, panels):  # in this order: the first to end takes nothing of the other
        _panel(axes, {name: {k: table[scale][m] for k, m in curve.items() if m in table[scale]}
                      for name, curve in curves.items()})
        axes.set_title(scale, fontsize=10)
    for axes in list(panels):  # those that are left
        axes.axis('off')
    figure.supxlabel(f'{dataset} LR PSNR-RGB (dB); at the points: bits of coded detail a sample', fontsize=9)
    figure.supylabel('HR PSNR-RGB (dB)', fontsize=9)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=8, loc='outside upper center', ncols=3)
    atomic_write(path, lambda temporary: figure.savefig(temporary))
    return True


def _curves(results: dict[str, Any]) -> dict[str, dict[float, str]]:
    """Name of a curve -> bits -> method. That without bits may be an IARN, or least squares where there is none."""
    curves: dict[str, dict[float, str]] = {}
    methods = {m: results['options']['methods'][m] for m in results['methods']}
    for method, options in methods.items():
        if options['type'] == 'payload':
            curves.setdefault(_curve(options), {})[options['bits']] = method
    for method, options in methods.items():
        if options['type'] in ('IARN', 'least_squares'):
            curves.get(_curve(options), {}).setdefault(0, method)
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


def _curve(options: dict[str, Any]) -> str:
    weights = options.get('weights', zoo.DEFAULT if options['type'] == 'IARN' else zoo.NONE)
    effort = f', effort {options["effort"]}' if options.get('effort') else ''
    return 'no network' if weights == zoo.NONE else f'{osp.basename(weights)}{effort}'


def _panel(axes: Any, curves: dict[str, dict[float, dict[str, float]]]) -> None:
    """An LR without any error stands at the right edge."""
    near = [row['lr_psnr_rgb'] for curve in curves.values() for row in curve.values()]
    highest = max((x for x in near if x < PSNR_CAP), default=50.0)
    for n, (name, curve) in enumerate(curves.items()):
        points = [(min(row['lr_psnr_rgb'], highest + 4), row['psnr_rgb'], k) for k, row in curve.items()]
        line, = axes.plot([p[0] for p in points], [p[1] for p in points], marker='o', markersize=4, label=name)
        place = {'xytext': (3, 3)} if n % 2 == 0 else {'xytext': (-3, -3), 'ha': 'right', 'va': 'top'}
        for x, y, k in points:
            axes.annotate(f'{k:g}', (x, y), fontsize=8, color=line.get_color(), textcoords='offset points', **place)
    if PSNR_CAP in near:
        ticks = [t for t in range(0, int(highest) + 2, 5) if t >= min(near) - 1]
        axes.set_xticks([*ticks, highest + 4], [*map(str, ticks), 'exact'])
    axes.margins(0.1, 0.12)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)
