"""Training-loader throughput: ArbitraryScaleDataset (LR on the fly) against BasicSR's PairedImageDataset (LR files).

    python scripts/bench/dataloader.py [--images datasets/DIV2K/DIV2K_train_HR_sub]

Both read copies of the same HR files from a temporary folder, through BasicSR's own build_dataset, EnlargedSampler and
build_dataloader; the sides take turns, and the table (Markdown) gives the median of the repeats. Without ``--images``
the HR images are 480x480 sub-images of scikit-image's photographs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from os import path as osp
from typing import Any

import torch
from PIL import Image

import iarn_basicsr.plugin  # noqa: F401  (registers ArbitraryScaleDataset)
from iarn_basicsr.data.image_source import ImageSource
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_bytes
from iarn_basicsr.inference.picture_file import png_bytes

sys.path.append(osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'data'))
import extract_subimages
import make_lr
from _tools import integer, run
from prepare_quick_data import photograph

PROGRAM = 'dataloader'
PHOTOGRAPHS = ('astronaut', 'hubble_deep_field', 'immunohistochemistry', 'retina', 'stereo_motorcycle')  # >= 480 pixels
HR = osp.join('hr', 'images')  # in the temporary folder
OURS, STOCK = 'ArbitraryScaleDataset, LR on the fly, x1 to x4', 'PairedImageDataset, LR files, x2'


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', help='folder of PNG images with even sides (default: scikit-image\'s photographs)')
    parser.add_argument('--count', type=integer(1, 10000), default=32, help='HR images taken (default %(default)s)')
    parser.add_argument('--patch', type=integer(8, 4096), default=144, help='HR patch (default %(default)s)')
    parser.add_argument('--batch', type=integer(1, 1024), default=16, help='batch size (default %(default)s)')
    parser.add_argument('--batches', type=integer(2, 10000), default=24,
                        help='batches of a repeat (default %(default)s)')
    parser.add_argument('--repeats', type=integer(1, 1000), default=7, help='per loader (default %(default)s)')
    return run(_bench, parser.parse_args(argv), PROGRAM)


def _bench(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stderr):
            images, kilobytes = _prepare(args, folder)
        rates = _measure(args, folder)
    import basicsr
    print(f'{args.batch} patches of {args.patch}x{args.patch} a batch, {images} HR PNG files of {kilobytes:.0f} kB on '
          f'average, median of {args.repeats} repeats of {args.batches} batches. {os.cpu_count()} cores (load '
          f'{os.getloadavg()[0]:.1f} at the end), {torch.get_num_threads()} torch threads, Python '
          f'{platform.python_version()}, torch {torch.__version__}, basicsr {basicsr.__version__}\n')
    print('| patches/s (lowest to highest) | ' + ' | '.join(f'num_worker {w}' for w in (0, 1)) + ' |\n|---|---:|---:|')
    for side in (OURS, STOCK):
        rows = (rates[side, workers] for workers in (0, 1))
        cells = [f'**{statistics.median(row):.0f}** ({min(row):.0f} to {max(row):.0f})' for row in rows]
        print(f'| {side} | {cells[0]} | {cells[1]} |')
    ratios = [statistics.median(rates[OURS, w]) / statistics.median(rates[STOCK, w]) for w in (0, 1)]
    print(f'| ratio | {ratios[0]:.2f} | {ratios[1]:.2f} |')
    return 0


def _prepare(args: argparse.Namespace, folder: str) -> tuple[int, float]:
    """Copy HR images to FOLDER/HR, write their LR x2 to FOLDER/lr; number and mean size of the HR files."""
    source = ImageSource(args.images or _photographs(folder), 'disk', None, '--images')
    paths = [source.path(name) for name in source.names if name.lower().endswith('.png')]
    paths = paths[::max(1, len(paths) // args.count)][:args.count]  # spread over the folder
    usable = [path for path in paths if all(n % 2 == 0 and n >= args.patch for n in _size(path))]
    if not usable:
        raise OptionError(f'--images: {source.root!r} has no PNG images with even sides of {args.patch} pixels up: '
                          'make some with scripts/data/extract_subimages.py')
    hr = osp.join(folder, HR)
    os.makedirs(hr)
    for k, path in enumerate(usable):
        shutil.copyfile(path, osp.join(hr, f'{k:05d}.png'))
    if make_lr.main([hr, '-o', osp.join(folder, 'lr'), '--scales', '2']):
        raise OSError('the LR images could not be made')
    return len(usable), sum(map(osp.getsize, usable)) / len(usable) / 1000


def _size(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _photographs(folder: str) -> str:
    """480x480 sub-images of scikit-image's photographs."""
    photographs, sub = osp.join(folder, 'photographs'), osp.join(folder, 'sub')
    for name in PHOTOGRAPHS:
        save_bytes(png_bytes(photograph(name)), osp.join(photographs, f'{name}.png'))
    if extract_subimages.main([photographs, '-o', sub]):
        raise OSError('the sub-images could not be made')
    return sub


def _measure(args: argparse.Namespace, folder: str) -> dict[tuple[str, int], list[float]]:
    """Patches per second of every repeat, by (loader, workers)."""
    loaders = {(side, workers): _loader(side, workers, args, folder) for workers in (0, 1) for side in (OURS, STOCK)}
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in loaders}
    for repeat in range(args.repeats + 1):  # the first is a warm-up
        for key, (loader, sampler) in loaders.items():
            sampler.set_epoch(repeat)
            rate = _rate(loader, args.batch)
            print(f'repeat {repeat}: {key[0]}, num_worker {key[1]}: {rate:.0f}', file=sys.stderr)
            if repeat:
                rates[key].append(rate)
    return rates


def _loader(side: str, workers: int, args: argparse.Namespace, folder: str) -> tuple[Any, Any]:
    """(loader, sampler) of a side, as BasicSR's create_train_val_dataloader makes them."""
    from basicsr.data import build_dataloader, build_dataset
    from basicsr.data.data_sampler import EnlargedSampler
    hr = osp.join(folder, HR)
    options = {'name': 'bench', 'phase': 'train', 'dataroot_gt': hr, 'gt_size': args.patch, 'use_hflip': True,
               'use_rot': True, 'batch_size_per_gpu': args.batch, 'num_worker_per_gpu': workers,
               'io_backend': {'type': 'disk'}}
    if side == OURS:
        options.update(type='ArbitraryScaleDataset', scale_range=[1, 4])
    else:
        options.update(type='PairedImageDataset', dataroot_lq=osp.join(folder, 'lr'), scale=2)
    dataset = build_dataset(options)
    sampler = EnlargedSampler(dataset, 1, 0, args.batches * args.batch / len(dataset))
    return build_dataloader(dataset, options, num_gpu=0, dist=False, sampler=sampler, seed=0), sampler


def _rate(loader: Any, batch: int) -> float:
    """Patches per second of one epoch from the arrival of the first batch, so that starting a worker does not count."""
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    count = sum(len(item['gt']) for item in batches)
    return count / (time.perf_counter() - start)


if __name__ == '__main__':
    raise SystemExit(main())
