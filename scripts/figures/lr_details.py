"""Draws LR images beside bicubic ones, enlarged: is anything to be seen in sky, text, a wall, skin, strong colours?

    python scripts/figures/lr_details.py [--weights default] [--scales 2 4] [-o lr.png]

Photographs are scikit-image's. The last column of each scale is the difference, 8 times as strong.
"""

from __future__ import annotations

import argparse

import numpy as np
import skimage.data
from PIL import Image, ImageDraw

from iarn_basicsr.inference.compare import bicubic_roundtrip
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.ops.size import lr_size, parse_scale, scale_label

SIDE, ZOOM, GAP, TITLE = 48, 4, 6, 14  # side of a detail in LR pixels, its enlargement, space around it
GAIN = 8
DETAILS = (  # photograph, and (top, left) as a share of its size: sky, text, a wall, skin, colours
    ('rocket', (0.05, 0.1)), ('page', (0.1, 0.2)), ('brick', (0.4, 0.4)), ('astronaut', (0.13, 0.33)),
    ('astronaut', (0.62, 0.14)))


def photograph(name: str) -> np.ndarray:
    """RGB uint8 (H, W, 3)."""
    image = getattr(skimage.data, name)()
    return np.ascontiguousarray(np.stack([image] * 3, -1) if image.ndim == 2 else image[..., :3])


def panels(rescaler: Rescaler, hr: np.ndarray, scale: str, place: tuple[float, float]) -> list[tuple[str, np.ndarray]]:
    """(title, detail) of the bicubic LR, the LR and their difference."""
    size = lr_size((hr.shape[0], hr.shape[1]), parse_scale(scale))
    cubic, lr = bicubic_roundtrip(hr, size).lr, rescaler.downscale(hr, size=size)
    top, left = (min(round(share * n), n - SIDE) for share, n in zip(place, size))
    cut = np.s_[top:top + SIDE, left:left + SIDE]
    difference = 128 + GAIN * (lr.astype(int) - cubic)[cut]
    label = scale_label(parse_scale(scale))
    return [(f'{label} bicubic LR', cubic[cut]), (f'{label} IARN LR', lr[cut]),
            (f'difference x {GAIN}', np.clip(difference, 0, 255).astype(np.uint8))]


def main(argv: list[str] | None = None) -> int:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='default')
    parser.add_argument('--scales', nargs='+', default=['2', '4'])
    parser.add_argument('-o', '--output', default='lr.png')
    args = parser.parse_args(argv)
    rescaler = Rescaler.load(args.weights)
    cell = SIDE * ZOOM
    figure = Image.new('RGB', (3 * len(args.scales) * (cell + GAP), len(DETAILS) * (cell + GAP + TITLE)), 'white')
    pen = ImageDraw.Draw(figure)
    for row, (name, place) in enumerate(DETAILS):
        hr = photograph(name)
        for column, (title, detail) in enumerate(p for s in args.scales for p in panels(rescaler, hr, s, place)):
            x, y = column * (cell + GAP), row * (cell + GAP + TITLE)
            pen.text((x, y), title, 'black')
            figure.paste(Image.fromarray(detail).resize((cell, cell), Image.Resampling.NEAREST), (x, y + TITLE))
    figure.save(args.output, optimize=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
