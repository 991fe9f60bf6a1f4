"""Write the LR images that ArbitraryScaleDataset makes on the fly, one folder per scale, to train other networks on.

    python scripts/data/make_lr.py datasets/Set5/GTmod12 -o 'datasets/LR/Set5/{scale}' --scales 1.5 2 1.5x3

``{scale}`` becomes ``x1.5``, ``x2``, ``x1.5x3``; ``{factor}`` the same without the first ``x``. A dataset reads all
folders below the one that it is given and would take LR images there for HR images, so they must lie elsewhere.

Read them with ``dataroot_lq: datasets/LR/Set5/{scale}`` and the same ``scales``, ``size_rule`` and (validation only)
``mod_crop``: the pixels are the same to the bit. In training, patches cut from them also depend on what lies around the
patch, which LR made on the fly does not.

Sub-folders are kept; files are PNG. To resume, run the same command again. Exit code 1: some images could not be read.
"""

from __future__ import annotations

import argparse
from os import path as osp

from _tools import claim, command, encode_png, images_by_stem, integer, run
from tqdm import tqdm

from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_bytes
from iarn_basicsr.ops.image import to_pixels
from iarn_basicsr.ops.size import SIZE_RULES, scale_label


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = command('make_lr', __doc__)
    parser.add_argument('folder', metavar='HR_FOLDER', help='folder of HR images, sub-folders included')
    parser.add_argument('-o', '--output', required=True, help='LR folder, with {scale} or {factor} in its path')
    parser.add_argument('--scales', nargs='+', required=True, metavar='SCALE', help='such as 1.5 2 1.5x3 (vertical x '
                        'horizontal)')
    parser.add_argument('--mod-crop', type=integer(1, 1024), default=1,
                        help='crop HR to a multiple first (default: no)')
    parser.add_argument('--size-rule', choices=sorted(SIZE_RULES), default='round', help='of LR sizes (default round)')
    parser.add_argument('--compression', type=integer(0, 9), default=3, help='of the PNG files (default 3)')
    return run(make, parser, argv)


def make(args: argparse.Namespace) -> list[str]:
    """Write all LR images that are missing."""
    images = images_by_stem([args.folder], 'HR_FOLDER', '{}.png')
    dataset = ArbitraryScaleDataset({
        'name': 'make_lr', 'phase': 'val', 'dataroot_gt': args.folder, 'io_backend': {'type': 'disk'},
        'scales': args.scales, 'mod_crop': args.mod_crop, 'size_rule': args.size_rule})
    labels = [scale_label(scale) for scale in dataset.scales]
    try:
        folders = [args.output.format(scale=label, factor=label[1:]) for label in labels]
    except (KeyError, IndexError, ValueError):
        raise OptionError(f'-o: {args.output!r}: the only placeholders are {{scale}} and {{factor}}') from None
    if len(set(folders)) < len(folders):
        raise OptionError(f'-o: {args.output!r} is one folder for {len(folders)} scales: put {{scale}} (x2.5) or '
                          '{factor} (2.5) into the path')
    there = [claim(folder, {'scale': label, 'mod_crop': args.mod_crop, 'size_rule': args.size_rule}, [args.folder])
             for label, folder in zip(labels, folders)]
    failures, made, before = [], 0, 0
    for which, stem in enumerate(tqdm(images, unit='image')):
        for k, folder in enumerate(folders):
            if f'{stem}.png' in there[k]:
                before += 1
                continue
            try:
                lr = to_pixels(dataset[which * len(folders) + k]['lq'])
            except (OSError, OptionError) as error:
                failures.append(str(error))
                break
            save_bytes(encode_png(lr, args.compression), osp.join(folder, f'{stem}.png'))
            made += 1
    print(f'{args.output}: {made} LR images written at {", ".join(labels)}, {before} were there, {len(failures)} HR '
          'images could not be used')
    return failures


if __name__ == '__main__':
    raise SystemExit(main())
