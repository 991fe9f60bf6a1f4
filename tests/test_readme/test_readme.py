"""What the README files tell people to type works: their commands, on small data, and their Python."""

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

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / 'README.md', *sorted(p for folder in ('iarn_basicsr', 'options', 'scripts')
                                       for p in (ROOT / folder).rglob('README.md'))]
TEXTS = {p.relative_to(ROOT).as_posix(): p.read_text(encoding='utf-8') for p in READMES}
BLOCKS = [(name, kind, code) for name, text in TEXTS.items()
          for kind, code in re.findall(r'```(bash|python)\n(.*?)```', text, re.S)]
COMMANDS = [f'{name}: {line.split("#")[0].strip()}' for name, kind, code in BLOCKS if kind == 'bash'
            for line in code.splitlines() if line.split('#')[0].strip()]
# make runs these tests itself; stock BasicSR and the benchmark are run in tests/test_pipeline and tests/test_benchmark,
# the commands of scripts/README.md in tests/test_scripts.
NOT_HERE = ('pip install', 'make ', 'python basicsr/', 'python -m basicsr.', 'iarn-benchmark', 'python scripts/')

SMALL = {
    'train': ['datasets:train:dataroot_gt=hr', 'datasets:train:io_backend:type=disk', 'datasets:train:gt_size=16',
              'datasets:train:lq_size=null', 'datasets:train:num_worker_per_gpu=0',
              'datasets:train:persistent_workers=false', 'datasets:train:batch_size_per_gpu=1',
              'datasets:val:dataroot_gt=hr', 'datasets:val:scales=[2]', 'train:total_iter=1', 'num_gpu=0'],
    'test': ['path:pretrain_network_g=null', 'num_gpu=0'],
}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with the repository's options and scripts and small images where the data would be."""
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
        words = ['python', '-m', 'iarn_basicsr.inference.cli', *words[1:]]
    if words[0] == 'torchrun':
        words = ['python', '-m', 'torch.distributed.run', '--standalone', *words[1:]]
    if '-opt' in words:
        which = 'train' if 'iarn_basicsr.train' in words else 'test'
        small = [*SMALL[which]]
        if which == 'test':
            options = (ROOT / words[words.index('-opt') + 1]).read_text(encoding='utf-8')
            for phase in re.findall(r'^  (test\w*):$', options, re.M):
                small += [f'datasets:{phase}:dataroot_gt=hr', f'datasets:{phase}:scales=[2]']
        words += small if '--force_yml' in words else ['--force_yml', *small]
    return [sys.executable if w == 'python' else w for w in words]


@pytest.mark.slow
@pytest.mark.parametrize('command', [c for c in COMMANDS if not c.split(': ', 1)[1].startswith(NOT_HERE)])
def test_command(place, command):
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(runnable(command.split(': ', 1)[1]), cwd=place, env=env, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def python_with(word):
    """The block of README.md that has a word."""
    return next(code for name, kind, code in BLOCKS if (name, kind) == ('README.md', 'python') and word in code)


def test_python_of_the_network():
    names = {}
    exec(python_with('from_pretrained'), names)
    assert names['lr'].shape == (1, 3, 120, 181) and names['restored'].shape == names['hr'].shape
    assert torch.equal(names['lr'] * 255, (names['lr'] * 255).round())


def test_python_of_the_rescaler(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {'image': make_image(60, 72, seed=2)}
    cv2.imwrite('photo.jpg', names['image'])
    exec(python_with('Rescaler.load'), names)
    assert names['small'].shape == (40, 24, 3) and names['restored'].shape == (60, 72, 3)
    assert (tmp_path / 'small.png').exists() and (tmp_path / 'restored.png').exists()


def test_python_of_the_options():
    [code] = [code for name, kind, code in BLOCKS if (name, kind) == ('options/README.md', 'python')]
    names = {}
    exec(code, names)
    assert type(names['net']).__name__ == 'IARN'


def test_python_of_the_benchmark():
    [code] = [code for name, kind, code in BLOCKS if (name, kind) == ('iarn_basicsr/benchmark/README.md', 'python')]
    names = {}
    exec(code.replace('class MyNet', 'class MyNetOfTheReadme'), names)
    assert names['MyNetOfTheReadme'](scale=3)(torch.rand(1, 3, 5, 4)).shape == (1, 3, 15, 12)


@pytest.mark.parametrize('name', TEXTS)
def test_every_file_and_heading_named_exists(name):
    text, folder = TEXTS[name], (ROOT / name).parent
    for file in re.findall(r'(?<![\w/])(?:options|scripts|\.github)/[\w./-]+\.(?:yml|py|png|json|md)', text):
        assert (ROOT / file).exists(), file
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if target.startswith('http'):
            continue
        path, _, heading = target.partition('#')
        file = (folder / path).resolve() if path else ROOT / name
        assert file.exists(), target
        if heading:
            titles = re.findall(r'^#+ (.+)$', file.read_text(encoding='utf-8'), re.M)
            assert heading in {re.sub(r'[^\w -]', '', t.lower()).replace(' ', '-') for t in titles}, target


def test_makefile_has_the_targets():
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for target in re.findall(r'^make (\w+)', '\n'.join(code for _, kind, code in BLOCKS if kind == 'bash'), re.M):
        assert f'\n{target}:' in makefile


def test_the_readme_is_one_to_read():
    assert len(TEXTS['README.md'].encode()) < 10_000
