"""A photograph downscaled and restored with the released weights; then a small network trained through BasicSR.

    python scripts/demo.py              (30 seconds, then at most 3 minutes of training; results in ./demo)
    python scripts/demo.py --no-train   (the first part only)

The photograph, scikit-image's chelsea, is in no training set. The training sees scikit-image's other photographs, at x2
only; its proof is the PSNR of chelsea before and after. To resume an interrupted training, run the same command again.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

# Read when torch is loaded, here and in the training: for patches this small, threads mostly wait for each other.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch
from figures import Panel, details, psnr, sheet
from tqdm import tqdm

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import IARNError
from iarn_basicsr.files import atomic_write
from iarn_basicsr.inference.compare import bicubic_roundtrip
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.ops.size import lr_size

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ROOT / 'options' / 'train_IARN_x1-4_quick.yml'
SCALES = ('2.5', '1.5x3')
EYE = (62, 95)  # corner (top, left) of the detail in the figure
NAME, ITERATIONS, TRAINED_SCALE = 'demo', 500, 2
TRAINING = ['datasets:train:scale_range=[2,2]', 'datasets:train:curriculum=null', 'datasets:train:asymmetric_prob=0',
            'datasets:train:lq_size=16', 'datasets:val:scales=[2]', 'network_g:num_unit=3', 'train:optim_g:lr=2e-3',
            'train:warmup_iter=30']  # smaller than in the option file, and at one scale
MINUTES = 2.8  # after which the training saves and stops, wherever it is
PATIENCE = 60  # seconds for a training that is told to stop to save
ITERATION = re.compile(r'iter:\s*([\d,]+), lr:')  # in BasicSR's log


def restore(folder: Path) -> None:
    """The photograph there and back with the released weights, as files, with a figure."""
    start = time.monotonic()
    rescaler, hr = Rescaler.load(), read_picture(PHOTOGRAPH).rgb
    print(f'Part 1 of 2: a photograph, downscaled and restored with the released weights {rescaler.name}', flush=True)
    figure: list[list[Panel]] = []
    for scale in SCALES:
        small, whole = folder / f'chelsea_x{scale}_lr.png', folder / f'chelsea_x{scale}_restored.png'
        rescaler.downscale_file(PHOTOGRAPH, small, scale=scale)
        rescaler.upscale_file(small, whole)
        lr, restored = (read_picture(str(path)).rgb for path in (small, whole))
        figure.append(details(hr, lr, restored, EYE))
        print(f'  x{scale}: {"; ".join(title for title, _ in figure[-1][1:])}\n    {small}\n    {whole}', flush=True)
    atomic_write(str(folder / 'demo.png'), partial(sheet(figure, zoom=2).save, format='PNG'))
    print(f'  figure: {folder / "demo.png"}\nPart 1 took {time.monotonic() - start:.0f} seconds.\n', flush=True)


def newest_iteration(run: Path) -> int:
    """Iteration of the newest training state of a run; 0 without one."""
    return max((int(p.stem) for p in (run / 'training_states').glob('*.state') if p.stem.isdigit()), default=0)


def train(folder: Path) -> None:
    """Train on the photographs of scikit-image and print what it gave.

    Raises:
        IARNError: if the training fails; its log says why.
    """
    run = folder / 'experiments' / NAME
    first = newest_iteration(run)
    if first < ITERATIONS:
        print(f'Part 2 of 2: training at x{TRAINED_SCALE} through BasicSR, at most 3 minutes; Ctrl-C stops it')
        print(f'  resumes after iteration {first}\n' * bool(first) + f'  log: {folder / "train.log"}', flush=True)
        command([str(ROOT / 'scripts' / 'data' / 'make_quick_data.py')], folder)
        command(['-m', 'iarn_basicsr.train', '-opt', str(OPTIONS), '--auto_resume', '--minutes', str(MINUTES),
                 '--force_yml', f'name={NAME}', f'train:total_iter={ITERATIONS}',
                 f'train:scheduler:periods=[{ITERATIONS}]', f'logger:save_checkpoint_freq={ITERATIONS}', *TRAINING],
                folder)
    done = newest_iteration(run)
    weights = run / 'models' / f'net_g_{done}.pth'
    if not weights.exists():
        raise IARNError(f'training was stopped before it saved weights; log: {folder / "train.log"}')
    trained, hr = Rescaler.load(weights), read_picture(PHOTOGRAPH).rgb
    torch.manual_seed(0)
    untrained = Rescaler(IARN(**trained.net.hparams), 'untrained')
    before, after = (psnr(r.roundtrip(hr, TRAINED_SCALE).restored, hr) for r in (untrained, trained))
    cubic = psnr(bicubic_roundtrip(hr, lr_size(hr.shape[:2], TRAINED_SCALE)).restored, hr)
    print(f'After {done} iterations the network restores the photograph from x{TRAINED_SCALE} with {after:.2f} dB; '
          f'before it was {before:.2f} dB, bicubic has {cubic:.2f} dB.\n  weights: {weights}')
    if done < ITERATIONS:
        print(f'  The same command trains on, up to iteration {ITERATIONS}.')


def command(words: list[str], folder: Path) -> None:
    """Run one of the project's own commands in ``folder``, with its output in the log and a progress bar.

    Ctrl-C does not reach it directly; it is told to stop and given time to save.
    """
    log = folder / 'train.log'
    with open(log, 'ab') as output, tqdm(total=ITERATIONS, unit='it', leave=False, disable=None) as bar:
        start = output.tell()
        process = subprocess.Popen([sys.executable, *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                seen = ITERATION.findall(log.read_bytes()[start:].decode(errors='replace'))
                bar.n = int(seen[-1].replace(',', '')) if seen else bar.n
                bar.refresh()
        except KeyboardInterrupt:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                process.kill()
                process.wait()
            raise
    if process.returncode:
        raise IARNError(f'training failed (exit code {process.returncode}); its log says why: {log}')


def main(argv: list[str] | None = None) -> int:
    """Run the demo; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-o', '--output', type=Path, default=Path('demo'), help='folder (default: %(default)s)')
    parser.add_argument('--no-train', action='store_true', help='leave out the training')
    args = parser.parse_args(argv)
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        restore(args.output)
        if not args.no_train:
            train(args.output)
    except (IARNError, OSError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'\nStopped. Results so far are in {args.output}; run the same command again to resume.', flush=True)
        return 130
    return 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the training saves and ends
    raise SystemExit(main())
