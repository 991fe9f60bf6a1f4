"""Write the LR images that ArbitraryScaleDataset would make on the fly, one folder per scale.

    python scripts/data/make_lr.py datasets/Set5/GTmod12 -o 'datasets/LR/Set5/{scale}' --scales 1.5 2 1.5x3

``{scale}`` becomes ``x1.5``, ``x2``, ``x1.5x3``; ``{factor}`` the same without the first ``x``. Keep LR images away
from HR images, as here: a dataset that reads ``datasets/Set5`` reads its sub-folders too, and would take LR for HR.

Use the folders as ``dataroot_lq: datasets/LR/Set5/{scale}`` with the same ``scales`` and ``size_rule`` and, in
validation and testing, the same ``mod_crop``: the pixels are the same to the bit. In training there is no ``mod_crop``
(leave it out here too), and patches are cut from these LR images, so they know what lies around the patch, which LR
made on the fly does not.

Sub-folders are included and kept, files are PNG. Run the same command again after an interruption: images that are
there are passed over. Exit code 1: some images could not be read.
"""

from __future__ import annotations

import argparse
from os import path as osp

import numpy as np
from _tools import claim, encode_png, integer, is_below, report, run
from tqdm import tqdm

from iarn_basicsr.data.image_source import ImageSource
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_bytes
from iarn_basicsr.ops.image import to_pixels, to_tensor
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.ops.size import SIZE_RULES, lr_size, parse_scale, scale_label

PROGRAM = 'make_lr'
COLLECTION = 'datasets'  # a folder of this name holds data sets and is not one itself


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='HR_FOLDER', help='folder of HR images, sub-folders included')
    parser.add_argument('-o', '--output', required=True, help='LR folder, with {scale} or {factor} in its path')
    parser.add_argument('--scales', nargs='+', required=True, metavar='SCALE', help='such as 1.5 2 1.5x3 (vertical x '
                        'horizontal)')
    parser.add_argument('--mod-crop', type=integer(1, 1024), default=1,
                        help='crop HR to a multiple first (default: no)')
    parser.add_argument('--size-rule', choices=sorted(SIZE_RULES), default='round', help='of LR sizes (default round)')
    parser.add_argument('--compression', type=integer(0, 9), default=3, help='of the PNG files (default 3)')
    return run(_make, parser.parse_args(argv), PROGRAM)


def downscaled(image: np.ndarray, scale: tuple[float, float], rule: str) -> np.ndarray:
    """LR image uint8 (h, w, 3) of an HR image uint8 (H, W, 3)."""
    return to_pixels(bicubic_lr(to_tensor(image)[None], lr_size(image.shape[:2], scale, rule))[0])


def _make(args: argparse.Namespace) -> int:
    source = ImageSource(args.folder, 'disk', None, 'HR_FOLDER')
    stems = _stems(source)
    folders, there = _folders(args.output, args.scales), {}
    for scale, folder in folders.items():
        _check_apart(folder, args.folder)
        settings = {'scale': scale_label(scale), 'mod_crop': args.mod_crop, 'size_rule': args.size_rule}
        there[scale] = claim(folder, settings, [args.folder])
    failures, made, before = [], 0, 0
    for stem, name in tqdm(stems.items(), unit='image'):
        missing = [scale for scale in folders if f'{stem}.png' not in there[scale]]
        before += len(folders) - len(missing)
        if not missing:
            continue
        try:
            image = _cropped(source.read(name), args.mod_crop, source.path(name))
        except OSError as error:
            failures.append(str(error))
            continue
        for scale in missing:
            content = encode_png(downscaled(image, scale, args.size_rule), args.compression)
            save_bytes(content, osp.join(folders[scale], f'{stem}.png'))
        made += len(missing)
    print(f'{args.output}: {made} LR images written at {", ".join(map(scale_label, folders))}, {before} were there, '
          f'{len(failures)} HR images could not be used')
    return report(failures, PROGRAM)


def _check_apart(output: str, folder: str) -> None:
    """Refuse LR beside HR in one data set: ``datasets/Set5/LR/x2`` beside ``datasets/Set5/GTmod12``."""
    parent = osp.dirname(osp.abspath(folder))
    if is_below(output, folder) or not is_below(output, parent) or osp.basename(parent) == COLLECTION:
        return
    example = osp.join(osp.dirname(parent), 'LR', osp.basename(parent), '{scale}')
    raise OptionError(f'-o: {output!r} lies beside the HR images in {parent!r}: the LR images would count as HR for '
                      f'anyone who reads that folder recursively; choose a folder outside it, such as {example!r}')


def _stems(source: ImageSource) -> dict[str, str]:
    """File names by the name, without ending, of their LR images."""
    stems: dict[str, str] = {}
    for name in source.names:
        stem = osp.splitext(name)[0]
        other = stems.setdefault(stem, name)
        if other != name:
            raise OptionError(f'{source.path(other)!r} and {source.path(name)!r} would both become {stem + ".png"!r}: '
                              'rename one')
    return stems


def _folders(output: str, texts: list[str]) -> dict[tuple[float, float], str]:
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
                          '(2.5) where the scale stands in the path')
    return dict(zip(scales, folders))


def _cropped(image: np.ndarray, multiple: int, path: str) -> np.ndarray:
    """The image cropped at the bottom and right to multiples, as the dataset's ``mod_crop`` does."""
    height, width = (n - n % multiple for n in image.shape[:2])
    if not height or not width:
        raise OSError(f'--mod-crop {multiple} leaves nothing of {path!r} ({image.shape[0]}x{image.shape[1]})')
    return image[:height, :width]


if __name__ == '__main__':
    raise SystemExit(main())
