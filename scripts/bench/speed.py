"""Speed of IARN beside IRN: one training step and one rescaling each way, at equal patch, batch and image.

    python scripts/bench/speed.py [--width 18 --blocks 4] [--patch 96 --batch 4] [--image 480 640] [--repeats 5]

Every configuration runs once to warm up, then all of them take turns, so that a busy moment hits all alike; the median
counts. ``peak`` is the share of the speed that this machine reaches on a 3x3 convolution of 64 to 64 channels
(the same precision); a training step counts three times the two directions.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from iarn_basicsr.archs.base import RescalingNet
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.archs.irn import IRN
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.ops.size import lr_size

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}


class Case(NamedTuple):
    """One row: a network at a scale, in a precision."""

    name: str
    net: RescalingNet
    scale: float
    dtype: str

    def autocast(self) -> torch.autocast:
        """The context in which the network runs."""
        return torch.autocast('cpu', torch.bfloat16, enabled=self.dtype == 'bf16')


def cases(args: argparse.Namespace) -> list[Case]:
    """IRN at its own scales and IARN at several."""
    nets: list[tuple[str, RescalingNet, float]] = [(f'IRN x{s}', IRN(scale=s), s) for s in (2, 4)]
    iarn = {'num_block': args.blocks, 'width': args.width, 'order': args.order, 'extra_channels': args.extra,
            'subnet': args.subnet, 'num_unit': args.units}
    nets += [(f'IARN x{s:g}', IARN(**iarn), s) for s in (1.5, 2, 3, 4)]
    return [Case(name, net.to(memory_format=torch.channels_last), scale, dtype) for name, net, scale in nets
            for dtype in args.dtypes]


def medians(runs: dict[object, Callable[[], None]], repeats: int) -> dict[object, float]:
    """Median seconds of each, all taking turns."""
    seconds: dict[object, list[float]] = {key: [] for key in runs}
    for k in range(repeats + 1):
        for key, run in runs.items():
            start = time.perf_counter()
            run()
            if k:
                seconds[key].append(time.perf_counter() - start)
    return {key: statistics.median(s) for key, s in seconds.items()}


def training_step(case: Case, patch_size: int, batch: int) -> Callable[[], None]:
    """Forward, losses, backward and Adam of one batch."""
    hr = torch.rand(batch, 3, patch_size, patch_size)
    size = lr_size((patch_size, patch_size), case.scale)
    reference = bicubic_lr(hr, size)
    optimiser = torch.optim.Adam(case.net.parameters(), 1e-5)

    def step() -> None:
        with case.autocast():
            out = case.net(hr, size)
            loss = F.l1_loss(out['sr'].float(), hr) + F.mse_loss(out['lr_raw'].float(), reference)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def rescaling(case: Case, image: tuple[int, int], up: bool) -> Callable[[], None]:
    """One direction of one image."""
    hr = torch.rand(1, 3, *image)
    size = lr_size(image, case.scale)
    lr = bicubic_lr(hr, size)

    @torch.no_grad()
    def run() -> None:
        with case.autocast():
            if up:
                case.net.upscale(lr, image)
            else:
                case.net.downscale(hr, size)

    return run


def convolution_peak(dtype: str, repeats: int) -> float:
    """Multiply-accumulates per second that one large 3x3 convolution reaches."""
    conv = nn.Conv2d(64, 64, 3, padding=1).to(DTYPES[dtype], memory_format=torch.channels_last)
    x = torch.rand(8, 64, 96, 96).to(DTYPES[dtype], memory_format=torch.channels_last)

    def run() -> None:
        with torch.no_grad():
            conv(x)

    return 8 * 96 * 96 * conv.weight.numel() / medians({0: run}, 4 * repeats)[0]


def print_table(rows: list[Case], args: argparse.Namespace, peak: dict[str, float]) -> None:
    """Measure every case and print a line for each; ``peak``: of the machine, in every precision."""
    image, patch_pixels = tuple(args.image), args.patch**2 * args.batch
    pixels = image[0] * image[1]
    down, up = (medians({c: rescaling(c, image, up) for c in rows}, args.repeats) for up in (False, True))
    step = medians({c: training_step(c, args.patch, args.batch) for c in rows}, args.repeats)
    print('| network | precision | s / MP down | s / MP up | peak | against x2 | against x4 | s / step | peak | '
          'step against x2 |\n|---|---|' + '---:|' * 8)
    for c in rows:
        macs = c.net.complexity(image, lr_size(image, c.scale))['macs_per_pixel']
        x2, x4 = (next(r for r in rows if r.name == n and r.dtype == c.dtype) for n in ('IRN x2', 'IRN x4'))
        both = down[c] + up[c]
        share, step_share = (m / peak[c.dtype] for m in (2 * macs * pixels / both, 6 * macs * patch_pixels / step[c]))
        print(f'| {c.name} | {c.dtype} | {1e6 * down[c] / pixels:.2f} | {1e6 * up[c] / pixels:.2f} | {share:.0%} | '
              f'{both / (down[x2] + up[x2]):.2f} | {both / (down[x4] + up[x4]):.2f} | {step[c]:.3f} | '
              f'{step_share:.0%} | {step[c] / step[x2]:.2f} |', flush=True)


def main(argv: list[str] | None = None) -> int:
    """Print the table, with what it was measured on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--blocks', type=int, default=4)
    parser.add_argument('--width', type=int, default=18)
    parser.add_argument('--order', type=int, default=3)
    parser.add_argument('--extra', type=int, default=13, help='extra_channels; the defaults are iarn_light_x1-4')
    parser.add_argument('--subnet', choices=['dense', 'residual'], default='dense')
    parser.add_argument('--units', type=int, default=4, help='num_unit of residual subnets; their width is --width')
    parser.add_argument('--patch', type=int, default=96, help='HR pixels, a multiple of 4')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--image', type=int, nargs=2, default=[480, 640], metavar=('H', 'W'), help='multiples of 4')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--dtypes', nargs='+', choices=DTYPES, default=[*DTYPES])
    args = parser.parse_args(argv)
    if any(n % 4 for n in (args.patch, *args.image)):
        parser.error('--patch and --image must be multiples of 4: IRN x4 accepts nothing else')
    torch.set_num_threads(args.threads)
    peak = {dtype: convolution_peak(dtype, args.repeats) for dtype in args.dtypes}
    peaks = ', '.join(f'{d} {2e-9 * p:.0f} GFLOP/s' for d, p in peak.items())
    print(f'{platform.machine()}, {args.threads} threads, torch {torch.__version__}, channels_last; convolution peak: '
          f'{peaks}\n\nRescaling {args.image[1]}x{args.image[0]}; training step of {args.batch} patches of '
          f'{args.patch} pixels; against: the same of IRN x2 and IRN x4 in that precision.\n')
    print_table(cases(args), args, peak)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
