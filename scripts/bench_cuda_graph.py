"""Training step on a GPU, launched kernel by kernel and as one CUDA graph (``train.cuda_graph``), in turns.

    python scripts/bench_cuda_graph.py [--blocks 8 --growth 24] [--lq 36 --batch 16] [--repeats 20]

Forward, losses and backward of batches at scales from 1.3 to 3.7, without data loading and optimiser; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.models.graphed_step import GraphedStep
from iarn_basicsr.ops import bicubic_downscale, quantise

SCALES = (1.3, 1.7, 2.0, 2.6, 3.1, 3.7)


def losses(out: dict[str, Tensor], gt: Tensor, lq: Tensor) -> dict[str, Tensor]:
    """The two that every recipe has."""
    return {'l_rec': F.l1_loss(out['sr'], gt), 'l_guide': F.mse_loss(out['lr_raw'], lq)}


def batches(lq: int, batch: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """(gt, lq) at every scale."""
    gts = [torch.rand(batch, 3, round(lq * s), round(lq * s), device=device) for s in SCALES]
    return [(gt, quantise(bicubic_downscale(gt, (lq, lq)))) for gt in gts]


def medians(steps: dict[str, Callable[[Tensor, Tensor], object]], data: list[tuple[Tensor, Tensor]],
            repeats: int) -> dict[str, float]:
    """Median seconds of each kind of step over all scales; every scale comes once before it counts."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for k in range(repeats + 1):
        for gt, lq in data:
            for name, step in steps.items():
                torch.cuda.synchronize()
                start = time.perf_counter()
                step(gt, lq)
                torch.cuda.synchronize()
                if k:
                    seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}


def main(argv: list[str] | None = None) -> int:
    """Print one line for each precision; exit code 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--blocks', type=int, default=8)
    parser.add_argument('--growth', type=int, default=24)
    parser.add_argument('--lq', type=int, default=36, help='LR patch in pixels')
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--repeats', type=int, default=20)
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        parser.error('needs a GPU: CUDA is not available here')
    device = torch.device('cuda')
    net = IARN(num_block=args.blocks, growth=args.growth).to(device)
    data = batches(args.lq, args.batch, device)
    side = round(4 * args.lq)
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}; {args.blocks} blocks, growth {args.growth}, '
          f'{args.batch} LR patches of {args.lq} pixels')
    for precision in ('TF32', 'bf16'):

        def autocast(on: bool = precision == 'bf16') -> torch.autocast:
            return torch.autocast('cuda', torch.bfloat16, enabled=on)

        def plain(gt: Tensor, lq: Tensor, context: Callable[[], torch.autocast] = autocast) -> None:
            net.zero_grad()
            with context():
                out = net(gt, (args.lq, args.lq))
            torch.stack(list(losses(out, gt, lq).values())).sum().backward()

        graphed = GraphedStep(net, losses, autocast, (side, side))
        found = medians({'plain': plain, 'graph': graphed}, data, args.repeats)
        print(f'{precision}: plain {1e3 * found["plain"]:.1f} ms, graph {1e3 * found["graph"]:.1f} ms, '
              f'{found["plain"] / found["graph"]:.1f} times as fast')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
