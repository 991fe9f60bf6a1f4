"""From nothing to a restored photograph: trains the quick model, tests it, prints a table and draws a picture.

    python scripts/demo.py            (about 8 minutes on 2 CPU cores; results in ./demo)

The photograph (chelsea) is not among the training images. ``--iterations`` shortens the training, for a look only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.files import save_json
from iarn_basicsr.ops.size import scale_label
from iarn_basicsr.pictures.compare import Result, compare, error_map, page, table
from iarn_basicsr.pictures.files import read_picture
from iarn_basicsr.pictures.rescaler import Rescaler

matplotlib.use('Agg')
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
SCALES = ['1.5', '2', '2.5', '3', '4', '1.5x3']
FIGURE_SCALE = 'x2.5'
CROP = (70, 110, 130, 150)  # top, left, height, width of the detail shown: the cat's eyes


def run(*arguments: str | Path) -> None:
    """One of the project's own commands, in the current directory."""
    words = [str(argument) for argument in arguments]
    print('$', ' '.join(['python', *words]), flush=True)
    subprocess.run([sys.executable, *words], check=True)


def draw(hr: np.ndarray, results: list[Result], path: Path) -> None:
    """HR | LR | bicubic restored | IARN restored, a detail of each, the error maps and the gain at every scale."""
    shown = next(r for r in results if scale_label(r.scale) == FIGURE_SCALE)
    size = '{1}x{0}'.format(*shown.lr_size)
    views = [(f'HR ({hr.shape[1]}x{hr.shape[0]})', hr), (f'LR by IARN, {FIGURE_SCALE} ({size})', shown.lr),
             (f'bicubic down and up: {shown.metrics_bicubic["psnr_y"]:.2f} dB', shown.restored_bicubic),
             (f'IARN down and up: {shown.metrics["psnr_y"]:.2f} dB', shown.restored)]
    figure, axes = plt.subplots(3, 4, figsize=(14, 8.6), layout='constrained')
    for column, (title, image) in enumerate(views):
        axes[0, column].imshow(image, interpolation='nearest')
        axes[0, column].set_title(title, fontsize=11)
        axes[1, column].imshow(_detail(image, hr), interpolation='nearest')
        if column >= 2:
            error = error_map(image, hr)
            axes[2, column].imshow(error, cmap='magma', vmin=0, vmax=24)
            axes[2, column].set_title(f'|error|, mean {error.mean():.2f} of 255', fontsize=11)
    lines = [f'{"PSNR-Y":8}{"bicubic":>9}{"IARN":>9}',
             *(f'{scale_label(r.scale):8}{r.metrics_bicubic["psnr_y"]:9.2f}{r.metrics["psnr_y"]:9.2f}'
               for r in results)]
    axes[2, 0].text(0, 1, '\n'.join(lines), family='monospace', fontsize=12, va='top', linespacing=1.5,
                    transform=axes[2, 0].transAxes)
    for axis in axes.ravel():
        axis.axis('off')
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _detail(image: np.ndarray, hr: np.ndarray) -> np.ndarray:
    """The part of the picture that is shown enlarged."""
    top, left, height, width = CROP
    v, h = image.shape[0] / hr.shape[0], image.shape[1] / hr.shape[1]
    return image[round(top * v):round((top + height) * v), round(left * h):round((left + width) * h)]


def as_row(result: Result) -> dict[str, object]:
    """One scale for table.json."""
    return {'scale': scale_label(result.scale), 'lr_size': result.lr_size, 'iarn': result.metrics,
            'bicubic': result.metrics_bicubic}


def main(argv: list[str] | None = None) -> int:
    """Run the demo; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-o', '--output', type=Path, default=Path('demo'), help='working folder (default: demo)')
    parser.add_argument('--iterations', type=int, help='train for fewer iterations than the option file says')
    args = parser.parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    os.chdir(args.output)
    run(ROOT / 'scripts' / 'data' / 'prepare_quick_data.py')
    start = time.time()
    options = ROOT / 'options'
    override = ['--force_yml', f'train:total_iter={args.iterations}'] if args.iterations else []
    run('-m', 'iarn_basicsr.train', '-opt', options / 'train_IARN_x1-4_quick.yml', *override)
    run('-m', 'iarn_basicsr.test', '-opt', options / 'test_IARN_x1-4_quick.yml')
    net = IARN.from_file('experiments/IARN_x1-4_quick/models/net_g_latest.pth')
    picture = read_picture('datasets/quick/val/chelsea.png')
    results = compare(Rescaler(net, 'IARN_x1-4_quick'), picture, SCALES)
    print('\n' + table(results))
    save_json([as_row(r) for r in results], 'table.json')
    draw(picture.rgb, results, Path('demo.png'))
    page('chelsea.png', picture, results, 'demo.html')
    print(f'\n{(time.time() - start) / 60:.1f} minutes. Look at {Path("demo.png").resolve()}, in a browser at demo.html'
          f' beside it, and for every scale at {Path("results/IARN_x1-4_quick/visualization/held_out").resolve()}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
