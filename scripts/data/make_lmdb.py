"""Pack a folder of images into an LMDB that ArbitraryScaleDataset and BasicSR's own datasets read.

    python scripts/data/make_lmdb.py datasets/DIV2K/DIV2K_train_HR_sub -o datasets/DIV2K/DIV2K_train_HR_sub.lmdb

The key of an image is its path in the folder without the last ending (``sub/0001_s001``). Every file is decoded once,
so that a damaged one is found here and not in training, and its bytes are stored unchanged: the LMDB gives exactly the
pixels of the folder. ``meta_info.txt`` has BasicSR's format, ``KEY.png (height,width,3) 1``, in which ``.png`` and
``1`` say nothing about the bytes.

The LMDB is written to OUTPUT.partial, which no loader accepts, then renamed. After an interruption, a full disk or a
repaired image, the same command starts again. BasicSR's own LmdbMaker reserves 1 TB.
"""

from __future__ import annotations

import argparse
import os
import shutil
from os import path as osp

import cv2
import lmdb
from _tools import WORKERS, command, images_by_stem, integer, read_ahead, run
from tqdm import tqdm

from iarn_basicsr.data.image_source import ImageSource
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_text

MAX_KEY = 511  # of LMDB


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = command('make_lmdb', __doc__)
    parser.add_argument('folder', metavar='FOLDER', help='folder of images, sub-folders included')
    parser.add_argument('-o', '--output', required=True, help='the LMDB; its name must end in .lmdb')
    parser.add_argument('--workers', type=integer(1, 256), default=WORKERS, help='threads (default: cores)')
    return run(pack, parser, argv)


def pack(args: argparse.Namespace) -> list[str]:
    """Fill the LMDB and give it its name."""
    output = args.output.rstrip('/\\')
    if not output.endswith('.lmdb'):
        raise OptionError(f'-o: {args.output!r} must end in .lmdb, by which BasicSR knows an LMDB')
    images = {stem.replace(os.sep, '/'): image for stem, image in images_by_stem([args.folder], 'FOLDER', '{}').items()}
    for key, (source, name) in images.items():
        if not (key.isascii() and key.isprintable() and key == key.strip() and len(key) <= MAX_KEY):
            raise OptionError(f'{source.path(name)!r}: BasicSR\'s LMDB keys are ASCII text of at most {MAX_KEY} '
                              'characters without control characters or blanks at the ends: rename this file or folder')
    if osp.exists(output):  # it is complete, or it would not have its name
        there = set(ImageSource(output, 'lmdb', None, '-o').names)
        if there != set(images):
            raise OptionError(f'-o: {output!r} exists and holds other images ({len(there - set(images))} too many, '
                              f'{len(set(images) - there)} missing): remove it or choose another name')
        print(f'{output}: already made, {len(images)} images')
        return []
    partial = output + '.partial'
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was interrupted
    os.makedirs(partial)
    try:
        lines, failures = fill(partial, images, args.workers)
    except lmdb.Error as error:  # a full disk may be called 'Input/output error'
        free = shutil.disk_usage(partial).free / 2**20
        raise OSError(f'{partial!r}: {error} ({free:.1f} MiB are free on its disk)') from None
    if failures:
        return [*failures, f'{output!r} is not complete because of the images above: repair or remove them and run the '
                           'same command again']
    save_text(''.join(lines), osp.join(partial, 'meta_info.txt'))
    os.unlink(osp.join(partial, 'lock.mdb'))
    os.replace(partial, output)
    print(f'{output}: {len(images)} images, {osp.getsize(osp.join(output, "data.mdb")) / 2**20:.1f} MiB')
    if any('.' in key for key in images):
        print('note: some names have more than one dot: ArbitraryScaleDataset reads them, BasicSR\'s datasets do not')
    return []


def fill(partial: str, images: dict[str, tuple[ImageSource, str]], workers: int) -> tuple[list[str], list[str]]:
    """Store all images; returns their lines of ``meta_info.txt``, and what could not be read."""

    def load(key: str) -> tuple[str, str, bytes]:
        source, name = images[key]
        path = source.path(name)
        height, width, channels = source.read(name).shape
        if not cv2.haveImageReader(path):
            raise OSError(f'{path!r}: OpenCV, which decodes an LMDB in training, does not know this kind: save it as '
                          'a PNG')
        with open(path, 'rb') as file:
            return key, f'{key}.png ({height},{width},{channels}) 1\n', file.read()

    total = sum(osp.getsize(source.path(name)) for source, name in images.values())
    lines, failures = [], []
    with lmdb.open(partial, map_size=total * 5 // 4 + len(images) * 8192 + 2**24, sync=False) as environment:
        loaded = read_ahead(load, sorted(images), workers, failures)
        for key, line, content in tqdm(loaded, total=len(images), unit='image'):
            lines.append(line)
            with environment.begin(write=True) as transaction:
                transaction.put(key.encode('ascii'), content)
        environment.sync(True)
    return lines, failures


if __name__ == '__main__':
    raise SystemExit(main())
