"""Train in slots: a machine that is there for minutes goes on with the same run, however often it comes and goes.

    python scripts/release/train_slot.py pack -opt options/train_IARN_light_x1-4.yml -o slot  # here
    python scripts/release/train_slot.py run slot --minutes 9 -o OUT [--processes 2]          # there
    python scripts/release/train_slot.py collect OUT                                          # here again, then pack

``slot`` is one folder that can be copied to a machine with the package installed: ``train.yml``, ``datasets/`` with the
HR images of training and validation, and ``experiments/NAME/`` with the newest weights and training state, so that the
run goes on where it stopped. ``run`` trains with bf16 autocast (``--amp none``: without; the networks are channels_last
anyway) and leaves in OUT what ``collect`` puts back below the current directory.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from iarn_basicsr import zoo
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.errors import IARNError, OptionError


def newest_state(run: Path) -> Path | None:
    """The training state of the highest iteration of a run, or None."""
    return max((run / 'training_states').glob('*.state'), key=lambda p: int(p.stem), default=None)


def refuse_same(run: Path, target: Path) -> None:
    """Raise for a run that would be copied onto itself."""
    if run.resolve() == target.resolve():
        raise OptionError(f'{run} would be copied onto itself: choose another folder by -o')


def copy_newest(run: Path, target: Path) -> str:
    """Copy the newest state, its weights, the logs and the metrics of a run; nothing older is left in the target."""
    state = newest_state(run)
    if state is None:
        return 'no training state yet, it starts from the beginning'
    refuse_same(run, target)
    files = [state, run / 'models' / f'net_g_{state.stem}.pth', *run.glob('*.log'), *run.glob('metrics/*.json'),
             *run.glob('models/net_g_latest.pth')]
    for file in files:
        copy = target / file.relative_to(run)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    for folder in ('training_states', 'models'):
        for copy in (target / folder).iterdir():
            if run / folder / copy.name not in files:
                copy.unlink()
    return f'iteration {state.stem}'


def pack(option_file: str, slot: Path) -> str:
    """Fill the folder ``slot``; returns the line to print."""
    opt = read_option_file(option_file)
    for phase, dataset in opt['datasets'].items():
        source = Path(dataset['dataroot_gt'])
        if not source.is_dir():
            raise OptionError(f'datasets.{phase}.dataroot_gt: {str(source)!r} is not a folder')
        target = slot / 'datasets' / phase / source.name  # images in a folder; an LMDB is one too
        shutil.copytree(source, target, dirs_exist_ok=True)
        dataset['dataroot_gt'] = str(target.relative_to(slot))
    run = Path('experiments') / opt['name']
    start = opt['path'].get('pretrain_network_g')
    if start and newest_state(run) is None:
        shutil.copy2(zoo.resolve(start)[0], slot / 'start.pth')
    if start:
        opt['path']['pretrain_network_g'] = 'start.pth' if newest_state(run) is None else None
    where = copy_newest(run, slot / run)
    (slot / 'train.yml').write_text(yaml.safe_dump(opt, sort_keys=False), encoding='utf-8')
    size = sum(f.stat().st_size for f in slot.rglob('*') if f.is_file()) / 2**20
    return f'{slot}: {opt["name"]}, {where}, {size:.0f} MiB'


def run(slot: Path, minutes: float, out: Path, amp: str, processes: int) -> str:
    """Train in ``slot`` for so many minutes and copy what the next slot needs to ``out``."""
    name = _name(slot)
    source, target = (folder / 'experiments' / name for folder in (slot, out))
    refuse_same(source, target)
    torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    command = [sys.executable, *(torchrun if processes > 1 else []), '-m', 'iarn_basicsr.train', '-opt', 'train.yml',
               '--auto_resume', '--minutes', str(minutes), '--force_yml', f'train:amp={amp}']
    trained = subprocess.run([*command, *(['--launcher', 'pytorch'] if processes > 1 else [])], cwd=slot)
    if trained.returncode:
        raise OptionError(f'{slot}: training ended with exit status {trained.returncode}, nothing is copied')
    return f'{out}: {name}, {copy_newest(source, target)}'


def _name(slot: Path) -> str:
    file = slot / 'train.yml'
    if not file.is_file():
        raise OptionError(f'{slot} is not a packed slot: it has no train.yml')
    return str(read_option_file(str(file))['name'])


def collect(out: Path, root: Path) -> list[str]:
    """Copy the runs of ``out`` back below ``root``; a run that is further there is left alone."""
    lines = []
    for run_folder in sorted((out / 'experiments').iterdir()):
        here, there = newest_state(root / 'experiments' / run_folder.name), newest_state(run_folder)
        if here and there and int(here.stem) > int(there.stem):
            lines.append(f'{run_folder.name}: kept, it stands at iteration {here.stem}, the slot at {there.stem}')
            continue
        lines.append(f'{run_folder.name}: {copy_newest(run_folder, root / "experiments" / run_folder.name)}')
    return lines


def main(argv: list[str] | None = None) -> int:
    """Exit code 2 for a mistake in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    sub: Any = commands.add_parser('pack')
    sub.add_argument('-opt', required=True)
    sub.add_argument('-o', '--output', type=Path, default=Path('slot'))
    sub = commands.add_parser('run')
    sub.add_argument('slot', type=Path)
    sub.add_argument('--minutes', type=float, required=True)
    sub.add_argument('-o', '--output', type=Path, required=True)
    sub.add_argument('--amp', choices=['bf16', 'none'], default='bf16')
    sub.add_argument('--processes', type=int, default=1, help='one per GPU, by torchrun')
    sub = commands.add_parser('collect')
    sub.add_argument('out', type=Path)
    sub.add_argument('-o', '--output', type=Path, default=Path())
    args = parser.parse_args(argv)
    try:
        if args.command == 'pack':
            print(pack(args.opt, args.output))
        elif args.command == 'run':
            print(run(args.slot, args.minutes, args.output, args.amp, args.processes))
        else:
            print('\n'.join(collect(args.out, args.output)))
    except (IARNError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
