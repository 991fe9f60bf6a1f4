"""Table and curves of finished runs, from what validation wrote: experiments/NAME/metrics/DATASET_ITER.json.

    python scripts/figures/ablation_table.py [NAME ...] [--experiments experiments] [--dataset Set5] [--iter N]
    python scripts/figures/ablation_table.py --results options/ablation/results.json    # runs kept in the repository

Default: all runs named ablation_*. The first, or ablation_base where there is one, is the reference of the differences
in brackets. Values are PSNR-Y / LR PSNR-Y: restoration, and LR against the bicubic LR; with ``--rgb`` the same in RGB.
``--results`` names a file that keeps both for every validation: runs found in ``--experiments`` are added to it, and
those that it keeps are shown like them. ``--plot`` draws the curves.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from iarn_basicsr.files import save_json

Run = dict[int, dict[str, dict[str, float]]]  # iteration -> scale -> metric -> mean
REFERENCE = 'ablation_base'
KEPT = ('psnr_y', 'lr_psnr_y', 'psnr_rgb', 'lr_psnr_rgb')


def read_run(folder: Path, dataset: str) -> Run:
    """Every validation of a run."""
    run = {}
    for path in folder.glob(f'metrics/{dataset}_*.json'):
        report = json.loads(path.read_text(encoding='utf-8'))
        run[int(report['iter'])] = report['mean']
    return dict(sorted(run.items()))


def with_kept(runs: dict[str, Run], path: Path) -> dict[str, Run]:
    """The runs and those that the file keeps, which then keeps all of them; a run that is there again counts anew."""
    kept = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
    found = {name: {k: {s: {m: round(row[m], 3) for m in KEPT if m in row} for s, row in scales.items()}
                    for k, scales in run.items()} for name, run in runs.items()}
    together = {name: {int(k): v for k, v in run.items()} for name, run in {**kept, **found}.items()}
    together = dict(sorted(together.items(), key=lambda item: (item[0] != REFERENCE, item[0])))
    if found:
        save_json(together, str(path))
    return together


def table(runs: dict[str, Run], iteration: int, colours: str = 'y') -> list[str]:
    """Markdown rows in ``y`` or ``rgb``; runs that have not come so far, or have no such values, are only named."""
    done = {name: {scale: row for scale, row in run[iteration].items() if f'psnr_{colours}' in row}
            for name, run in runs.items() if iteration in run}
    done = {name: rows for name, rows in done.items() if rows}
    if not done:
        return [f'no run has psnr_{colours} at iteration {iteration}']
    reference = done.get(REFERENCE) or next(iter(done.values()))
    scales = list(dict.fromkeys(s for row in done.values() for s in row))
    lines = [f'| run at iteration {iteration} | ' + ' | '.join(scales) + ' |', '|---|' + '---:|' * len(scales)]
    for name, row in done.items():
        cells = [name.removeprefix('ablation_'), *(_cell(row, reference, scale, colours) for scale in scales)]
        lines.append(f'| {" | ".join(cells)} |')
    missing = [name for name in runs if name not in done]
    return lines + ([f'\nWithout psnr_{colours} at iteration {iteration}: {", ".join(missing)}.'] if missing else [])


def _cell(row: dict[str, dict[str, float]], reference: dict[str, dict[str, float]], scale: str, colours: str) -> str:
    if scale not in row:
        return '–'
    hr, lr = row[scale][f'psnr_{colours}'], row[scale][f'lr_psnr_{colours}']
    change = '' if row is reference or scale not in reference else \
        f' ({hr - reference[scale][f"psnr_{colours}"]:+.2f})'
    return f'{hr:.2f}{change} / {lr:.1f}'


def plot(runs: dict[str, Run], scales: list[str], path: Path) -> None:
    """PSNR-Y against the iteration, a panel for each scale."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(4.5 * len(scales) + 1.5, 4), dpi=110, layout='constrained')
    colours = dict(zip(runs, colormaps['tab20' if len(runs) > 10 else 'tab10'].colors * len(runs)))
    for axes, scale in zip(figure.subplots(1, len(scales), squeeze=False)[0], scales):
        for name, run in runs.items():
            points = [(k, row[scale]['psnr_y']) for k, row in run.items() if scale in row]
            if points:
                axes.plot(*zip(*points), marker='.', color=colours[name])
        axes.set(title=scale, xlabel='iteration', ylabel='PSNR-Y (dB)')
        axes.grid(alpha=0.3)
    lines = [Line2D([], [], marker='.', color=colour, label=name.removeprefix('ablation_'))
             for name, colour in colours.items()]
    figure.legend(handles=lines, loc='outside right center', fontsize=8)
    figure.savefig(path)


def main(argv: list[str] | None = None) -> int:
    """Exit code 1 if there is nothing to show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME')
    parser.add_argument('--experiments', type=Path, default=Path('experiments'))
    parser.add_argument('--dataset', default='Set5')
    parser.add_argument('--results', type=Path, metavar='FILE')
    parser.add_argument('--iter', type=int, help='default: the last that the reference has')
    parser.add_argument('--rgb', action='store_true', help='table of PSNR-RGB in place of PSNR-Y')
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw the curves (needs matplotlib)')
    parser.add_argument('--scales', nargs='+', default=['x2', 'x3', 'x4'], help='of the curves')
    args = parser.parse_args(argv)
    names = args.names or sorted((p.name for p in args.experiments.glob('ablation_*')),
                                 key=lambda name: (name != REFERENCE, name))
    runs = {name: read_run(args.experiments / name, args.dataset) for name in names}
    runs = {name: run for name, run in runs.items() if run}
    if args.results:
        kept = with_kept(runs, args.results)
        runs = {name: run for name, run in kept.items() if name in (args.names or kept)}
    if not runs:
        print(f'no validation of {args.dataset} in {args.experiments}/{{{",".join(names) or "ablation_*"}}}',
              file=sys.stderr)
        return 1
    print('\n'.join(table(runs, args.iter or max(next(iter(runs.values()))),
                          'rgb' if args.rgb else 'y')))
    if args.plot:
        plot(runs, args.scales, args.plot)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
