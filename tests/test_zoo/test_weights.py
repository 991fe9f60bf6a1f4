"""What a weight file may look like: keys, prefixes of wrappers, endings."""

import sys
from pathlib import Path

import pytest
import torch
from helpers import tiny_net
from safetensors.torch import save_file

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import WeightsError
from iarn_basicsr.zoo.weights import read_weights, write_weights

A, B, C = ({'x.weight': torch.full((2, ), value)} for value in (1.0, 2.0, 3.0))


def first(path: Path, **asked: object) -> float:
    return read_weights(path, **asked).state['x.weight'][0].item()


def test_which_weights_are_taken(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save({'params': A, 'params_ema': B, 'other': C, 'iter': 3}, path)
    assert first(path) == 2 and first(path, ema=False) == 1
    assert [first(path, key=key) for key in ('params', 'params_ema', 'other')] == [1, 2, 3]
    assert first(path, key='params', ema=True) == 1


@pytest.mark.parametrize('key', ['params_ema', 'iter', 'arch', 'params_g'])
def test_a_key_that_the_file_lacks(tmp_path, key):
    """Never other weights in its place; the message names those that are there."""
    path = tmp_path / 'x.pth'
    torch.save({'params': A, 'other': C, 'iter': 3, 'arch': {'type': 'IARN'}}, path)
    with pytest.raises(WeightsError, match=rf"x\.pth has no weights '{key}'; it has: params, other$"):
        read_weights(path, key=key)


@pytest.mark.parametrize('name', ['bare.pth', 'x.safetensors'])
def test_a_file_of_one_state_dict_calls_it_params(tmp_path, name):
    path = tmp_path / name
    if name == 'bare.pth':
        torch.save(A, path)
    else:
        save_file(A, path)
    assert first(path) == first(path, key='params') == 1
    with pytest.raises(WeightsError, match="has no weights 'params_ema'; it has: params$"):
        read_weights(path, key='params_ema')


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.', '_orig_mod.module.module.'])
def test_wrappers_leave_no_prefix(tmp_path, prefix, ending):
    """DDP's and torch.compile's, in any order; a module of such a name further inside keeps it."""
    net = tiny_net()
    state = {prefix + name: value for name, value in net.state_dict().items()}
    write_weights(tmp_path / f'x.{ending}', net.arch, params=state)
    assert read_weights(tmp_path / f'x.{ending}').state.keys() == net.state_dict().keys()
    assert IARN.from_file(tmp_path / f'x.{ending}').hparams == net.hparams
    write_weights(tmp_path / f'y.{ending}', {}, params={f'{prefix}a.module.w': torch.ones(1)})
    assert [*read_weights(tmp_path / f'y.{ending}').state] == ['a.module.w']


@pytest.mark.parametrize('name', ['x.PTH', 'x.SafeTensors'])
def test_endings_in_any_case(tmp_path, name):
    net = tiny_net()
    net.save(tmp_path / name)
    assert ((tmp_path / name).read_bytes()[:2] == b'PK') == (name == 'x.PTH')
    back = IARN.from_file(tmp_path / name)
    assert back.arch == net.arch and all(torch.equal(v, net.state_dict()[k]) for k, v in back.state_dict().items())


ARCH, STATE = tiny_net().arch, tiny_net().state_dict()


@pytest.mark.parametrize(('content', 'found'), [
    ({'params': A}, ' holds no architecture options: expected a file saved by IARNModel'),
    ({'params': A, 'arch': {'type': 'EDSR'}}, " holds architecture options {'type': 'EDSR'}: expected a file saved by"),
    ({'params': A, 'arch': 'IARN'}, ' holds no architecture options'),
    *((content, ' holds no state dict') for content in ({'params': {}}, {'arch': ARCH}, [1, 2])),
    ({'params': STATE, 'arch': {**ARCH, 'subnet': 'residual'}}, ' do not make an IARN: '),
    ({'params': STATE, 'arch': {**ARCH, 'order': 99}}, ' do not make an IARN: IARN.order: 99'),
    ({'params': {'w': torch.ones(1), 'module.w': torch.zeros(1)}}, ': two weights have the same name once module'),
    ({'params': {'w': torch.tensor([float('nan')])}}, ' is damaged: w holds values that are not finite'),
    (b'PK\3\4' + bytes(50), ' is not a PyTorch weight file'),
    (b'\x80\x02cos\nsystem\nX\x04\0\0\0echo\x85R.', ' is not a PyTorch weight file, or holds more than weights'),
    (None, ': cannot be read (No such file or directory)'),
], ids=lambda v: str(v)[:40])
def test_files_that_are_none(tmp_path, content, found):
    """One short line that names the file."""
    path = tmp_path / 'other.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(WeightsError) as error:
        IARN.from_file(path)
    line = str(error.value)
    assert line.startswith(str(path)) and found in line and '\n' not in line and len(line) < 600


@pytest.mark.parametrize(('metadata', 'message'), [
    (None, ' holds no architecture options'),
    ({'arch': '{broken'}, r' is not a safetensors file \(or it is damaged\): Expecting property name'),
    ('text', r' is not a safetensors file \(or it is damaged\)'),
])
def test_safetensors_that_are_none(tmp_path, metadata, message):
    path = tmp_path / 'x.safetensors'
    path.write_bytes(b'hello, this is some text')
    if metadata != 'text':
        save_file(A, path, metadata)
    with pytest.raises(WeightsError, match=f'x.safetensors.*{message}'):
        IARN.from_file(path)


def test_without_the_package_safetensors(monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    for call in (lambda: tiny_net().save('x.safetensors'), lambda: IARN.from_file('x.safetensors')):
        with pytest.raises(WeightsError, match=r'^x\.safetensors: needs the package safetensors \(pip install'):
            call()
