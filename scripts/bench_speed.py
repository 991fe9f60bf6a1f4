"""Speed of IARN beside IRN: one training step and one rescaling each way, at equal patch, batch and image.

    python scripts/bench_speed.py [--growth 16 --blocks 4] [--patch 96 --batch 4] [--image 480 640] [--repeats 5]

Every configuration runs once to warm up, then all of them take turns, so that a busy moment hits all alike; the median
counts. ``peak`` is the share of the speed that this machine reaches on a 3x3 convolution of 64 to 64 channels
(channels_last, the same precision); a training step counts three times the two directions.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iarn_basicsr.archs.base import RescalingNet
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.archs.irn import IRN
from iarn_basicsr.ops.quantise import quantise
from iarn_basicsr.ops.resample import bicubic_downscale
from iarn_basicsr.ops.size import lr_size

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}


class Case(NamedTuple):
    """One row: a network at a scale, in a precision and a memory layout."""

    name: str
    net: RescalingNet
    scale: float
    dtype: str
    layout: str


def dense_nchw(x: Tensor, hidden: Iterable[nn.Module], last: nn.Module) -> Tensor:
    """The dense block as it would run without channels_last."""
    x = x.contiguous()
    for conv in hidden:
        x = torch.cat([x, F.leaky_relu(conv(x).to(x.dtype), 0.2)], 1)
    return last(x)


def cases(args: argparse.Namespace) -> list[Case]:
    """Released configuration at its scales and IRN at its own; the reference case of each pair stands first."""
    def iarn() -> IARN:
        return IARN(num_block=args.blocks, growth=args.growth)

    nets = [('IRN x2', IRN(scale=2), 2.0), ('IRN x4', IRN(scale=4), 4.0),
            *((f'IARN x{s:g}', iarn(), s) for s in (1.5, 2.0, 3.0, 4.0))]
    return [Case(name, net, scale, dtype, layout) for name, net, scale in nets for dtype in args.dtypes
            for layout in args.layouts]


def in_its_form(case: Case, run: Callable[[], object]) -> None:
    """Run in the case's precision and layout."""
    with ExitStack() as stack:
        stack.enter_context(torch.autocast('cpu', torch.bfloat16, enabled=case.dtype == 'bf16'))
        if case.layout == 'nchw':
            case.net.to(memory_format=torch.contiguous_format)
            for module in ('coupling', 'irn'):
                stack.enter_context(patch(f'iarn_basicsr.archs.{module}.dense', dense_nchw))
        else:
            case.net.to(memory_format=torch.channels_last)
        run()


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
    reference = quantise(bicubic_downscale(hr, size))
    optimiser = torch.optim.Adam(case.net.parameters(), 1e-5)

    def step() -> None:
        out = case.net(hr, size)
        loss = F.l1_loss(out['sr'].float(), hr) + F.mse_loss(out['lr_raw'].float(), reference)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return lambda: in_its_form(case, step)


def rescaling(case: Case, image: tuple[int, int], up: bool) -> Callable[[], None]:
    """One direction of one image."""
    hr = torch.rand(1, 3, *image)
    size = lr_size(image, case.scale)
    lr = quantise(bicubic_downscale(hr, size))

    @torch.no_grad()
    def run() -> None:
        if up:
            case.net.upscale(lr, image)
        else:
            case.net.downscale(hr, size)

    return lambda: in_its_form(case, run)


def convolution_peak(dtype: str, repeats: int) -> float:
    """Multiply-accumulates per second of a convolution that suits the machine."""
    conv = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.rand(8, 64, 96, 96).to(memory_format=torch.channels_last)
    conv, x = conv.to(DTYPES[dtype]), x.to(DTYPES[dtype])

    def run() -> None:
        with torch.no_grad():
            conv(x)

    return 8 * 96 * 96 * conv.weight.numel() / medians({0: run}, 4 * repeats)[0]


def main(argv: list[str] | None = None) -> int:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--blocks', type=int, default=4)
    parser.add_argument('--growth', type=int, default=16)
    parser.add_argument('--patch', type=int, default=96, help='HR pixels, a multiple of 4')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--image', type=int, nargs=2, default=[480, 640], metavar=('H', 'W'), help='multiples of 4')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--dtypes', nargs='+', choices=DTYPES, default=[*DTYPES])
    parser.add_argument('--layouts', nargs='+', choices=['channels_last', 'nchw'], default=['channels_last', 'nchw'])
    args = parser.parse_args(argv)
    if any(n % 4 for n in (args.patch, *args.image)):
        parser.error('--patch and --image must be multiples of 4: IRN x4 accepts nothing else')
    torch.set_num_threads(args.threads)
    rows = cases(args)
    peak = {dtype: convolution_peak(dtype, args.repeats) for dtype in args.dtypes}
    peaks = ', '.join(f'{d} {2e-9 * p:.0f} GFLOP/s' for d, p in peak.items())
    print(f'{platform.machine()}, {args.threads} threads, torch {torch.__version__}; convolution peak: {peaks}\n')
    image, whole = tuple(args.image), args.patch**2 * args.batch
    megapixels = image[0] * image[1] / 1e6
    down, up = (medians({c: rescaling(c, image, up) for c in rows}, args.repeats) for up in (False, True))
    step = medians({c: training_step(c, args.patch, args.batch) for c in rows}, args.repeats)
    print(f'Rescaling {image[1]}x{image[0]}; training step of {args.batch} patches of {args.patch} pixels; against: '
          'the same of IRN x2 and IRN x4 in that precision and layout.\n')
    print('| network | precision | layout | s / MP down | s / MP up | peak | against x2 | against x4 | s / step | '
          'peak | step against x2 |')
    print('|---|---|---|' + '---:|' * 8)
    for c in rows:
        macs = c.net.complexity(image, lr_size(image, c.scale))['macs_per_pixel']
        x2, x4 = (next(r for r in rows if r.name == n and r[3:] == c[3:]) for n in ('IRN x2', 'IRN x4'))
        both = down[c] + up[c]
        share = 2 * macs * image[0] * image[1] / both / peak[c.dtype]
        step_share = 6 * macs * whole / step[c] / peak[c.dtype]
        print(f'| {c.name} | {c.dtype} | {c.layout} | {down[c] / megapixels:.2f} | {up[c] / megapixels:.2f} | '
              f'{share:.0%} | {both / (down[x2] + up[x2]):.2f} | {both / (down[x4] + up[x4]):.2f} | {step[c]:.3f} | '
              f'{step_share:.0%} | {step[c] / step[x2]:.2f} |', flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
