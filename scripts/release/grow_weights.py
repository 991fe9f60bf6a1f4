"""Weights of a larger IARN that computes what a smaller one does: a start for training that has already embedded.

    python scripts/release/grow_weights.py iarn_light_x1-4 -o start.pth --num-block 8 --width 26

The blocks of the small network are spread evenly over the large one, and their subnets widened: new channels start at
random and reach nothing yet. The couplings between them start as the identity. All other options stay.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.archs.subnets import DenseBlock
from iarn_basicsr.errors import IARNError, OptionError


def grow(small: IARN, num_block: int, width: int) -> IARN:
    """The larger network.

    Raises:
        OptionError: for a number of blocks that is not a multiple of the small one's, a smaller width, or a network
            that does not work on the LR grid.
    """
    have = small.hparams['num_block'], small.hparams['width']
    if num_block < 1 or not have[0] or num_block % have[0] or width < have[1]:
        raise OptionError(f'{num_block} blocks of width {width}: expected a multiple of {have[0]} blocks, and a '
                          f'width of at least {have[1]}')
    if small.hparams['coupling'] != 'lr_grid':
        raise OptionError(f'coupling: {small.hparams["coupling"]}: only lr_grid can be grown')
    large = IARN(**{**small.hparams, 'num_block': num_block, 'width': width})
    step = num_block // have[0]
    for k, block in enumerate(large.blocks):
        for name in ('phi', 'affine'):
            new = getattr(block.maps, name)
            if k % step == 0:
                widen(getattr(small.blocks[k // step].maps, name), new)
            else:
                nn.init.zeros_(new.last.weight)
    return large


@torch.no_grad()
def widen(small: nn.Module, large: nn.Module) -> None:
    """Copy a subnet into a wider one, whose further channels do not reach those of the small one."""
    dense = isinstance(small, DenseBlock)
    old_layers, new_layers = ([m for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (small, large))
    kept: list[int] = []  # the input channels of the large one that the small one has too
    for old, new in zip(old_layers, new_layers):
        if not dense or not kept:
            kept = list(range(old.in_channels))
        assert new.bias is not None
        rows = slice(0, old.out_channels)
        new.weight[rows] = 0
        new.weight[rows, kept] = old.weight
        new.bias[rows] = old.bias
        kept += range(new.in_channels, new.in_channels + old.out_channels)


def main(argv: list[str] | None = None) -> int:
    """Write the file; exit code 2 for weights that cannot be grown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('weights', help='name of released weights or a .pth; params_ema where it has them')
    parser.add_argument('-o', '--output', required=True)
    parser.add_argument('--num-block', type=int, required=True)
    parser.add_argument('--width', type=int, required=True)
    parser.add_argument('--seed', type=int, default=0, help='of what is new')
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    try:
        net = grow(IARN.from_pretrained(args.weights), args.num_block, args.width)
        net.save(args.output)
    except (IARNError, OSError) as error:
        parser.error(str(error))
    print(f'{args.output}: {sum(p.numel() for p in net.parameters())} parameters')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
