"""Time of both directions with and without ``torch.compile``, in one run.

    python scripts/bench/compile.py [--weights NAME] [--hr 720 1280] [--scale 2] [--repeats 7]

Prints seconds for the first compiled call (which compiles), the median seconds of both, their ratio and the largest
difference of the results. Needs a C++ compiler.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from iarn_basicsr import IARN, lr_size, quantise
from iarn_basicsr.inference.onnx import OneDirection


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='default', help='released name or file')
    parser.add_argument('--hr', nargs=2, type=int, default=[720, 1280], metavar=('H', 'W'))
    parser.add_argument('--scale', default='2')
    parser.add_argument('--repeats', type=int, default=7)
    args = parser.parse_args(argv)
    net, hr = IARN.from_pretrained(args.weights), (args.hr[0], args.hr[1])
    lr = lr_size(hr, args.scale)
    image = torch.rand(1, 3, *hr, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        small = quantise(net.downscale(image, lr).lr)
        for direction, x in (('down', image), ('up', small)):
            print(f'{direction}: {_compare(OneDirection(net, direction, hr, lr), x, args.repeats)}')
    return 0


def _compare(plain: OneDirection, x: torch.Tensor, repeats: int) -> str:
    compiled = torch.compile(plain)
    first, found = _timed(compiled, x)
    difference = (found - plain(x)).abs().max().item()
    pairs = [(_timed(plain, x)[0], _timed(compiled, x)[0]) for _ in range(repeats)]
    a, b = (statistics.median(times) for times in zip(*pairs))
    return (f'first call {first:.1f} s, then plain {a:.3f} s, compiled {b:.3f} s, ratio {b / a:.2f}; '
            f'results differ by at most {difference:.2g}')


def _timed(run: torch.nn.Module, x: torch.Tensor) -> tuple[float, torch.Tensor]:
    start = time.perf_counter()
    result = run(x)
    return time.perf_counter() - start, result


if __name__ == '__main__':
    raise SystemExit(main())
