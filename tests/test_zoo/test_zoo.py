"""Released weights: files and names, export, and ``iarn verify`` on a registry of its own and on the real one."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import ROOT, tiny_net
from PIL import Image

from iarn_basicsr import zoo
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.files import save_json
from iarn_basicsr.inference.cli import main
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.verify import PHOTOGRAPH, TOLERANCE, measure, verify
from iarn_basicsr.zoo.weights import read_weights
from iarn_basicsr.zoo.weights import weights_hash as hash_of


def load(weights: str) -> tuple[IARN, str]:
    """(network, name), as ``Rescaler.load`` and the commands find them."""
    path, name = zoo.resolve(weights)
    return IARN.from_file(path), name


def weights_hash(net: IARN) -> str:
    return hash_of(net.state_dict())


@pytest.fixture
def release(script: Callable[[str], ModuleType]) -> ModuleType:
    """The script, with two scales in place of six."""
    module = script('release/release_weights')
    module.SCALES = ['2', '1.5x4']
    return module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with an empty registry."""
    folder = tmp_path / 'zoo'
    folder.mkdir()
    (folder / 'registry.json').write_text('{}')
    monkeypatch.setattr(zoo, 'FOLDER', str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def released(folder: Path, release: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> Path:
    """The folder with two networks in the registry; measured on a corner of the photograph."""
    for name, seed, more in (('second', 1, []), ('best', 0, ['--first'])):
        net = tiny_net(seed=seed)
        other = {k: v + 1 for k, v in net.state_dict().items()}
        torch.save({'params': other, 'params_ema': net.state_dict(), 'arch': {'type': 'IARN', **net.hparams}},
                   tmp_path / f'{name}_run.pth')
        assert release.main([str(tmp_path / f'{name}_run.pth'), '--name', name, '--training', 'options/x.yml', '--data',
                             'none', '--steps', '0', *more]) == 0
    assert 'best: ' in capsys.readouterr().out
    return folder


@pytest.fixture(autouse=True, scope='module')
def small_photograph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Numbers of a corner take a tenth of the time; the real registry is verified on the real photograph."""
    path = tmp_path_factory.mktemp('photograph') / 'corner.png'
    Image.open(PHOTOGRAPH).crop((100, 60, 190, 130)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules['iarn_basicsr.inference.verify'], 'PHOTOGRAPH', str(path))
        yield


def change(folder: Path, name: str, **changes: Any) -> None:
    registry = json.loads((folder / 'registry.json').read_text())
    registry[name].update(changes)
    save_json(registry, str(folder / 'registry.json'))


def test_release(released, release, capsys):
    registry = zoo.entries()
    assert list(registry) == ['best', 'second']
    entry, net = registry['best'], tiny_net(seed=0)
    assert entry['sha256'] == hashlib.sha256((released / 'best.pth').read_bytes()).hexdigest()
    assert entry['weights_hash'] == weights_hash(net)  # of the EMA weights
    assert entry['parameters'] == sum(p.numel() for p in net.parameters())
    assert entry['scales'] == '1 to 4, per axis' and set(entry['expected']) == {'2', '1.5x4'}
    found = measure(Rescaler(net, 'x', device='cpu'), ['2'])['2']
    assert {m: round(v, 3) for m, v in found.items()} == entry['expected']['2']
    Path('run.pth').write_bytes(b'')
    with pytest.raises(SystemExit) as stop:
        release.main(['run.pth', '--name', 'x', '--training', 'r', '--data', 'd', '--steps', '1'])
    assert stop.value.code == 2 and 'is not a PyTorch weight file' in capsys.readouterr().err


def test_half(released, release, tmp_path):
    """Half the size; the expected numbers are those of the rounded weights."""
    assert release.main([str(tmp_path / 'best_run.pth'), '--name', 'half', '--training', 'r', '--data', 'd', '--steps',
                         '1', '--half']) == 0
    full, half = (load(name)[0].state_dict() for name in ('best', 'half'))
    assert all(torch.equal(half[k], v.half().float()) for k, v in full.items())
    assert (released / 'half.pth').stat().st_size < 0.75 * (released / 'best.pth').stat().st_size
    assert [good for _, good, _ in verify(['half'])] == [True]


def test_load_by_name(released):
    """A file of that name does not hide a released one."""
    Path('best').write_bytes(b'something else')
    Path('default').write_bytes(b'something else')
    for name, expected in (('default', 'best'), ('best', 'best'), ('second', 'second')):
        net, found = load(name)
        assert found == expected and weights_hash(net) == zoo.entries()[expected]['weights_hash']
    with pytest.raises(ValueError, match=r"weights 'bests': no such file, and no released weights of this name; did "
                                         r"you mean 'best'\?"):
        load('bests')
    with pytest.raises(ValueError, match=r"weights 'models/x.pth': .*; known: best, default, second$"):
        load('models/x.pth')


def test_verify(released, capsys):
    assert main(['verify']) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line[:12] for line in out] == ['ok    best: ', 'ok    second', 'ok    none: ']
    assert 'as expected (within 0.02 dB)' in out[0]
    assert main(['verify', 'second', 'default']) == 0
    assert main(['verify', 'secnd']) == 2
    assert capsys.readouterr().err == "iarn verify: no released weights 'secnd'; did you mean 'second'?\n"


def test_verify_fails_on_a_changed_file(released, capsys):
    """Even where the file's own sum was put right; it goes on with the others."""
    net = tiny_net(seed=0)
    with torch.no_grad():
        next(net.parameters())[0] += 1e-3
    net.save(released / 'best.pth')
    with pytest.raises(ValueError, match=r'best\.pth is damaged: sha256 \w{16}\.{3}, expected \w{16}\.{3}: install'):
        load('best')
    assert main(['verify']) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith('FAIL  best: ') and 'is damaged' in out[0] and out[1].startswith('ok    second: ')
    change(released, 'best', sha256=hashlib.sha256((released / 'best.pth').read_bytes()).hexdigest())
    assert main(['verify', 'best']) == 1
    assert f'FAIL  best: weights {weights_hash(net)}, expected ' in capsys.readouterr().out


@pytest.mark.parametrize(('by', 'good'), [(2 * TOLERANCE, False), (-2 * TOLERANCE, False), (TOLERANCE / 2, True)])
def test_verify_compares_numbers(released, by, good):
    expected = zoo.entries()['best']['expected']
    value = expected['1.5x4']['psnr_rgb']
    expected['1.5x4']['psnr_rgb'] = value + by
    change(released, 'best', expected=expected)
    [(name, found, text)] = verify(['best'])
    assert (name, found) == ('best', good)
    assert good or f'1.5x4 psnr_rgb {value:.3f}, expected {value + by:.3f}' in text


@pytest.mark.parametrize('name', zoo.list_models())
def test_released_weights(monkeypatch, name):
    """Every entry: its file, its hash, what it says of itself, and its numbers at x3."""
    monkeypatch.setattr(sys.modules['iarn_basicsr.inference.verify'], 'PHOTOGRAPH', PHOTOGRAPH)
    entry, net = zoo.entries()[name], load(name)[0]
    assert weights_hash(net) == entry['weights_hash']
    assert entry['parameters'] == sum(p.numel() for p in net.parameters())
    assert read_weights(zoo.resolve(name)[0]).arch == net.arch  # every option stands in the file
    recipes = re.findall(r'options/[\w./-]+\.yml', entry['training'])
    assert recipes and all((ROOT / recipe).is_file() for recipe in recipes)
    assert entry['training_data'] and entry['steps'] > 0
    found = measure(Rescaler(net, name, device='cpu'), ['3'])['3']
    assert found == pytest.approx(entry['expected']['3'], abs=TOLERANCE)


@pytest.mark.slow
def test_real_registry(monkeypatch):
    """All numbers."""
    monkeypatch.setattr(sys.modules['iarn_basicsr.inference.verify'], 'PHOTOGRAPH', PHOTOGRAPH)
    assert [(name, text) for name, good, text in verify() if not good] == []


def test_export(folder, capsys):
    """The hash is of names and values, whatever the file; the network is the same to the bit."""
    net = tiny_net(width=5, order=3, split='area', max_scale=3.0)
    net.save('run.pth')
    assert main(['export', 'run.pth', 'out/x.safetensors']) == 0
    assert capsys.readouterr().out == 'run -> out/x.safetensors\n'
    back, name = load('out/x.safetensors')
    assert name == 'x' and back.hparams == net.hparams and weights_hash(back) == weights_hash(net)
    Path('file').write_text('in the way')
    for arguments, code, message in (
            (['run.pth', 'x.bin'], 2, 'x.bin: choose a name that ends in .safetensors, .pth or .onnx'),
            (['run.pth', 'run.pth'], 2, 'run.pth exists: pass --overwrite to replace it'),
            (['nix.pth', 'x.pth'], 2, "weights 'nix.pth': no such file, and no released weights of this name; known: "
                                      'default'),
            (['run.pth', 'file/a/x.pth'], 1, 'file/a/x.pth: cannot be written (file is not a folder)')):
        assert main(['export', *arguments]) == code
        assert capsys.readouterr().err == f'iarn export: {message}\n'
    assert main(['export', 'run.pth', 'run.pth', '--overwrite']) == 0


def test_weights_whose_lr_may_become_a_jpeg(released, release, tmp_path):
    """They are measured through one, too; only they may."""
    release.JPEGS = ['2 jpeg 90', '2 jpeg 10']
    arguments = ['--name', 'robust', '--training', 'r', '--data', 'd', '--steps', '1', '--jpeg']
    assert release.main([str(tmp_path / 'best_run.pth'), *arguments]) == 0
    expected = zoo.entries()['robust']['expected']
    assert set(expected) == {'2', '1.5x4', '2 jpeg 90', '2 jpeg 10'}
    assert expected['2']['psnr_y'] > expected['2 jpeg 90']['psnr_y'] > expected['2 jpeg 10']['psnr_y'] + 0.5
    assert [good for _, good, _ in verify(['robust'])] == [True]
    assert zoo.survives_jpeg(zoo.entries()['robust']['weights_hash'])
    assert not zoo.survives_jpeg(zoo.entries()['second']['weights_hash']) and not zoo.survives_jpeg('0' * 16)
