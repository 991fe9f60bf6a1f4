"""Put trained weights into the package: the file, its sha256 and the numbers that ``iarn verify`` expects.

    python scripts/release/release_weights.py experiments/RUN/models/net_g_latest.pth --name my_x1-4 --half \\
        --training "options/train_IARN_light_x1-4.yml" --data "BSDS500 train + test, 400 photographs" --steps 60000

The first entry of the registry is the default; ``--first`` puts this one there.
"""

from __future__ import annotations

import argparse
import hashlib
from os import path as osp
from pathlib import Path

from iarn_basicsr import zoo
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import IARNError
from iarn_basicsr.files import save_json
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.verify import measure

SCALES = ['1.5', '2', '2.5', '3', '4', '1.5x3']
JPEGS = ['1.5 jpeg 90', '2 jpeg 90', '2 jpeg 75', '4 jpeg 90']  # measured too where the LR survives JPEG


def main(argv: list[str] | None = None) -> int:
    """Write the file and the registry entry; exit code 2 for weights that cannot be released."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('weights', help='.pth saved by IARNModel; params_ema where it has them')
    parser.add_argument('--name', required=True)
    parser.add_argument('--training', required=True, help='option files it was trained with, in order')
    parser.add_argument('--data', required=True, help='training images, in words')
    parser.add_argument('--steps', required=True, type=int, help='iterations done')
    parser.add_argument('--note', default='', help='what a user must know')
    parser.add_argument('--half', action='store_true', help='store float16, half the size')
    parser.add_argument('--jpeg', action='store_true', help='its LR survives JPEG')
    parser.add_argument('--first', action='store_true', help='make it the default')
    args = parser.parse_args(argv)
    path = osp.join(zoo.FOLDER, f'{args.name}.pth')
    try:
        net = IARN.from_file(args.weights)
        (net.half() if args.half else net).save(path)
        rescaler = Rescaler.load(path, device='cpu')
        found = measure(rescaler, [*SCALES, *(JPEGS if args.jpeg else [])])
    except (IARNError, OSError) as error:
        parser.error(str(error))
    entry = {
        'file': osp.basename(path),
        'sha256': hashlib.sha256(Path(path).read_bytes()).hexdigest(), 'weights_hash': rescaler.weights_hash,
        'parameters': sum(p.numel() for p in rescaler.net.parameters()),
        'scales': f'1 to {rescaler.net.max_scale:g}, per axis',
        'expected': {way: {metric: round(value, 3) for metric, value in row.items()} for way, row in found.items()},
        'training': args.training, 'training_data': args.data, 'steps': args.steps, 'note': args.note,
        **({'jpeg': True} if args.jpeg else {}),
    }
    entries = {**zoo.entries(), args.name: entry}  # a name that exists keeps its place
    if args.first:
        entries = {args.name: entry, **entries}
    save_json(entries, osp.join(zoo.FOLDER, 'registry.json'))
    print(f'{args.name}: {path}, {osp.getsize(path)} bytes')
    for way, row in entry['expected'].items():
        print(f'  x{way}: {row}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
