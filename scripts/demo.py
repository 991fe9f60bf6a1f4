"""A photograph downscaled and restored with the released weights, then a short training through BasicSR.

    python scripts/demo.py              (a minute, then 5 to 9 minutes of training on 2 CPU cores; results in ./demo)
    python scripts/demo.py --no-train   (the first part alone)

The photograph (scikit-image's chelsea) is in no training set. Ctrl-C in the second part leaves the results of the
first; the same command goes on where the training stopped. ``--iterations`` shortens it, for a look only.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# Read when torch is loaded, here and in the training: threads that spin long for each other crawl on a busy machine
# (measured on 2 cores: 5 times as slow).
os.environ.setdefault('GOMP_SPINCOUNT', '10000')

import matplotlib
import numpy as np
from tqdm import tqdm

from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.errors import IARNError
from iarn_basicsr.files import atomic_write, save_json, save_text
from iarn_basicsr.inference.compare import bicubic_roundtrip, error_map
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler, RoundTrip
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, PROTOCOL, evaluate
from iarn_basicsr.ops.size import scale_label

matplotlib.use('Agg')
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ROOT / 'options' / 'train_IARN_x1-4_quick.yml'
SCALES = ('1.5', '2', '2.5', '3', '4', '1.5x3')
FIGURE_SCALE = 'x2.5'
CROP = (62, 95, 100, 150)  # top, left, height, width of the detail shown: the cat's eye
MINUTES = 5, 9  # of the whole training on 2 cores, measured on a CPU with AVX-512 and on one with AVX2
PATIENCE = 60  # seconds for a training that is told to stop to finish its step and save
METRICS = {name: options for name, options in DEFAULT_METRICS.items() if 'psnr' in name}
ITERATION = re.compile(r'iter:\s*([\d,]+), lr:')  # in the lines of BasicSR's log


class TrainingError(Exception):
    """The training ended before its last iteration."""


# ------------------------------------------------------------------------------------------------------ one picture


@dataclass(frozen=True, eq=False)
class Row:
    """One scale, read back from the files.

    Attributes:
        scale: its name, ``x2.5``.
        lr, restored: by IARN, uint8 RGB.
        cubic: the same by bicubic.
        iarn, bicubic: name -> value of ``METRICS``.
        lr_bytes: of the LR file.
    """

    scale: str
    lr: np.ndarray
    restored: np.ndarray
    cubic: RoundTrip
    iarn: dict[str, float]
    bicubic: dict[str, float]
    lr_bytes: int

    @property
    def gain(self) -> float:
        """PSNR-Y above that of bicubic, in dB."""
        return self.iarn['psnr_y'] - self.bicubic['psnr_y']


def rescale(rescaler: Rescaler, original: Path, scale: str, folder: Path) -> Row:
    """Downscale a file and restore that file, below ``folder``, and measure what was written."""
    name = f'{original.stem}_{scale_label(scale)}.png'
    small, whole = folder / 'lr' / name, folder / 'restored' / name
    rescaler.downscale_file(original, small, scale=scale)
    rescaler.upscale_file(small, whole)
    hr, lr, restored = (read_picture(str(path)).rgb for path in (original, small, whole))
    cubic = bicubic_roundtrip(hr, lr.shape[:2])

    def measure(lr: np.ndarray, restored: np.ndarray) -> dict[str, float]:
        return evaluate((restored[..., ::-1], hr[..., ::-1]), (lr[..., ::-1], cubic.lr[..., ::-1]), METRICS)

    return Row(scale_label(scale), lr, restored, cubic, measure(lr, restored), measure(*cubic), small.stat().st_size)


def show(rescaler: Rescaler, original: Path, folder: Path, scales: Sequence[str]) -> list[Row]:
    """Every scale: files, table and figure below ``folder``; prints the table and the paths."""
    bar = tqdm(scales, unit='scale', leave=False)
    rows = [rescale(rescaler, original, scale, folder) for scale in bar]
    text = table(rows)
    print(f'\n{text}\n', flush=True)
    save_text(text + '\n', str(folder / 'table.txt'))
    save_json([{'scale': row.scale, 'lr_size': row.lr.shape[:2], 'iarn': row.iarn, 'bicubic': row.bicubic,
                'lr_bytes': row.lr_bytes} for row in rows], str(folder / 'table.json'))
    draw(read_picture(str(original)).rgb, rows, folder / 'demo.png')
    for path, what in ((folder / 'demo.png', 'the figure: look at this first'),
                       (folder / 'table.txt', 'the table above; with all digits in table.json'),
                       (folder / 'lr', 'the LR files; `iarn upscale` restores them'),
                       (folder / 'restored', 'what was restored from them'), (original, 'the original')):
        print(f'  {path!s:24} {what}')
    return rows


def table(rows: Sequence[Row]) -> str:
    """Aligned text, at most 80 columns wide: restored and LR, RGB and Y, beside bicubic."""
    lines = [f'{"":15} - PSNR-RGB (dB) -  -- PSNR-Y (dB) --  LR to bicubic LR    LR PNG',
             f'{"scale":>6} {"LR size":>8}  {"bicubic":>7}  {"IARN":>7}  {"bicubic":>7}  {"IARN":>7}'
             f'  {"RGB":>7}  {"Y":>7}  {"bytes":>8}']
    for row in rows:
        cubic, ours = row.bicubic, row.iarn
        values = (cubic['psnr_rgb'], ours['psnr_rgb'], cubic['psnr_y'], ours['psnr_y'],
                  ours['lr_psnr_rgb'], ours['lr_psnr_y'])
        lines.append(f'{row.scale:>6} {"{1}x{0}".format(*row.lr.shape):>8}  '
                     f'{"  ".join(f"{value:7.2f}" for value in values)}  {row.lr_bytes:8,}')
    return '\n'.join([*lines, PROTOCOL])


# ----------------------------------------------------------------------------------------------------------- figure

CELL, GAP, TOP, LEFT, BAR = (300, 200), 20, 30, 16, 58  # pixels: (width, height), margins, the colour bar's
COLOURS = {'bicubic': '#8a8f98', 'IARN': '#c8501e'}


class Sheet:
    """A figure of cells in 4 columns and 3 rows, whose images have whole pixels."""

    def __init__(self) -> None:
        self.width = 2 * LEFT + 4 * CELL[0] + 3 * GAP + BAR
        self.height = 3 * (CELL[1] + TOP) + GAP
        self.figure = plt.figure(figsize=(self.width / 100, self.height / 100), dpi=100, facecolor='white')

    def axes(self, column: int, row: int, box: tuple[float, float, float, float] | None = None) -> plt.Axes:
        """Axes in a cell: all of it, or ``box`` (left, top, width, height) in pixels from its corner."""
        x, y, w, h = box or (0, 0, *CELL)
        left, top = LEFT + column * (CELL[0] + GAP) + x, TOP + row * (CELL[1] + TOP) + y
        return self.figure.add_axes((left / self.width, 1 - (top + h) / self.height, w / self.width, h / self.height))

    def image(self, column: int, row: int, image: np.ndarray, title: str, size: tuple[float, float] = CELL,
              **options: object) -> plt.Axes:
        """An image in the middle of a cell, enlarged in squares; reduced, smoothly."""
        w, h = size
        frame = self.axes(column, row)
        frame.set_title(title, fontsize=10.5, pad=5)
        frame.axis('off')
        axes = self.axes(column, row, ((CELL[0] - w) / 2, (CELL[1] - h) / 2, w, h))
        axes.imshow(image, aspect='auto', interpolation='nearest' if image.shape[1] <= w else 'antialiased', **options)
        axes.axis('off')
        return axes


def draw(hr: np.ndarray, rows: Sequence[Row], path: Path) -> None:
    """HR, LR, bicubic and IARN restored; a detail of each; PSNR at every scale and the error maps."""
    row = next(r for r in rows if r.scale == FIGURE_SCALE)
    sheet = Sheet()
    lr_size = '{1} x {0}'.format(*row.lr.shape)
    true_size = tuple(CELL[k] * row.lr.shape[1 - k] / hr.shape[1 - k] for k in (0, 1))
    views = [('Original', f'{hr.shape[1]} x {hr.shape[0]}', hr, CELL),
             (f'LR by IARN, {row.scale}', lr_size, row.lr, true_size),
             ('Bicubic restored', _decibels(row.bicubic), row.cubic.restored, CELL),
             ('IARN restored', _decibels(row.iarn), row.restored, CELL)]
    for column, (name, what, image, size) in enumerate(views):
        sheet.image(column, 0, image, f'{name}: {what}', size)
        detail = _detail(image, hr)
        enlarged = CELL[0] / detail.shape[1]
        sheet.image(column, 1, detail, f'{detail.shape[1]} x {detail.shape[0]} pixels, enlarged {enlarged:.0f} times')
    sheet.axes(1, 0).axis('off')
    sheet.figure.axes[-1].text(0.5, 0.24, 'true relative size', ha='center', fontsize=9, color='#6b7078')
    _draw_errors(sheet, hr, row)
    _draw_scales(sheet.axes(0, 2, (44, 6, 2 * CELL[0] + GAP - 60, CELL[1] - 24)), rows)
    atomic_write(str(path), partial(sheet.figure.savefig, dpi=100))
    plt.close(sheet.figure)


def _decibels(values: dict[str, float]) -> str:
    return f'RGB {values["psnr_rgb"]:.2f}, Y {values["psnr_y"]:.2f} dB'


def _detail(image: np.ndarray, hr: np.ndarray) -> np.ndarray:
    """The part of the picture that is shown enlarged."""
    top, left, height, width = CROP
    v, h = image.shape[0] / hr.shape[0], image.shape[1] / hr.shape[1]
    y, x = round(top * v), round(left * h)
    return image[y:y + round(height * v), x:x + round(width * h)]


def _draw_errors(sheet: Sheet, hr: np.ndarray, row: Row) -> None:
    """Error maps of both, in the same colours."""
    maps = {'Bicubic': error_map(row.cubic.restored, hr), 'IARN': error_map(row.restored, hr)}
    top = float(np.ceil(np.percentile(maps['Bicubic'], 99.5)))
    for column, (name, error) in enumerate(maps.items(), 2):
        axes = sheet.image(column, 2, error, f'{name}, error of {row.scale}: mean {error.mean():.2f} of 255', CELL,
                           cmap='magma', vmin=0, vmax=top)
    bar = sheet.figure.colorbar(axes.images[0], cax=sheet.axes(3, 2, (CELL[0] + 8, 0, 12, CELL[1])), extend='max')
    bar.ax.tick_params(labelsize=9)


def _draw_scales(axes: plt.Axes, rows: Sequence[Row]) -> None:
    """PSNR-Y of IARN above that of bicubic at every scale."""
    for k, row in enumerate(rows):
        ends = {'bicubic': row.bicubic['psnr_y'], 'IARN': row.iarn['psnr_y']}
        axes.plot([k, k], list(ends.values()), color='#d8dade', linewidth=5, solid_capstyle='round', zorder=1)
        for name, value in ends.items():
            axes.scatter(k, value, s=42, color=COLOURS[name], zorder=2, label='' if k else name)
            axes.annotate(f'{value:.2f}', (k, value), xytext=(9, 0), textcoords='offset points', va='center',
                          fontsize=9.5, color=COLOURS[name], fontweight='bold' if name == 'IARN' else 'normal')
    axes.set_title('PSNR-Y of the restored picture (dB)', fontsize=10.5, pad=8)
    axes.set_xticks(range(len(rows)), [row.scale for row in rows], fontsize=10)
    axes.set_xlim(-0.4, len(rows) - 0.3)
    axes.margins(y=0.12)
    axes.tick_params(axis='y', labelsize=9)
    axes.tick_params(length=0)
    axes.grid(axis='y', color='#eceef1')
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.legend(loc='upper right', fontsize=10, frameon=False)


# --------------------------------------------------------------------------------------------------------- training


def newest_iteration(run: Path) -> int:
    """Iteration of the newest saved state of a run, 0 without one."""
    return max((int(p.stem) for p in (run / 'training_states').glob('*.state') if p.stem.isdigit()), default=0)


def train(folder: Path, log: Path, iterations: int | None, first: int, total: int) -> None:
    """The photographs and the training through BasicSR in processes of their own, with a progress bar.

    Raises:
        TrainingError: if one of them fails; the log says why.
    """
    changes = [f'train:total_iter={iterations}', f'logger:save_checkpoint_freq={iterations}'] if iterations else []
    words = ['-m', 'iarn_basicsr.train', '-opt', str(OPTIONS), '--auto_resume',
             *(['--force_yml', *changes] if changes else [])]
    if not first:
        log.unlink(missing_ok=True)
    start = log.stat().st_size if log.exists() else 0
    with tqdm(total=total, initial=first, desc='training', unit='it', dynamic_ncols=True) as bar:

        def follow() -> None:
            text = log.read_bytes()[start:].decode(errors='replace')
            seen = [int(number.replace(',', '')) for number in ITERATION.findall(text)]
            if 'Save the latest model' in text:
                seen.append(total)
                bar.set_description('validation', refresh=False)
            if seen and seen[-1] > bar.n:
                bar.n = seen[-1]
                bar.refresh()

        run([str(ROOT / 'scripts' / 'data' / 'prepare_quick_data.py')], folder, log, follow)
        run(words, folder, log, follow)


def run(words: list[str], folder: Path, log: Path, follow: Callable[[], None]) -> None:
    """One of the project's own commands, in ``folder``, its output at the end of the log; ``follow`` is called often.

    Ctrl-C does not reach it, but ends it in order: a training saves where it stands.
    """
    with open(log, 'ab') as output:
        process = subprocess.Popen([sys.executable, *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    try:
        while process.poll() is None:
            time.sleep(0.2)
            follow()
    except BaseException:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
            process.wait()
        raise
    if process.returncode:
        raise TrainingError(f'training failed (exit code {process.returncode})')


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does."""
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


# ------------------------------------------------------------------------------------------------------------ parts


def first_part(folder: Path, scales: Sequence[str] = SCALES) -> list[Row]:
    """The packaged photograph with the released weights."""
    start = time.monotonic()
    original = folder / Path(PHOTOGRAPH).name
    atomic_write(str(original), partial(shutil.copyfile, PHOTOGRAPH))
    rescaler = Rescaler.load()
    print(f'Part 1 of 2: a photograph, downscaled and restored with the released weights {rescaler.name}', flush=True)
    rows = show(rescaler, original, folder, scales)
    print(f'Part 1 took {time.monotonic() - start:.0f} seconds.\n', flush=True)
    return rows


def second_part(folder: Path, iterations: int | None = None, scales: Sequence[str] = SCALES) -> list[Row]:
    """The same photograph with a small model trained here, through BasicSR's pipeline.

    Raises:
        TrainingError: if the training fails.
    """
    options, log = read_option_file(str(OPTIONS)), folder / 'train.log'
    whole = int(options['train']['total_iter'])
    total, saved = iterations or whole, folder / 'experiments' / options['name']
    first, weights = newest_iteration(saved), saved / 'models' / 'net_g_latest.pth'
    if first >= total and weights.exists():
        print(f'Part 2 of 2: the training was done before, {first} iterations; to train anew delete {saved}')
    else:
        share = (total - first) / whole
        least, most = max(1, round(MINUTES[0] * share)), max(2, round(MINUTES[1] * share))
        print(f'Part 2 of 2: training through BasicSR, {least} to {most} minutes on 2 cores; '
              'Ctrl-C stops it, what is above stays')
        print(f'  goes on after iteration {first} of {total}\n' * bool(first) + f'  log: {log}', flush=True)
        start = time.monotonic()
        train(folder, log, iterations, first, total)
        if newest_iteration(saved) < total or not weights.exists():
            raise TrainingError('training was stopped from outside')
        print(f'Trained and validated in {(time.monotonic() - start) / 60:.1f} minutes.')
    rows = show(Rescaler.load(weights), folder / Path(PHOTOGRAPH).name, folder / 'trained', scales)
    print(f'  {weights}\n{verdict(rows)}')
    return rows


def verdict(rows: Sequence[Row]) -> str:
    """What the training gained, in one line."""
    gains = [row.gain for row in rows]
    worse = [row.scale for row in rows if row.gain <= 0]
    if worse:
        return f'The small model does not gain over bicubic at {", ".join(worse)}.'
    return f'The small model gains over bicubic at every scale: {min(gains):+.2f} to {max(gains):+.2f} dB PSNR-Y.'


def stopped(folder: Path, part: int) -> int:
    """What Ctrl-C leaves and how to go on, in one line; the exit code."""
    iteration = newest_iteration(folder / 'experiments' / read_option_file(str(OPTIONS))['name'])
    again = f'goes on after iteration {iteration}' if iteration else 'starts it again'
    print('\nStopped.' + (f' What part 1 wrote stays in {folder}; the same command {again}.' if part == 2 else ''),
          flush=True)
    return 130


def main(argv: list[str] | None = None) -> int:
    """Run the demo; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-o', '--output', type=Path, default=Path('demo'), help='folder (default: %(default)s)')
    parser.add_argument('--no-train', action='store_true', help='leave out the second part, the training')
    parser.add_argument('--iterations', type=int, help='train for fewer iterations than the option file says')
    args = parser.parse_args(argv)
    if args.iterations is not None and args.iterations < 1:
        parser.error(f'--iterations {args.iterations}: expected at least 1')
    part = 1
    try:
        first_part(args.output)
        if args.no_train:
            print('Part 2 of 2, training through BasicSR: left out (--no-train)')
            return 0
        part = 2
        with terminable():
            second_part(args.output, args.iterations)
    except (IARNError, OSError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except TrainingError as error:
        print(f'demo: {error}; its log says why: {args.output / "train.log"}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return stopped(args.output, part)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
