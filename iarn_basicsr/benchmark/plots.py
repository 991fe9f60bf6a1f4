"""PSNR against scale, against cost and against the fidelity of the LR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import accumulate
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
    draws = {'scale': _against_scale, 'cost': _against_cost, 'lr': _against_lr}
    names = []
    for dataset in results['datasets']:
        for kind, draw in draws.items():
            figure = draw(results, dataset)
            if figure:
                names.append(f'{dataset}_psnr_{kind}.png')
                atomic_write(osp.join(folder, names[-1]), figure.savefig)
    return names


def _curves(dataset: str, xlabel: str, curves: Mapping[str, Sequence[Point]]) -> Any:
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
            axes.plot([x for x, _, _ in points], [y for _, y, _ in points], 'x' if name.endswith(PUBLISHED) else 'o-',
                      label=name)
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


def _against_lr(results: Mapping[str, Any], dataset: str) -> Any:
    """A panel a scale. Methods at the right edge have the bicubic LR, published ones at the left one do not say."""
    from matplotlib.figure import Figure

    table, chains = quality_table(results, dataset), _chains(results)
    if not table:
        return None
    columns = min(2, len(table))
    rows = -(-len(table) // columns)
    figure = Figure(figsize=(5 * columns, 3.9 * rows), dpi=100, layout='constrained')
    for n, (scale, methods) in enumerate(table.items()):
        axes = figure.add_subplot(rows, columns, n + 1)
        axes.set_title(f'{dataset} {scale}', fontsize=10)
        found = {m: (row['lr_psnr_rgb'], row['psnr_rgb']) for m, row in methods.items()}
        published: dict[str, dict[str, float]] = {}
        for entry in results['published']:
            for method, values in entry['values'].get(dataset, {}).items():
                if scale in values:
                    published.setdefault(method + PUBLISHED, {})[entry['metric']] = values[scale]
        others = {m: (row.get('lr_psnr_rgb', 0), row['psnr_rgb']) for m, row in published.items() if 'psnr_rgb' in row}
        _draw_panel(axes, found, others, [[m for m in chain if m in found] for chain in chains])
    figure.supxlabel('PSNR of the LR against the bicubic LR (RGB, dB). Crosses: as published', fontsize=9)
    figure.supylabel('PSNR of the restored image (RGB, dB)', fontsize=9)
    return figure


def _chains(results: Mapping[str, Any]) -> list[list[str]]:
    """IARN with the same weights and effort, by its bits; one with effort begins at the one without."""
    chains: dict[tuple[str, int], dict[float, str]] = {}
    for method in results['methods']:
        options = results['options']['methods'][method]
        if options['type'] == 'IARN':
            key = options.get('weights', zoo.DEFAULT), options.get('effort', 0)
            chains.setdefault(key, {}).setdefault(options.get('bits', 0), method)
    for (weights, effort), chain in chains.items():
        if effort and 0 in chains.get((weights, 0), {}):
            chain[-1] = chains[weights, 0][0]
    return [[method for _, method in sorted(chain.items())] for chain in chains.values()]


def _draw_panel(axes: Any, found: Mapping[str, tuple[float, float]], published: Mapping[str, tuple[float, float]],
                chains: Sequence[Sequence[str]]) -> None:
    """Points (LR, HR) with their names; an LR of 0 dB is unknown."""
    known = [x for x, _ in (*found.values(), *published.values()) if 0 < x < PSNR_CAP] or [45.0]
    left, right = min(known) - 3, max(known) + 3
    points = {m: (min(x, right) if x else left, y) for m, (x, y) in (*found.items(), *published.items())}
    for n, chain in enumerate(chains):
        axes.plot(*zip(*(points[m] for m in chain)), color=f'C{n}', alpha=0.5)
    heights = [y for _, y in points.values()]
    step = 0.045 * (max(heights) - min(heights) + 1)
    columns: dict[float, list[str]] = {left: [], 0: [], right: []}  # in each of which names are moved apart
    for method in sorted(points, key=lambda m: points[m][1]):
        x = points[method][0]
        columns[x if x in columns else 0].append(method)
    at: dict[str, float] = {}
    for column, methods in columns.items():
        at.update(zip(methods, _apart([points[m][1] for m in methods], step, centred=column != 0)))
    for method, (x, y) in points.items():
        colour = next((f'C{n}' for n, chain in enumerate(chains) if method in chain), '0.3')
        axes.plot(x, y, 'x' if method in published else 'o', color=colour, markersize=5)
        side = -1 if x > left + 0.75 * (right - left) else 1
        axes.annotate(method.removesuffix(PUBLISHED), (x, at[method]), fontsize=8, color=colour, va='center',
                      textcoords='offset points', xytext=(7 * side, 0), ha='right' if side < 0 else 'left')
    ticks = {float(t): str(t) for t in range(0, int(max(known)) + 2, 2) if left + 1 < t < right - 1}
    axes.set_xticks([left, *ticks, right], ['not\npublished', *ticks.values(), 'bicubic'])
    axes.set_xlim(left - 0.8, right + 0.8)
    axes.set_ylim(min(*heights, *at.values()) - step, max(*heights, *at.values()) + step)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def _apart(heights: Sequence[float], step: float, centred: bool) -> list[float]:
    """Ascending heights, moved upwards until they are ``step`` apart; ``centred``: as far downwards as upwards."""
    up = [*accumulate(heights, lambda last, y: max(y, last + step))]
    down = [*accumulate(reversed(heights), lambda last, y: min(y, last - step))][::-1]
    return [(a + b) / 2 for a, b in zip(up, down)] if centred else up
