"""Validation: what is measured, restored and written."""

import json
import logging
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from helpers import make_image, randomised

from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS
from iarn_basicsr.ops.jpeg import jpeg_copy


def loader(folder, **options):
    return torch.utils.data.DataLoader(ArbitraryScaleDataset({
        'name': 'set', 'phase': 'val', 'type': 'ArbitraryScaleDataset', 'scales': [2, [1.5, 3]], **folder, **options}))


def rgb(path):
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


def test_table_json_tensorboard_and_images(make_model, tmp_path, caplog, monkeypatch):
    """Of the averaged weights; LR and restored image are those of a ``Rescaler``, rows of JPEG too."""
    monkeypatch.setattr(logging.getLogger('basicsr'), 'handlers', [caplog.handler])
    caplog.set_level('INFO', logger='basicsr')
    model, board = make_model(val={'jpeg': [90, 20]}), Mock()
    randomised(model.net_g_ema)
    model.validation(loader({'dataroot_gt': str(tmp_path / 'hr')}), 20, board, save_img=True)
    table = next(r.message for r in caplog.records if r.message.startswith('Validation set @ 20'))
    assert 'EMA weights' in table and 'x1.5x3' in table and 'lr_psnr_y' in table
    report = json.loads((tmp_path / 'metrics' / 'set_20.json').read_text())
    rows = {f'{scale}{way}' for scale in ('x2', 'x1.5x3') for way in ('', '_jpeg90', '_jpeg20')}
    assert set(report['mean']) == rows and len(report['images']) == 12
    mean = sum(r['psnr_y'] for r in report['images'] if r['scale'] == 'x2') / 2
    assert report['mean']['x2']['psnr_y'] == pytest.approx(mean)
    board.add_scalar.assert_any_call('metrics/set/x2/psnr_y', pytest.approx(mean), 20)
    rescaler, hr = Rescaler(model.net_g_ema, 'run', 'cpu'), rgb(tmp_path / 'hr' / 'image0.png')
    for scale, size in (('x2', (16, 20)), ('x1.5x3', (21, 13))):
        lr = rescaler.downscale(hr, size=size)
        for way, stored in (('', lr), ('_jpeg20', jpeg_copy(lr, 20))):
            folder = tmp_path / 'visualization' / 'set' / f'{scale}{way}'
            assert np.array_equal(rgb(folder / 'lr' / 'image0_20.png'), stored)
            assert np.array_equal(rgb(folder / 'sr' / 'image0_20.png'), rescaler.upscale(stored, (32, 40)))
    assert model.net_g.training


def test_own_metrics(make_model, tmp_path):
    """With arguments of BasicSR's."""
    mine = {'type': 'calculate_psnr', 'crop_border': 'auto', 'test_y_channel': False}
    model = make_model(val={'metrics': {'mine': mine, 'lr': {**mine, 'compare': 'lr', 'better': 'higher'}}})
    found = {}
    for metrics in (model.metrics, {**DEFAULT_METRICS}):
        model.metrics = metrics
        model.validation(loader({'dataroot_gt': str(tmp_path / 'hr')}), 20, None, save_img=False)
        found.update(json.loads((tmp_path / 'metrics' / 'set_20.json').read_text())['mean']['x2'])
    assert (found['mine'], found['lr']) == (found['psnr_rgb'], found['lr_psnr_rgb'])


def test_images_of_one_name(make_model, tmp_path):
    """In two folders, or with two endings."""
    model = make_model(is_train=False)
    for seed, name in enumerate(('a/x.png', 'b/x.png', 'y.jpg', 'y.png', 'z.png')):
        (tmp_path / 'two' / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / 'two' / name), make_image(16, 16, seed))
    model.validation(loader({'dataroot_gt': str(tmp_path / 'two')}, scales=[2]), 'run', None, save_img=True)
    folder = tmp_path / 'visualization' / 'set' / 'x2' / 'lr'
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*.png')}
    assert set(found) == {'a/x.png', 'b/x.png', 'y.jpg.png', 'y.png.png', 'z.png'}
    assert len(set(found.values())) == 5


def test_lr_images_alone(make_model, tmp_path, image_folder):
    """One is plain, the other holds a payload, which is found by itself."""
    model = make_model(is_train=False)
    folder, hr = image_folder('given_lr', [(11, 14)]), make_image(17, 42, 3)
    lr = Rescaler(model.net_g, 'run', 'cpu', payload=2).downscale(hr, size=(11, 14))
    cv2.imwrite(str(folder / 'image1.png'), lr[..., ::-1])
    model.validation(loader({'dataroot_lq': str(folder)}, scales=[[1.5, 3]]), 'run', None, save_img=True)
    made = tmp_path / 'visualization' / 'set' / 'x1.5x3'
    plain = Rescaler(model.net_g, 'run', 'cpu')
    for name in ('image0.png', 'image1.png'):
        stored = rgb(folder / name)
        assert np.array_equal(rgb(made / 'lr' / name), stored)
        assert np.array_equal(rgb(made / 'sr' / name), plain.upscale(stored, (17, 42)))
    error = [np.square(rgb(made / 'sr' / 'image1.png').astype(float) - image).mean() for image in (hr, 255 - hr)]
    assert error[0] < error[1] / 10
    assert not (tmp_path / 'metrics').exists()
