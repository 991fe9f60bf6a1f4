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

import lmdb
from _tools import WORKERS, integer, read_ahead, report, run
from tqdm import tqdm

from iarn_basicsr.data.image_source import ImageSource
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_text

PROGRAM = 'make_lmdb'
MAX_KEY = 511  # of LMDB


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='FOLDER', help='folder of images, sub-folders included')
    parser.add_argument('-o', '--output', required=True, help='the LMDB; its name must end in .lmdb')
    parser.add_argument('--workers', type=integer(1, 256), default=WORKERS, help='threads (default: cores)')
    return run(pack, parser.parse_args(argv), PROGRAM)


def pack(args: argparse.Namespace) -> int:
    """Fill the LMDB and give it its name."""
    output = args.output.rstrip('/\\')
    if not output.endswith('.lmdb'):
        raise OptionError(f'-o: {args.output!r} must end in .lmdb, by which BasicSR knows an LMDB')
    source = ImageSource(args.folder, 'disk', None, 'FOLDER')
    names = keys_of(source)
    if osp.exists(output):
        return check_finished(output, names)
    partial = output + '.partial'
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was interrupted
    os.makedirs(partial)
    try:
        lines, failures = fill(partial, source, names, args.workers)
    except lmdb.Error as error:  # a full disk may be called 'Input/output error'
        free = shutil.disk_usage(partial).free / 2**20
        raise OSError(f'{partial!r}: {error} ({free:.1f} MiB are free on its disk)') from None
    if failures:
        failures.append(f'{output!r} is not complete because of the images above: repair or remove them and run the '
                        'same command again')
        return report(failures, PROGRAM)
    save_text(''.join(lines), osp.join(partial, 'meta_info.txt'))
    os.unlink(osp.join(partial, 'lock.mdb'))
    os.replace(partial, output)
    print(f'{output}: {len(names)} images, {osp.getsize(osp.join(output, "data.mdb")) / 2**20:.1f} MiB')
    if any('.' in key for key in names):
        print('note: some names have more than one dot: ArbitraryScaleDataset reads them, BasicSR\'s datasets do not')
    return 0


def keys_of(source: ImageSource) -> dict[str, str]:
    """File names by LMDB key.

    Raises:
        OptionError: for a name that cannot be a key, or two files with the same one.
    """
    names: dict[str, str] = {}
    for name in source.names:
        key = osp.splitext(name)[0].replace(os.sep, '/')
        if not (key.isascii() and key.isprintable() and key == key.strip() and len(key) <= MAX_KEY):
            raise OptionError(f'{source.path(name)!r}: BasicSR\'s LMDB keys are ASCII text of at most {MAX_KEY} '
                              'characters without control characters or blanks at the ends: rename this file or folder')
        if key in names:
            raise OptionError(f'{source.path(names[key])!r} and {source.path(name)!r} would both have the key {key!r}: '
                              'rename one')
        names[key] = name
    return names


def check_finished(output: str, names: dict[str, str]) -> int:
    """An LMDB that has its name is complete; it must hold the images of the folder."""
    there = set(ImageSource(output, 'lmdb', None, '-o').names)
    if there != set(names):
        raise OptionError(f'-o: {output!r} exists and holds other images ({len(there - set(names))} too many, '
                          f'{len(set(names) - there)} missing): remove it or choose another name')
    print(f'{output}: already made, {len(names)} images')
    return 0


def fill(partial: str, source: ImageSource, names: dict[str, str], workers: int) -> tuple[list[str], list[str]]:
    """Store all images; returns their lines of ``meta_info.txt``, and what could not be read."""

    def load(key: str) -> tuple[str, str, bytes] | OSError:
        try:
            height, width, channels = source.read(names[key]).shape
            with open(source.path(names[key]), 'rb') as file:
                return key, f'{key}.png ({height},{width},{channels}) 1\n', file.read()
        except OSError as error:
            return error

    total = sum(osp.getsize(source.path(name)) for name in names.values())
    lines, failures = [], []
    with lmdb.open(partial, map_size=total * 5 // 4 + len(names) * 8192 + 2**24, sync=False) as environment:
        for item in tqdm(read_ahead(load, sorted(names), workers), total=len(names), unit='image'):
            if isinstance(item, OSError):
                failures.append(str(item))
                continue
            key, line, content = item
            lines.append(line)
            with environment.begin(write=True) as transaction:
                transaction.put(key.encode('ascii'), content)
        environment.sync(True)
    return lines, failures


if __name__ == '__main__':
    raise SystemExit(main())
