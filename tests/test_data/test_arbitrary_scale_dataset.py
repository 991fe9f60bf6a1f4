"""ArbitraryScaleDataset: items, one size per batch, precomputed and LMDB sources, and messages for bad input."""

import pickle

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from helpers import make_lmdb

from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.data.schedule import Draw, batch_scale
from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import bicubic_downscale
from iarn_basicsr.ops.size import lr_size

TRAIN = {'name': 'd', 'phase': 'train', 'type': 'ArbitraryScaleDataset', 'gt_size': 16, 'scale_range': [1, 4],
         'batch_size_per_gpu': 4, 'num_worker_per_gpu': 0}
STORED = {key: value for key, value in TRAIN.items() if key != 'scale_range'}  # for training on stored LR images
EVAL = {'name': 'd', 'phase': 'val', 'type': 'ArbitraryScaleDataset'}


def read(path):
    image = cv2.imread(str(path))[..., ::-1].astype(np.float32) / 255
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def test_eval_items_are_the_image_and_its_8_bit_bicubic_lr(image_folder):
    folder = image_folder('hr', [(33, 40), (24, 24)])
    dataset = ArbitraryScaleDataset({**EVAL, 'dataroot_gt': str(folder), 'scales': [1.7, [1.5, 3]]})
    assert len(dataset) == 4
    item = dataset[1]
    assert item['scale_name'] == 'x1.5x3' and item['gt_path'].endswith('image0.png')
    gt = read(folder / 'image0.png')
    assert torch.equal(item['gt'], gt)
    assert item['lq'].shape[1:] == lr_size((33, 40), (1.5, 3)) == (22, 13)
    assert torch.equal(item['lq'], quantise(bicubic_downscale(gt[None], (22, 13)))[0])
    assert item['scale'].tolist() == pytest.approx([33 / 22, 40 / 13]) and item['hr_size'].tolist() == [33, 40]
    assert [dataset[i]['scale_name'] for i in range(4)] == ['x1.7', 'x1.5x3'] * 2


def test_mod_crop(image_folder):
    folder = image_folder('hr', [(33, 40)])
    dataset = ArbitraryScaleDataset({**EVAL, 'dataroot_gt': str(folder), 'scales': [2], 'mod_crop': 12})
    assert torch.equal(dataset[0]['gt'], read(folder / 'image0.png')[:, :24, :36])


def test_gray_and_16_bit_images_become_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / 'gray.png'), np.full((12, 12), 77, np.uint8))
    cv2.imwrite(str(tmp_path / 'deep.png'), np.full((12, 12, 3), 77 * 257, np.uint16))
    dataset = ArbitraryScaleDataset({**EVAL, 'dataroot_gt': str(tmp_path), 'scales': [2]})
    for index in range(2):
        assert torch.equal(dataset[index]['gt'], torch.full((3, 12, 12), 77 / 255))


def batches(dataset, workers=0, epoch=0, **options):
    loader = build_dataloader(dataset, {**TRAIN, **options, 'num_worker_per_gpu': workers}, num_gpu=0, dist=False,
                              sampler=EnlargedSampler(dataset, 1, 0, 3), seed=0)
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_one_size_per_batch_under_basicsr_dataloader(image_folder):
    folder = image_folder('hr', [(33, 40), (20, 18), (50, 64)])
    dataset = build_dataset({**TRAIN, 'dataroot_gt': str(folder), 'asymmetric_prob': 0.5})
    seen = batches(dataset)
    assert len(seen) == 3  # 3 images x ratio 3 in batches of 4, the last one filled up
    assert {tuple(b['gt'].shape) for b in seen} == {(4, 3, 16, 16)}
    assert len({tuple(b['lq'].shape[-2:]) for b in seen}) > 1
    for batch in seen:
        assert torch.equal(batch['lq'], quantise(bicubic_downscale(batch['gt'], tuple(batch['lq'].shape[-2:]))))


def test_same_batches_with_workers_and_after_a_resume_whatever_the_global_seed(image_folder):
    options = {**TRAIN, 'dataroot_gt': str(image_folder('hr', [(33, 40), (20, 18), (50, 64)]))}
    dataset = build_dataset(options)
    here = [batch['gt'] for batch in batches(dataset)]
    torch.manual_seed(123)
    np.random.seed(5)
    with_workers, resumed, other, next_epoch = ([batch['gt'] for batch in found] for found in (
        batches(dataset, workers=2), batches(build_dataset({**options, 'start_iter': 1})),
        batches(build_dataset({**options, 'seed': 1})), batches(dataset, epoch=1)))
    assert len(here) == len(with_workers) == len(resumed) + 1
    assert all(map(torch.equal, here, with_workers)) and all(map(torch.equal, here[1:], resumed))
    assert not any(map(torch.equal, here, other)) and not any(map(torch.equal, here, next_epoch))
    began_late, seeded = (build_dataset({**options, **change}) for change in ({'start_iter': 1}, {'seed': 1}))
    assert [*began_late.draws(1, 0, 1, 3)] == [*dataset.draws(1, 0, 1, 3)]
    assert [d.image for d in seeded.draws(0, 0, 1, 3)] != [d.image for d in dataset.draws(0, 0, 1, 3)]


@pytest.fixture
def addressed(tmp_path):
    """A folder with one image whose pixels say where they are: red the row, green the column."""
    rows, columns = np.mgrid[:60, :80].astype(np.uint8)
    (tmp_path / 'hr').mkdir()
    cv2.imwrite(str(tmp_path / 'hr' / 'image.png'), np.stack([0 * rows, columns, rows], -1))
    return str(tmp_path / 'hr')


def turn_of(patch):
    """(transposed, flipped up and down, flipped left and right) of a patch that is a rectangle of ``addressed``."""
    rows, columns = (patch[:2] * 255).round().long()
    transposed = bool(rows[0, 0] == rows[-1, 0])
    if transposed:
        rows, columns = rows.T, columns.T
    (top, bottom), (left, right) = rows[[0, -1], 0].tolist(), columns[0, [0, -1]].tolist()
    steps = [torch.arange(a, b + (1 if b > a else -1), 1 if b > a else -1) for a, b in ((top, bottom), (left, right))]
    assert torch.equal(rows, steps[0][:, None].expand_as(rows)) and torch.equal(columns, steps[1].expand_as(columns))
    return transposed, top > bottom, left > right


def test_patches_are_crops_up_to_flips_and_turns(addressed):
    turned, flipped, plain = ({turn_of(dataset[Draw(0, number, 1)]['gt']) for number in range(60)} for dataset in (
        ArbitraryScaleDataset({**TRAIN, 'dataroot_gt': addressed, **options})
        for options in ({}, {'use_rot': False}, {'use_rot': False, 'use_hflip': False})))
    assert len(turned) == 8
    assert flipped == {(False, False, False), (False, False, True)}
    assert plain == {(False, False, False)}


def test_crops_reach_the_last_row_and_column(addressed):
    dataset = ArbitraryScaleDataset({**TRAIN, 'dataroot_gt': addressed, 'gt_size': 59, 'use_rot': False,
                                     'use_hflip': False})
    rows, columns = zip(*((dataset[Draw(0, number, 1)]['gt'][:2, 0, 0] * 255).round().tolist() for number in range(60)))
    assert set(rows) == {0, 1} and set(columns) <= {*range(22)}


@pytest.mark.parametrize('turn', [False, True])
def test_lr_patches_of_one_size(addressed, turn):
    """The LR patch keeps its size, the HR patch follows the scale, also where the axes differ and crops are turned."""
    options = {k: v for k, v in TRAIN.items() if k != 'gt_size'}
    dataset = ArbitraryScaleDataset({**options, 'dataroot_gt': addressed, 'lq_size': 11, 'asymmetric_prob': 0.5,
                                     'use_rot': turn, 'use_hflip': turn})
    sizes, turns = set(), set()
    for step in range(1, 25):
        item, = dataset.__getitems__([Draw(0, number=step, step=step)])
        gt, lq = item['gt'], item['lq']
        s_v, s_h = batch_scale(dataset.options, step)
        assert tuple(gt.shape[1:]) == (round(11 * s_v), round(11 * s_h))
        assert torch.equal(lq, quantise(bicubic_downscale(gt[None], (11, 11)))[0])
        assert item['scale'].tolist() == pytest.approx([gt.shape[1] / 11, gt.shape[2] / 11])
        sizes.add(tuple(gt.shape[1:]))
        turns.add(turn_of(gt))
    assert len(sizes) > 15 and any(h != w for h, w in sizes)
    assert len(turns) > 4 if turn else turns == {(False, False, False)}


def test_images_smaller_than_the_patch_are_reflected(image_folder):
    folder = image_folder('hr', [(9, 30)])
    dataset = ArbitraryScaleDataset({**TRAIN, 'dataroot_gt': str(folder), 'use_hflip': False, 'use_rot': False})
    patch = dataset[0]['gt']
    assert torch.equal(patch[:, 9:16], patch[:, 2:9].flip(1))


def write_lr(dataset_options, folder, template):
    """Store what the dataset makes on the fly."""
    dataset = ArbitraryScaleDataset(dataset_options)
    for index in range(len(dataset)):
        item = dataset[index]
        label = item['scale_name']
        name = template.format(f'image{index // len(dataset.scales)}', scale=label)
        target = folder / label / f'{name}.png'
        target.parent.mkdir(parents=True, exist_ok=True)
        rgb = (item['lq'].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        cv2.imwrite(str(target), rgb[..., ::-1])


@pytest.mark.parametrize('template', ['{}', '{}{scale}'])
def test_precomputed_lr_equals_on_the_fly(image_folder, tmp_path, template):
    folder = image_folder('hr', [(33, 40), (24, 24)])
    options = {**EVAL, 'dataroot_gt': str(folder), 'scales': [2, [1.5, 3]]}
    write_lr(options, tmp_path / 'lr', template)
    stored = ArbitraryScaleDataset({**options, 'dataroot_lq': str(tmp_path / 'lr' / '{scale}'),
                                    'filename_tmpl': template})
    made = ArbitraryScaleDataset(options)
    for index in range(4):
        a, b = made[index], stored[index]
        assert torch.equal(a['lq'], b['lq']) and torch.equal(a['gt'], b['gt'])
        assert '/lr/x' in b['lq_path']


def test_precomputed_training_patches_correspond(image_folder, tmp_path):
    folder, scales = image_folder('hr', [(40, 60)]), [2.5, [2.5, 2]]
    write_lr({**EVAL, 'dataroot_gt': str(folder), 'scales': scales}, tmp_path / 'lr', '{}')
    dataset = ArbitraryScaleDataset({**STORED, 'gt_size': 20, 'dataroot_gt': str(folder), 'scales': scales,
                                     'dataroot_lq': str(tmp_path / 'lr' / '{scale}')})
    seeded, same_scale = ArbitraryScaleDataset({**dataset.opt, 'seed': 1}), set()
    with pytest.raises(OptionError, match='gt_size: 16 cannot be cut from .image0.png'):
        ArbitraryScaleDataset({**dataset.opt, 'gt_size': 16})[0]
    for number in range(12):
        item = dataset[Draw(0, number, number + 1)]
        size = (8, 8) if item['scale_name'] == 'x2.5' else (8, 10)
        assert item['lq'].shape == (3, *size)
        inner = quantise(bicubic_downscale(item['gt'][None], size))[0, :, 3:5, 3:5]  # away from the patch's edges
        assert (item['lq'][:, 3:5, 3:5] - inner).abs().max() < 0.03
        other = seeded[Draw(0, number, number + 1)]
        same_scale.add(other['scale_name'] == item['scale_name'])
        assert not torch.equal(other['gt'], item['gt'])
    assert same_scale == {True, False}


def test_lr_only(image_folder):
    folder = image_folder('lr', [(11, 14)])
    dataset = ArbitraryScaleDataset({**EVAL, 'dataroot_lq': str(folder), 'scales': [[1.5, 3]]})
    item = dataset[0]
    assert 'gt' not in item and item['hr_size'].tolist() == [17, 42]
    assert torch.equal(item['lq'], read(folder / 'image0.png'))


def test_lmdb_equals_disk_and_opens_twice(image_folder, tmp_path):
    folder = image_folder('hr', [(33, 40), (24, 24)])
    (folder / 'image1.png').rename(folder / 'image0-1.with.dots.png')  # after image0, as keys without an ending are
    with open(make_lmdb(folder, tmp_path / 'hr.lmdb') / 'data.mdb', 'ab') as file:
        file.write(bytes(8192))  # it may be longer than its pages
    on_disk = ArbitraryScaleDataset({**EVAL, 'dataroot_gt': str(folder), 'scales': [2]})
    from_lmdb = {**EVAL, 'dataroot_gt': str(tmp_path / 'hr.lmdb'), 'scales': [2], 'io_backend': {'type': 'lmdb'}}
    first, second = ArbitraryScaleDataset(from_lmdb), ArbitraryScaleDataset(from_lmdb)
    for index in range(2):
        assert torch.equal(on_disk[index]['gt'], first[index]['gt'])
        assert torch.equal(first[index]['lq'], second[index]['lq'])
    train = build_dataset({**TRAIN, 'dataroot_gt': str(tmp_path / 'hr.lmdb'), 'io_backend': {'type': 'lmdb'}})
    assert len(batches(train, workers=2)) == 2  # opened here and in the workers
    assert torch.equal(pickle.loads(pickle.dumps(first))[0]['gt'], first[0]['gt'])  # as to one that is not forked


@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_meta_info_file(image_folder, tmp_path, mark):
    folder = image_folder('hr', [(20, 20), (24, 24), (28, 28)])
    (folder / 'image1.png').rename(folder / 'photo (2).png')
    (tmp_path / 'meta.txt').write_text(f'{mark}image2.png (28,28,3)\nphoto (2).png\nimage0.png\t(20, 20) 1\n',
                                       encoding='utf-8')
    options = {**EVAL, 'dataroot_gt': str(folder), 'scales': [2], 'meta_info_file': str(tmp_path / 'meta.txt')}
    assert ArbitraryScaleDataset(options).names == ['image2.png', 'photo (2).png', 'image0.png']
    (folder / 'image0.png').unlink()
    with pytest.raises(OptionError, match=r"1 of 3 images that .*meta.txt' lists are not in .*, the first is 'image0"):
        ArbitraryScaleDataset(options)


@pytest.mark.parametrize(('change', 'message'), [
    ({'io_backend': {'type': 'lmdb'}}, 'does not fit io_backend.type'),
    ({'mod_crop': 64}, 'mod_crop: 64 leaves nothing'),
    ({'meta_info_file': '/no.txt'}, "meta_info_file '/no.txt' cannot be read"),
    ({'dataroot_gt': 'empty'}, "no image in 'empty'"),
    ({'dataroot_lq': 'wrong'}, r"'wrong/image0.png' is 9x10, expected 10x10 \(height x width\) for x2"),
])
def test_messages(image_folder, tmp_path, monkeypatch, change, message):
    for name, sizes in (('hr', [(20, 20)]), ('empty', []), ('wrong', [(9, 10)])):
        image_folder(name, sizes)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OptionError, OSError), match=message):
        ArbitraryScaleDataset({**EVAL, 'dataroot_gt': 'hr', 'scales': [2], **change})[0]


def test_options_are_not_changed_and_workers_can_be_spawned(image_folder):
    options = {**TRAIN, 'dataroot_gt': str(image_folder('hr', [(20, 20)])), 'io_backend': {'type': 'disk'},
               'common_scales': {'scales': [2]}}
    before = repr(options)
    dataset = ArbitraryScaleDataset(options)
    assert pickle.loads(pickle.dumps(dataset)).options == dataset.options
    assert repr(options) == before
