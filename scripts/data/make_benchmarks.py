"""Make the benchmark sets Set5, Set14, B100 and Urban100, and BSDS400 for training, from what can be downloaded.

    python scripts/data/make_benchmarks.py SelfExSR-master.zip      # datasets/Set5, Set14, B100, Urban100
    python scripts/data/make_benchmarks.py BSR_bsds500.tgz          # datasets/BSDS400 and datasets/B100

A source is an archive (.zip, .tgz, .tar) or the folder that was extracted or cloned from it:

SelfExSR, https://github.com/jbhuang0604/SelfExSR, has the four benchmarks: the HR files of ``data/SET/image_SRF_2``.
BSDS500, http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz (70 MB; non-commercial
research and education only), has the 200 photographs of ``train`` and the 200 of ``test``, which are BSDS400, and those
of ``val``, which are B100 and never go into BSDS400.

Files are copied byte for byte. To resume, run the same command again. A set that exists is kept, even if it was made
from the other source.
"""

from __future__ import annotations

import argparse
import gzip
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from os import path as osp
from pathlib import Path

from _tools import command, run

from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import is_image, save_bytes

COUNTS = {'Set5': 5, 'Set14': 14, 'B100': 100, 'Urban100': 100, 'BSDS400/train': 200, 'BSDS400/test': 200}
SELFEXSR = re.compile(r'(Set5|Set14|BSD100|Urban100)/image_SRF_2/([\w-]+)_SRF_2_HR(\.png)$')
BSDS500 = re.compile(r'(?:^|images/)(train|test|val)/([\w-]+)(\.jpg)$')
SETS = {'BSD100': 'B100', 'val': 'B100', 'train': 'BSDS400/train', 'test': 'BSDS400/test'}


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = command('make_benchmarks', __doc__)
    parser.add_argument('source', metavar='ARCHIVE_OR_FOLDER', help='of SelfExSR or BSDS500')
    parser.add_argument('-o', '--output', default='datasets', help='folder of all data sets (default: %(default)s)')
    return run(make, parser, argv)


def make(args: argparse.Namespace) -> list[str]:
    """Write all sets that the source has, once all of them are known to be complete."""
    sets: dict[str, dict[str, bytes]] = {}
    for name, content in members(args.source):
        match = wanted(name)
        sets.setdefault(SETS.get(match[1], match[1]), {})[match[2] + match[3]] = content
    if not sets:
        raise OptionError(f'{args.source!r} holds neither data/SET/image_SRF_2 (SelfExSR) nor images/train, test and '
                          'val (BSDS500)')
    for name, files in sets.items():
        if len(files) != COUNTS[name]:
            raise OptionError(f'{args.source!r} holds {len(files)} images of {name}, expected {COUNTS[name]}: a part '
                              'of it is missing')
    for name, files in sets.items():
        folder = Path(args.output, name)
        there = {p.name for p in folder.rglob('*') if is_image(p.name)}
        if there - files.keys():
            if len(there) != COUNTS[name]:
                raise OptionError(f'{str(folder)!r} holds other images, such as {min(there - files.keys())!r}: remove '
                                  'them, or choose another folder with -o')
            print(f'{folder}: kept, it was made from another source')
            continue
        new = {n: c for n, c in files.items() if not (folder / n).is_file() or (folder / n).read_bytes() != c}
        for file, content in new.items():
            save_bytes(content, str(folder / file))
        print(f'{folder}: {len(files)} images, {len(new)} of them written now')
    return []


def wanted(name: str) -> re.Match[str] | None:
    """Set, name and ending of a file that belongs to one."""
    return SELFEXSR.search(name) or BSDS500.search(name)


def members(source: str) -> Iterator[tuple[str, bytes]]:
    """(name with /, content) of the files of a folder or an archive that belong to a set.

    Raises:
        OptionError: if the source is missing, not an archive, or damaged.
    """
    if osp.isdir(source):
        for path in sorted(Path(source).rglob('*')):
            name = path.relative_to(source).as_posix()
            if wanted(name) and path.is_file():
                yield name, path.read_bytes()
        return
    if not osp.isfile(source):
        raise OptionError(f'{source!r} does not exist: expected the archive or folder of SelfExSR or BSDS500')
    try:
        if zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                for name in archive.namelist():
                    if wanted(name):
                        yield name, archive.read(name)
            return
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isfile() and wanted(member.name):
                    yield member.name, archive.extractfile(member).read()
            while archive.fileobj.read(2**20):  # the checksum of a .tgz follows the last member
                pass
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise OptionError(f'{source!r} is not a zip or tar archive, or is damaged ({type(error).__name__}): download '
                          'it again') from None


if __name__ == '__main__':
    raise SystemExit(main())
