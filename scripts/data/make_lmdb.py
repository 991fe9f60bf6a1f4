"""Pack a folder of images into an LMDB that ArbitraryScaleDataset and BasicSR's own datasets read.

    python scripts/data/make_lmdb.py datasets/DIV2K/DIV2K_train_HR_sub -o datasets/DIV2K/DIV2K_train_HR_sub.lmdb

The key of an image is its path in the folder without the last ending (``sub/0001_s001``). Every file is decoded once,
so that a damaged one is found here and not in training, and its bytes are stored unchanged: the LMDB gives exactly the
pixels of the folder. ``meta_info.txt`` has BasicSR's format, ``KEY.png (height,width,3) 1``, in which ``.png`` and
``1`` say nothing about the bytes.

The LMDB is written to OUTPUT.partial, which no loader accepts, then renamed. To resume after an interruption, a full
disk or a repaired image, run the same command again.
"""

# BasicSR's LmdbMaker reserves 1 TB and cannot resume.

from __future__ import annotations

import argparse
import os
import re
import shutil
from os import path as osp
from typing import TextIO

import lmdb
from _tools import WORKERS, integer, read_ahead, report, run
from tqdm import tqdm

from iarn_basicsr.data.image_source import ImageSource
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_text

PROGRAM = 'make_lmdb'
COMMIT_BYTES = 64 * 2**20  # an interruption loses at most this much
MAX_KEY = 511  # of LMDB
LINES = 'lines.txt'  # of a half-made LMDB


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
    os.makedirs(partial, exist_ok=True)
    try:
        failures = fill(partial, source, names, args.workers)
    except lmdb.Error as error:  # a full disk may be called 'Input/output error'
        free = shutil.disk_usage(partial).free / 2**20
        raise OSError(f'{partial!r}: {error} ({free:.1f} MiB are free on its disk)') from None
    if failures:
        failures.append(f'{output!r} is not complete because of the images above: repair or remove them and run the '
                        'same command again')
        return report(failures, PROGRAM)
    lines = known_lines(partial)
    save_text(''.join(lines[k] for k in sorted(names)), osp.join(partial, 'meta_info.txt'))
    for leftover in (LINES, 'lock.mdb'):
        os.unlink(osp.join(partial, leftover))
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


def fill(partial: str, source: ImageSource, names: dict[str, str], workers: int) -> list[str]:
    """Store what is not stored yet; returns what could not be read.

    The line of an image for ``meta_info.txt`` is on disk before the image is committed: a stored image has its line.
    """
    sizes = {key: osp.getsize(source.path(name)) for key, name in names.items()}
    environment = lmdb.open(partial, map_size=sum(sizes.values()) * 5 // 4 + len(names) * 8192 + 2**24)
    failures: list[str] = []

    def load(key: str) -> tuple[str, str, bytes] | OSError:
        try:
            height, width, channels = source.read(names[key]).shape
            with open(source.path(names[key]), 'rb') as file:
                return key, f'{key}.png ({height},{width},{channels}) 1\n', file.read()
        except OSError as error:
            return error

    with environment, open(osp.join(partial, LINES), 'a', encoding='ascii') as lines:
        lines.write('\n')  # after a line that an interruption may have cut short
        done = stored(environment, sizes)
        left = [key for key in names if key not in done]
        batch, batch_bytes = {}, 0
        for item in tqdm(read_ahead(load, left, workers), total=len(names), initial=len(done), unit='image'):
            if isinstance(item, OSError):
                failures.append(str(item))
                continue
            key, line, batch[key] = item
            lines.write(line)
            batch_bytes += len(batch[key])
            if batch_bytes >= COMMIT_BYTES:
                commit(environment, batch, lines)
                batch, batch_bytes = {}, 0
        commit(environment, batch, lines)
    return failures


def stored(environment: lmdb.Environment, sizes: dict[str, int]) -> set[str]:
    """Keys that hold as many bytes as their file; images that are no longer in the folder are taken out."""
    with environment.begin(write=True, buffers=True) as transaction:
        lengths = {bytes(key).decode('ascii'): len(content) for key, content in transaction.cursor()}
        for key in lengths.keys() - sizes.keys():
            transaction.delete(key.encode('ascii'))
    return {key for key, length in lengths.items() if sizes.get(key) == length}


def commit(environment: lmdb.Environment, batch: dict[str, bytes], lines: TextIO) -> None:
    lines.flush()
    os.fsync(lines.fileno())
    with environment.begin(write=True) as transaction:
        for key, content in batch.items():
            transaction.put(key.encode('ascii'), content)


def known_lines(partial: str) -> dict[str, str]:
    """Lines of ``meta_info.txt`` by key; the newest of a key counts."""
    with open(osp.join(partial, LINES), encoding='ascii') as file:
        matches = (re.fullmatch(r'(.+)\.png \(\d+,\d+,3\) 1\n?', line) for line in file)
        return {match[1]: match[0].rstrip('\n') + '\n' for match in matches if match}


if __name__ == '__main__':
    raise SystemExit(main())
