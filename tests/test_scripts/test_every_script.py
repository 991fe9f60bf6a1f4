"""Every script says what it does, refuses what it does not know, and stands in scripts/README.md."""

import re
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'
NAMES = sorted(p.relative_to(SCRIPTS).with_suffix('').as_posix() for p in SCRIPTS.rglob('*.py') if p.name[0] != '_')


@pytest.mark.parametrize('name', NAMES)
def test_help(script, name, capsys):
    module = script(name)
    with pytest.raises(SystemExit) as stop:
        module.main(['--help'])
    assert stop.value.code == 0
    assert 'usage:' in capsys.readouterr().out
    assert f'python scripts/{name}.py' in module.__doc__


@pytest.mark.parametrize('name', NAMES)
def test_unknown_option(script, name, capsys):
    with pytest.raises(SystemExit) as stop:
        script(name).main(['--no-such-option'])
    assert stop.value.code == 2
    assert 'error: ' in capsys.readouterr().err


def test_readme_names_every_script():
    named = re.findall(r'python scripts/([\w/]+)\.py', (SCRIPTS / 'README.md').read_text(encoding='utf-8'))
    assert sorted(set(named)) == NAMES
