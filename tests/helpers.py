"""Small images, option files and networks for the tests."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import torch
import yaml
from hypothesis import settings

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.ops.image import to_tensor

ROOT = Path(__file__).resolve().parents[1]
TORCHRUN = '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2'

few = settings(max_examples=25, deadline=None, derandomize=True)  # of a property of numbers

# The smallest network that every coupling and every split takes.
DENSE = {'num_block': 1, 'width': 4, 'order': 4, 'extra_channels': 0, 'subnet': 'dense'}


def make_image(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth colour image with edges, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (width // 2, height // 2), height // 4, (250, 20, 90), -1)
    return image


def make_lmdb(folder: Path, path: Path) -> Path:
    """An LMDB in BasicSR's layout, of the PNG files of a folder."""
    with lmdb.open(str(path), map_size=2**24) as env, env.begin(write=True) as transaction:
        for file in folder.glob('*.png'):
            transaction.put(file.stem.encode(), file.read_bytes())
    lines = [f'{file.name} ({",".join(map(str, cv2.imread(str(file)).shape))}) 1\n' for file in folder.glob('*.png')]
    (path / 'meta_info.txt').write_text(''.join(lines), encoding='utf-8')
    return path


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """``make_image`` as networks take it: (1, 3, H, W) in [0, 1]."""
    return to_tensor(make_image(height, width, seed))[None]


def train_options(hr: Path, name: str = 'run') -> dict[str, Any]:
    """A training run of seconds."""
    return {
        'name': name, 'model_type': 'IARNModel', 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {
            'train': {'name': 'train', 'type': 'ArbitraryScaleDataset', 'dataroot_gt': str(hr), 'gt_size': 16,
                      'scale_range': [1.5, 3], 'asymmetric_prob': 0.5, 'num_worker_per_gpu': 0,
                      'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 4, 'io_backend': {'type': 'disk'}},
            'val': {'name': 'val', 'type': 'ArbitraryScaleDataset', 'dataroot_gt': str(hr), 'scales': [2, [1.5, 3]],
                    'io_backend': {'type': 'disk'}},
        },
        'network_g': {'type': 'IARN', **DENSE, 'order': 2},
        'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
        'train': {
            'ema_decay': 0.9, 'total_iter': 4, 'warmup_iter': 3, 'grad_clip': 1.0,
            'optim_g': {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [6, 14], 'gamma': 0.5},
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
            'guide_opt': {'type': 'MSELoss', 'loss_weight': 1.0, 'reduction': 'mean'},
            'latent_opt': {'type': 'MSELoss', 'loss_weight': 0.1, 'reduction': 'mean'},
        },
        'val': {'val_freq': 1000, 'save_img': False},
        'logger': {'print_freq': 2, 'save_checkpoint_freq': 1000, 'use_tb_logger': False},
    }


def as_test(options: dict[str, Any], **path: Any) -> dict[str, Any]:
    """A test of what training with these options makes, on its validation set as ``test_1``; ``path`` names weights."""
    return {**{k: options[k] for k in ('name', 'model_type', 'num_gpu', 'manual_seed', 'network_g')},
            'datasets': {'test_1': options['datasets']['val']}, 'path': path, 'val': {'save_img': False}}


def write_yaml(options: dict[str, Any], path: Path) -> Path:
    """An option file from a dict."""
    path.write_text(yaml.safe_dump(copy.deepcopy(options), sort_keys=False), encoding='utf-8')
    return path


def run_python(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, on one thread, which finds the repository first."""
    return subprocess.run([sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'})


def tiny_net(std: float = 0.02, seed: int = 0, **options: Any) -> IARN:
    """A small dense network, every parameter moved by ``std``."""
    torch.manual_seed(seed)
    return randomised(IARN(**{**DENSE, **options}), std).eval()


def randomised(net: torch.nn.Module, std: float = 0.05) -> torch.nn.Module:
    """The network with every parameter moved: nothing holds by the initialisation alone."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(std * torch.randn_like(parameter))
    return net


class Enlarge(torch.nn.Module):
    """A one-way network of known result: replication, then a value that may leave [0, 1]."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale, self.architecture, self.file = scale, 'Net <b>', 'net & co.pth'
        self.gain = torch.nn.Parameter(torch.tensor([1.1, 1.0, 0.9])[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)
