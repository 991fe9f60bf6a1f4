"""PSNR against scale, against cost, against bytes of the LR and, with coded detail, against the fidelity of the LR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from os import path as osp
from typing import Any

from iarn_basicsr import zoo
from iarn_basicsr.files import atomic_write
from iarn_basicsr.metrics.rescaling import PSNR_CAP
from iarn_basicsr.ops.size import parse_scale, scale_label

from .report import label, means, quality_table

__all__ = ['draw_plots']

Point = tuple[float, float, str]  # x, y, what is written beside it
PUBLISHED = ' (published)'


def draw_plots(results: Mapping[str, Any], folder: str) -> list[str] | str:
    """File names of the plots in ``folder``, or why there are none."""
    if find_spec('matplotlib') is None:
        return 'None: matplotlib is not installed (pip install matplotlib).'
    draws = {'scale': _against_scale, 'cost': _against_cost, 'bytes': _against_bytes, 'lr': _against_lr}
    names = []
    for dataset in results['datasets']:
        for kind, draw in draws.items():
            figure = draw(results, dataset)
            if figure:
                names.append(f'{dataset}_psnr_{kind}.png')
                atomic_write(osp.join(folder, names[-1]), figure.savefig)
    return names


def _curves(dataset: str, xlabel: str, curves: Mapping[str, Sequence[Point]], **line: Any) -> Any:
    """A figure of PSNR-Y with one curve a name; None where none has a point. What is published is drawn as crosses."""
    from matplotlib.figure import Figure

    if not any(curves.values()):
        return None
    figure = Figure(figsize=(7, 4.5), dpi=120, layout='constrained')
    axes = figure.add_subplot()
    axes.set(xlabel=xlabel, ylabel=f'{dataset} PSNR-Y (dB)')
    axes.grid(alpha=0.3)
    for name, points in curves.items():
        if points:
            style = {'marker': 'x', 'linestyle': 'none'} if name.endswith(PUBLISHED) else {'marker': 'o', **line}
            axes.plot([x for x, _, _ in points], [y for _, y, _ in points], label=name, **style)
        for x, y, text in points:
            axes.annotate(text, (x, y), fontsize=7, textcoords='offset points', xytext=(4, 4))
    axes.legend(fontsize=8)
    return figure


def _against_scale(results: Mapping[str, Any], dataset: str) -> Any:
    table = quality_table(results, dataset)
    scales = {scale_label(v): v for v, h in map(parse_scale, results['options']['scales']) if v == h}

    def points(values: Mapping[str, float]) -> list[Point]:
        return [(scales[s], values[s], '') for s in sorted(scales, key=scales.__getitem__) if s in values]

    curves = {label(results, m): points({s: row[m]['psnr_y'] for s, row in table.items() if m in row})
              for m in results['methods']}
    for entry in results['published']:
        if entry['metric'] == 'psnr_y':
            curves.update({m + PUBLISHED: points(row) for m, row in entry['values'].get(dataset, {}).items()})
    return _curves(dataset, 'scale', curves)


def _against_cost(results: Mapping[str, Any], dataset: str) -> Any:
    quality, cost = quality_table(results, dataset), means(results, 'cost')
    figure = _curves(dataset, 'seconds per HR megapixel, down + up', {
        label(results, m): [(row[m]['seconds_down'] + row[m]['seconds_up'], quality[s][m]['psnr_y'], s)
                            for s, row in cost.items() if m in row and m in quality.get(s, {})]
        for m in results['methods']})
    if figure:
        figure.axes[0].set_xscale('log')
    return figure


def _against_bytes(results: Mapping[str, Any], dataset: str) -> Any:
    table = quality_table(results, dataset)
    return _curves(dataset, 'LR bytes as PNG, relative to the bicubic LR', {
        label(results, m): [(row[m]['lr_bytes_ratio'], row[m]['psnr_y'], s) for s, row in table.items() if m in row]
        for m in results['methods']}, linestyle='none')


def _against_lr(results: Mapping[str, Any], dataset: str) -> Any:
    """A panel a scale: what k bits of coded detail bring to the HR and cost the LR, with and without a network."""
    from matplotlib.figure import Figure

    table, curves = quality_table(results, dataset), _payload_curves(results)
    scales = [s for s, row in table.items() if any(m in row for curve in curves.values() for m in curve.values())]
    if not scales:
        return None
    columns = min(3, len(scales))
    rows = -(-len(scales) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 2.9 * rows), dpi=100, layout='constrained')
    for n, scale in enumerate(scales):
        axes = figure.add_subplot(rows, columns, n + 1)
        axes.set_title(scale, fontsize=10)
        _draw_panel(axes, {name: {k: table[scale][m] for k, m in curve.items() if m in table[scale]}
                           for name, curve in curves.items()})
    figure.supxlabel(f'{dataset} LR PSNR-RGB (dB); at the points: bits of coded detail a sample', fontsize=9)
    figure.supylabel('HR PSNR-RGB (dB)', fontsize=9)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=8, loc='outside upper center', ncols=3)
    return figure


def _payload_curves(results: Mapping[str, Any]) -> dict[str, dict[float, str]]:
    """Name of a curve -> bits -> method. Zero bits are an IARN, or least squares where there is no network."""

    def curve(options: Mapping[str, Any]) -> str:
        weights = options.get('weights', zoo.DEFAULT if options['type'] == 'IARN' else zoo.NONE)
        effort = f', effort {options["effort"]}' if options.get('effort') else ''
        return 'no network' if weights == zoo.NONE else f'{osp.basename(weights)}{effort}'

    curves: dict[str, dict[float, str]] = {}
    methods = {m: results['options']['methods'][m] for m in results['methods']}
    for method, options in methods.items():
        if options['type'] == 'payload':
            curves.setdefault(curve(options), {})[options['bits']] = method
    for method, options in methods.items():
        if options['type'] in ('IARN', 'least_squares'):
            curves.get(curve(options), {}).setdefault(0, method)
    return {name: dict(sorted(found.items())) for name, found in curves.items()}


def _draw_panel(axes: Any, curves: Mapping[str, Mapping[float, Mapping[str, float]]]) -> None:
    """An LR without any error stands at the right edge."""
    fidelity = [row['lr_psnr_rgb'] for curve in curves.values() for row in curve.values()]
    highest = max((x for x in fidelity if x < PSNR_CAP), default=50.0)
    for n, (name, curve) in enumerate(curves.items()):
        points = [(min(row['lr_psnr_rgb'], highest + 4), row['psnr_rgb'], k) for k, row in curve.items()]
        line, = axes.plot([p[0] for p in points], [p[1] for p in points], marker='o', markersize=4, label=name)
        offset = {'xytext': (3, 3)} if n % 2 == 0 else {'xytext': (-3, -3), 'ha': 'right', 'va': 'top'}
        for x, y, k in points:
            axes.annotate(f'{k:g}', (x, y), fontsize=8, color=line.get_color(), textcoords='offset points', **offset)
    if PSNR_CAP in fidelity:
        ticks = [t for t in range(0, int(highest) + 2, 5) if t >= min(fidelity) - 1]
        axes.set_xticks([*ticks, highest + 4], [*map(str, ticks), 'exact'])
    axes.margins(0.1, 0.12)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)
