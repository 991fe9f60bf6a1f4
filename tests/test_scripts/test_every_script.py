"""Every script says what it does, and refuses what it does not know."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted(p for p in (Path(__file__).resolve().parents[2] / 'scripts').glob('*.py') if p.name[0] != '_')


@pytest.fixture(params=SCRIPTS, ids=lambda p: p.stem)
def script(request, monkeypatch):
    monkeypatch.syspath_prepend(str(request.param.parent))
    spec = importlib.util.spec_from_file_location(f'script_{request.param.stem}', request.param)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_help(script, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(['--help'])
    assert stop.value.code == 0
    assert 'usage:' in capsys.readouterr().out
    assert f'python scripts/{Path(script.__file__).name}' in script.__doc__


def test_unknown_option(script, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(['--no-such-option'])
    assert stop.value.code == 2
    assert 'error: ' in capsys.readouterr().err
