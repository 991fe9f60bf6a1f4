"""Draws what `iarn downscale` and `iarn upscale` make of a photograph: details of the files, enlarged twice.

    python scripts/figures/rescale_details.py [--weights default] [-o rescale.png]

The photograph is scikit-image's astronaut. Titles give the PSNR-RGB of the full picture.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFont

from iarn_basicsr.inference.compare import bicubic_roundtrip
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, evaluate

SIDE, ZOOM, GAP, TITLE = 150, 2, 10, 24  # side of a detail in HR pixels, its enlargement, space around it
DETAILS = {'2.5': (58, 166), '1.5x3': (325, 132)}  # scale -> top, left in HR pixels
RGB = {'psnr_rgb': DEFAULT_METRICS['psnr_rgb']}


def panels(rescaler: Rescaler, hr: np.ndarray, scale: str, place: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    """(title, detail) of original, LR, restored and bicubic, from files."""
    with tempfile.TemporaryDirectory() as folder:
        original, small, restored = (str(Path(folder, name)) for name in ('hr.png', 'lr.png', 'restored.png'))
        Image.fromarray(hr).save(original)
        rescaler.downscale_file(original, small, scale=scale)
        rescaler.upscale_file(small, restored)
        lr, back = read_picture(small).rgb, read_picture(restored).rgb
    cubic = bicubic_roundtrip(hr, lr.shape[:2]).restored

    def psnr(image: np.ndarray) -> str:
        value = evaluate((image[..., ::-1], hr[..., ::-1]), (lr, lr), RGB)['psnr_rgb']
        return f'{value:.2f} dB'

    def cut(image: np.ndarray) -> np.ndarray:
        ratios = [n / m for n, m in zip(image.shape, hr.shape)]
        top, left = (round(k * r) for k, r in zip(place, ratios[:2]))
        height, width = (round(SIDE * r) for r in ratios[:2])
        return image[top:top + height, left:left + width]

    return [('original', cut(hr)), (f'stored, --scale {scale}', cut(lr)), (f'restored, {psnr(back)}', cut(back)),
            (f'bicubic down and up, {psnr(cubic)}', cut(cubic))]


def main(argv: list[str] | None = None) -> int:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='default')
    parser.add_argument('-o', '--output', default='rescale.png')
    args = parser.parse_args(argv)
    rescaler, hr = Rescaler.load(args.weights), np.ascontiguousarray(skimage.data.astronaut())
    full, stored = SIDE * ZOOM, 160
    starts = [0, full + GAP, full + stored + GAP, 2 * full + stored + 2 * GAP]
    figure = Image.new('RGB', (starts[-1] + full, len(DETAILS) * (full + TITLE + GAP) - GAP), 'white')
    pen, font = ImageDraw.Draw(figure), ImageFont.load_default(14)
    for row, (scale, place) in enumerate(DETAILS.items()):
        y = row * (full + TITLE + GAP)
        for x, (title, detail) in zip(starts, panels(rescaler, hr, scale, place)):
            pen.text((x, y + 3), title, 'black', font)
            size = (detail.shape[1] * ZOOM, detail.shape[0] * ZOOM)
            figure.paste(Image.fromarray(detail).resize(size, Image.Resampling.NEAREST), (x, y + TITLE))
    figure.save(args.output, optimize=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
