"""Weights of an IARN with residual subnets, each of which imitates that in its place: a start for training.

    python scripts/release/imitate_weights.py iarn_light_x1-4 options/released/iarn_light_x1-4/4_anneal.yml \\
        -o start.pth --num-unit 3

The option file gives the patches. The trained network runs down and up, and every new subnet learns the output of the
one in its place on the same input. All options but those of the subnets stay.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from iarn_basicsr.archs.grid import Grid
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.errors import IARNError, OptionError
from iarn_basicsr.files import check_writable
from iarn_basicsr.ops.image import cpu_has_bf16, quantise

ROOT_SHARE = 0.1  # of the roots of the errors, whose gradient does not fade as they become small
SMALLEST = 1e-8  # error whose root counts: that of 0 has no gradient


def with_residual_subnets(trained: IARN, num_unit: int, width: int) -> IARN:
    """The same network but for its subnets, which are new; ``OptionError`` for one that is not on the LR grid."""
    if trained.hparams['coupling'] != 'lr_grid':
        raise OptionError(f'coupling: {trained.hparams["coupling"]}: only subnets on the LR grid can be imitated')
    return IARN(**{**trained.hparams, 'subnet': 'residual', 'num_unit': num_unit, 'width': width})


def subnets(net: IARN) -> list[nn.Module]:
    """Phi and the network of (s, t) of every block, in turn."""
    return [subnet for block in net.blocks for subnet in (block.maps.phi, block.maps.affine)]


def imitation_loss(trained: IARN, new: IARN, grid: Grid, hr: Tensor) -> Tensor:
    """Mean square error of what the subnets of ``new`` give, in shares of the channel's mean square."""
    seen: list[tuple[int, Tensor, Tensor]] = []
    hooks = [subnet.register_forward_hook(lambda _, x, y, k=k: seen.append((k, x[0], y)))
             for k, subnet in enumerate(subnets(trained))]
    with torch.no_grad():
        trained.upscale_on(grid, quantise(trained.downscale_on(grid, hr).lr))
    for hook in hooks:
        hook.remove()
    pupils, errors = subnets(new), []
    for k, given, wanted in seen:
        found = pupils[k](given)
        if k % 2:  # s and t count on the HR grid
            found, wanted = grid.unpool(found.float()), grid.unpool(wanted.float())
        square = (found - wanted).float().square().mean((0, 2, 3))
        errors.append(square / wanted.float().square().mean((0, 2, 3)).clamp_min(1e-12))
    error = torch.cat(errors)
    return error.mean() + ROOT_SHARE * error.clamp_min(SMALLEST).sqrt().mean()


def imitate(trained: IARN, new: IARN, batches: Iterable[dict[str, Tensor]], steps: int, rate: float,
            bf16: bool) -> None:
    """Train ``new`` for ``steps`` batches with Adam, whose rate falls to zero."""
    optimiser = torch.optim.Adam(new.parameters(), rate, (0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for batch in (bar := tqdm(batches, total=steps, unit='step')):
        hr, lr = batch['gt'], batch['lq']
        grid = new.grid_of(hr, (hr.shape[-2], hr.shape[-1]), (lr.shape[-2], lr.shape[-1]))
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            loss = imitation_loss(trained, new, grid, hr)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(new.parameters(), 1.0)
        optimiser.step()
        scheduler.step()
        bar.set_postfix(loss=f'{loss.item():.4f}')


def patches(data: ArbitraryScaleDataset, ratio: float, steps: int) -> Iterator[dict[str, Tensor]]:
    """The first batches of a training run."""
    draws = itertools.chain.from_iterable(data.draws(epoch, 0, 1, ratio) for epoch in itertools.count())
    order = list(itertools.islice(draws, steps * data.batch_size))
    return iter(DataLoader(data, data.batch_size, sampler=order, num_workers=1))


def main(argv: list[str] | None = None) -> int:
    """Write the file; exit code 2 for a network that cannot be imitated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('weights', help='name of released weights or a .pth; params_ema where it has them')
    parser.add_argument('options', help='training file with the patches')
    parser.add_argument('-o', '--output', required=True)
    parser.add_argument('--num-unit', type=int, default=3)
    parser.add_argument('--width', type=int, default=32)
    parser.add_argument('--steps', type=int, default=3000)
    parser.add_argument('--rate', type=float, default=2e-3)
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error(f'--steps: {args.steps}; expected 1 or more')
    try:
        check_writable(args.output)  # now, not after the work
        opt = read_option_file(args.options, 'options')
        section = (opt.get('datasets') or {}).get('train')
        if not section:
            raise OptionError(f'{args.options} has no datasets.train: expected a training file')
        torch.manual_seed(opt.get('manual_seed') or 0)
        trained = IARN.from_pretrained(args.weights)
        new = with_residual_subnets(trained, args.num_unit, args.width)
        data = ArbitraryScaleDataset({**section, 'phase': 'train'})
        bf16 = (opt.get('train') or {}).get('amp') == 'bf16' and cpu_has_bf16()
        imitate(trained, new, patches(data, section.get('dataset_enlarge_ratio', 1), args.steps), args.steps, args.rate,
                bf16)
        new.save(args.output)
    except (IARNError, OSError) as error:
        parser.error(str(error))
    print(f'{args.output}: {sum(p.numel() for p in new.parameters())} parameters')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
