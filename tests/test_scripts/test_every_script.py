"""Every script says what it does and refuses an unknown option."""

import pytest
from helpers import ROOT

SCRIPTS = ROOT / 'scripts'


@pytest.mark.parametrize('name', sorted(p.relative_to(SCRIPTS).with_suffix('').as_posix() for p in SCRIPTS.rglob('*.py')
                                        if not p.name.startswith('_')))
def test_help_and_unknown_option(script, name, capsys):
    module = script(name)
    assert f'python scripts/{name}.py' in module.__doc__
    for argument, code in (('--help', 0), ('--no-such-option', 2)):
        with pytest.raises(SystemExit) as stop:
            module.main([argument])
        assert stop.value.code == code
    shown = capsys.readouterr()
    assert 'usage:' in shown.out and 'error: ' in shown.err
