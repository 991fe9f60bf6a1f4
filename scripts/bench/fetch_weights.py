"""Fetch the weights that other authors publish, for ``iarn-benchmark``.

    python scripts/bench/fetch_weights.py [EDSR-M SwinIR DCTLSA ...] [-o experiments/pretrained_models] [--list]

A file is checked before it gets its name: that it holds a state dict, and its SHA-256 where one is known, which is that
in the table below or the first eight digits that BasicSR writes into names. Files that are there are checked and kept.
Without a network the script says which address to fetch on another machine and where to put the file.

T-IRN, TSAIN, SAIN and ArbRCAN run in their authors' code only; the benchmark does not read them, and they are fetched
only by name.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import re
import socket
import sys
from os import path as osp
from typing import NamedTuple

import torch

from iarn_basicsr.errors import WeightsError
from iarn_basicsr.files import atomic_write
from iarn_basicsr.zoo.weights import read_weights

DRIVE_FOLDER = 'https://drive.google.com/drive/folders/15DgDtfaLASQ3iAPJEVHQF49g9msexECG'  # BasicSR's pretrained models
REPRODUCED = 'https://drive.google.com/drive/folders/1XN4WXKJ53KQ0Cu0Yv-uCt8DZWq6uufaP'  # BasicSR's own trainings
IRN_PAGE = 'https://github.com/pkuxmq/Invertible-Image-Rescaling'
SWINIR = 'https://github.com/JingyunLiang/SwinIR/releases/download/v0.0/001_classicalSR_DF2K_s64w8_SwinIR-M_x{}.pth'
# owner, repository and commit
DCTLSA = 'zengkun301/DCTLSA/0756bc8554e86c62f1ae4355eed0f05a8feaa2bf'
VAPSR = 'zhoumumu/VapSR/404c584e21ed92b3c9ddc3da8272d366c978148f'
BSRN = 'xiaom233/BSRN/2d63d5239c9fa9810b9c1aea93e98d42ece09efc'
T_INVBLOCKS = 'Jingwei-Bao/T-InvBlocks/3590f069420ae2e88d4e2804a4b93c4e3dc5530d'
SAIN = 'yang-jin-hai/SAIN/e361d7a0d34b31468f1e47b3e4f181b0e2ca7d46'
ARBSR = 'The-Learning-And-Vision-Atelier-LAVA/ArbSR/e4f3000d839274c4267a53cf24120d61dae8104d'
TIMEOUT = 30  # seconds without a byte


class Source(NamedTuple):
    """Where a file comes from, and its SHA-256 if known; at a ``page`` a person has to fetch it."""

    url: str
    sha256: str = ''
    page: bool = False


def drive(identity: str) -> Source:
    """A file of Google Drive, without the page that comes before it."""
    return Source(f'https://drive.usercontent.google.com/download?export=download&confirm=t&id={identity}')


def github(commit: str, path: str, sha256: str = '') -> Source:
    """A file of a repository at a commit."""
    return Source(f'https://raw.githubusercontent.com/{commit}/{path}', sha256)


FILES = {
    'EDSR-M': {
        'EDSR/EDSR_Mx2_f64b16_DIV2K_official-3ba7b086.pth': drive('1mREMGVDymId3NzIc2u90sl_X4-pb4ZcV'),
        'EDSR/EDSR_Mx3_f64b16_DIV2K_official-6908f88a.pth': drive('1EriqQqlIiRyPbrYGBbwr_FZzvb3iwqz5'),
        'EDSR/EDSR_Mx4_f64b16_DIV2K_official-0c287733.pth': drive('1bCK6cFYU01uJudLgUUe-jgx-tZ3ikOWn'),
    },
    'EDSR-L': {
        'EDSR/EDSR_Lx2_f256b32_DIV2K_official-be38e77d.pth': drive('15257lZCRZ0V6F9LzTyZFYbbPrqNjKyMU'),
        'EDSR/EDSR_Lx3_f256b32_DIV2K_official-3660f70d.pth': drive('18q_D434sLG_rAZeHGonAX8dkqjoyZ2su'),
        'EDSR/EDSR_Lx4_f256b32_DIV2K_official-76ee1c8f.pth': drive('1GCi30YYCzgMCcgheGWGusP9aWKOAy5vl'),
    },
    'RRDBNet': {
        'ESRGAN/ESRGAN_PSNR_SRx4_DF2K_official-150ff491.pth': drive('1swaV5iBMFfg-DL6ZyiARztbhutDCWXMM'),
    },
    'SwinIR': {f'SwinIR/{osp.basename(SWINIR.format(k))}': Source(SWINIR.format(k)) for k in (2, 3, 4)},
    'RCAN': {'RCAN/RCAN_BIX4-official.pth': Source(DRIVE_FOLDER, page=True)},
    'MSRResNet': {f'MSRResNet/MSRResNet_x{k}.pth': Source(REPRODUCED, page=True) for k in (2, 3, 4)},
    'IRN': {f'IRN/IRN_x{k}.pth': Source(IRN_PAGE, page=True) for k in (2, 3, 4)},
    'DCTLSA': {f'DCTLSA/X{k}.pt': github(DCTLSA, f'pretrained/X{k}.pt', sha256) for k, sha256 in (
        (2, 'df08c0b6dc0a034c63b6d425586ac3c13ed227db75bb0282b012b4220e943eb9'),
        (3, '4af9979200d385177ea5284215f144a85cebf5037014af164b1efe5a5beea86d'),
        (4, '58d822beb3a1bf1d3e5dc91371a5686debda6bdbf246a4484805bda37cb18c06'))},
    'VapSR': {f'VapSR/VapSR_X{k}.pth': github(VAPSR, f'VapSR_X{k}.pth', sha256) for k, sha256 in (
        (2, '6cbe6af3c18c16c8a2c9b83f484761693884f972e29a4a20e84f64b84d0a10cc'),
        (3, '5c0052ea719174ea43e55f337655196fa1564ba2e0b04c3220a1312a18405a09'),
        (4, 'fa6b84a174d8994eaaaa38156c9d751109b27c833bceeeb6018523e4d8a48ea0'))},
    'BSRN': {f'BSRN/BSRN_x{k}.pth': github(BSRN, f'experiments/pretrained_models/net_g_BSRN_x{k}.pth', sha256)
             for k, sha256 in (
        (2, '09bd1f85e017c7902e65a9c9770ee592efe3d013f6b5cf1fe7de8cabac4ba37d'),
        (3, '6eb73a300aaec5029bc0de7f5ae85c02b8dcd8fdaf438c77f90272939fecca7e'),
        (4, '47518e0f549f5696da0c84ca2d65bf50d789c7ac20e621909f5fd6c8c8d70bcb'))},
}
ELSEWHERE = {  # for their authors' code
    **{name: {f'{name}/{file}x{k}.pth': github(T_INVBLOCKS, f'experiments/pretrained_{file}/{file}x{k}.pth')
              for k in (2, 4)} for name, file in (('T-IRN', 'TIRN'), ('TSAIN', 'TSAIN'))},
    'SAIN': {f'SAIN/SAIN{k}.pth': github(SAIN, f'experiments/pretrained_models/SAIN{k}.pth')
             for k in ('x2_JPEG', 'x2_WebP', 'x4_JPEG')},
    'ArbRCAN': {'ArbRCAN/model_150.pt': github(ARBSR, 'experiment/ArbRCAN/model/model_150.pt')},
}


def problem(path: str, sha256: str) -> str | None:
    """What is wrong with a fetched file, or None; ``sha256``: the digits that are known."""
    with open(path, 'rb') as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if not found.startswith(sha256):
        return f'its SHA-256 begins {found[:8]}, expected {sha256[:8]}'
    try:
        read_weights(path)
    except WeightsError as error:
        return str(error)
    return None


def fetch(name: str, source: Source, root: str) -> str | None:
    """Make sure that a file is there and right; returns what is wrong with it and what to do, or None."""
    path = osp.join(root, name)
    in_name = re.search(r'-([0-9a-f]{8})\.pth$', name)
    sha256 = source.sha256 or (in_name[1] if in_name else '')
    if osp.isfile(path):
        wrong = problem(path, sha256)
        return wrong and f'{wrong}; remove it and run this again'
    if source.page:
        return f'has no direct address; fetch it from where {source.url} links it and save it as {path}'

    def save(part: str) -> None:
        torch.hub.download_url_to_file(source.url, part, progress=sys.stderr.isatty())
        wrong = problem(part, sha256)
        if wrong:
            raise WeightsError(f'as fetched from {source.url}: {wrong}')

    try:
        atomic_write(path, save)
    except WeightsError as error:
        return str(error)
    except (OSError, http.client.HTTPException) as error:
        return (f'cannot be fetched ({type(error).__name__}: {str(error)[:120]}); fetch {source.url} on a machine with '
                f'a network and save it as {path}')
    return None


def main(argv: list[str] | None = None) -> int:
    """Exit code 1 if a file is still missing or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('networks', nargs='*', metavar='NETWORK',
                        help=f'of {", ".join(FILES)} (default: all of these), {", ".join(ELSEWHERE)}')
    parser.add_argument('-o', '--output', default='experiments/pretrained_models')
    parser.add_argument('--list', action='store_true', help='print the files and their addresses, fetch nothing')
    args = parser.parse_args(argv)
    known = {**FILES, **ELSEWHERE}
    unknown = [n for n in args.networks if n not in known]
    if unknown:
        parser.error(f'unknown network {unknown[0]!r}: choose from {", ".join(known)}')
    failed = 0
    for network in args.networks or (known if args.list else FILES):
        for name, source in known[network].items():
            if args.list:
                print(f'{network}\t{osp.join(args.output, name)}\t{source.url}')
                continue
            wrong = fetch(name, source, args.output)
            failed += wrong is not None
            print(f'{osp.join(args.output, name)}: {wrong or "ok"}', flush=True)
    if failed:
        print(f'\n{failed} files are not there; each line above says what to do.', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    socket.setdefaulttimeout(TIMEOUT)
    raise SystemExit(main())
