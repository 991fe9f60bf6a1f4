"""Cut HR images into overlapping sub-images, which a training loader reads several times faster.

    python scripts/data/extract_subimages.py datasets/DIV2K/DIV2K_train_HR datasets/Flickr2K -o datasets/DF2K_HR_sub

Sub-folders are kept and names become NAME_s001.png: PNG files with the pixels that the training loader would read
(8-bit RGB). Images smaller than the crop are kept whole. To resume, run the same command again: images whose sub-images
all exist are skipped. Exit code 1: some images could not be read.
"""

from __future__ import annotations

import argparse
from os import path as osp

from _tools import WORKERS, claim, command, encode_png, images_by_stem, integer, read_ahead, run
from PIL import Image
from tqdm import tqdm

from iarn_basicsr.data.image_source import ImageSource
from iarn_basicsr.files import save_bytes

NAME = '{}_s{:03d}.png'


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = command('extract_subimages', __doc__)
    parser.add_argument('inputs', nargs='+', metavar='INPUT_FOLDER', help='folder of HR images, sub-folders included')
    parser.add_argument('-o', '--output', required=True, help='folder for the sub-images')
    parser.add_argument('--crop', type=integer(1, 65536), default=480, help='side of a sub-image (default 480)')
    parser.add_argument('--step', type=integer(1, 65536), default=240, help='from one to the next (default 240)')
    parser.add_argument('--min-rest', type=integer(0, 65536), default=0,
                        help='more remaining pixels than this get a sub-image of their own, at the border (default 0)')
    parser.add_argument('--workers', type=integer(1, 256), default=WORKERS, help='threads (default: cores)')
    parser.add_argument('--compression', type=integer(0, 9), default=3, help='of the PNG files (default 3)')
    return run(extract, parser, argv)


def starts(length: int, crop: int, step: int, min_rest: int) -> list[int]:
    """Where sub-images begin along an axis; one more ends at the border if over ``min_rest`` pixels remain."""
    regular = list(range(0, max(length - crop, 0) + 1, step))
    rest = length - regular[-1] - crop
    return [*regular, length - crop] if rest > min_rest else regular


def extract(args: argparse.Namespace) -> list[str]:
    """Cut all images that are not finished."""
    images = images_by_stem(args.inputs, 'INPUT_FOLDER', NAME.format('{}', 1))
    window = (args.crop, args.step, args.min_rest)
    there = claim(args.output, dict(zip(('crop', 'step', 'min_rest'), window)), args.inputs)
    left = {stem: image for stem, image in images.items() if not finished(stem, *image, window, there)}
    failures, made = [], 0

    def cut(stem: str) -> tuple[str, list[bytes]]:
        source, name = left[stem]
        image = source.read(name)
        rows, columns = (starts(n, *window) for n in image.shape[:2])
        return stem, [encode_png(image[y:y + args.crop, x:x + args.crop], args.compression)
                      for y in rows for x in columns]

    for stem, pieces in tqdm(read_ahead(cut, left, args.workers, failures), total=len(left), unit='image'):
        for index, content in enumerate(pieces, 1):
            save_bytes(content, osp.join(args.output, NAME.format(stem, index)))
        made += len(pieces)
    print(f'{args.output}: {made} sub-images of {len(left) - len(failures)} images written, {len(images) - len(left)} '
          f'images done before, {len(failures)} could not be read')
    return failures


def finished(stem: str, source: ImageSource, name: str, window: tuple[int, int, int], there: set[str]) -> bool:
    """Whether all sub-images exist; the header of the image says how many there must be."""
    if NAME.format(stem, 1) not in there:
        return False
    try:
        with Image.open(source.path(name)) as image:
            columns, rows = (len(starts(n, *window)) for n in image.size)
    except (OSError, Image.DecompressionBombError):
        return False  # reading it will fail with a reason
    return all(NAME.format(stem, k) in there for k in range(1, rows * columns + 1))


if __name__ == '__main__':
    raise SystemExit(main())
