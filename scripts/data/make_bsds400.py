"""Take BSDS400, the 400 training photographs of the Berkeley Segmentation Dataset, from its archive.

    python scripts/data/make_bsds400.py BSR_bsds500.tgz -o datasets/BSDS400 --b100 datasets/B100

The archive (70 MB) is at http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz . Its
photographs are for non-commercial research and education only: P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, "Contour
Detection and Hierarchical Image Segmentation", TPAMI 2011. The folder that was made of the archive will do as well, or
any folder with ``train`` and ``test`` directly below.

The 200 photographs of ``train`` and the 200 of ``test`` go into folders of these names, byte by byte. Those of ``val``
are the benchmark B100: they never go there, only into the folder that ``--b100`` names. Run the same command again
after an interruption: photographs that are there are passed over.
"""

from __future__ import annotations

import argparse
import gzip
import tarfile
import zlib
from os import path as osp
from pathlib import Path, PurePosixPath

from _tools import is_below, run

from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import is_image, save_bytes

PROGRAM = 'make_bsds400'
TRAINING, BENCHMARK = ('train', 'test'), 'val'
COUNTS = {'train': 200, 'test': 200, 'val': 100}
PLACES = ('', 'images', 'data/images', 'BSDS500/data/images', 'BSR/BSDS500/data/images')  # in an extracted archive

Photographs = dict[str, dict[str, bytes]]  # split -> name -> content of the file


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='ARCHIVE_OR_FOLDER', help='BSR_bsds500.tgz, or what was extracted from it')
    parser.add_argument('-o', '--output', required=True, help='folder for the 400 photographs')
    parser.add_argument('--b100', metavar='FOLDER', help='folder for the 100 photographs of val (default: not taken)')
    return run(lambda args: make(args.source, args.output, args.b100), parser.parse_args(argv), PROGRAM)


def make(source: str, output: str, b100: str | None, counts: dict[str, int] = COUNTS) -> int:
    """Write the photographs of a source that are not there yet; returns the exit code.

    Raises:
        OptionError: if the source is not BSDS500 with ``counts`` photographs, or an output folder holds other images.
    """
    if b100 is not None and (is_below(b100, output) or is_below(output, b100)):
        raise OptionError(f'--b100: {b100!r} and the folder of -o, {output!r}, must lie apart, or the benchmark would '
                          'be trained on')
    splits = TRAINING if b100 is None else (*TRAINING, BENCHMARK)
    photographs = read_folder(source) if osp.isdir(source) else read_archive(source)
    for split in splits:
        if len(photographs[split]) != counts[split]:
            raise OptionError(f'{source!r} has {len(photographs[split])} photographs in {split}, expected '
                              f'{counts[split]}: it is not BSDS500, or a part of it is missing')
    outputs = {output: {f'{split}/{name}': content for split in TRAINING
                        for name, content in photographs[split].items()}}
    if b100 is not None:
        outputs[b100] = photographs[BENCHMARK]
    for folder, files in outputs.items():
        _refuse_others(folder, files)
    for folder, files in outputs.items():
        written = sum(_save(content, osp.join(folder, *name.split('/'))) for name, content in files.items())
        print(f'{folder}: {len(files)} photographs, {written} of them written now')
    return 0


def read_archive(path: str) -> Photographs:
    """Photographs of the archive. Nothing is extracted: only the last part of a member's name is used.

    Raises:
        OptionError: if it is not an archive, is damaged, or has a link or a path that leads outside among them.
    """
    photographs: Photographs = {split: {} for split in COUNTS}
    if not osp.isfile(path):
        raise OptionError(f'{path!r} does not exist: name BSR_bsds500.tgz or the folder that was extracted from it')
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                place = PurePosixPath(member.name)
                if member.isdir() or place.parent.name not in photographs or not is_image(place.name):
                    continue
                if not member.isfile() or place.is_absolute() or '..' in place.parts or '\\' in member.name:
                    raise OptionError(f'{path!r}: its member {member.name!r} is a link or leads outside: this is not '
                                      'the archive of BSDS500')
                photographs[place.parent.name][place.name] = archive.extractfile(member).read()
            while archive.fileobj.read(2**20):  # the checksum of a .tgz stands behind the last member
                pass
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise OptionError(f'{path!r} is not a tar archive, or is damaged ({type(error).__name__}): fetch it '
                          'again') from None
    return photographs


def read_folder(folder: str) -> Photographs:
    """Photographs of the extracted archive.

    Raises:
        OptionError: if it has no folders ``train`` and ``test``.
    """
    places = [osp.join(folder, *place.split('/')) for place in PLACES]
    root = next((p for p in places if all(osp.isdir(osp.join(p, split)) for split in TRAINING)), None)
    if root is None:
        raise OptionError(f'{folder!r} holds no folders train and test, nor BSR/BSDS500/data/images with them')
    photographs: Photographs = {split: {} for split in COUNTS}
    for split, found in photographs.items():
        for path in sorted(Path(root, split).glob('*')):
            if is_image(path.name):
                found[path.name] = path.read_bytes()
    return photographs


def _refuse_others(folder: str, files: dict[str, bytes]) -> None:
    """Other images in a folder that is to be a known set would be trained on, or measured, unnoticed."""
    there = (path for path in Path(folder).rglob('*') if is_image(path.name))
    others = sorted(str(path) for path in there if path.relative_to(folder).as_posix() not in files)
    if others:
        raise OptionError(f'{folder!r} holds other images, such as {others[0]!r}: remove them or choose another folder')


def _save(content: bytes, path: str) -> bool:
    """Write a file unless it is there with this content; whether it was written."""
    if osp.isfile(path) and Path(path).read_bytes() == content:
        return False
    save_bytes(content, path)
    return True


if __name__ == '__main__':
    raise SystemExit(main())
