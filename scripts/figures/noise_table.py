"""What noise in a picture costs: PSNR-Y of photographs restored after colour noise was added to them.

    python scripts/figures/noise_table.py [--weights iarn_light_x1-4 iarn_x1-4] [--scales 1.3 1.5 2 3] [--sigmas 0 4 10]

Photographs are details of scikit-image's; sigma is that of Gaussian noise, drawn for each colour, in grey levels.
"""

from __future__ import annotations

import argparse

import numpy as np
import skimage.data
from lossy_lr import psnr_y

from iarn_basicsr import zoo
from iarn_basicsr.inference.compare import bicubic_roundtrip
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.ops.size import lr_size, parse_scale, scale_label

PHOTOGRAPHS = ('astronaut', 'coffee', 'rocket')
SIDE = 300


def noisy(name: str, sigma: float) -> np.ndarray:
    """RGB uint8 (SIDE, SIDE, 3); the same noise at every call."""
    image = getattr(skimage.data, name)()[:SIDE, :SIDE, :3]
    noise = np.random.default_rng(0).normal(0, 1, image.shape)
    return np.clip(image + sigma * noise, 0, 255).round().astype(np.uint8)


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    newest = [name for name, entry in zoo.entries().items() if '/' not in entry['file']]
    parser.add_argument('--weights', nargs='+', default=newest, help='released names or files')
    parser.add_argument('--scales', nargs='+', default=['1.3', '1.5', '2', '3'])
    parser.add_argument('--sigmas', nargs='+', type=float, default=[0, 4, 10])
    args = parser.parse_args(argv)
    columns = [(photo, sigma) for photo in PHOTOGRAPHS for sigma in args.sigmas]
    print('| weights | scale | ' + ' | '.join(f'{p}, {s:g}' for p, s in columns) + ' |')
    print('|---|---|' + '---:|' * len(columns))
    methods = {name: Rescaler.load(name).roundtrip for name in args.weights}
    methods['bicubic'] = lambda hr, scale: bicubic_roundtrip(hr, lr_size(hr.shape[:2], scale))
    for scale in map(parse_scale, args.scales):
        for name, roundtrip in methods.items():
            cells = []
            for photo, sigma in columns:
                hr = noisy(photo, sigma)
                lr, restored = roundtrip(hr, scale)
                cells.append(f'{psnr_y(restored, hr, lr):.2f}')
            print(f'| {name} | {scale_label(scale)} | ' + ' | '.join(cells) + ' |', flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
