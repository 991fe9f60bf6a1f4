"""What ``pip install`` and ``pip install -e`` make, in environments far from the repository; BasicSR's own commands."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import basicsr
import pytest
from helpers import ROOT, TORCHRUN, as_test, train_options, write_yaml

from iarn_basicsr import zoo

SITE = Path(basicsr.__file__).resolve().parents[1]  # where PyPI's BasicSR and all else is installed
HOOK = 'iarn_basicsr_stand_ins'  # for BasicSR's own commands
NUMBER = '1.4.2+checkout'
BUILD = 'import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))'
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group('wheel')]  # built once


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command, which must succeed, in an environment without the repository on Python's path."""
    outside = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
    done = subprocess.run([str(w) for w in words], cwd=cwd, env={**outside, 'OMP_NUM_THREADS': '1'},
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done


@pytest.fixture(scope='module')
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A source distribution, made of a copy of the repository, and the two wheels that are made of it."""
    source, folder = tmp_path_factory.mktemp('source') / 'repository', tmp_path_factory.mktemp('built')
    ignored = [line.rstrip('/') for line in (ROOT / '.gitignore').read_text(encoding='utf-8').split()]
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns('.git', 'tests', *ignored))
    made = {}
    for kind in ('build_sdist', 'build_editable', 'build_wheel'):
        made[kind] = folder / run(sys.executable, '-c', BUILD, kind, folder, cwd=source).stdout.split()[-1]
        if kind == 'build_sdist':
            shutil.unpack_archive(made[kind], source.parent)
            source = source.parent / made[kind].name.removesuffix('.tar.gz')
    return made


@pytest.fixture(scope='module')
def environments(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a virtual environment: all that is installed here, the package by a wheel, and folders in front of it."""

    def make(kind: str, *folders: Path) -> Path:
        place = tmp_path_factory.mktemp('environment')
        venv.create(place, symlinks=True)
        site = next(place.glob('[Ll]ib/**/site-packages'))
        zipfile.ZipFile(built[kind]).extractall(site)
        lines = [*map(str, folders), f'import site; site.addsitedir({str(SITE)!r})']
        (site / 'a_first.pth').write_text('\n'.join(lines) + '\n')
        return next(p for p in (place / 'bin' / 'python', place / 'Scripts' / 'python.exe') if p.exists())

    return make


@pytest.fixture(scope='module')
def python(environments: Callable[..., Path]) -> Path:
    """Of an environment with the wheel."""
    return environments('build_wheel')


def test_files(built):
    """What people need and nothing else: modules, option files, weights, and what those need; no tests nor figures."""
    names = {n for n in zipfile.ZipFile(built['build_wheel']).namelist() if '.dist-info/' not in n}
    options = {f'iarn_basicsr/options/{p.name}' for p in (ROOT / 'options').glob('*.yml')}
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / 'iarn_basicsr').rglob('*.py')}
    schemas = {p.relative_to(ROOT).as_posix() for p in (ROOT / 'iarn_basicsr' / 'config').glob('*.json')}
    weights = {f'zoo/{entry["file"]}' for entry in zoo.entries().values()}
    assert names == options | modules | schemas | {f'{HOOK}.py', f'{HOOK}.pth'} | {f'iarn_basicsr/{name}' for name in (
        'py.typed', 'install_basicsr.py', 'inference/compare.html.jinja', 'zoo/registry.json', 'zoo/chelsea.png',
        *weights)}
    with tarfile.open(built['build_sdist']) as archive:
        names = {n.split('/', 1)[1] for n in archive.getnames() if '/' in n}
    assert {'setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'options/train_IARN_x1-4.yml',
            'scripts/install/install_basicsr.py', 'iarn_basicsr/zoo/registry.json'} <= names
    assert not [n for n in names if re.search(r'\.log$|^tests|options/released|ablation|figure', n)]


def test_metadata(built):
    """Every Python from 3.9 on; BasicSR only where pip can build it; four commands."""
    with zipfile.ZipFile(built['build_wheel']) as archive:
        metadata, commands = (archive.read(next(n for n in archive.namelist() if n.endswith(f'.dist-info/{name}')))
                              for name in ('METADATA', 'entry_points.txt'))
    requires = email.message_from_bytes(metadata)
    assert requires['Requires-Python'] == '>=3.9'
    basicsr = next(r for r in requires.get_all('Requires-Dist') if r.startswith('basicsr'))
    assert basicsr.replace(' ', '').replace("'", '"') == 'basicsr>=1.4.2;python_version<"3.13"'
    lines = [line.split(' = ') for line in commands.decode().splitlines() if '=' in line]
    points = [EntryPoint(*line, 'console_scripts') for line in lines]
    assert sorted(p.name for p in points) == ['iarn', 'iarn-benchmark', 'iarn-test', 'iarn-train']
    assert all(callable(p.load()) for p in points)


def test_pictures_and_option_files(python, tmp_path):
    """A photograph of the package there and back, and one iteration of training on it, far from the repository."""

    def iarn(*words: object) -> str:
        return run(python, '-m', 'iarn_basicsr.inference.cli', *words, cwd=tmp_path).stdout

    photograph = next(python.parents[1].rglob('chelsea.png'))
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
    run(python, '-m', 'iarn_basicsr.train', '-opt', option_file, '--force_yml', *data,
        'datasets:val:scales=[2]', 'datasets:train:num_worker_per_gpu=0', 'datasets:train:batch_size_per_gpu=1',
        'train:total_iter=1', 'num_gpu=0', cwd=tmp_path)
    assert list(tmp_path.rglob('net_g_latest.pth'))
    assert 'basicsr>=1.4.2' in run(python, '-m', 'iarn_basicsr.install_basicsr', '--help', cwd=tmp_path).stdout


@pytest.fixture
def checkout(tmp_path: Path, image_folder: Callable[..., Path]) -> Path:
    """A folder as BasicSR's repository is: without the version file that only an installation writes."""
    folder = tmp_path / 'BasicSR'
    shutil.copytree(SITE / 'basicsr', folder / 'basicsr', ignore=shutil.ignore_patterns('version.py', 'version.*.pyc'))
    (folder / 'VERSION').write_text(f'{NUMBER}\n')
    (folder / 'options').mkdir()
    options = train_options(image_folder('hr', [(32, 40), (24, 26)]))
    options['train'].update(total_iter=1, warmup_iter=-1)
    for name, content in (('train', options), ('test', as_test(options))):
        file = write_yaml(content, folder / 'options' / f'{name}_IARN_x1-4.yml')
        file.write_text(f"plugin: !!python/name:iarn_basicsr.plugin.__version__ ''\n{file.read_text()}")
    return folder


SCRIPT = ['basicsr/train.py', '-opt', 'options/train_IARN_x1-4.yml']


@pytest.mark.parametrize(('words', 'developed', 'kind'), [
    (SCRIPT, True, 'build_wheel'), ([*TORCHRUN, *SCRIPT, '--launcher', 'pytorch'], False, 'build_editable')],
    ids=['installed checkout', 'fresh checkout, torchrun'])
def test_commands_of_basicsr(environments, checkout, words, developed, kind):
    """As people type them; a test file with the name of the run tests what was trained."""
    python = environments(kind, *([checkout] if developed else []))
    done = run(python, *words, cwd=checkout)
    assert 'Model [IARNModel] is created' in done.stderr
    assert (f'BasicSR: {NUMBER}\n' in done.stderr) == developed
    assert (checkout / 'experiments' / 'run' / 'models' / 'net_g_latest.pth').is_file()
    if developed:
        run(python, 'basicsr/test.py', '-opt', 'options/test_IARN_x1-4.yml', cwd=checkout)
        trained, tested = (json.loads((checkout / name).read_text())['mean'] for name in (
            'experiments/run/metrics/val_1.json', 'results/run/metrics/val_run.json'))
        assert trained == tested


def test_start_of_python_stays_light(python, tmp_path):
    """The hook is there once, and nothing was imported for it."""
    program = ('import sys; print(sum(getattr(f, "__name__", "") == "StandIns" for f in sys.meta_path), '
               f'{HOOK!r} in sys.modules, "iarn_basicsr" in sys.modules, "torch" in sys.modules)')
    done = run(python, '-c', program, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ('1 True False False\n', '')
