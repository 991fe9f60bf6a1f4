"""Draw the figures of the documents and print the table of the ablation.

    python scripts/figures.py lr -o .github/lr.png   # details of LR images beside bicubic ones
    python scripts/figures.py ablation               # Markdown: PSNR of the runs of options/ablation

Photographs are those of scikit-image. ``ablation`` adds the runs that it finds in ``experiments`` to those in
``options/ablation/results.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from iarn_basicsr.errors import IARNError
from iarn_basicsr.files import atomic_write
from iarn_basicsr.inference.compare import bicubic_roundtrip
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.ops.size import lr_size, parse_scale, scale_label

RESULTS = Path(__file__).resolve().parent.parent / 'options' / 'ablation' / 'results.json'
ITERATION, SCALES = 3600, ('x1.5', 'x2', 'x3', 'x4')  # of the ablation's table
GAP, TITLE = 10, 24  # pixels between panels, and above them
SIDE = 150  # of a detail, in HR pixels
LR_SIDE, GAIN = 48, 8  # of a detail, in LR pixels; how much stronger differences are drawn
LR_DETAILS = [  # photograph, corner as a share of its size: sky, text, a wall, skin, strong colours
    ('rocket', (0.05, 0.1)), ('page', (0.1, 0.2)), ('brick', (0.4, 0.4)), ('astronaut', (0.13, 0.33)),
    ('astronaut', (0.62, 0.14))]

Panel = tuple[str, np.ndarray]  # title, uint8 RGB (H, W, 3)


def photograph(name: str) -> np.ndarray:
    """A photograph of scikit-image, uint8 RGB (H, W, 3)."""
    from skimage import data
    image = getattr(data, name)()
    return np.ascontiguousarray(np.stack([image] * 3, -1) if image.ndim == 2 else image[..., :3])


def psnr(image: np.ndarray, hr: np.ndarray) -> float:
    """PSNR of two uint8 images over all pixels and colours, in dB."""
    return float(10 * np.log10(255**2 / np.mean((image.astype(float) - hr)**2)))


def sheet(rows: list[list[Panel]], zoom: int) -> Image.Image:
    """Panels in rows, enlarged by an integer factor without interpolation, with their titles."""
    widths = [max(row[k][1].shape[1] for row in rows) * zoom + GAP for k in range(len(rows[0]))]
    heights = [max(image.shape[0] for _, image in row) * zoom + GAP + TITLE for row in rows]
    figure = Image.new('RGB', (sum(widths) - GAP, sum(heights) - GAP), 'white')
    pen, font = ImageDraw.Draw(figure), ImageFont.load_default(14)
    for row, y in zip(rows, np.cumsum([0, *heights])):
        for (title, image), x in zip(row, np.cumsum([0, *widths])):
            pen.text((x, y + 3), title, 'black', font)
            size = (image.shape[1] * zoom, image.shape[0] * zoom)
            figure.paste(Image.fromarray(image).resize(size, Image.Resampling.NEAREST), (int(x), int(y) + TITLE))
    return figure


def details(hr: np.ndarray, lr: np.ndarray, restored: np.ndarray, corner: tuple[int, int]) -> list[Panel]:
    """The same detail of the original, the LR, what is restored from it, and bicubic down and up; PSNR of the whole."""
    cubic = bicubic_roundtrip(hr, lr.shape[:2]).restored

    def cut(image: np.ndarray) -> np.ndarray:
        ratios = image.shape[0] / hr.shape[0], image.shape[1] / hr.shape[1]
        (y, h), (x, w) = ((round(start * r), round(SIDE * r)) for start, r in zip(corner, ratios))
        return image[y:y + h, x:x + w]

    return [('original', cut(hr)), (f'LR {lr.shape[1]} x {lr.shape[0]}', cut(lr)),
            (f'restored, {psnr(restored, hr):.2f} dB', cut(restored)),
            (f'bicubic down and up, {psnr(cubic, hr):.2f} dB', cut(cubic))]


def lr_details(rescaler: Rescaler) -> Iterator[list[Panel]]:
    """A row for each detail; for each scale the bicubic LR, the LR of IARN, and their difference."""
    for name, corner in LR_DETAILS:
        hr, row = photograph(name), []
        for scale in map(parse_scale, ('2', '4')):
            size = lr_size(hr.shape[:2], scale)
            cubic, lr = bicubic_roundtrip(hr, size).lr, rescaler.downscale(hr, size=size)
            y, x = (min(round(share * n), n - LR_SIDE) for share, n in zip(corner, size))
            cut = np.s_[y:y + LR_SIDE, x:x + LR_SIDE]
            difference = np.clip(128 + GAIN * (lr.astype(int) - cubic)[cut], 0, 255).astype(np.uint8)
            row += [(f'{scale_label(scale)} bicubic LR', cubic[cut]), (f'{scale_label(scale)} IARN LR', lr[cut]),
                    (f'difference x {GAIN}', difference)]
        yield row


def ablation(experiments: Path) -> list[str]:
    """Markdown: PSNR-Y restored / of the LR against bicubic on Set5, of every run and scale."""
    runs = json.loads(RESULTS.read_text(encoding='utf-8'))
    for path in sorted(experiments.glob(f'ablation_*/metrics/Set5_{ITERATION}.json')):
        runs[path.parents[1].name] = json.loads(path.read_text(encoding='utf-8'))['mean']
    lines = [f'| run | {" | ".join(SCALES)} |', '|---|' + '---:|' * len(SCALES)]
    for name, run in runs.items():
        cells = [f'{run[s]["psnr_y"]:.2f} / {run[s]["lr_psnr_y"]:.1f}' if s in run else '' for s in SCALES]
        lines.append(f'| {name.removeprefix("ablation_")} | {" | ".join(cells)} |')
    return lines


def main(argv: list[str] | None = None) -> int:
    """Draw or print; exit code 2 for weights that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('figure', choices=['lr', 'ablation'])
    parser.add_argument('-o', '--output', default='lr.png', help='image file (default: %(default)s)')
    parser.add_argument('--weights', default='default', help='name of released weights or a file')
    parser.add_argument('--experiments', type=Path, default=Path('experiments'), help='of the ablation')
    args = parser.parse_args(argv)
    if args.figure == 'ablation':
        print('\n'.join(ablation(args.experiments)))
        return 0
    try:
        image = sheet(list(lr_details(Rescaler.load(args.weights))), zoom=4)
        atomic_write(args.output, partial(image.save, format='PNG', optimize=True))
    except (IARNError, OSError) as error:
        print(f'figures: {error}', file=sys.stderr)
        return 2
    print(args.output)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
