"""Seconds per HR megapixel and peak memory of the released model, down and up, each size in a process of its own.

    python scripts/bench/rescale.py [--scale 2] [--megapixels 0.5 2 8.3 33] [--weights default] [--threads 2]

Pictures are enlargements of the packaged photograph; the first (small) picture warms up and is not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time

import cv2
import torch

from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.tiling import reuse_freed_memory
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.ops.size import lr_size, parse_scale


def measure(megapixels: float, scale: str, weights: str, threads: int) -> dict[str, float]:
    """One size, in this process: seconds per megapixel and the peak of the memory so far (MiB)."""
    torch.set_num_threads(threads)
    reuse_freed_memory()  # as the command does
    rescaler = Rescaler.load(weights)
    photo = read_picture(PHOTOGRAPH).rgb
    rescaler.roundtrip(photo, scale=parse_scale(scale))
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    width = round(math.sqrt(megapixels * 1e6 * 16 / 9))
    hr = cv2.resize(photo, (width, round(width * 9 / 16)), interpolation=cv2.INTER_CUBIC)
    start = time.perf_counter()
    lr = rescaler.downscale(hr, size=lr_size(hr.shape[:2], parse_scale(scale)))
    middle = time.perf_counter()
    rescaler.upscale(lr, size=hr.shape[:2])
    end = time.perf_counter()
    true = hr.shape[0] * hr.shape[1] / 1e6
    return {'megapixels': true, 'width': width, 'height': hr.shape[0], 'down': (middle - start) / true,
            'up': (end - middle) / true, 'start_mib': base, 'pictures_mib': (2 * hr.nbytes + lr.nbytes) / 2**20,
            'peak_mib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scale', default='2')
    parser.add_argument('--megapixels', type=float, nargs='+', default=[0.5, 2, 8.3, 33])
    parser.add_argument('--weights', default='default')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--child', type=float, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        print(json.dumps(measure(args.child, args.scale, args.weights, args.threads)))
        return 0
    print(f'{args.weights}, x{args.scale}, {args.threads} threads, {platform.machine()}, torch {torch.__version__}\n')
    print('| HR megapixels | HR size | s / MP down | s / MP up | peak RSS (MiB) | before the picture (MiB) | '
          'the pictures (MiB) |')
    print('|---' * 7 + '|')
    for megapixels in args.megapixels:
        command = [sys.executable, __file__, '--child', str(megapixels), '--scale', args.scale, '--weights',
                   args.weights, '--threads', str(args.threads)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(f'| {row["megapixels"]:.1f} | {row["width"]}x{row["height"]} | {row["down"]:.2f} | {row["up"]:.2f} | '
              f'{row["peak_mib"]:.0f} | {row["start_mib"]:.0f} | {row["pictures_mib"]:.0f} |', flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
