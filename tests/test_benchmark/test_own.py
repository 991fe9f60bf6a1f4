"""``iarn-benchmark --import``: networks of one's own, registered with BasicSR by a module that the caller names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from iarn_basicsr.benchmark.methods import build_method, fingerprint
from iarn_basicsr.benchmark.run import main

NETWORK = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn


@ARCH_REGISTRY.register()
class NAME(nn.Module):

    def __init__(self, scale=2):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x):
        return self.body(x)
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A current directory, and BasicSR's registry as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / 'modules'))
    monkeypatch.setattr(ARCH_REGISTRY, '_obj_map', dict(ARCH_REGISTRY._obj_map))
    yield


@pytest.fixture
def benchmark(tmp_path: Path, image_folder: Callable[..., Path]) -> Callable[..., int]:
    """Runs the command with a network of a type; the files are in the folder out."""
    body = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))
    torch.save({f'body.{k}': v for k, v in body.state_dict().items()}, tmp_path / 'w.pth')
    hr = str(image_folder('hr', [(48, 36)]))

    def run(kind: str, *arguments: str, **more: Any) -> int:
        nets = [{'scale': 2, 'path': 'w.pth', 'network': {'type': kind}}]
        options = {'name': 'own', 'threads': 1, 'device': 'cpu', 'scales': [2], **more,
                   'datasets': {'set': {'dataroot_gt': hr}}, 'methods': {'mine': {'type': 'SR', 'nets': nets}}}
        Path('b.yml').write_text(yaml.safe_dump(options), encoding='utf-8')
        return main(['-opt', 'b.yml', '-o', 'out', *arguments])

    return run


@pytest.mark.slow
def test_a_network_of_a_file(benchmark, capsys):
    """Measured in this process, and its cost in another."""
    Path('my_net.py').write_text('from helper_beside import NOTHING\n' + NETWORK.replace('NAME', 'FileNet'))
    Path('helper_beside.py').write_text('NOTHING = 0\n')
    assert benchmark('FileNet', '--import', 'my_net.py', cost={'hr_size': [32, 48], 'scales': [2], 'repeats': 1}) == 0
    assert 'mine (bicubic LR)' in capsys.readouterr().out
    rows = json.loads(Path('out/benchmark.json').read_text())['rows']
    assert [row['key'][0] for row in rows] == ['quality', 'cost']
    assert rows[1]['params'] == 27 * 12 + 12 and rows[1]['macs_up'] == pytest.approx(81)


def test_modules_of_the_path_and_several(benchmark):
    Path('modules').mkdir()
    for name in ('first', 'second'):
        Path('modules', f'own_module_{name}.py').write_text(NETWORK.replace('NAME', f'{name.title()}Net'))
    arguments = ['--import', 'own_module_first', '--import', 'own_module_second']
    assert benchmark('SecondNet', *arguments) == 0
    assert 'FirstNet' in ARCH_REGISTRY


def test_without_the_import_it_is_not_known(benchmark, capsys):
    Path('my_net.py').write_text(NETWORK.replace('NAME', 'UnknownNet'))
    assert benchmark('UnknownNet') == 2
    assert "'UnknownNet' is not registered with BasicSR" in capsys.readouterr().err


@pytest.mark.parametrize('key', ['import', 'modules'])
def test_an_option_file_imports_nothing(benchmark, capsys, key):
    Path('my_net.py').write_text(NETWORK.replace('NAME', 'OptionNet'))
    assert benchmark('OptionNet', **{key: ['my_net.py']}) == 2
    assert f"unknown option '{key}'" in capsys.readouterr().err
    assert 'OptionNet' not in ARCH_REGISTRY


@pytest.mark.parametrize(('text', 'message'), [
    (None, 'cannot be imported (FileNotFoundError: there is no such file)'),
    ('import no_such_module_here', "cannot be imported (ModuleNotFoundError: No module named 'no_such_module_here')"),
    ('x = (', 'cannot be imported (SyntaxError: '),
    ('raise ValueError("two\\nlines")', 'cannot be imported (ValueError: two lines)'),
    ('raise SystemExit(3)', 'cannot be imported (SystemExit: 3)'),
    (NETWORK.replace('NAME', 'EDSR'), "cannot be imported (AssertionError: An object named 'EDSR' was already "),
    ('x = 1', 'registers no new network; write @ARCH_REGISTRY.register() above its class'),
    ('from basicsr.archs.edsr_arch import EDSR', 'registers no new network; '),
])
def test_modules_that_are_of_no_use(benchmark, capsys, text, message):
    if text is not None:
        Path('my_net.py').write_text(text)
    assert benchmark('EDSR', '--import', 'my_net.py') == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f'iarn-benchmark: --import my_net.py: {message}')
    assert shown.err.count('\n') == 1 and not shown.out
    assert not Path('out').exists()


def test_a_name_that_is_no_module(benchmark, capsys):
    assert benchmark('EDSR', '--import', 'no_such_module_here') == 2
    assert capsys.readouterr().err == ('iarn-benchmark: --import no_such_module_here: cannot be imported '
                                       "(ModuleNotFoundError: No module named 'no_such_module_here')\n")


def test_results_change_with_the_file_of_the_network(benchmark):
    """Or a run would keep what an earlier version of the network measured."""
    Path('my_net.py').write_text(NETWORK.replace('NAME', 'EditedNet'))
    assert benchmark('EditedNet', '--import', 'my_net.py') == 0
    options = yaml.safe_load(Path('b.yml').read_text())['methods']['mine']
    method = build_method('mine', options)
    before = fingerprint(options, method)
    assert fingerprint(options, build_method('mine', options)) == before
    Path('my_net.py').write_text(NETWORK.replace('NAME', 'EditedNet') + '\n')
    assert fingerprint(options, build_method('mine', options)) != before
