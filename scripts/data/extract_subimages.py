"""Cut HR images into overlapping sub-images, which a training loader reads several times faster than the photographs.

    python scripts/data/extract_subimages.py datasets/DIV2K/DIV2K_train_HR datasets/Flickr2K -o datasets/DF2K_HR_sub

Sub-folders are included and kept, names become NAME_s001.png, files are lossless PNG with the pixels that the training
loader would read (8-bit RGB). Images smaller than the crop are kept as they are. Run the same command again after an
interruption: images whose sub-images are all there are passed over. Exit code 1: some images could not be read.
"""

from __future__ import annotations

import argparse
from os import path as osp

from _tools import claim, default_workers, encode_png, integer, read_ahead, report, run
from PIL import Image
from tqdm import tqdm

from iarn_basicsr.data.image_source import ImageSource
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_bytes

PROGRAM = 'extract_subimages'


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('inputs', nargs='+', metavar='INPUT_FOLDER', help='folder of HR images, sub-folders included')
    parser.add_argument('-o', '--output', required=True, help='folder for the sub-images')
    parser.add_argument('--crop', type=integer(1, 65536), default=480, help='side of a sub-image (default 480)')
    parser.add_argument('--step', type=integer(1, 65536), default=240, help='from one to the next (default 240)')
    parser.add_argument('--min-rest', type=integer(0, 65536), default=0,
                        help='a rest of more pixels than this gets a sub-image of its own, at the border (default 0)')
    parser.add_argument('--workers', type=integer(1, 256), default=default_workers(), help='threads (default: cores)')
    parser.add_argument('--compression', type=integer(0, 9), default=3, help='of the PNG files (default 3)')
    return run(_extract, parser.parse_args(argv), PROGRAM)


def starts(length: int, crop: int, step: int, min_rest: int) -> list[int]:
    """Where the sub-images begin along an axis; one more ends at the border if over ``min_rest`` pixels are left."""
    regular = list(range(0, max(length - crop, 0) + 1, step))
    rest = length - regular[-1] - crop
    return [*regular, length - crop] if rest > min_rest else regular


def _extract(args: argparse.Namespace) -> int:
    images = _images(args.inputs)
    window = (args.crop, args.step, args.min_rest)
    there = claim(args.output, dict(zip(('crop', 'step', 'min_rest'), window)), args.inputs)
    left = {stem: image for stem, image in images.items() if not _finished(stem, *image, window, there)}
    failures, made = [], 0

    def cut(stem: str) -> tuple[str, list[bytes] | OSError]:
        source, name = left[stem]
        try:
            image = source.read(name)
        except OSError as error:
            return stem, error
        rows, columns = (starts(n, *window) for n in image.shape[:2])
        return stem, [encode_png(image[y:y + args.crop, x:x + args.crop], args.compression)
                      for y in rows for x in columns]

    for stem, pieces in tqdm(read_ahead(cut, left, args.workers), total=len(left), unit='image'):
        if isinstance(pieces, OSError):
            failures.append(str(pieces))
            continue
        for index, content in enumerate(pieces, 1):
            save_bytes(content, osp.join(args.output, _name(stem, index)))
        made += len(pieces)
    print(f'{args.output}: {made} sub-images of {len(left) - len(failures)} images written, {len(images) - len(left)} '
          f'images were done before, {len(failures)} could not be read')
    return report(failures, PROGRAM)


def _images(folders: list[str]) -> dict[str, tuple[ImageSource, str]]:
    """All images by the relative name, without ending, that their sub-images begin with."""
    images: dict[str, tuple[ImageSource, str]] = {}
    for folder in folders:
        source = ImageSource(folder, 'disk', None, 'INPUT_FOLDER')
        for name in source.names:
            stem = osp.splitext(name)[0]
            if stem in images:
                other, other_name = images[stem]
                raise OptionError(f'{other.path(other_name)!r} and {source.path(name)!r} would both become '
                                  f'{_name(stem, 1)!r}: rename one, or cut the folders into different ones')
            images[stem] = source, name
    return images


def _name(stem: str, index: int) -> str:
    return f'{stem}_s{index:03d}.png'


def _finished(stem: str, source: ImageSource, name: str, window: tuple[int, int, int], there: set[str]) -> bool:
    """Whether all sub-images exist; how many there should be is known from the image's header alone."""
    if _name(stem, 1) not in there:
        return False
    try:
        with Image.open(source.path(name)) as image:
            columns, rows = (len(starts(n, *window)) for n in image.size)
    except (OSError, Image.DecompressionBombError):
        return False  # reading it will tell
    return all(_name(stem, k) in there for k in range(1, rows * columns + 1))


if __name__ == '__main__':
    raise SystemExit(main())
