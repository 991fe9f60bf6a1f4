"""IARNModel: losses, steps, guards, validation output and files."""

import errno
import json
import logging
import math

import cv2
import pytest
import torch
from basicsr.models import build_model
from basicsr.utils.color_util import rgb2ycbcr_pt
from basicsr.utils.options import dict2str
from helpers import make_image, train_options

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.errors import OptionError
from iarn_basicsr.models.iarn_model import IARNModel, _name_below, luma
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import bicubic_downscale


@pytest.fixture
def make_model(tmp_path, image_folder):
    """make_model(train={...}, network_g={...}): a model in training, with changes to its options."""

    def make(is_train=True, **sections):
        opt = train_options(image_folder('hr', [(32, 40), (24, 26)]))
        for name, changes in sections.items():
            opt[name] = {**opt.get(name, {}), **changes}
        opt.update(is_train=is_train, dist=False, rank=0, world_size=1)
        opt['path'].update(models=str(tmp_path / 'models'), training_states=str(tmp_path / 'states'),
                           visualization=str(tmp_path / 'visualization'), log=str(tmp_path))
        dict2str(opt)
        return build_model(opt)

    return make


def batch(n=4, size=16, lr=(8, 6)):
    gt = torch.rand(n, 3, size, size)
    return {'gt': gt, 'lq': quantise(bicubic_downscale(gt, lr))}


def randomise(net):
    for p in net.parameters():
        p.data.add_(0.05 * torch.randn_like(p))


def test_losses_are_what_they_say(make_model):
    model = make_model(train={'pixel_opt': {'type': 'L1Loss', 'loss_weight': 2.0, 'reduction': 'mean'}})
    randomise(model.net_g)
    data = batch()
    with torch.no_grad():
        out = model.net_g(data['gt'], (8, 6))
    model.feed_data(data)
    model.optimize_parameters(1)
    log = model.get_current_log()
    assert log['l_rec'] == pytest.approx(2 * (out['sr'] - data['gt']).abs().mean().item(), rel=1e-5)
    assert log['l_guide'] == pytest.approx((out['lr_raw'] - data['lq']).square().mean().item(), rel=1e-5)
    assert log['l_latent'] == pytest.approx(0.1 * out['latent'].square().mean().item(), rel=1e-5)
    assert set(log) == {'l_rec', 'l_guide', 'l_latent', 'grad_norm'}


def test_luma_loss(make_model):
    """BT.601's Y, as BasicSR converts it; a change of colour alone does not count."""
    model = make_model(train={'luma_opt': {'type': 'L1Loss', 'loss_weight': 0.5, 'reduction': 'mean'}})
    randomise(model.net_g)
    data = batch()
    with torch.no_grad():
        sr = model.net_g(data['gt'], (8, 6))['sr']
    model.feed_data(data)
    model.optimize_parameters(1)
    y, wanted = (rgb2ycbcr_pt(x, y_only=True) for x in (sr, data['gt']))
    assert model.get_current_log()['l_luma'] == pytest.approx(0.5 * (y - wanted).abs().mean().item(), rel=1e-5)
    red_for_green = torch.tensor([1 / 65.481, -1 / 128.553, 0]).view(1, 3, 1, 1)
    assert torch.allclose(luma(sr + red_for_green), luma(sr), atol=1e-6)


def fixed_lr(scale_range=(1.5, 3)):
    return {'train': {**train_options('hr')['datasets']['train'], 'lq_size': 8, 'scale_range': list(scale_range)}}


def test_graphed_training_is_the_plain_one(make_model):
    """Three steps at three scales, with clipping and EMA."""
    plain, graphed = (make_model(datasets=fixed_lr(), train={'cuda_graph': graph, 'grad_clip': 0.05})
                      for graph in (False, True))
    graphed.net_g.load_state_dict(plain.net_g.state_dict())
    graphed.net_g_ema.load_state_dict(plain.net_g_ema.state_dict())
    for step, size in enumerate(((16, 16), (24, 12), (13, 13)), 1):
        gt = torch.rand(2, 3, *size)
        for model in (plain, graphed):
            model.feed_data({'gt': gt, 'lq': quantise(bicubic_downscale(gt, (8, 8)))})
            model.optimize_parameters(step)
        logs = [m.get_current_log() for m in (plain, graphed)]
        assert logs[0].keys() == logs[1].keys()
        for name, value in logs[0].items():
            assert logs[1][name] == pytest.approx(value, rel=1e-4), name
    for name in ('net_g', 'net_g_ema'):
        for a, b in zip(getattr(plain, name).parameters(), getattr(graphed, name).parameters()):
            assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(('sections', 'message'), [
    ({'train': {'guide_opt': {'type': 'MSELoss', 'reduction': 'sum'}}},
     "reduction: 'sum'; expected mean, which grad_accumulation and cuda_graph need"),
    ({'network_g': {'coupling': 'hr_grid'}}, 'needs network_g of type IARN with coupling: lr_grid$'),
    ({'train': {'grad_accumulation': 2}}, 'needs grad_accumulation: 1$'),
    ({'network_g': {'split': 'cubic_interp'}, 'train': {'inv_opt': {'type': 'MSELoss', 'reduction': 'mean'}}},
     'needs no inv_opt'),
    ({'network_g': {'order': 4}, 'datasets': {'train': {**fixed_lr((2, 2))['train'], 'lq_size': 72}}},
     'needs lq_size times the largest scale, and times order, of at most 256'),
    ({'datasets': {'train': train_options('hr')['datasets']['train']}}, 'needs datasets.train.lq_size'),
    ({'datasets': {'train': {**fixed_lr()['train'], 'lq_size': 100}}}, 'lq_size times the largest scale'),
])
def test_what_a_graphed_step_needs(make_model, sections, message):
    sections = {'datasets': fixed_lr(), **sections}
    with pytest.raises(OptionError, match='train.(cuda_graph: true|guide_opt).*' + message):
        make_model(**{**sections, 'train': {'cuda_graph': True, **sections.get('train', {})}})


def test_inverse_consistency_loss(make_model):
    options = {'type': 'MSELoss', 'loss_weight': 1.0, 'reduction': 'mean'}
    model = make_model(network_g={'split': 'cubic_interp'}, train={'inv_opt': options})
    randomise(model.net_g)
    data = batch()
    with torch.no_grad():
        low = model.net_g(data['gt'], (8, 6))['low']
        g = model.net_g.grid_of(data['gt'], (16, 16), (8, 6))
    model.feed_data(data)
    model.optimize_parameters(1)
    assert low.shape == data['gt'].shape
    assert model.get_current_log()['l_inv'] == pytest.approx((low - g.up(g.down(low))).square().mean().item(), rel=1e-4)


def test_training_reduces_the_loss(make_model):
    model = make_model(train={'optim_g': {'type': 'AdamW', 'lr': 2e-3}})
    gt = torch.stack([torch.from_numpy(make_image(16, 16, seed).transpose(2, 0, 1)).float() / 255 for seed in range(4)])
    data = {'gt': gt, 'lq': quantise(bicubic_downscale(gt, (8, 6)))}
    history = []
    for step in range(1, 41):
        model.feed_data(data)
        model.optimize_parameters(step)
        history.append(model.get_current_log()['l_rec'])
    assert history[-1] < 0.8 * history[0]


def gradients(model, data):
    model.feed_data(data)
    model.optimizer_g.zero_grad()
    model._backward()
    return torch.cat([p.grad.flatten() for p in model.net_g.parameters()])


def test_accumulated_gradient_is_the_batch_gradient(make_model):
    data = batch(5)
    model = make_model()
    randomise(model.net_g)
    whole = gradients(model, data)
    model.accumulation = 3  # parts of 2, 2 and 1
    assert torch.allclose(gradients(model, data), whole, atol=1e-7)


def test_gradient_is_clipped(make_model):
    model = make_model(train={'grad_clip': 1e-3, 'optim_g': {'type': 'SGD', 'lr': 1.0}, 'ema_decay': 0})
    before = [p.clone() for p in model.net_g.parameters()]
    model.feed_data(batch())
    model.optimize_parameters(1)
    moved = math.sqrt(sum((a - b).square().sum().item() for a, b in zip(before, model.net_g.parameters())))
    assert moved == pytest.approx(1e-3, rel=1e-3)
    assert model.get_current_log()['grad_norm'] > 1e-3


def test_non_finite_step_is_skipped_counted_and_fatal_in_the_end(make_model):
    model = make_model(train={'nonfinite_limit': 3})
    good, bad = batch(), batch()
    bad['gt'][0, 0, 0, 0] = float('nan')
    before = {k: v.clone() for k, v in model.net_g.state_dict().items()}
    ema = {k: v.clone() for k, v in model.net_g_ema.state_dict().items()}
    for step in (1, 2):
        model.feed_data(bad)
        model.optimize_parameters(step)
    assert all(torch.equal(v, before[k]) for k, v in model.net_g.state_dict().items())
    assert all(torch.equal(v, ema[k]) for k, v in model.net_g_ema.state_dict().items())
    assert model.get_current_log()['skipped'] == 2
    model.feed_data(good)
    model.optimize_parameters(3)
    assert any(not torch.equal(v, before[k]) for k, v in model.net_g.state_dict().items())
    model.feed_data(bad)
    model.optimize_parameters(4)
    model.optimize_parameters(5)
    with pytest.raises(FloatingPointError, match='3 steps in a row .* smaller train.optim_g.lr'):
        model.optimize_parameters(6)


def test_ema_follows(make_model):
    model = make_model(train={'ema_decay': 0.75})
    start = [p.clone() for p in model.net_g_ema.parameters()]
    model.feed_data(batch())
    model.optimize_parameters(1)
    for ema, old, new in zip(model.net_g_ema.parameters(), start, model.net_g.parameters()):
        assert torch.allclose(ema, 0.75 * old + 0.25 * new)


@pytest.mark.parametrize('has', [True, False])
def test_bf16_without_its_instructions_is_float32(make_model, monkeypatch, caplog, has):
    monkeypatch.setattr('iarn_basicsr.models.iarn_model.cpu_has_bf16', lambda: has)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'handlers', [caplog.handler])
    model = make_model(train={'amp': 'bf16'})
    kinds = set()
    for module in model.net_g.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, given, out: kinds.add(out.dtype))
    model.feed_data(batch())
    model.optimize_parameters(1)
    assert kinds == {torch.bfloat16 if has else torch.float32}
    assert ('no instructions for bfloat16' in caplog.text) is not has


@pytest.mark.slow
def test_bf16_stays_finite(make_model, monkeypatch):
    monkeypatch.setattr('iarn_basicsr.models.iarn_model.cpu_has_bf16', lambda: True)
    model = make_model(train={'amp': 'bf16'}, network_g={'num_block': 2, 'width': 8, 'order': 4})
    losses = []
    for step in range(1, 201):
        model.feed_data(batch(lr=(16 - step % 12, 5 + step % 11)))
        model.optimize_parameters(step)
        losses.append(model.get_current_log()['l_rec'])
    assert model.skipped == 0 and math.isfinite(sum(losses))
    assert sum(losses[-20:]) < sum(losses[:20])


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
    assert not torch.equal(content['params']['blocks.0.maps.phi.last.weight'],
                           content['params_ema']['blocks.0.maps.phi.last.weight'])
    state = torch.load(tmp_path / 'states' / '7.state', weights_only=True)
    assert state['iter'] == 7 and len(state['optimizers']) == 1


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


def val_loader(folder, **options):
    dataset = ArbitraryScaleDataset({'name': 'set', 'phase': 'val', 'type': 'ArbitraryScaleDataset', **folder,
                                     'scales': [2, [1.5, 3]], **options})
    return torch.utils.data.DataLoader(dataset)


class Board:
    """Records what goes to tensorboard."""

    def __init__(self):
        self.scalars = {}

    def add_scalar(self, tag, value, step):
        self.scalars[tag, step] = value


def test_validation_writes_table_json_tensorboard_and_images(make_model, tmp_path, caplog):
    model = make_model()
    board = Board()
    loader = val_loader({'dataroot_gt': str(tmp_path / 'hr')})
    with caplog.at_level('INFO', logger='basicsr'):
        logging.getLogger('basicsr').addHandler(caplog.handler)
        model.validation(loader, 20, board, save_img=True)
        logging.getLogger('basicsr').removeHandler(caplog.handler)
    table = next(r.message for r in caplog.records if r.message.startswith('Validation set @ 20'))
    assert 'EMA weights' in table and 'x1.5x3' in table and 'lr_psnr_y' in table
    report = json.loads((tmp_path / 'metrics' / 'set_20.json').read_text())
    assert set(report['mean']) == {'x2', 'x1.5x3'} and len(report['images']) == 4
    mean = sum(r['psnr_y'] for r in report['images'] if r['scale'] == 'x2') / 2
    assert report['mean']['x2']['psnr_y'] == pytest.approx(mean)
    assert board.scalars['metrics/set/x2/psnr_y', 20] == pytest.approx(mean)
    for scale, size in (('x2', (16, 20)), ('x1.5x3', (21, 13))):
        lr = cv2.imread(str(tmp_path / 'visualization' / 'set' / scale / 'lr' / 'image0_20.png'))
        sr = cv2.imread(str(tmp_path / 'visualization' / 'set' / scale / 'sr' / 'image0_20.png'))
        assert lr.shape[:2] == size and sr.shape[:2] == (32, 40)
        net = model.net_g_ema
        x = torch.from_numpy(lr[..., ::-1].transpose(2, 0, 1).copy()).float()[None] / 255
        with torch.no_grad():
            again = net.upscale(x, (32, 40))
        assert (quantise(again)[0].permute(1, 2, 0).numpy() * 255 - sr[..., ::-1]).__abs__().max() < 0.01
    assert model.net_g.training


def test_images_of_one_name_in_two_folders(make_model, tmp_path):
    model = make_model(is_train=False)
    for folder in ('a', 'b'):
        (tmp_path / 'two' / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'two' / folder / 'x.png'), make_image(16, 16, seed=ord(folder)))
    model.validation(val_loader({'dataroot_gt': str(tmp_path / 'two')}, scales=[2]), 'run', None, save_img=True)
    saved = [cv2.imread(str(tmp_path / 'visualization' / 'set' / 'x2' / 'lr' / folder / 'x.png')) for folder in 'ab']
    assert (saved[0] != saved[1]).any()


def test_images_that_differ_in_their_ending_only(make_model, tmp_path):
    model = make_model(is_train=False)
    (tmp_path / 'two').mkdir()
    for name in ('x.jpg', 'x.png', 'y.png'):
        cv2.imwrite(str(tmp_path / 'two' / name), make_image(16, 16, seed=len(name) + ord(name[-1])))
    model.validation(val_loader({'dataroot_gt': str(tmp_path / 'two')}, scales=[2]), 'run', None, save_img=True)
    folder = tmp_path / 'visualization' / 'set' / 'x2' / 'sr'
    assert sorted(path.name for path in folder.iterdir()) == ['x.jpg.png', 'x.png.png', 'y.png']


@pytest.mark.parametrize(('root', 'path', 'name'), [
    ('data', 'data/a/b.c.png', 'a/b.c'), ('./data/', './data/b.png', 'b'), ('../data', '../data/a/b.JPG', 'a/b'),
    ('lr/{scale}', 'lr/x1.5x3/a/b.png', 'a/b'), ('/lr/{factor}', '/lr/1.5x3/b.png', 'b'),
    ('data.lmdb', 'a/b.c', 'a/b.c'), ('elsewhere', '../data/a/b.png', 'b'),
])
def test_names_of_saved_images(root, path, name):
    assert _name_below({'dataroot_lq': root}, path, 'x1.5x3') == name


def test_weights_without_a_key(make_model, tmp_path):
    """As the authors of IRN publish theirs; and ``param_key_g: ~`` for a file that has several."""
    weights = make_model().net_g.state_dict()
    torch.save(weights, tmp_path / 'bare.pth')
    torch.save({'params': weights, 'params_ema': {k: v + 1 for k, v in weights.items()}}, tmp_path / 'both.pth')
    for file, key, average in (('bare', None, 0), ('bare', 'params', 0), ('both', None, 1), ('both', 'params', 1)):
        model = make_model(path={'pretrain_network_g': str(tmp_path / f'{file}.pth'), 'param_key_g': key})
        for name, value in weights.items():
            assert torch.equal(model.net_g.state_dict()[name], value)
            assert torch.equal(model.net_g_ema.state_dict()[name], value + average)


def test_average_of_weights_that_are_not_in_the_file(make_model, tmp_path):
    weights = make_model().net_g.state_dict()
    torch.save({'params': dict([*weights.items()][:3])}, tmp_path / 'part.pth')
    model = make_model(path={'pretrain_network_g': str(tmp_path / 'part.pth'), 'strict_load_g': False})
    for name, value in model.net_g.state_dict().items():
        assert torch.equal(model.net_g_ema.state_dict()[name], value), name


def test_one_scale_for_all_data_sets(make_model):
    """As stock option files say it."""
    data = {k: v for k, v in train_options('hr')['datasets']['train'].items() if k != 'scale_range'}
    IARNModel.check_options({**train_options('hr'), 'scale': 2, 'datasets': {'train': data}, 'is_train': True,
                             'dist': False, 'network_g': {'type': 'IRN', 'scale': 2, 'num_block': 1, 'width': 4}})


def test_a_state_has_no_counters(make_model, tmp_path):
    """PyTorch before 2.4 does not read them."""
    make_model().save_training_state(0, 3)
    state = torch.load(tmp_path / 'states' / '3.state', weights_only=True)
    assert type(state['schedulers'][0]['milestones']) is dict and state['schedulers'][0]['milestones'] == {6: 1, 14: 1}


def test_validation_with_coded_detail(make_model, tmp_path):
    """Rows of their own; the LR pays, the restored image gains; a saved LR restores to the saved image."""
    model = make_model(val={'payload': [0, 2], 'save_img': True})
    model.validation(val_loader({'dataroot_gt': str(tmp_path / 'hr')}), 20, None, save_img=True)
    mean = json.loads((tmp_path / 'metrics' / 'set_20.json').read_text())['mean']
    assert set(mean) == {'x2', 'x2_payload2', 'x1.5x3', 'x1.5x3_payload2'}
    assert mean['x2_payload2']['psnr_rgb'] > mean['x2']['psnr_rgb'] + 2
    assert mean['x2_payload2']['lr_psnr_rgb'] < mean['x2']['lr_psnr_rgb']

    folder = tmp_path / 'visualization' / 'set' / 'x2_payload2'
    name = 'image0_20.png'
    expected = cv2.imread(str(folder / 'sr' / name))
    given = make_model(is_train=False)
    given.net_g.load_state_dict(model.net_g_ema.state_dict())
    given.validation(val_loader({'dataroot_lq': str(folder / 'lr')}, scales=[2]), 'given', None, save_img=True)
    again = cv2.imread(str(tmp_path / 'visualization' / 'set' / 'x2' / 'sr' / name))
    assert (again == expected).all()


def test_validation_of_lr_images_alone(make_model, tmp_path, image_folder):
    model = make_model(is_train=False)
    folder = image_folder('given_lr', [(11, 14)])
    loader = val_loader({'dataroot_lq': str(folder)}, scales=[[1.5, 3]])
    model.validation(loader, 'run', None, save_img=True)
    sr = cv2.imread(str(tmp_path / 'visualization' / 'set' / 'x1.5x3' / 'sr' / 'image0.png'))
    lr = cv2.imread(str(tmp_path / 'visualization' / 'set' / 'x1.5x3' / 'lr' / 'image0.png'))
    assert sr.shape == (17, 42, 3)
    assert (lr == cv2.imread(str(folder / 'image0.png'))).all()
    assert not (tmp_path / 'metrics').exists()


@pytest.mark.parametrize(('section', 'change', 'message'), [
    ('train', {'grad_clp': 1}, "train: unknown option 'grad_clp'; did you mean 'grad_clip'"),
    ('train', {'amp': 'fp8'}, "train.amp: 'fp8'; choose none or bf16"),
    ('train', {'grad_clip': -1}, 'train.grad_clip: -1; expected a number from 0'),
    ('train', {'pixel_opt': None}, 'train.pixel_opt is missing'),
    ('train', {'guide_opt': {'type': 'MSELoss', 'reduction': 'none'}}, "guide_opt.reduction: 'none'; expected mean$"),
    ('train', {'guide_opt': {'type': 'MSELoss', 'reduction': 'sum'}, 'grad_accumulation': 2}, "'sum'; expected mean, "),
    ('train', {'optim_g': {'type': 'Adma', 'lr': 1e-3}}, "'Adma' is not an optimiser .* did you mean .*'Adam'"),
    ('val', {'save_image': True}, "val: unknown option 'save_image'; did you mean 'save_img'"),
])
def test_messages(make_model, section, change, message):
    with pytest.raises(OptionError, match=message):
        make_model(**{section: change})


def test_cudnn_is_not_told_to_tune_for_every_size(make_model):
    torch.backends.cudnn.benchmark = True
    make_model()
    assert torch.backends.cudnn.benchmark is False
