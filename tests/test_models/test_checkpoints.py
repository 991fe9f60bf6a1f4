"""Weights and states: saved, loaded, found, resumed; the network that a file names."""

import os

import pytest
import torch
from helpers import randomised, tiny_net
from test_models.batches import Whole

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.models.checkpoints import newest_weights
from iarn_basicsr.zoo.weights import write_weights


def saved(net, path, **states):
    """A file as the model writes it."""
    write_weights(str(path), net.arch, **(states or {'params': net.state_dict()}))
    return str(path)


def holds(net, state, add=0):
    return all(torch.equal(v, state[k] + add) for k, v in net.state_dict().items())


def test_saved_file_rebuilds_the_network(make_model, tmp_path):
    model = make_model()
    randomised(model.net_g)
    model.skipped = 3
    model.save(epoch=0, current_iter=7)
    content = torch.load(tmp_path / 'models' / 'net_g_7.pth', weights_only=True)
    assert set(content) == {'params', 'params_ema', 'arch'}
    x = torch.rand(1, 3, 20, 23)
    for ema, net in ((False, model.net_g), (True, model.net_g_ema)):
        rebuilt = IARN.from_file(tmp_path / 'models' / 'net_g_7.pth', ema=ema)
        with torch.no_grad():
            assert torch.equal(rebuilt(x, (9, 12))['sr'], net(x, (9, 12))['sr'])
    assert not torch.equal(*(content[key]['blocks.0.maps.phi.last.weight'] for key in ('params', 'params_ema')))
    state = torch.load(tmp_path / 'states' / '7.state', weights_only=True)
    assert state['iter'] == 7 and state['skipped'] == 3 and len(state['optimizers']) == 1
    milestones = state['schedulers'][0]['milestones']
    assert type(milestones) is dict and milestones == {6: 1, 14: 1}  # PyTorch before 2.4 reads no Counter


def test_which_weights_of_a_file(make_model, tmp_path):
    """Both kinds, by default and by name, in training and in a test; bare ones; a key that is not there."""
    net = tiny_net(order=2)
    state = net.state_dict()
    average = {k: v + 1 for k, v in state.items()}
    both = saved(net, tmp_path / 'both.pth', params=state, params_ema=average)
    one = saved(net, tmp_path / 'one.pth')
    torch.save(state, tmp_path / 'bare.pth')
    for file, key, add in ((both, None, 0), (both, 'params', 0), (both, 'params_ema', 1), (one, None, 0),
                           (str(tmp_path / 'bare.pth'), None, 0)):
        model = make_model(path={'pretrain_network_g': file, **({'param_key_g': key} if key else {})})
        assert holds(model.net_g, state, add) and holds(model.net_g_ema, state, int(file == both))
    for key, add in ((None, 1), ('params', 0), ('params_ema', 1)):
        model = make_model(False, path={'pretrain_network_g': both, 'param_key_g': key})
        assert holds(model.net_g, state, add)
    assert holds(make_model(False, path={'pretrain_network_g': one}).net_g, state)
    with pytest.raises(WeightsError, match="one.pth has no .*'params_ema'; it has:? '?params"):
        make_model(False, path={'pretrain_network_g': one, 'param_key_g': 'params_ema'})


def test_part_of_the_weights(make_model, tmp_path):
    """Averaged weights that the file lacks, or has in another shape, begin as those of the network."""
    net = tiny_net(order=2)
    state, other = net.state_dict(), 'blocks.0.maps.phi.last.weight'
    kept = [*state][:3]
    torch.save({'params': {**{name: state[name] for name in kept}, other: state[other][:1]}}, tmp_path / 'part.pth')
    options = {'pretrain_network_g': str(tmp_path / 'part.pth'), 'strict_load_g': False}
    model = make_model(path=options)
    for name, value in model.net_g.state_dict().items():
        assert torch.equal(model.net_g_ema.state_dict()[name], value), name
        assert torch.equal(value, state[name]) == (name in kept), name
    with pytest.raises(WeightsError, match='part.pth does not fit network_g: .*Missing key'):
        make_model(path={**options, 'strict_load_g': True})


@pytest.mark.parametrize('is_train', [True, False])
def test_weights_say_their_architecture(make_model, tmp_path, is_train):
    net = tiny_net(num_block=2, width=3, order=1, max_scale=3.5)
    path = {'pretrain_network_g': saved(net, tmp_path / 'w.pth')}
    both = [{'type': 'IARN'}, {'type': 'IARN', 'width': 3, 'max_scale': 3.5}]
    for network in both:
        model = make_model(is_train, path=path, network_g=Whole(network))
        assert model.net_g.arch == net.arch and holds(model.net_g, net.state_dict())
    for network, line in (
            ({'type': 'IARN', 'width': 32}, r'^network_g.width: 32, but .*w.pth was made with 3: leave it out'),
            ({'type': 'IRN', 'scale': 2}, "^network_g.type: 'IRN', but .*w.pth was made with 'IARN'")):
        with pytest.raises(OptionError, match=line):
            make_model(is_train, path=path, network_g=Whole(network))
    model = make_model(is_train, path={**path, 'strict_load_g': False}, network_g=Whole({'type': 'IARN', 'width': 5}))
    assert model.net_g.hparams['width'] == 5 and model.net_g.hparams['order'] == 1


def test_newest_weights(tmp_path):
    assert newest_weights(str(tmp_path / 'none')) is None and newest_weights(str(tmp_path)) is None
    for time, name in enumerate(('net_g_9.pth', 'net_g_10.pth', 'net_d_11.pth', 'net_g_x.pth', '.writing-a.pth')):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    assert newest_weights(str(tmp_path)) == str(tmp_path / 'net_g_10.pth')
    (tmp_path / 'net_g_latest.pth').touch()
    os.utime(tmp_path / 'net_g_latest.pth', (1, 1))  # written at the same time
    assert newest_weights(str(tmp_path)) == str(tmp_path / 'net_g_latest.pth')
    (tmp_path / 'net_g_20.pth').touch()  # the run was made longer
    assert newest_weights(str(tmp_path)) == str(tmp_path / 'net_g_20.pth')
