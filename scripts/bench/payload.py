"""Quality and time of coded detail in the low bits of bicubic LR images, without any network.

    python scripts/bench/payload.py FOLDER [--scales 1.5 2 2.5 3.5 4] [--bits 1 2 3] [--speeds 6]

The prediction is U of what the message leaves of the LR. U is the right inverse of the bicubic D, and for more than
max(1, log2(scale)) bits a sample plain bicubic interpolation, which passes on less of the error. ``--speeds`` are
AVIF's, 0 (best) to 10. HR is cropped to multiples of 12. PSNR in dB, RGB / Y, mean over the pictures; LR against the
bicubic LR.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch

from iarn_basicsr.errors import ImageError
from iarn_basicsr.files import is_image
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, PROTOCOL, evaluate
from iarn_basicsr.ops.grid import Grid, make_grid
from iarn_basicsr.ops.pixels import to_pixels, to_tensor
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.ops.size import lr_size, parse_scale, scale_label
from iarn_basicsr.payload import bits, codec
from iarn_basicsr.pictures.files import read_picture

PSNR = {name: options for name, options in DEFAULT_METRICS.items() if 'psnr' in name}
COLUMNS = ('psnr_rgb', 'psnr_y', 'lr_psnr_rgb', 'lr_psnr_y', 'coding', 'decoding', 'used')


def resample(by: str, grid: Grid, levels: np.ndarray) -> np.ndarray:
    """``down`` or ``up`` of float levels (h, w, 3)."""
    planes = torch.from_numpy(np.ascontiguousarray(np.moveaxis(levels, -1, 0), dtype=np.float32))[None]
    return np.moveaxis(getattr(grid, by)(planes)[0].numpy(), 0, -1)


def measure(hr: np.ndarray, scale: str, k: float, speed: int) -> dict[str, float]:
    """One picture down and up again: its PSNRs, seconds per megapixel, and the share of the capacity that was used."""
    sizes = hr.shape[:2], lr_size(hr.shape[:2], parse_scale(scale))
    exact, plain = (make_grid(*sizes, split, 1, torch.float32, torch.device('cpu'))
                    for split in ('cubic', 'cubic_interp'))
    bicubic = to_pixels(bicubic_lr(to_tensor(hr)[None], sizes[1]))[0]
    known = bits.high_part(bicubic, k)
    most = max(1, math.log2(hr.size / bicubic.size) / 2)
    prediction = resample('up', exact if k <= most else plain, known)

    def pull(residual: np.ndarray) -> np.ndarray:
        return resample('up', exact, known - resample('down', exact, prediction + residual))

    room, start = bits.capacity(*bicubic.shape, k), time.perf_counter()
    stored = bits.write(bicubic, codec.encode(hr - prediction, room, pull, speed), codec.CODEC, k)
    middle = time.perf_counter()
    message = bits.read(stored)[0] if room else b''
    residual = codec.decode(message, sizes[0], pull)
    end = time.perf_counter()
    restored = np.clip(np.rint(prediction + residual), 0, 255).astype(np.uint8)
    pairs = (restored[..., ::-1], hr[..., ::-1]), (stored[..., ::-1], bicubic[..., ::-1])
    megapixels = hr.shape[0] * hr.shape[1] / 1e6
    return {**evaluate(*pairs, PSNR), 'coding': (middle - start) / megapixels, 'decoding': (end - middle) / megapixels,
            'used': len(message) / max(room, 1)}


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--scales', nargs='+', default=['1.5', '2', '2.5', '3.5', '4'])
    parser.add_argument('--bits', type=float, nargs='+', default=[1, 2, 3])
    parser.add_argument('--speeds', type=int, nargs='+', default=[codec.SPEED])
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    pictures = []
    for path in sorted(p for p in args.folder.rglob('*') if is_image(p.name)):
        rgb = read_picture(str(path)).rgb
        pictures.append(rgb[:rgb.shape[0] // 12 * 12, :rgb.shape[1] // 12 * 12])
    if not pictures:
        raise ImageError(f'{args.folder}: no picture in it')
    print(f'{len(pictures)} pictures of {args.folder}, no network; {PROTOCOL}\n')
    print('| scale | k | codec | HR RGB / Y | LR RGB / Y | s / MP coding | s / MP decoding | bytes used |')
    print('|---' * 8 + '|')
    for scale in args.scales:
        for k in args.bits:
            for speed in args.speeds:
                rows = [measure(hr, scale, k, speed) for hr in pictures]
                mean = [np.mean([row[name] for row in rows]) for name in COLUMNS]
                figures = '{:.2f} / {:.2f} | {:.2f} / {:.2f} | {:.2f} | {:.2f} | {:.1%}'.format(*mean)
                print(f'| {scale_label(scale)} | {k:g} | AVIF, speed {speed} | {figures} |', flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
