"""Quality and time of coded detail in the low bits of bicubic LR images, without any network.

    python scripts/bench/payload.py PATH [--scales 1.5 2 2.5 3.5 4] [--bits 1 2 3] [--speeds 6]
    python scripts/bench/payload.py [PATH] --megapixels 0.5 2 8 33 [--scales 2] [--bits 2] [--speeds 6] [--repeats 5]
    python scripts/bench/payload.py [PATH] --megapixels 33 --memory [--scales 2] [--bits 2]

PATH: a picture or a folder of them. The prediction is U of what the message leaves of the LR. U is the right inverse of
the bicubic D, and for more than max(1, log2(scale)) bits a sample plain bicubic interpolation, which passes on less of
the error. ``--speeds`` are AVIF's, 0 (best) to 10. HR is cropped to multiples of 12. PSNR in dB, RGB / Y, mean over the
pictures; LR against the bicubic LR.

With ``--megapixels``: the time of the payload alone, without its prediction, beside that of a network down and up. The
pictures of PATH (left out: the packaged photograph), side by side, make one of each size. A small picture warms up,
then all take turns. The median counts, of fewer runs where they took ``--limit`` seconds. ``--memory`` instead: largest
memory of ``iarn downscale --weights none --payload K`` and of ``iarn upscale``, each in a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from iarn_basicsr.errors import ImageError
from iarn_basicsr.files import is_image
from iarn_basicsr.inference.payload import without_network
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.tiling import bicubic_downscale_tiled, reuse_freed_memory
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, PROTOCOL, evaluate
from iarn_basicsr.ops.size import lr_size, parse_scale, scale_label
from iarn_basicsr.payload import bits, codec

PSNR = {name: options for name, options in DEFAULT_METRICS.items() if 'psnr' in name}
COLUMNS = ('psnr_rgb', 'psnr_y', 'lr_psnr_rgb', 'lr_psnr_y', 'coding', 'decoding', 'used')
WARM_UP = 0.1  # megapixels
CHILD = """
import os, resource, sys
from iarn_basicsr.inference.cli import main
if main(sys.argv[1:]):
    sys.exit('failed')
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
if os.path.exists('/proc/self/status'):  # getrusage counts what the parent held when this process began
    peak = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) / 1024
print(peak)
"""


class Coded(NamedTuple):
    """An LR with its payload, what it restores, seconds of both without the prediction, and the share of the room."""

    stored: np.ndarray
    restored: np.ndarray
    coding: float
    decoding: float
    used: float


def code(hr: np.ndarray, lr: np.ndarray, k: float, speed: int) -> Coded:
    """One picture there and back, as ``payload.detail`` does it."""
    size = hr.shape[:2]
    predict, make_pull = without_network(size, lr.shape[:2], k)
    known = bits.high_part(lr, k)
    prediction = predict(known)
    pull = make_pull(known, prediction)
    room, start = bits.capacity(*lr.shape, k), time.perf_counter()
    stored = bits.write(lr, codec.encode(hr - prediction, room, pull, speed), codec.CODEC, k)
    middle = time.perf_counter()
    message = bits.read(stored)[0] if room else b''
    restored = np.clip(np.rint(prediction + codec.decode(message, size, pull)), 0, 255).astype(np.uint8)
    end = time.perf_counter()
    return Coded(stored, restored, middle - start, end - middle, len(message) / max(room, 1))


def measure(hr: np.ndarray, scale: str, k: float, speed: int) -> dict[str, float]:
    """One picture down and up again: its PSNRs, seconds per megapixel, and the share of the capacity that was used."""
    bicubic = bicubic_downscale_tiled(hr, lr_size(hr.shape[:2], parse_scale(scale)))
    made = code(hr, bicubic, k, speed)
    pairs = (made.restored[..., ::-1], hr[..., ::-1]), (made.stored[..., ::-1], bicubic[..., ::-1])
    megapixels = hr.shape[0] * hr.shape[1] / 1e6
    return {**evaluate(*pairs, PSNR), 'coding': made.coding / megapixels, 'decoding': made.decoding / megapixels,
            'used': made.used}


def print_quality(pictures: Sequence[np.ndarray], args: argparse.Namespace) -> None:
    """A line for each scale, k and speed."""
    print(f'{len(pictures)} pictures of {args.path}, no network; {PROTOCOL}\n')
    print('| scale | k | codec | HR RGB / Y | LR RGB / Y | s / MP coding | s / MP decoding | bytes used |')
    print('|---' * 8 + '|')
    for scale, k, speed in itertools.product(args.scales, args.bits, args.speeds):
        rows = [measure(hr, scale, k, speed) for hr in pictures]
        mean = [np.mean([row[name] for row in rows]) for name in COLUMNS]
        figures = '{:.2f} / {:.2f} | {:.2f} / {:.2f} | {:.2f} | {:.2f} | {:.1%}'.format(*mean)
        print(f'| {scale_label(scale)} | {k:g} | AVIF, speed {speed} | {figures} |', flush=True)


def mosaic(pictures: Sequence[np.ndarray], megapixels: float) -> np.ndarray:
    """The pictures in turn, cut to one size, side by side until they fill one of 16:9 and multiples of 12."""
    across = max(12, round(math.sqrt(megapixels * 1e6 * 16 / 9) / 12) * 12)
    down = max(12, round(megapixels * 1e6 / across / 12) * 12)
    height, width = (min(p.shape[axis] for p in pictures) for axis in (0, 1))
    turn = itertools.cycle(pictures)
    rows = [np.concatenate([next(turn)[:height, :width] for _ in range(0, across, width)], axis=1)
            for _ in range(0, down, height)]
    return np.ascontiguousarray(np.concatenate(rows)[:down, :across])


def times(hr: np.ndarray, scale: str, net: Rescaler, args: argparse.Namespace) -> dict[object, list[list[float]]]:
    """Seconds there and back, run by run: of the network (key ``None``), and of each (k, speed)."""
    size = lr_size(hr.shape[:2], parse_scale(scale))
    bicubic = bicubic_downscale_tiled(hr, size)
    seconds: dict[object, list[list[float]]] = {}
    begin = time.perf_counter()
    for n in range(args.repeats):
        if n and time.perf_counter() - begin > args.limit:
            break
        start = time.perf_counter()
        lr = net.downscale(hr, size=size)
        middle = time.perf_counter()
        net.upscale(lr, size=hr.shape[:2])
        seconds.setdefault(None, []).append([middle - start, time.perf_counter() - middle])
        for k, speed in itertools.product(args.bits, args.speeds):
            made = code(hr, bicubic, k, speed)
            seconds.setdefault((k, speed), []).append([made.coding, made.decoding])
    return seconds


def print_times(pictures: Sequence[np.ndarray], args: argparse.Namespace) -> None:
    """A line for each size, scale, k and speed."""
    reuse_freed_memory()  # as the command does
    net = Rescaler.load(args.weights, 'cpu')
    print(f'{len(pictures)} pictures of {args.path or "the package"}, side by side; network: {args.weights}; '
          f'{args.threads} threads, {platform.machine()}, torch {torch.__version__}; s / MP\n')
    print('| HR megapixels | scale | k | codec | runs | network down | network up | coding | decoding | '
          'payload / network |')
    print('|---' * 10 + '|')
    times(mosaic(pictures, WARM_UP), args.scales[0], net, argparse.Namespace(**{**vars(args), 'repeats': 1}))
    for megapixels, scale in itertools.product(args.megapixels, args.scales):
        hr = mosaic(pictures, megapixels)
        true = hr.shape[0] * hr.shape[1] / 1e6
        seconds = times(hr, scale, net, args)
        whole, (down, up) = _medians(seconds.pop(None), true)
        for (k, speed), runs in seconds.items():
            both, (coding, decoding) = _medians(runs, true)
            print(f'| {true:.1f} | {scale_label(scale)} | {k:g} | AVIF, speed {speed} | {len(runs)} | {down:.2f} | '
                  f'{up:.2f} | {coding:.2f} | {decoding:.2f} | {both / whole:.2f} |', flush=True)


def _medians(runs: Sequence[Sequence[float]], megapixels: float) -> tuple[float, list[float]]:
    """Median seconds per megapixel of there and back together, and of each."""
    return median(map(sum, runs)) / megapixels, [median(way) / megapixels for way in zip(*runs)]


def print_memory(pictures: Sequence[np.ndarray], args: argparse.Namespace) -> None:
    """A line for each size, scale and k."""
    print('| HR megapixels | scale | k | peak RSS down (MiB) | peak RSS up (MiB) |\n' + '|---' * 5 + '|')
    for megapixels, scale, k in itertools.product(args.megapixels, args.scales, args.bits):
        with tempfile.TemporaryDirectory() as folder:
            hr, lr, restored = (str(Path(folder, name)) for name in ('hr.png', 'lr.png', 'restored.png'))
            pixels = mosaic(pictures, megapixels)
            true = pixels.shape[0] * pixels.shape[1] / 1e6
            Image.fromarray(pixels).save(hr, compress_level=1)
            del pixels
            peaks = [_child(['downscale', hr, '-o', lr, '--scale', scale, '--weights', 'none', '--payload', f'{k:g}']),
                     _child(['upscale', lr, '-o', restored])]
        print(f'| {true:.1f} | {scale_label(scale)} | {k:g} | {peaks[0]:.0f} | {peaks[1]:.0f} |', flush=True)


def _child(command: list[str]) -> float:
    """Largest memory (MiB) of an ``iarn`` command."""
    done = subprocess.run([sys.executable, '-c', CHILD, *command], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def read_pictures(path: Path | None) -> list[np.ndarray]:
    """RGB, cropped to multiples of 12.

    Raises:
        ImageError: if there is none.
    """
    path = path or Path(PHOTOGRAPH)
    files = sorted(p for p in path.rglob('*') if is_image(p.name)) if path.is_dir() else [path]
    pictures = [read_picture(str(file)).rgb for file in files]
    if not pictures:
        raise ImageError(f'{path}: no picture in it')
    return [p[:p.shape[0] // 12 * 12, :p.shape[1] // 12 * 12] for p in pictures]


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('path', type=Path, nargs='?')
    parser.add_argument('--scales', nargs='+')
    parser.add_argument('--bits', type=float, nargs='+')
    parser.add_argument('--speeds', type=int, nargs='+', default=[codec.SPEED])
    parser.add_argument('--megapixels', type=float, nargs='+')
    parser.add_argument('--memory', action='store_true')
    parser.add_argument('--weights', default='default', help='of the network')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--limit', type=float, default=120, metavar='SECONDS')
    parser.add_argument('--threads', type=int, help='default: 1, with --megapixels all')
    args = parser.parse_args(argv)
    if not args.path and not args.megapixels:
        parser.error('PATH, or --megapixels')
    if args.memory and not args.megapixels:
        parser.error('--memory needs --megapixels')
    args.scales = args.scales or (['2'] if args.megapixels else ['1.5', '2', '2.5', '3.5', '4'])
    args.bits = args.bits or ([2] if args.megapixels else [1, 2, 3])
    args.threads = args.threads or (os.cpu_count() if args.megapixels else 1)
    torch.set_num_threads(args.threads)
    show = print_memory if args.memory else print_times if args.megapixels else print_quality
    show(read_pictures(args.path), args)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
