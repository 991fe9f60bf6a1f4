"""Training step on a GPU, launched kernel by kernel and as one CUDA graph (``train.cuda_graph``), in turns.

    python scripts/bench/cuda_graph.py [--blocks 8 --width 26] [--lq 36 --batch 16] [--repeats 20]

Forward, losses and backward of batches at scales from 1.3 to 3.7, without data loading and optimiser: mean over the
scales of the median of each.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from speed import medians
from torch import Tensor
from torch.nn import functional as F

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.models.graphed_step import GraphedStep
from iarn_basicsr.ops.resample import bicubic_lr

SCALES = (1.3, 1.7, 2.0, 2.6, 3.1, 3.7)


def losses(out: dict[str, Tensor], gt: Tensor, lq: Tensor) -> dict[str, Tensor]:
    """The two that every recipe has."""
    return {'l_rec': F.l1_loss(out['sr'], gt), 'l_guide': F.mse_loss(out['lr_raw'], lq)}


def batches(lq: int, batch: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """(gt, lq) at every scale."""
    gts = [torch.rand(batch, 3, round(lq * s), round(lq * s), device=device) for s in SCALES]
    return [(gt, bicubic_lr(gt, (lq, lq))) for gt in gts]


def synchronised(step: Callable[[Tensor, Tensor], object], gt: Tensor, lq: Tensor) -> Callable[[], None]:
    """The step on one batch, begun and ended with an idle GPU."""
    def run() -> None:
        step(gt, lq)
        torch.cuda.synchronize()

    return run


def main(argv: list[str] | None = None) -> int:
    """Print one line for each precision; exit code 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--blocks', type=int, default=8)
    parser.add_argument('--width', type=int, default=26)
    parser.add_argument('--order', type=int, default=3)
    parser.add_argument('--extra', type=int, default=13, help='extra_channels; the defaults are iarn_x1-4')
    parser.add_argument('--lq', type=int, default=36, help='LR patch in pixels')
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--repeats', type=int, default=20)
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        parser.error('needs a GPU: CUDA is not available here')
    device = torch.device('cuda')
    net = IARN(num_block=args.blocks, width=args.width, order=args.order, extra_channels=args.extra).to(device)
    data = batches(args.lq, args.batch, device)
    side = round(4 * args.lq)
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}; {args.blocks} blocks, width {args.width}, '
          f'{args.batch} LR patches of {args.lq} pixels')
    for precision in ('TF32', 'bf16'):

        def autocast(on: bool = precision == 'bf16') -> torch.autocast:
            return torch.autocast('cuda', torch.bfloat16, enabled=on)

        def plain(gt: Tensor, lq: Tensor, context: Callable[[], torch.autocast] = autocast) -> None:
            net.zero_grad()
            with context():
                out = net(gt, (args.lq, args.lq))
            torch.stack(list(losses(out, gt, lq).values())).sum().backward()

        steps = {'plain': plain, 'graph': GraphedStep(net, losses, autocast, (side, side))}
        found = medians({(name, k): synchronised(step, *batch) for k, batch in enumerate(data)
                         for name, step in steps.items()}, args.repeats)
        seconds = {name: statistics.mean(found[name, k] for k in range(len(data))) for name in steps}
        print(f'{precision}: plain {1e3 * seconds["plain"]:.1f} ms, graph {1e3 * seconds["graph"]:.1f} ms, '
              f'{seconds["plain"] / seconds["graph"]:.1f} times as fast')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
