"""The wheel: made as ``python -m build`` makes it, installed far from the repository, and used there."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ROOT

from iarn_basicsr import zoo

HOOK = {'iarn_basicsr_stand_ins.py', 'iarn_basicsr_stand_ins.pth'}  # for BasicSR's own commands
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('wheel')]  # built once


def run(*words: object, cwd: Path, **env: str) -> str:
    """What a command prints; it must succeed."""
    outside = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run([str(w) for w in words], cwd=cwd, env={**outside, 'OMP_NUM_THREADS': '1', **env},
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of a source distribution, of a copy: what building leaves behind stays out of the repository."""
    source, folder = tmp_path_factory.mktemp('source') / 'repository', tmp_path_factory.mktemp('wheel')
    ignored = [line.rstrip('/') for line in (ROOT / '.gitignore').read_text(encoding='utf-8').split()]
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns('.git', 'tests', *ignored))
    program = 'import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])'
    run(sys.executable, '-c', program, folder, cwd=source)
    run(sys.executable, '-m', 'pip', 'wheel', next(folder.glob('*.tar.gz')), '--no-deps', '--no-index',
        '--no-build-isolation', '-w', folder, cwd=folder)
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and, in ``bin``, its commands."""
    folder = tmp_path_factory.mktemp('installed')
    run(sys.executable, '-m', 'pip', 'install', wheel, '--no-deps', '--no-index', '--target', folder, cwd=folder)
    return folder


@pytest.fixture
def iarn(installed: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs a command line of the installed package, in an empty folder."""
    return lambda *words: run(sys.executable, '-m', 'iarn_basicsr.inference.cli', *words, cwd=tmp_path,
                              PYTHONPATH=str(installed))


def test_files(wheel):
    """What people need and nothing else: modules, option files, weights, and what those need; no tests nor figures."""
    names = {n for n in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in n}
    options = {f'iarn_basicsr/options/{p.name}' for p in (ROOT / 'options').glob('*.yml')}
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / 'iarn_basicsr').rglob('*.py')}
    schemas = {p.relative_to(ROOT).as_posix() for p in (ROOT / 'iarn_basicsr' / 'config').glob('*.json')}
    weights = {f'zoo/{entry["file"]}' for entry in zoo.entries().values()}
    assert names == options | modules | schemas | HOOK | {f'iarn_basicsr/{name}' for name in (
        'py.typed', 'install_basicsr.py', 'inference/compare.html.jinja', 'zoo/registry.json', 'zoo/chelsea.png',
        *weights)}


def test_source_distribution(wheel):
    with tarfile.open(next(wheel.parent.glob('*.tar.gz'))) as archive:
        names = {n.split('/', 1)[1] for n in archive.getnames() if '/' in n}
    assert {'setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'options/train_IARN_x1-4.yml',
            'scripts/install/install_basicsr.py', 'iarn_basicsr/zoo/registry.json'} <= names
    assert not [n for n in names if re.search(r'\.log$|^tests|options/released|ablation|figure', n)]


def test_metadata(wheel):
    """Every Python from 3.9 on; BasicSR only where pip can build it."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith('.dist-info/METADATA'))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata['Requires-Python'] == '>=3.9'
    basicsr = next(r for r in metadata.get_all('Requires-Dist') if r.startswith('basicsr'))
    assert basicsr.replace(' ', '').replace("'", '"') == 'basicsr>=1.4.2;python_version<"3.13"'


def test_commands(installed, tmp_path):
    """All four; two of them are run, since each loads torch."""
    names = {p.stem for p in (installed / 'bin').iterdir()}
    assert names >= {'iarn', 'iarn-train', 'iarn-test', 'iarn-benchmark'}
    for command in ('iarn', 'iarn-train'):
        text = run(installed / 'bin' / command, '--help', cwd=tmp_path, PYTHONPATH=str(installed))
        assert 'usage: ' in text.lower()


def test_pictures_and_option_files(iarn, installed, tmp_path):
    """A photograph of the package there and back, and one iteration of training on it, far from the repository."""
    photograph = installed / 'iarn_basicsr' / 'zoo' / 'chelsea.png'
    iarn('downscale', photograph, '-o', 'small.png', '--scale', '3', '--weights', 'iarn_light_x1-4', '--device', 'cpu')
    assert 'made with weights iarn_light_x1-4' in iarn('info', 'small.png')
    iarn('upscale', 'small.png', '-o', 'whole.png', '--device', 'cpu')
    assert (tmp_path / 'whole.png').is_file()

    names = [line.split()[0] for line in iarn('options').splitlines()]
    assert sorted(names) == sorted(p.name for p in (ROOT / 'options').glob('*.yml'))
    option_file = 'train_IARN_light_x1-4.yml'
    iarn('options', option_file)
    assert (tmp_path / option_file).read_bytes() == (ROOT / 'options' / option_file).read_bytes()
    (tmp_path / 'photographs').mkdir()
    shutil.copy(photograph, tmp_path / 'photographs')
    data = [f'datasets:{phase}:{rest}' for phase in ('train', 'val')
            for rest in ('dataroot_gt=photographs', 'io_backend={type: disk}')]
    run(sys.executable, '-m', 'iarn_basicsr.train', '-opt', option_file, '--force_yml', *data,
        'datasets:val:scales=[2]', 'datasets:train:num_worker_per_gpu=0', 'datasets:train:batch_size_per_gpu=1',
        'train:total_iter=1', 'num_gpu=0', cwd=tmp_path, PYTHONPATH=str(installed))
    assert list(tmp_path.rglob('net_g_latest.pth'))


def test_basicsr_is_installed_from_the_wheel_too(installed, tmp_path):
    text = run(sys.executable, '-m', 'iarn_basicsr.install_basicsr', '--help', cwd=tmp_path, PYTHONPATH=str(installed))
    assert 'basicsr>=1.4.2' in text
