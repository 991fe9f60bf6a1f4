"""From nothing to a restored photograph: trains the quick model, tests it, prints a table and draws a picture.

    python scripts/demo.py            (about 8 minutes on 2 CPU cores; results in ./demo)

The photograph (chelsea) is not among the training images. ``--iterations`` shortens the training, for a look only.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.metrics import DEFAULT_METRICS, evaluate
from iarn_basicsr.metrics.rescaling import PROTOCOL
from iarn_basicsr.ops import bicubic_downscale, lr_size, parse_scale, quantise, scale_label
from iarn_basicsr.ops.resample import bicubic_upscale

matplotlib.use('Agg')
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
SCALES = ['1.5', '2', '2.5', '3', '4', '1.5x3']
FIGURE_SCALE = '2.5'
CROP = (70, 110, 130, 150)  # top, left, height, width of the detail shown: the cat's eyes


def run(module: str, option_file: str, *arguments: str) -> None:
    """One of the project's own commands, in the current directory."""
    command = [sys.executable, '-m', module, '-opt', str(ROOT / 'options' / option_file), *arguments]
    print('$', ' '.join(['python', *command[1:]]), flush=True)
    subprocess.run(command, check=True)


def prepare_data() -> None:
    spec = importlib.util.spec_from_file_location('prepare_quick_data', ROOT / 'scripts' / 'prepare_quick_data.py')
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([])


def to_tensor(bgr: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(bgr[..., ::-1].transpose(2, 0, 1).copy()).float()[None] / 255


def to_image(x: torch.Tensor) -> np.ndarray:
    return (quantise(x)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)[..., ::-1].copy()


def bicubic_both_ways(hr: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(LR, restored) without IARN: bicubic down, 8 bits, bicubic up."""
    lr = quantise(bicubic_downscale(to_tensor(hr), size))
    return to_image(lr), to_image(bicubic_upscale(lr, hr.shape[:2]))


def iarn_both_ways(net: IARN, hr: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(LR, restored) with IARN."""
    with torch.no_grad():
        out = net(to_tensor(hr), size)
    return to_image(out['lr']), to_image(out['sr'])


def measure(net: IARN, hr: np.ndarray) -> list[dict[str, float | str]]:
    """One row per scale: PSNR-Y and SSIM-Y of both ways, and LR fidelity."""
    metrics = {k: v for k, v in DEFAULT_METRICS.items() if k.endswith('_y')}
    rows: list[dict[str, float | str]] = []
    for text in SCALES:
        size = lr_size(hr.shape[:2], parse_scale(text))
        lr_cubic, cubic = bicubic_both_ways(hr, size)
        lr_ours, ours = iarn_both_ways(net, hr, size)
        a, b = evaluate((cubic, hr), (lr_cubic, lr_cubic), metrics), evaluate((ours, hr), (lr_ours, lr_cubic), metrics)
        rows.append({'scale': scale_label(text), 'lr': f'{size[0]}x{size[1]}', 'bicubic_psnr_y': a['psnr_y'],
                     'iarn_psnr_y': b['psnr_y'], 'bicubic_ssim_y': a['ssim_y'], 'iarn_ssim_y': b['ssim_y'],
                     'iarn_lr_psnr_y': b['lr_psnr_y']})
    return rows


def print_table(rows: list[dict[str, float | str]]) -> None:
    print(f'\n{PROTOCOL}\n')
    print('| scale | LR size | bicubic PSNR-Y | IARN PSNR-Y | gain | bicubic SSIM-Y | IARN SSIM-Y | LR PSNR-Y |')
    print('|---|---|---|---|---|---|---|---|')
    for r in rows:
        gain = float(r['iarn_psnr_y']) - float(r['bicubic_psnr_y'])
        print(f'| {r["scale"]} | {r["lr"]} | {r["bicubic_psnr_y"]:.2f} | {r["iarn_psnr_y"]:.2f} | {gain:+.2f} | '
              f'{r["bicubic_ssim_y"]:.4f} | {r["iarn_ssim_y"]:.4f} | {r["iarn_lr_psnr_y"]:.2f} |')


def draw(net: IARN, hr: np.ndarray, rows: list[dict[str, float | str]], path: Path) -> None:
    """HR | LR | bicubic restored | IARN restored, a detail of each, the error maps and the gain at every scale."""
    size = lr_size(hr.shape[:2], parse_scale(FIGURE_SCALE))
    _, cubic = bicubic_both_ways(hr, size)
    lr, ours = iarn_both_ways(net, hr, size)
    top, left, height, width = CROP
    row = next(r for r in rows if r['scale'] == scale_label(FIGURE_SCALE))
    whole = [(f'HR ({hr.shape[1]}x{hr.shape[0]})', hr), (f'LR by IARN, {row["scale"]} ({size[1]}x{size[0]})', lr),
             (f'bicubic down and up: {row["bicubic_psnr_y"]:.2f} dB', cubic),
             (f'IARN down and up: {row["iarn_psnr_y"]:.2f} dB', ours)]
    figure, axes = plt.subplots(3, 4, figsize=(14, 8.6), layout='constrained')
    for column, (title, image) in enumerate(whole):
        factor = image.shape[0] / hr.shape[0], image.shape[1] / hr.shape[1]
        cut = image[round(top * factor[0]):round((top + height) * factor[0]),
                    round(left * factor[1]):round((left + width) * factor[1])]
        for row, shown in enumerate((image, cut)):
            axes[row, column].imshow(shown[..., ::-1], interpolation='nearest')
        axes[0, column].set_title(title, fontsize=11)
        if image.shape == hr.shape and column:
            error = np.abs(image.astype(float) - hr).mean(-1)
            axes[2, column].imshow(error, cmap='magma', vmin=0, vmax=24)
            axes[2, column].set_title(f'|error|, mean {error.mean():.2f} of 255', fontsize=11)
    lines = [f'{"PSNR-Y":8}{"bicubic":>9}{"IARN":>9}',
             *(f'{r["scale"]:8}{r["bicubic_psnr_y"]:9.2f}{r["iarn_psnr_y"]:9.2f}' for r in rows)]
    axes[2, 0].text(0, 1, '\n'.join(lines), family='monospace', fontsize=12, va='top', linespacing=1.5,
                    transform=axes[2, 0].transAxes)
    for axis in axes.ravel():
        axis.axis('off')
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(argv: list[str] | None = None) -> int:
    """Run the demo; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('-o', '--output', type=Path, default=Path('demo'), help='working folder (default: demo)')
    parser.add_argument('--iterations', type=int, help='train for fewer iterations than the option file says')
    args = parser.parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    os.chdir(args.output)
    prepare_data()
    start = time.time()
    override = ['--force_yml', f'train:total_iter={args.iterations}'] if args.iterations else []
    run('iarn_basicsr.train', 'train_IARN_x1-4_quick.yml', *override)
    run('iarn_basicsr.test', 'test_IARN_x1-4_quick.yml')
    net = IARN.from_file('experiments/IARN_x1-4_quick/models/net_g_latest.pth')
    hr = cv2.imread('datasets/quick/val/chelsea.png')
    rows = measure(net, hr)
    print_table(rows)
    Path('table.json').write_text(json.dumps(rows, indent=1), encoding='utf-8')
    draw(net, hr, rows, Path('demo.png'))
    print(f'\n{(time.time() - start) / 60:.1f} minutes. Look at {Path("demo.png").resolve()} and, for every scale, at '
          f'{Path("results/IARN_x1-4_quick/visualization/held_out").resolve()}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
