"""What a weight file may look like: keys, prefixes of wrappers, endings."""

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


def test_two_weights_of_one_name(tmp_path):
    torch.save({'params': {'w': torch.ones(1), 'module.w': torch.zeros(1)}}, tmp_path / 'x.pth')
    with pytest.raises(WeightsError, match='two weights have the same name once module'):
        read_weights(tmp_path / 'x.pth')


@pytest.mark.parametrize('name', ['x.PTH', 'x.SafeTensors', 'x.SAFETENSORS'])
def test_endings_in_any_case(tmp_path, name):
    net = tiny_net()
    net.save(tmp_path / name)
    assert ((tmp_path / name).read_bytes()[:2] == b'PK') == (name == 'x.PTH')
    back = IARN.from_file(tmp_path / name)
    assert back.arch == net.arch and all(torch.equal(v, net.state_dict()[k]) for k, v in back.state_dict().items())


@pytest.mark.parametrize(('content', 'found'), [
    ({'params': A}, 'no architecture options: expected a file saved by IARNModel'),
    ({'params': {}}, 'no state dict'), ({}, 'no state dict'), ([1, 2], 'no state dict'),
    ({'params': A, 'arch': {'type': 'EDSR'}}, "architecture options {'type': 'EDSR'}: expected a file saved by IARN"),
    ({'params': A, 'arch': 'IARN'}, 'no architecture options'),
], ids=str)
def test_a_file_of_another_kind(tmp_path, content, found):
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(WeightsError) as error:
        IARN.from_file(tmp_path / 'other.pth')
    assert f'{tmp_path / "other.pth"} holds {found}' in str(error.value)


def test_the_message_is_short_whatever_does_not_fit(tmp_path):
    net = tiny_net()
    write_weights(tmp_path / 'x.pth', {**net.arch, 'subnet': 'residual'}, params=net.state_dict())
    with pytest.raises(WeightsError, match='do not make an IARN') as error:
        IARN.from_file(tmp_path / 'x.pth')
    assert '\n' not in str(error.value) and len(str(error.value)) < 600
