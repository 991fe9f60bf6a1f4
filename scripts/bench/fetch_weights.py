"""Fetch the official weights of one-way SR networks for ``iarn-benchmark``, from where BasicSR's model zoo keeps them.

    python scripts/bench/fetch_weights.py [EDSR-M EDSR-L RRDBNet SwinIR ...] [-o experiments/pretrained_models] [--list]

A file is checked before it gets its name: its size against what the server said, its SHA-256 against the first eight
digits that BasicSR writes into the names of its files, and that it holds a state dict. Files that are there are checked
and kept. A download that broke off stays as NAME.part, and the next call goes on from there. Without a network the
script says which address to fetch on another machine and where to put the file; ``iarn-benchmark`` leaves out methods
whose weights are missing.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from os import path as osp
from typing import NamedTuple

from tqdm import tqdm

from iarn_basicsr.errors import WeightsError
from iarn_basicsr.zoo.weights import read_weights

DRIVE_FOLDER = 'https://drive.google.com/drive/folders/15DgDtfaLASQ3iAPJEVHQF49g9msexECG'  # BasicSR's pretrained models
REPRODUCED = 'https://drive.google.com/drive/folders/1XN4WXKJ53KQ0Cu0Yv-uCt8DZWq6uufaP'  # BasicSR's own trainings
IRN_PAGE = 'https://github.com/pkuxmq/Invertible-Image-Rescaling'
SWINIR = 'https://github.com/JingyunLiang/SwinIR/releases/download/v0.0/001_classicalSR_DF2K_s64w8_SwinIR-M_x{}.pth'
DRIVE = 'https://drive.usercontent.google.com/download?export=download&confirm=t&id={}'  # the file, no page before it
TIMEOUT = 30  # seconds without a byte
CHUNK = 2**18  # bytes


class Source(NamedTuple):
    """Where a file comes from: a Google Drive id, a URL, or a page where a person has to fetch it."""

    drive: str = ''
    url: str = ''
    page: str = ''

    def __str__(self) -> str:
        return self.url or self.page or DRIVE.format(self.drive)


FILES = {
    'EDSR-M': {
        'EDSR/EDSR_Mx2_f64b16_DIV2K_official-3ba7b086.pth': Source('1mREMGVDymId3NzIc2u90sl_X4-pb4ZcV'),
        'EDSR/EDSR_Mx3_f64b16_DIV2K_official-6908f88a.pth': Source('1EriqQqlIiRyPbrYGBbwr_FZzvb3iwqz5'),
        'EDSR/EDSR_Mx4_f64b16_DIV2K_official-0c287733.pth': Source('1bCK6cFYU01uJudLgUUe-jgx-tZ3ikOWn'),
    },
    'EDSR-L': {
        'EDSR/EDSR_Lx2_f256b32_DIV2K_official-be38e77d.pth': Source('15257lZCRZ0V6F9LzTyZFYbbPrqNjKyMU'),
        'EDSR/EDSR_Lx3_f256b32_DIV2K_official-3660f70d.pth': Source('18q_D434sLG_rAZeHGonAX8dkqjoyZ2su'),
        'EDSR/EDSR_Lx4_f256b32_DIV2K_official-76ee1c8f.pth': Source('1GCi30YYCzgMCcgheGWGusP9aWKOAy5vl'),
    },
    'RRDBNet': {
        'ESRGAN/ESRGAN_PSNR_SRx4_DF2K_official-150ff491.pth': Source('1swaV5iBMFfg-DL6ZyiARztbhutDCWXMM'),
    },
    'SwinIR': {f'SwinIR/{osp.basename(SWINIR.format(k))}': Source(url=SWINIR.format(k)) for k in (2, 3, 4)},
    'RCAN': {'RCAN/RCAN_BIX4-official.pth': Source(page=DRIVE_FOLDER)},
    'MSRResNet': {f'MSRResNet/MSRResNet_x{k}.pth': Source(page=REPRODUCED) for k in (2, 3, 4)},
    'IRN': {f'IRN/IRN_x{k}.pth': Source(page=IRN_PAGE) for k in (2, 3, 4)},
}


def problem(path: str, name: str) -> str | None:
    """What is wrong with a fetched file, or None; ``name`` is the one it is to have."""
    expected = re.search(r'-([0-9a-f]{8})\.pth$', name)
    if expected:
        with open(path, 'rb') as file:
            found = hashlib.sha256(file.read()).hexdigest()
        if not found.startswith(expected[1]):
            return f'its SHA-256 begins {found[:8]}, expected {expected[1]}'
    try:
        read_weights(path)
    except WeightsError as error:
        return str(error)
    return None


def download(url: str, part: str) -> str | None:
    """Fetch into ``part``, after what is there already; returns why the file is not whole, or None.

    Raises:
        OSError, HTTPException: without a network; what arrived earlier stays in ``part``.
    """
    have = osp.getsize(part) if osp.isfile(part) else 0
    request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        return None  # there is nothing after what we have; the check of the file decides
    with response:
        have = have if response.status == 206 else 0  # a server that knows no ranges sends the whole file
        length = response.headers.get('Content-Length')
        total = have + int(length) if length else None
        with open(part, 'ab' if have else 'wb') as file, tqdm(
                desc=osp.basename(part), total=total, initial=have, unit='B', unit_scale=True, disable=None) as bar:
            while chunk := _read(response):
                file.write(chunk)
                bar.update(len(chunk))
    size = osp.getsize(part)
    return None if total in (None, size) else f'broke off after {size:,} of {total:,} bytes; run this again to go on'


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next bytes; none at the end, or where the connection broke: the size tells."""
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException):
        return b''


def fetch(name: str, source: Source, root: str) -> str | None:
    """Make sure that a file is there and right; returns what is wrong with it and what to do, or None."""
    path = osp.join(root, name)
    if osp.isfile(path):
        wrong = problem(path, name)
        return wrong and f'{wrong}; remove it and run this again'
    if source.page:
        return f'has no direct address; fetch it from where {source} links it and save it as {path}'
    os.makedirs(osp.dirname(path), exist_ok=True)
    part = f'{path}.part'
    try:
        broken = download(str(source), part)
    except (OSError, http.client.HTTPException) as error:
        return (f'cannot be fetched ({type(error).__name__}: {str(error)[:120]}); fetch {source} on a machine with a '
                f'network and save it as {path}')
    if broken:
        return broken
    wrong = problem(part, name)
    if wrong:
        os.remove(part)
        return f'as fetched from {source}: {wrong}'
    os.replace(part, path)
    return None


def main(argv: list[str] | None = None) -> int:
    """Exit code 1 if a file is still missing or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('networks', nargs='*', metavar='NETWORK', help=f'of {", ".join(FILES)}; default: all')
    parser.add_argument('-o', '--output', default='experiments/pretrained_models')
    parser.add_argument('--list', action='store_true', help='print the files and their addresses, fetch nothing')
    args = parser.parse_args(argv)
    unknown = [n for n in args.networks if n not in FILES]
    if unknown:
        parser.error(f'unknown network {unknown[0]!r}: choose from {", ".join(FILES)}')
    failed = 0
    for network in args.networks or FILES:
        for name, source in FILES[network].items():
            if args.list:
                print(f'{network}\t{osp.join(args.output, name)}\t{source}')
                continue
            wrong = fetch(name, source, args.output)
            failed += wrong is not None
            print(f'{osp.join(args.output, name)}: {wrong or "ok"}', flush=True)
    if failed:
        print(f'\n{failed} files are not there; each line above says what to do.', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    raise SystemExit(main())
