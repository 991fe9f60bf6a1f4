"""What a lossy LR costs: PSNR-Y of the packaged photograph restored from its LR as PNG and as JPEG (4:2:0).

    python scripts/figures/lossy_lr.py [--weights default] [--scales 1.5 2 3] [--qualities 100 95 90 75]
"""

from __future__ import annotations

import argparse

import numpy as np

from iarn_basicsr.inference.compare import bicubic_roundtrip
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, evaluate
from iarn_basicsr.ops.jpeg import jpeg_copy
from iarn_basicsr.ops.size import parse_scale


def psnr_y(image: np.ndarray, hr: np.ndarray, lr: np.ndarray) -> float:
    """PSNR on Y by the usual protocol."""
    pair = image[..., ::-1], hr[..., ::-1]
    return evaluate(pair, (lr, lr), {'psnr_y': DEFAULT_METRICS['psnr_y']})['psnr_y']


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='default')
    parser.add_argument('--scales', nargs='+', default=['1.5', '2', '3'])
    parser.add_argument('--qualities', type=int, nargs='+', default=[100, 95, 90, 75])
    args = parser.parse_args(argv)
    rescaler, hr = Rescaler.load(args.weights), read_picture(PHOTOGRAPH).rgb
    print('| scale | PNG | ' + ' | '.join(f'JPEG {q}' for q in args.qualities) + ' | bicubic both ways, PNG |')
    print('|---' * (3 + len(args.qualities)) + '|')
    for scale in args.scales:
        lr = rescaler.downscale(hr, scale=parse_scale(scale))
        files = [lr, *(jpeg_copy(lr, q) for q in args.qualities)]
        values = [psnr_y(rescaler.upscale(file, size=hr.shape[:2]), hr, lr) for file in files]
        values.append(psnr_y(bicubic_roundtrip(hr, lr.shape[:2]).restored, hr, lr))
        print(f'| x{scale} | ' + ' | '.join(f'{v:.2f}' for v in values) + ' |', flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
