"""Weights and states: saved, loaded, found, resumed; the network that a file names."""

import errno
import json
import os

import pytest
import torch
from helpers import tiny_net, train_options, write_yaml
from test_models.batches import Whole, batch, randomise

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.models.checkpoints import newest_weights


def saved(net, path, **states):
    """A file as the model writes it."""
    from iarn_basicsr.zoo.weights import write_weights
    write_weights(str(path), net.arch, **(states or {'params': net.state_dict()}))
    return str(path)


def holds(net, state, add=0):
    return all(torch.equal(v, state[k] + add) for k, v in net.state_dict().items())


def test_saved_file_rebuilds_the_network(make_model, tmp_path):
    model = make_model()
    randomise(model.net_g)
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
    assert state['iter'] == 7 and len(state['optimizers']) == 1
    milestones = state['schedulers'][0]['milestones']
    assert type(milestones) is dict and milestones == {6: 1, 14: 1}  # PyTorch before 2.4 reads no Counter


def test_failed_write_leaves_the_old_file(make_model, tmp_path, monkeypatch):
    model = make_model()
    model.save(epoch=0, current_iter=7)
    path = tmp_path / 'models' / 'net_g_7.pth'
    old = path.read_bytes()

    def disk_full(handle):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', disk_full)
    with pytest.raises(OSError, match='No space left'):
        model.save(epoch=0, current_iter=7)
    assert path.read_bytes() == old
    assert [p.name for p in path.parent.iterdir()] == ['net_g_7.pth']


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
    state = {k: v if k != 'blocks.0.maps.phi.last.weight' else v[:1] for k, v in net.state_dict().items()}
    kept = [*state][:3]
    torch.save({'params': dict([*state.items()][:3] + [('blocks.0.maps.phi.last.weight', v) for k, v in state.items()
                                                      if k == 'blocks.0.maps.phi.last.weight'])}, tmp_path / 'part.pth')
    options = {'pretrain_network_g': str(tmp_path / 'part.pth'), 'strict_load_g': False}
    model = make_model(path=options)
    for name, value in model.net_g.state_dict().items():
        assert torch.equal(model.net_g_ema.state_dict()[name], value), name
        assert torch.equal(value, state[name]) == (name in kept and name != 'blocks.0.maps.phi.last.weight'), name
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
            ({'type': 'IARN', 'num_block': 2, 'subnet': 'residual' if net.hparams['subnet'] == 'dense' else 'dense'},
             '^network_g.subnet: '),
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


def test_train_then_test_by_the_name_of_the_run(tmp_path, image_folder, pipeline):
    """The averaged weights of this run and no others, of an architecture that the test file does not say."""
    options = train_options(image_folder('hr', [(24, 26)]))
    options['train'].update(total_iter=2, optim_g={'type': 'SGD', 'lr': 1.0})
    means = {}
    for name, width in (('first', 3), ('second', 5)):
        options.update(name=name)
        options['network_g']['width'] = width
        pipeline('train', write_yaml(options, tmp_path / f'{name}.yml'))
        means[name] = json.loads((tmp_path / 'experiments' / name / 'metrics' / 'val_2.json').read_text())['mean']
    assert means['first'] != means['second']
    test = {'name': 'first', 'model_type': 'IARNModel', 'num_gpu': 0, 'network_g': {'type': 'IARN'}, 'path': {},
            'datasets': {'test_1': {**options['datasets']['val'], 'name': 'set'}}, 'val': {'save_img': False}}
    for name in ('first', 'second'):
        pipeline('test', write_yaml({**test, 'name': name}, tmp_path / 'test.yml'))
        report = json.loads((tmp_path / 'results' / name / 'metrics' / f'set_{name}.json').read_text())
        assert report['mean'] == means[name]
    with pytest.raises(SystemExit, match=r"no weights to test: '.*experiments/third/models' has none either; train"):
        pipeline('test', write_yaml({**test, 'name': 'third'}, tmp_path / 'test.yml'))


def test_test_of_a_training_file(make_model, tmp_path):
    """Its own ``path.pretrain_network_g`` is where the training began, not what it made."""
    start, end = tiny_net(order=2, seed=1), tiny_net(order=2, seed=2)
    (tmp_path / 'experiments' / 'run' / 'models').mkdir(parents=True)
    saved(end, tmp_path / 'experiments' / 'run' / 'models' / 'net_g_latest.pth')
    path = {'pretrain_network_g': saved(start, tmp_path / 'start.pth'), 'param_key_g': 'params', 'strict_load_g': True,
            'results_root': str(tmp_path / 'results' / 'run')}
    model = make_model(False, path=path, train=train_options(tmp_path)['train'])
    assert holds(model.net_g, end.state_dict())
    assert holds(make_model(False, path=path).net_g, start.state_dict())


def test_state_of_another_network(make_model):
    model, other = make_model(), make_model(network_g={'num_block': 2})
    for one in (model, other):
        one.feed_data(batch())
        one.optimize_parameters(1)
    state = {'iter': 1, 'epoch': 0, 'optimizers': [o.state_dict() for o in other.optimizers],
             'schedulers': [s.state_dict() for s in other.schedulers]}
    model.opt['path']['resume_state'] = '1.state'
    with pytest.raises(OptionError, match="path.resume_state: '1.state' does not fit network_g or train.optim_g"):
        model.resume_training(state)
