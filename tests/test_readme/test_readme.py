"""What the README tells people to type works: its commands, on small data, and its Python."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from helpers import make_image

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.files import save_torch

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'```(bash|python)\n(.*?)```', README, re.S)
COMMANDS = [line.split('#')[0].strip() for kind, text in BLOCKS if kind == 'bash' for line in text.splitlines()]
# The environment, stock BasicSR and the benchmark: make runs these tests itself; the others are run in
# tests/test_pipeline, tests/test_benchmark and tests/test_scripts.
NOT_HERE = ('pip install', 'make ', 'python basicsr/', 'python -m basicsr.', 'iarn-benchmark',
            'python scripts/fetch_weights.py')

SMALL = {
    'train': ['datasets:train:dataroot_gt=hr', 'datasets:train:io_backend:type=disk', 'datasets:train:gt_size=16',
              'datasets:train:num_worker_per_gpu=0', 'datasets:train:persistent_workers=false',
              'datasets:train:batch_size_per_gpu=1', 'datasets:val:dataroot_gt=hr', 'datasets:val:scales=[2]',
              'train:total_iter=1', 'num_gpu=0'],
    'test': ['datasets:test_1:dataroot_gt=hr', 'datasets:test_2:dataroot_gt=hr', 'datasets:test_3:dataroot_gt=hr',
             'datasets:test_1:scales=[2]', 'datasets:test_2:scales=[2]', 'datasets:test_3:scales=[2]',
             'path:pretrain_network_g=null', 'num_gpu=0'],
}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with the repository's options and scripts and small images where the README's data would be."""
    folder = tmp_path_factory.mktemp('readme')
    for name in ('options', 'scripts'):
        shutil.copytree(ROOT / name, folder / name)
    for images in ('hr', 'datasets/DIV2K/DIV2K_train_HR', 'datasets/Set5/GTmod12'):
        (folder / images).mkdir(parents=True)
        cv2.imwrite(str(folder / images / 'image.png'), make_image(48, 36, seed=1))
    cv2.imwrite(str(folder / 'photo.jpg'), make_image(60, 72, seed=2))
    return folder


def runnable(command):
    """The command as this environment runs it, on small data."""
    words = shlex.split(command)
    if words[0] in ('iarn-train', 'iarn-test'):
        words = ['python', '-m', f'iarn_basicsr.{words[0][5:]}', *words[1:]]
    if words[0] == 'iarn':
        words = ['python', '-m', 'iarn_basicsr.pictures.cli', *words[1:]]
    if words[0] == 'torchrun':
        words = ['python', '-m', 'torch.distributed.run', '--standalone', *words[1:]]
    if '-opt' in words:
        which = 'train' if 'iarn_basicsr.train' in words else 'test'
        words += ['--force_yml', *SMALL[which]]
    return [sys.executable if w == 'python' else w for w in words]


@pytest.mark.slow
@pytest.mark.parametrize('command', [c for c in COMMANDS if c and not c.startswith(NOT_HERE)])
def test_command(place, command):
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(runnable(command), cwd=place, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_python_of_the_network(tmp_path, monkeypatch):
    code = next(text for kind, text in BLOCKS if kind == 'python' and 'from_file' in text)
    net = IARN(num_block=1, growth=4)
    path = re.search(r"from_file\('(.+?)'\)", code).group(1)
    save_torch({'params': net.state_dict(), 'arch': {'type': 'IARN', **net.hparams}}, str(tmp_path / path))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert names['lr'].shape == (1, 3, 120, 181) and names['restored'].shape == names['hr'].shape
    assert torch.equal(names['lr'] * 255, (names['lr'] * 255).round())


def test_python_of_the_rescaler(tmp_path, monkeypatch):
    code = next(text for kind, text in BLOCKS if kind == 'python' and 'Rescaler.load' in text)
    monkeypatch.chdir(tmp_path)
    names = {'image': make_image(60, 72, seed=2)}
    cv2.imwrite('photo.jpg', names['image'])
    exec(code, names)
    assert names['small'].shape == (40, 24, 3) and names['whole'].shape == (60, 72, 3)
    assert (tmp_path / 'small.png').exists()


def test_every_file_named_exists():
    for name in re.findall(r'(?:options|scripts|.github)/[\w./-]+\.(?:yml|py|png)', README):
        assert (ROOT / name).exists(), name


def test_makefile_has_the_targets():
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for target in re.findall(r'^make (\w+)', '\n'.join(t for k, t in BLOCKS if k == 'bash'), re.M):
        assert f'\n{target}:' in makefile
