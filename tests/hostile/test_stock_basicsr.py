"""BasicSR's own commands, as people type them: in a checkout that is installed, and in one that is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import basicsr
import pytest
from helpers import ROOT, TORCHRUN, as_test, train_options, write_yaml

from iarn_basicsr.compat import stand_ins
from iarn_basicsr.inference import doctor

SITE = Path(basicsr.__file__).resolve().parents[1]  # where PyPI's BasicSR and all else is installed
HOOK = 'iarn_basicsr_stand_ins'
NUMBER = '1.4.2+checkout'

BUILD = ('import sys; from setuptools import build_meta; '
         'print(getattr(build_meta, sys.argv[1], build_meta.build_wheel)(sys.argv[2]))')


def run(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A command in an environment without the repository on Python's path."""
    outside = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
    return subprocess.run([str(w) for w in words], cwd=cwd, env={**outside, 'OMP_NUM_THREADS': '1', **env},
                          capture_output=True, text=True, timeout=300)


@pytest.fixture(scope='module')
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels that ``pip install`` and ``pip install -e`` make, of a copy of the repository."""
    source, folder = tmp_path_factory.mktemp('source') / 'repository', tmp_path_factory.mktemp('wheels')
    shutil.copytree(ROOT / 'iarn_basicsr', source / 'iarn_basicsr', ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'scripts', 'options'):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    made = {}
    for kind in ('build_editable', 'build_wheel'):
        done = run(sys.executable, '-c', BUILD, kind, folder, cwd=source)
        assert done.returncode == 0, done.stderr[-2000:]
        made[kind] = folder / done.stdout.split()[-1]
    return made


@pytest.fixture(scope='module')
def environments(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a virtual environment: all that is installed here, the package by a wheel, and folders in front of it."""

    def make(kind: str, *folders: Path) -> Path:
        place = tmp_path_factory.mktemp('environment')
        venv.create(place, symlinks=True)
        site = next(place.glob('[Ll]ib/**/site-packages'))
        zipfile.ZipFile(wheels[kind]).extractall(site)
        lines = [*map(str, folders), f'import site; site.addsitedir({str(SITE)!r})']
        (site / 'a_first.pth').write_text('\n'.join(lines) + '\n')
        return next(p for p in (place / 'bin' / 'python', place / 'Scripts' / 'python.exe') if p.exists())

    return make


@pytest.fixture
def checkout(tmp_path: Path, image_folder: Callable[..., Path]) -> Path:
    """A folder as BasicSR's repository is: without the version file that only an installation writes."""
    folder = tmp_path / 'BasicSR'
    shutil.copytree(SITE / 'basicsr', folder / 'basicsr', ignore=shutil.ignore_patterns('version.py', 'version.*.pyc'))
    (folder / 'VERSION').write_text(f'{NUMBER}\n')
    (folder / 'options').mkdir()
    options = train_options(image_folder('hr', [(32, 40), (24, 26)]))
    options['train'].update(total_iter=1, warmup_iter=-1)
    file = write_yaml(options, folder / 'options' / 'train_IARN_x1-4.yml')
    file.write_text(PLUGIN + file.read_text())
    return folder


SCRIPT = ['basicsr/train.py', '-opt', 'options/train_IARN_x1-4.yml']
SHARED = [*TORCHRUN, *SCRIPT, '--launcher', 'pytorch']
PLUGIN = "plugin: !!python/name:iarn_basicsr.plugin.__version__ ''\n"


@pytest.mark.slow
@pytest.mark.parametrize(('words', 'developed', 'kind'), [(SCRIPT, True, 'build_wheel'),
                                                          (SHARED, False, 'build_editable')],
                         ids=['installed checkout', 'fresh checkout, torchrun'])
def test_train_and_test(environments, checkout, words, developed, kind):
    """A test file with the name of the run tests what was trained."""
    python = environments(kind, *([checkout] if developed else []))
    done = run(python, *words, cwd=checkout)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'Model [IARNModel] is created' in done.stderr
    assert (f'BasicSR: {NUMBER}\n' in done.stderr) == developed
    saved = checkout / 'experiments' / 'run'
    assert (saved / 'models' / 'net_g_latest.pth').is_file()
    if developed:
        options = as_test(train_options(checkout.parent / 'hr'))
        file = write_yaml(options, checkout / 'options' / 'test_IARN_x1-4.yml')
        file.write_text(PLUGIN + file.read_text())
        done = run(python, 'basicsr/test.py', '-opt', 'options/test_IARN_x1-4.yml', cwd=checkout)
        assert done.returncode == 0, done.stderr[-3000:]
        trained, tested = (json.loads((checkout / name).read_text())['mean'] for name in (
            'experiments/run/metrics/val_1.json', 'results/run/metrics/val_run.json'))
        assert trained == tested


@pytest.mark.slow
def test_start_of_python_stays_light(environments, tmp_path):
    """The hook is there once, and nothing was imported for it."""
    program = ('import sys; print(sum(getattr(f, "__name__", "") == "StandIns" for f in sys.meta_path), '
               f'{HOOK!r} in sys.modules, "iarn_basicsr" in sys.modules, "torch" in sys.modules)')
    done = run(environments('build_wheel'), '-c', program, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ('1 True False False\n', '')


@pytest.mark.parametrize('hook', [True, False])
@pytest.mark.parametrize('place', ['beside it', 'elsewhere', 'nowhere'])
def test_doctor_says_which_basicsr_own_commands_import(tmp_path, monkeypatch, place, hook):
    """In a fresh checkout beside an installed BasicSR, elsewhere, and where none is installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, HOOK, stand_ins)
    if not hook:
        monkeypatch.delitem(sys.modules, HOOK)
    found, script, module = SITE / 'basicsr', '', SITE / 'basicsr'
    if place == 'beside it':
        (tmp_path / 'basicsr').mkdir()
        (tmp_path / 'basicsr' / '__init__.py').touch()
        module = tmp_path / 'basicsr'
        script = f'the checkout in {tmp_path} is not installed, so the script alone is from there; '
    elif place == 'nowhere':
        monkeypatch.setattr(sys, 'path', [''])
        found = module = 'none: BasicSR is not installed'
    says = doctor._stock_commands()
    assert says.startswith(f'python basicsr/train.py imports {found}; {script}'
                           f'python -m basicsr.train imports {module}; ')
    assert says.endswith('; with the import hook of this package' if hook else 'newer: pip install this package again')
