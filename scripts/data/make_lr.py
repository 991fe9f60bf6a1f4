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

from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_bytes
from iarn_basicsr.ops.image import to_pixels, to_tensor
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.ops.size import SIZE_RULES, lr_size, parse_scale, scale_label


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
    folders, there = lr_folders(args.output, args.scales), {}
    for scale, folder in folders.items():
        settings = {'scale': scale_label(scale), 'mod_crop': args.mod_crop, 'size_rule': args.size_rule}
        there[scale] = claim(folder, settings, [args.folder])
    failures, made, before = [], 0, 0
    for stem, (source, name) in tqdm(images.items(), unit='image'):
        missing = [scale for scale in folders if f'{stem}.png' not in there[scale]]
        before += len(folders) - len(missing)
        if not missing:
            continue
        try:
            image = source.read(name)
        except OSError as error:
            failures.append(str(error))
            continue
        height, width = (n - n % args.mod_crop for n in image.shape[:2])
        if not height or not width:
            failures.append(f'--mod-crop {args.mod_crop} leaves nothing of {source.path(name)!r} '
                            f'({image.shape[0]}x{image.shape[1]})')
            continue
        hr = to_tensor(image[:height, :width])[None]
        for scale in missing:
            lr = to_pixels(bicubic_lr(hr, lr_size((height, width), scale, args.size_rule))[0])
            save_bytes(encode_png(lr, args.compression), osp.join(folders[scale], f'{stem}.png'))
        made += len(missing)
    print(f'{args.output}: {made} LR images written at {", ".join(map(scale_label, folders))}, {before} were there, '
          f'{len(failures)} HR images could not be used')
    return failures


def lr_folders(output: str, texts: list[str]) -> dict[tuple[float, float], str]:
    """The LR folder of each scale."""
    try:
        scales = list(dict.fromkeys(map(parse_scale, texts)))
    except ValueError as error:
        raise OptionError(f'--scales: {error}') from None
    labels = [scale_label(scale) for scale in scales]
    try:
        folders = [output.format(scale=label, factor=label[1:]) for label in labels]
    except (KeyError, IndexError, ValueError):
        raise OptionError(f'-o: {output!r}: the only placeholders are {{scale}} and {{factor}}') from None
    if len(set(folders)) < len(scales):
        raise OptionError(f'-o: {output!r} is one folder for {len(scales)} scales: put {{scale}} (x2.5) or {{factor}} '
                          '(2.5) into the path')
    return dict(zip(scales, folders))


if __name__ == '__main__':
    raise SystemExit(main())
