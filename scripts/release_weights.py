"""Puts trained weights into the package: file, sha256, expected numbers.

    python scripts/release_weights.py experiments/RUN/models/net_g_latest.pth --name iarn_light_x1-4 \\
        --recipe options/train_IARN_light_x1-4.yml --data "BSDS500 train + test, 400 photographs" --steps 16000

The first entry of the registry is what ``default`` means; ``--first`` puts this one there.
"""

from __future__ import annotations

import argparse
import hashlib
from os import path as osp

from iarn_basicsr import zoo
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.files import save_json
from iarn_basicsr.pictures.rescaler import Rescaler
from iarn_basicsr.pictures.verify import measure

SCALES = ['1.5', '2', '2.5', '3', '4', '1.5x3']


def main(argv: list[str] | None = None) -> int:
    """Write the file and the registry entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('weights', help='.pth saved by IARNModel; params_ema where it has them')
    parser.add_argument('--name', required=True)
    parser.add_argument('--recipe', required=True, help='option file it was trained with')
    parser.add_argument('--data', required=True, help='training images, in words')
    parser.add_argument('--steps', required=True, type=int, help='iterations done')
    parser.add_argument('--note', default='', help='what a user must know')
    parser.add_argument('--half', action='store_true', help='store float16, half the size')
    parser.add_argument('--first', action='store_true')
    args = parser.parse_args(argv)

    net = IARN.from_file(args.weights)
    if args.half:
        net.half()
    path = osp.join(zoo.FOLDER, f'{args.name}.pth')
    net.save(path)
    with open(path, 'rb') as file:
        sha256 = hashlib.sha256(file.read()).hexdigest()
    rescaler = Rescaler(zoo.load_file(path), args.name, device='cpu')
    expected = {s: {m: round(v, 3) for m, v in row.items()} for s, row in measure(rescaler, SCALES).items()}
    entry = {
        'file': osp.basename(path), 'sha256': sha256, 'weights_hash': rescaler.weights_hash,
        'parameters': sum(p.numel() for p in net.parameters()), 'scales': f'1 to {net.max_scale:g}, per axis',
        'recipe': args.recipe, 'training_data': args.data, 'steps': args.steps, 'note': args.note, 'expected': expected,
    }
    others = {k: v for k, v in zoo.entries().items() if k != args.name}
    save_json({args.name: entry, **others} if args.first else {**others, args.name: entry},
              osp.join(zoo.FOLDER, 'registry.json'))
    print(f'{args.name}: {path}, {osp.getsize(path)} bytes')
    for scale, row in expected.items():
        print(f'  x{scale}: {row}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
