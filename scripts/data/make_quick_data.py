"""Write the photographs that scikit-image ships as a small data set; nothing is downloaded.

    python scripts/data/make_quick_data.py -o datasets/quick

``train`` gets ten of them, ``val`` the one that is not trained on (chelsea). Public domain or CC0.
"""

from __future__ import annotations

import argparse
from os import path as osp

from _tools import command, run
from skimage import data

from iarn_basicsr.files import save_bytes
from iarn_basicsr.inference.picture_file import png_bytes

PHOTOGRAPHS = {
    'train': ['astronaut', 'coffee', 'rocket', 'retina', 'hubble_deep_field', 'immunohistochemistry', 'brick', 'grass',
              'gravel', 'stereo_motorcycle'],
    'val': ['chelsea'],
}


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = command('make_quick_data', __doc__)
    parser.add_argument('-o', '--output', default='datasets/quick', help='folder (default: %(default)s)')
    return run(make, parser, argv)


def make(args: argparse.Namespace) -> list[str]:
    """Write the images that are missing."""
    for split, names in PHOTOGRAPHS.items():
        for name in names:
            path = osp.join(args.output, split, f'{name}.png')
            if not osp.exists(path):
                image = getattr(data, name)()
                save_bytes(png_bytes(image[0] if isinstance(image, tuple) else image), path)  # a stereo pair: its left
        print(f'{osp.join(args.output, split)}: {len(names)} photographs')
    return []


if __name__ == '__main__':
    raise SystemExit(main())
