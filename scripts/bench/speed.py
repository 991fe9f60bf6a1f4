"""Speed of IARN: beside IRN at equal patch, batch and image, and for pictures of several sizes.

    python scripts/bench/speed.py networks [--image 480 640] [--patch 96 --batch 4] [--dtypes fp32 bf16] [--device cuda]
    python scripts/bench/speed.py pictures [--megapixels 0.5 2 8.3 33] [--scale 2] [--weights default]

``networks``: seconds per megapixel down and up, and per training step, of IRN and of IARN with the option file
``--network``. Every row runs once to warm up, then all take turns, so that a busy moment hits all alike; the median of
``--repeats`` counts.

``pictures``: seconds per HR megapixel and peak memory of a round trip of enlargements of the packaged photograph, each
size in a process of its own.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import torch
from torch.nn import functional as F

from iarn_basicsr.archs.base import RescalingNet
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.archs.irn import IRN
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.ops.size import lr_size, parse_scale

NETWORK = Path(__file__).resolve().parents[2] / 'options' / 'train_IARN_light_x1-4.yml'


class Case(NamedTuple):
    """One row: a network at a scale, in a precision."""

    name: str
    net: RescalingNet
    scale: float
    dtype: str

    def autocast(self, device: str) -> torch.autocast:
        """The context in which the network runs."""
        return torch.autocast(device, torch.bfloat16, enabled=self.dtype == 'bf16')


def medians(runs: dict[Case, Callable[[], None]], args: argparse.Namespace) -> dict[Case, float]:
    """Median seconds of each, all taking turns."""
    seconds: dict[Case, list[float]] = {case: [] for case in runs}
    for k in range(args.repeats + 1):
        for case, run in runs.items():
            start = time.perf_counter()
            run()
            if args.device == 'cuda':
                torch.cuda.synchronize()
            if k:
                seconds[case].append(time.perf_counter() - start)
    return {case: statistics.median(s) for case, s in seconds.items()}


def training_step(case: Case, args: argparse.Namespace) -> Callable[[], None]:
    """Forward, losses, backward and Adam of one batch."""
    hr = torch.rand(args.batch, 3, args.patch, args.patch, device=args.device)
    size = lr_size((args.patch, args.patch), case.scale)
    reference = bicubic_lr(hr, size)
    optimiser = torch.optim.Adam(case.net.parameters(), 1e-5)

    def step() -> None:
        with case.autocast(args.device):
            out = case.net(hr, size)
            loss = F.l1_loss(out['sr'].float(), hr) + F.mse_loss(out['lr_raw'].float(), reference)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def rescaling(case: Case, args: argparse.Namespace, up: bool) -> Callable[[], None]:
    """One direction of one image."""
    image = tuple(args.image)
    hr = torch.rand(1, 3, *image, device=args.device)
    size = lr_size(image, case.scale)
    lr = bicubic_lr(hr, size)

    @torch.no_grad()
    def run() -> None:
        with case.autocast(args.device):
            if up:
                case.net.upscale(lr, image)
            else:
                case.net.downscale(hr, size)

    return run


def networks(args: argparse.Namespace) -> None:
    """The table of IRN at its own scales and IARN at several."""
    options = {k: v for k, v in read_option_file(args.network)['network_g'].items() if k != 'type'}
    nets: list[tuple[str, RescalingNet, float]] = [(f'IRN x{s}', IRN(scale=s), s) for s in (2, 4)]
    nets += [(f'IARN x{s:g}', IARN(**options), s) for s in (1.5, 2, 3, 4)]
    cases = [Case(name, net.to(args.device, memory_format=torch.channels_last), scale, dtype)
             for name, net, scale in nets for dtype in args.dtypes]
    down, up = (medians({c: rescaling(c, args, way) for c in cases}, args) for way in (False, True))
    step = medians({c: training_step(c, args) for c in cases}, args)
    megapixels = args.image[0] * args.image[1] / 1e6
    print(f'Picture of {args.image[1]}x{args.image[0]}; step of {args.batch} HR patches of {args.patch} pixels.\n\n'
          '| network | precision | s / MP down | s / MP up | s / step |\n|---|---|---:|---:|---:|')
    for c in cases:
        print(f'| {c.name} | {c.dtype} | {down[c] / megapixels:.3f} | {up[c] / megapixels:.3f} | {step[c]:.3f} |')


def pictures(args: argparse.Namespace) -> None:
    """The table of picture sizes."""
    print('| HR megapixels | HR size | s / MP down | s / MP up | peak memory (MiB) |\n|---:|---:|---:|---:|---:|')
    for megapixels in args.megapixels:
        with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
            print(pool.submit(picture, megapixels, args).result(), flush=True)


def picture(megapixels: float, args: argparse.Namespace) -> str:
    """The row of one size, measured in this process, whose memory is that of this size alone."""
    import resource

    torch.set_num_threads(args.threads)
    rescaler, photo, scale = Rescaler.load(args.weights), read_picture(PHOTOGRAPH).rgb, parse_scale(args.scale)
    rescaler.roundtrip(photo, scale)  # to warm up
    width = round(math.sqrt(megapixels * 1e6 * 16 / 9))
    hr = cv2.resize(photo, (width, round(width * 9 / 16)), interpolation=cv2.INTER_CUBIC)
    true = hr.shape[0] * hr.shape[1] / 1e6
    start = time.perf_counter()
    lr = rescaler.downscale(hr, scale)
    middle = time.perf_counter()
    rescaler.upscale(lr, hr.shape[:2])
    end, memory = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (f'| {true:.2f} | {hr.shape[1]}x{hr.shape[0]} | {(middle - start) / true:.2f} | {(end - middle) / true:.2f} '
            f'| {memory:.0f} |')


def main(argv: list[str] | None = None) -> int:
    """Print a table, with what it was measured on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['networks', 'pictures'])
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--network', default=str(NETWORK), help='option file whose network_g is measured')
    parser.add_argument('--patch', type=int, default=96, help='HR pixels, a multiple of 4')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--image', type=int, nargs=2, default=[480, 640], metavar=('H', 'W'), help='multiples of 4')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--dtypes', nargs='+', choices=['fp32', 'bf16'], default=['fp32', 'bf16'])
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--megapixels', type=float, nargs='+', default=[0.5, 2, 8.3, 33])
    parser.add_argument('--scale', default='2', help='of pictures')
    parser.add_argument('--weights', default='default', help='of pictures')
    args = parser.parse_args(argv)
    if any(n % 4 for n in (args.patch, *args.image)):
        parser.error('--patch and --image must be multiples of 4: IRN x4 accepts nothing else')
    torch.set_num_threads(args.threads)
    print(f'{platform.machine()}, {args.threads} threads, {args.device}, torch {torch.__version__}\n')
    {'networks': networks, 'pictures': pictures}[args.what](args)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
