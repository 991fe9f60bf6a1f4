"""Write the photographs that scikit-image ships as a small data set.

    python scripts/data/prepare_quick_data.py -o datasets/quick

``train`` gets ten of them, ``val`` the photograph that is not trained on (chelsea). Public domain or CC0.
"""

from __future__ import annotations

import argparse
from os import path as osp

import numpy as np
from _tools import run
from skimage import data

from iarn_basicsr.files import save_bytes
from iarn_basicsr.inference.picture_file import png_bytes

TRAIN = ['astronaut', 'coffee', 'rocket', 'retina', 'hubble_deep_field', 'immunohistochemistry', 'brick', 'grass',
         'gravel', 'stereo_motorcycle']
VAL = ['chelsea']


def photograph(name: str) -> np.ndarray:
    """RGB or gray uint8 image of scikit-image."""
    image = getattr(data, name)()
    return image[0] if isinstance(image, tuple) else image


def main(argv: list[str] | None = None) -> int:
    """Exit code 1 for a folder that cannot be written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-o', '--output', default='datasets/quick', help='folder (default: %(default)s)')
    return run(write, parser.parse_args(argv), parser.prog)


def write(args: argparse.Namespace) -> int:
    """Write the images that are not there yet."""
    output = args.output
    for split, names in (('train', TRAIN), ('val', VAL)):
        for name in names:
            path = osp.join(output, split, f'{name}.png')
            if not osp.exists(path):
                save_bytes(png_bytes(photograph(name)), path)
    print(f'{len(TRAIN)} photographs in {output}/train, {len(VAL)} in {output}/val')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
