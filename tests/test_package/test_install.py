"""BasicSR is installed on every Python, and a line says how where it is missing."""

from __future__ import annotations

import builtins
import importlib.util
import shlex
import subprocess
import sys
from types import ModuleType

import pytest
from helpers import ROOT, run_python

from iarn_basicsr.compat import basicsr as compat

SCRIPT = ROOT / 'scripts' / 'install' / 'install_basicsr.py'
NEEDS_PATCH = sys.version_info >= (3, 13)


@pytest.fixture
def script(script) -> ModuleType:
    """The script, as a module."""
    return script('install/install_basicsr')


def test_exec_of_python_3_12(script, monkeypatch):
    """Names land in locals() of the caller, unless namespaces are given; a closure is passed on."""
    monkeypatch.setattr(builtins, 'exec', builtins.exec)
    script.patch_exec()

    def get_version():
        exec(compile("__version__ = '1.4.2'", 'version.py', 'exec'))
        return locals()['__version__']

    assert get_version() == '1.4.2' and '__version__' not in globals()
    found, own = [], {}
    exec('name = 1', own)
    assert own['name'] == 1 and 'name' not in {**locals(), **globals()}

    def function():
        found.append(1)

    if sys.version_info >= (3, 11):  # exec has no closure before
        exec(function.__code__, globals(), closure=function.__closure__)
        assert found == [1]


def test_pip_that_fails(script, monkeypatch, capsys):
    def fails(command, **_):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, 'run', fails)
    assert script.main(['x.tar.gz']) == 1
    assert capsys.readouterr().err == 'install_basicsr: x.tar.gz was not installed; pip says why above\n'


def test_without_pip(script, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit, match='2'):
        script.main([])
    assert 'this Python has no pip: run "python -m ensurepip" first' in capsys.readouterr().err


def test_setuptools_and_wheel_come_first(script, monkeypatch):
    calls = []
    monkeypatch.setattr(subprocess, 'run', lambda command, **_: calls.append(command[2:]))
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'wheel' else object())
    assert script.main([]) == 0
    assert calls == [['pip', 'install', 'wheel'], ['pip', 'install', '--no-build-isolation', 'basicsr>=1.4.2']]


@pytest.mark.slow
def test_programs_name_the_line():
    done = run_python('-c', '''
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == 'basicsr' else find(name, *more)
from iarn_basicsr import test, train
from iarn_basicsr.inference.cli import main
assert main(['verify']) == 2
for program in (train, test):
    try:
        program.main()
    except SystemExit as stop:
        print(stop.code, file=sys.stderr)
try:
    import iarn_basicsr.plugin
except ImportError as error:
    print(f'plugin: {error}', file=sys.stderr)
''')
    says, commands = zip(*(line.split('; this line does it: ') for line in done.stderr.splitlines()))
    assert says == tuple(f'{p}: BasicSR is not installed' for p in ('iarn verify', 'iarn-train', 'iarn-test', 'plugin'))
    assert [shlex.split(command) for command in commands] == [['python', str(SCRIPT)]] * 4


def test_line_of_an_installed_package(tmp_path, monkeypatch):
    monkeypatch.setattr(compat, '__file__', str(tmp_path / 'iarn_basicsr' / 'compat' / 'basicsr.py'))
    assert compat._install_line() == 'python -m iarn_basicsr.install_basicsr'


@pytest.mark.skipif(sys.version_info < (3, 12), reason='distutils is there')
def test_basicsr_without_distutils():
    """The one in setuptools is taken, also where setuptools does not offer it (after ``pip install --target``)."""
    done = run_python('-c', 'import sys\n'
               'sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "DistutilsMetaFinder"]\n'
               'import iarn_basicsr.plugin')
    assert done.returncode == 0, done.stderr
