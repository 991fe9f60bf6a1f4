"""Wrong option files: each ends with one line that names key and value, before anything is built or written."""

from __future__ import annotations

import copy
import logging

import pytest
from helpers import write_yaml
from hostile.option_files import FOREIGN, MISSING, changed, gan, good, renamed

import iarn_basicsr.test
import iarn_basicsr.train
from iarn_basicsr.config.schema import check_options
from iarn_basicsr.errors import OptionError

NAN, INFINITE = float('nan'), float('inf')


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd, image_folder):
    """Runs ``iarn-train`` or ``iarn-test`` in this process and returns the one line that it ends with."""
    image_folder('hr', [(32, 40)])
    monkeypatch.chdir(tmp_path)

    def run(options, *arguments, which='train'):
        if isinstance(options, dict):
            write_yaml(options, tmp_path / 'options.yml')
        before = sorted(p.name for p in tmp_path.parent.iterdir()), sorted(p.name for p in tmp_path.iterdir())
        monkeypatch.setattr('sys.argv', [f'iarn-{which}', '-opt', 'options.yml', *arguments])
        with pytest.raises(SystemExit) as stop:
            {'train': iarn_basicsr.train, 'test': iarn_basicsr.test}[which].main()
        line = str(stop.value)
        assert line.startswith(f'iarn-{which}: ') and '\n' not in line and line.isprintable() and len(line) < 700
        assert before == (sorted(p.name for p in tmp_path.parent.iterdir()), sorted(p.name for p in tmp_path.iterdir()))
        assert 'Traceback' not in capfd.readouterr().err
        return line

    return run


# -------------------------------------------------------------------------------------------------- values of the file

VALUES = [
    ('name', 5), ('name', 1.5), ('name', '../../escape'), ('name', '/abs'), ('name', 'a/b'), ('name', 'a\\b'),
    ('name', '.'), ('name', '..'), ('name', ''), ('name', ' '), ('name', 'two\nlines'), ('name', 'esc\x1b[31m'),
    ('name', 'nul\0'), ('name', ['a']), ('name', 'x' * 151), ('name', True),
    ('num_gpu', -1), ('num_gpu', 'all'), ('num_gpu', 1.5), ('num_gpu', None), ('num_gpu', True), ('num_gpu', [0]),
    ('manual_seed', -1), ('manual_seed', 'abc'), ('manual_seed', 1.5), ('manual_seed', 2**32), ('manual_seed', True),
    ('model_type', 3), ('model_type', ['IARNModel']), ('model_type', 'IARNModell'),
    ('scale', {'a': 1}), ('scale', 'wide'),
    ('find_unused_parameters', 'maybe'),
    ('dist_params', 'nccl'), ('dist_params.port', 'abc'), ('dist_params.port', 0), ('dist_params.backend', 3),
    ('network_g', 'IARN'), ('network_g', ['IARN']), ('network_g.type', 3), ('network_g.type', 'IRAN'),
    ('network_g.num_block', 0), ('network_g.num_block', 'abc'), ('network_g.width', -3), ('network_g.order', 2.5),
    ('network_g.clamp', 'big'), ('network_g.encoding', 'maybe'), ('network_g.split', 'bicubic'),
    ('network_g.init_last', NAN), ('network_g.max_scale', [4]),
    ('path', 'weights.pth'), ('path.pretrain_network_g', 5), ('path.strict_load_g', 'maybe'), ('path.strict_load_g', 1),
    ('path.param_key_g', 7), ('path.resume_state', 3), ('path.ignore_resume_networks', 'network_g'),
    ('logger', []), ('logger.print_freq', 0), ('logger.print_freq', -1), ('logger.print_freq', 'often'),
    ('logger.print_freq', 1.5), ('logger.save_checkpoint_freq', 0), ('logger.save_checkpoint_freq', '5e'),
    ('logger.save_checkpoint_freq', NAN), ('logger.use_tb_logger', 'maybe'), ('logger.wandb', 'project'),
    ('logger.wandb.project', 3), ('logger.wandb.resume_id', ['x']),
    ('val', 'often'), ('val.val_freq', 0), ('val.val_freq', -5), ('val.val_freq', 2.5), ('val.val_freq', '5k'),
    ('val.save_img', 'maybe'), ('val.suffix', '../x'), ('val.suffix', 3), ('val.pbar', 'maybe'),
    ('val.metrics', ['psnr']), ('val.payload', [4]), ('val.payload', 2), ('val.payload', ['auto']),
    ('val.jpeg', 90), ('val.jpeg', [0]), ('val.jpeg', [101]), ('val.jpeg', [90.5]), ('val.jpeg', ['high']),
    ('train.jpeg', 'yes'), ('train.jpeg', 90), ('train.jpeg', [90]),
    *[('train.jpeg', {'prob': 1, 'quality': value}) for value in (90, [90], [95, 60], [0, 90], ['a', 'b'], [60, NAN])],
    *[('train.jpeg', {'prob': prob, 'quality': [60, 95]}) for prob in (-1, 2, 'often', True, NAN)],
    ('train.jpeg', {'prob': 1, 'quality': [60, 95], 'subsampling': '4:2:0'}),
    ('train.jpeg', {'prob': 1, 'quality': [60, 95], 'subsampling': ['4:1:1']}),
    ('train.jpeg', {'prob': 1, 'quality': [60, 95], 'encoder': 'mozjpeg'}),
    ('val.metrics.psnr', 'calculate_psnr'), ('val.metrics.psnr.type', 'calculate_pnsr'),
    ('val.metrics.psnr.type', ['calculate_psnr']), ('val.metrics.psnr.crop_border', -1),
    ('val.metrics.psnr.crop_border', 'automatic'), ('val.metrics.psnr.test_y_channel', 'maybe'),
    ('val.metrics.psnr.compare', 'both'), ('val.metrics.psnr.better', 'larger'),
    ('val.metrics.psnr.input_order', 'WHC'),
    ('train', 'fast'), ('train.total_iter', -5), ('train.total_iter', 0), ('train.total_iter', 'abc'),
    ('train.total_iter', 1.5), ('train.total_iter', INFINITE), ('train.total_iter', True), ('train.total_iter', '100'),
    ('train.total_iter', 10**400), ('train.warmup_iter', -2), ('train.warmup_iter', 'abc'), ('train.ema_decay', 1.5),
    ('train.ema_decay', 1), ('train.ema_decay', -0.1), ('train.ema_decay', 'abc'), ('train.ema_decay', NAN),
    ('train.grad_clip', -1), ('train.grad_clip', 'abc'), ('train.grad_clip', 10**400), ('train.grad_accumulation', 0),
    ('train.grad_accumulation', 1.5), ('train.amp', 'fp8'), ('train.cuda_graph', 'maybe'), ('train.nonfinite_limit', 0),
    ('train.optim_g', 'Adam'), ('train.optim_g', [1]), ('train.optim_g.type', 'Adamm'),
    ('train.optim_g.type', ['Adam']),
    ('train.optim_g.lr', -1), ('train.optim_g.lr', 'fast'), ('train.optim_g.lr', NAN), ('train.optim_g.betas', [0.9]),
    ('train.optim_g.betas', [0.9, 2]), ('train.optim_g.betas', 'abc'), ('train.optim_g.weight_decay', 'abc'),
    ('train.optim_g.eps', -1), ('train.optim_g.amsgrad', 'maybe'), ('train.optim_g.type', 'SparseAdam'),
    ('train.optim_g', {'type': 'LBFGS', 'lr': 1}),
    ('train.scheduler', 'MultiStepLR'), ('train.scheduler.type', 'StepLR'), ('train.scheduler.type', {'a': 1}),
    ('train.scheduler.milestones', 'abc'), ('train.scheduler.milestones', 5), ('train.scheduler.milestones', ['abc']),
    ('train.scheduler.milestones', [-1]), ('train.scheduler.gamma', 'abc'), ('train.scheduler.gamma', 0),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [0]}),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': []}),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [2]}),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [9], 'eta_min': 'abc'}),
    ('train.pixel_opt', 'L1Loss'), ('train.pixel_opt', ['L1Loss']), ('train.pixel_opt.type', 'L3Loss'),
    ('train.pixel_opt.type', ['L1Loss']), ('train.pixel_opt.loss_weight', 'abc'), ('train.pixel_opt.loss_weight', -1),
    ('train.pixel_opt.reduction', 'average'), ('train.guide_opt.loss_weight', INFINITE),
    ('train.perceptual_opt', {'type': 'PerceptualLoss', 'layer_weights': 'conv5_4'}),
    ('datasets', 'Set5'), ('datasets', ['Set5']), ('datasets.train', 'Set5'), ('datasets.val', ['Set5']),
    ('datasets.train.name', '../x'), ('datasets.train.name', 7), ('datasets.train.type', 'ArbitraryScale'),
    ('datasets.train.type', [1]), ('datasets.train.dataroot_gt', 5), ('datasets.train.dataroot_gt', 'nowhere'),
    ('datasets.train.dataroot_gt', ['hr']), ('datasets.val.dataroot_gt', 'nowhere'), ('datasets.train.dataroot_lq', 3),
    ('datasets.train.io_backend', 'disk'), ('datasets.train.io_backend.type', 'disc'),
    ('datasets.train.io_backend.type', 1),
    ('datasets.train.meta_info_file', 4), ('datasets.train.use_hflip', 'maybe'), ('datasets.train.use_rot', 'maybe'),
    ('datasets.train.gt_size', 'abc'), ('datasets.train.gt_size', 4), ('datasets.train.seed', -1),
    ('datasets.train.num_worker_per_gpu', -1), ('datasets.train.num_worker_per_gpu', 1.5),
    ('datasets.train.num_worker_per_gpu', 'abc'), ('datasets.train.batch_size_per_gpu', 0),
    ('datasets.train.batch_size_per_gpu', 2.0), ('datasets.train.batch_size_per_gpu', 'abc'),
    ('datasets.train.dataset_enlarge_ratio', 0), ('datasets.train.dataset_enlarge_ratio', 'abc'),
    ('datasets.train.use_shuffle', 'maybe'), ('datasets.train.pin_memory', 'maybe'),
    ('datasets.train.persistent_workers', 'maybe'), ('datasets.train.persistent_workers', True),
    ('datasets.val.persistent_workers', True), ('datasets.train.prefetch_mode', 'gpu'),
    ('datasets.train.prefetch_mode', 'cuda'), ('datasets.train.num_prefetch_queue', 0),
    ('datasets.train.phase', 'training'), ('datasets.train.scale_range', 4), ('datasets.train.scale_range', [4, 1]),
    ('datasets.train.scale_range', {1: 2, 3: 4}), ('datasets.train.scale_range', ['a', 'b']),
    ('datasets.train.asymmetric_prob', 2), ('datasets.train.curriculum', 5), ('datasets.train.curriculum.hold', 'abc'),
    ('datasets.train.shrink', 3), ('datasets.train.shrink', {'prob': 0.5, 'range': [1, 10**400]}),
    ('datasets.train.noise', {'prob': 2, 'range': [0, 1]}), ('datasets.train.size_rule', ['round']),
    ('datasets.val.scales', 'wide'), ('datasets.val.scales', [0.5]), ('datasets.val.scales', {'a': 2}),
    ('datasets.val.scales', True), ('datasets.val.mod_crop', 'abc'), ('datasets.val.filename_tmpl', '{name}'),
]


def value_id(case):
    return f'{case[0]}={case[1]!r}'[:70].encode('ascii', 'backslashreplace').decode()


@pytest.mark.parametrize('case', VALUES, ids=value_id)
def test_wrong_value(refused, case):
    place, value = case
    line = refused(changed(good(), place, value))
    words = line.replace(' option ', '.').replace("'", '')
    key = place.rpartition('.')[2]
    assert key in words, line
    if value is not None and len(repr(value)) < 100:  # a longer one is cut short
        inner = value.values() if isinstance(value, dict) else [value]
        assert any(repr(v) in line or f"'{v}'" in line for v in (value, *inner)), line


@pytest.mark.parametrize(('place', 'value', 'words'), [
    ('train.total_iter', -5, 'train.total_iter: -5; expected a whole number from 1'),
    ('train.ema_decay', 1, 'train.ema_decay: 1; expected a number from 0 below 1'),
    ('train.optim_g.betas', [0.9], 'train.optim_g.betas: [0.9]; expected a list of 2, each a number from 0 below 1'),
    ('train.scheduler.milestones', 'abc', "scheduler.milestones: 'abc'; expected a list, each a whole number from 0"),
    ('train.optim_g.eps', -1, 'train.optim_g: {type: \'Adam\', lr: 0.001, betas: [0.9, 0.99], eps: -1} is refused: '),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [2]},
     'train.scheduler.periods: [2] end at iteration 2; expected a sum of at least train.total_iter, 4'),
    ('train.optim_g.type', 'Adamm', "type: 'Adamm' is not an optimiser of torch.optim; did you mean 'Adam' or"),
    ('datasets.train.use_hflip', 'maybe', "datasets.train.use_hflip: 'maybe'; expected true or false"),
    ('datasets.train.prefetch_mode', 'gpu', "datasets.train.prefetch_mode: 'gpu'; expected cpu or cuda, or ~ for none"),
    ('datasets.train.batch_size_per_gpu', 2.0,
     'datasets.train.batch_size_per_gpu: 2.0; expected a whole number from 1 to 65536, without a point'),
    ('datasets.val.filename_tmpl', '{name}', "filename_tmpl: '{name}'; in braces only {}, {scale} and {factor}"),
    ('name', 5, 'name: 5; expected text that can name a file'),
    ('val.metrics.psnr.crop_border', 'automatic', "crop_border: 'automatic'; expected auto or a whole number from 0"),
    ('logger', [], 'logger: []; expected a mapping'),
    ('num_gpu', 'all', "num_gpu: 'all'; expected auto or a whole number from 0"),
    ('datasets.validation', {'name': 'x'}, 'validation: no data set of this name is read; expected train or val'),
    ('datasets.test_1', {'name': 'x'}, 'test_1: no data set of this name is read; expected train or val, and val_1'),
    ('manual_seed', 2**32, 'manual_seed: 4294967296; expected a whole number from 0 to 4000000000'),
    ('network_g', {'type': 'EDSR'}, 'network_g: option \'num_in_ch\' of EDSR is missing'),
    ('network_g', {'type': 'MSRResNet'}, "type: 'MSRResNet' does not downscale and restore: choose IARN or IRN"),
    ('network_g', {'type': 'IRN', 'scale': 2}, 'datasets.train.scale_range: x1.5 is out of range for network_g, IRN'),
    ('val.metrics.psnr.type', 'calculate_psnr_pt', 'takes tensors'),
    ('val.metrics', {5: {'type': 'calculate_psnr'}}, 'val.metrics: 5; expected text that names a metric'),
])
def test_wording(refused, place, value, words):
    assert words in refused(changed(good(), place, value))


def test_a_long_value_is_cut_short(refused):
    assert len(refused(changed(good(), 'train.amp', 'x' * 20000))) < 200


# ---------------------------------------------------------------------------------------------------------------- keys

KEYS = [  # right name, written so
    ('path.pretrain_network_g', 'pretrain_network'), ('path.strict_load_g', 'strict_load'),
    ('path.param_key_g', 'params_key_g'), ('path.resume_state', 'resume'),
    ('logger.print_freq', 'print_frequency'), ('logger.save_checkpoint_freq', 'save_chekpoint_freq'),
    ('logger.wandb.project', 'projekt'), ('logger.wandb', 'wandbb'), ('logger.use_tb_logger', 'use_tb_loger'),
    ('val.val_freq', 'val_frequ'), ('val.metrics', 'metric'), ('val.save_img', 'save_image'),
    ('val.metrics.psnr.test_y_channel', 'test_y_chanel'), ('val.metrics.psnr.crop_border', 'crop_boarder'),
    ('train.total_iter', 'total_iters'), ('train.warmup_iter', 'warmup_iters'), ('train.ema_decay', 'ema_decai'),
    ('train.optim_g', 'optm_g'), ('train.scheduler', 'schedular'), ('train.pixel_opt', 'pixel_loss_opt'),
    ('train.optim_g.betas', 'beta'), ('train.optim_g.lr', 'learning_rate'), ('train.scheduler.milestones', 'milestone'),
    ('train.scheduler.gamma', 'gama'), ('train.pixel_opt.loss_weight', 'weight'),
    ('train.pixel_opt.reduction', 'reduce'),
    ('datasets.train.num_worker_per_gpu', 'num_workers_per_gpu'), ('datasets.train.batch_size_per_gpu', 'batch_size'),
    ('datasets.train.use_hflip', 'use_flip'), ('datasets.train.curriculum.hold', 'holds'),
    ('datasets.train.io_backend.type', 'typ'), ('datasets.val.scales', 'scalse'), ('datasets.train', 'trian'),
    ('dist_params.port', 'prot'), ('network_g.width', 'widht'), ('network_g', 'network_q'), ('name', 'nam'),
    ('manual_seed', 'seed'), ('model_type', 'modeltype'), ('num_gpu', 'num_gpus'), ('path', 'paths'),
    ('logger', 'lodger'),
]


@pytest.mark.parametrize(('place', 'name'), KEYS, ids=lambda v: v)
def test_misspelt_key(refused, place, name):
    line = refused(renamed(good(), place, name))
    key = place.rpartition('.')[2]
    assert (name in line and ('unknown option' in line or 'no data set' in line)) or 'is missing' in line
    assert key in line, 'says what is near'


@pytest.mark.parametrize('key', [5, None, True, 1.5, 'two\nlines', '\x1b[31mred', 'x' * 5000],
                         ids=lambda k: repr(k)[:20])
@pytest.mark.parametrize('section', [(), ('path',), ('train',), ('train', 'optim_g'), ('train', 'scheduler'),
('datasets',),
                                     ('datasets', 'train'), ('logger',), ('val', 'metrics'), ('network_g',),
                                     ('train', 'pixel_opt')], ids='.'.join)
def test_keys_that_are_no_words(refused, section, key):
    options = good()
    place = options
    for name in section:
        place = place[name]
    place[key] = 1
    assert repr(key)[:50] in refused(options).replace('\\\\', '\\')


@pytest.mark.parametrize('place', [
    'name', 'model_type', 'num_gpu', 'datasets', 'path', 'train', 'logger', 'network_g', 'network_g.type',
    'datasets.train',
    'datasets.train.name', 'datasets.train.type', 'datasets.train.batch_size_per_gpu',
    'datasets.train.num_worker_per_gpu', 'datasets.train.dataroot_gt', 'datasets.val.scales', 'train.total_iter',
    'train.optim_g', 'train.optim_g.type', 'train.optim_g.lr', 'train.scheduler', 'train.scheduler.type',
    'train.scheduler.milestones', 'train.pixel_opt', 'train.pixel_opt.type', 'val.val_freq', 'val.save_img',
    'val.metrics.psnr.type', 'logger.print_freq', 'logger.save_checkpoint_freq', 'logger.use_tb_logger'])
@pytest.mark.parametrize('how', ['left out', 'empty'])
def test_missing_option(refused, place, how):
    assert place.rpartition('.')[2] in refused(changed(good(), place, MISSING if how == 'left out' else None))


# ------------------------------------------------------------------------------------------------- together and ways in


@pytest.mark.parametrize(('changes', 'words'), [
    ({'datasets.train.lq_size': 8}, 'lq_size takes the place of gt_size'),
    ({'datasets.train.dataroot_lq': 'lr/{scale}'}, 'dataroot_lq needs scales'),
    ({'datasets.train.dataroot_lq': 'lr/{sacle}', 'datasets.train.scales': [2]}, "'lr/{sacle}'; in braces only"),
    ({'datasets.train.dataroot_lq': 'lr', 'datasets.train.scales': [2, 3]}, "'lr' serves 2 scales"),
    ({'datasets.train.curriculum': {'start': 4, 'hold': 1, 'widen': 1}}, 'curriculum.start: 4; expected a number'),
    ({'train.cuda_graph': True}, 'train.cuda_graph: true needs datasets.train.lq_size'),
    ({'train.inv_opt': {'type': 'L1Loss'}}, 'train.inv_opt serves IARN with split: cubic_interp'),
    ({'network_g.max_scale': 2}, 'datasets.train.scale_range: x3 is out of range for network_g'),
    ({'datasets.val.scales': [2, 5]}, 'datasets.val.scales: x5 is out of range for network_g'),
    ({'train.optim_g': {'type': 'SGD', 'lr': 0.1, 'nesterov': True}}, 'is refused: Nesterov momentum requires'),
    ({'train.scheduler.restarts': [0, 5]}, 'is refused: restarts and their weights do not match'),
    ({'logger.wandb.project': 'x'}, "logger.wandb.project: 'x'; it needs logger.use_tb_logger: true"),
    ({'num_gpu': 2}, 'num_gpu: 2 without a launcher'),
    ({'datasets.train.prefetch_mode': 'cpu', 'datasets.train.num_worker_per_gpu': 1,
      'datasets.train.persistent_workers': True}, "datasets.train.prefetch_mode: 'cpu'; BasicSR starts the loader"),
    ({'datasets.train.use_shuffle': False}, 'datasets.train.use_shuffle: False; BasicSR shuffles all the same'),
    ({'datasets.train.scale_range': MISSING, 'network_g.max_scale': 3, 'datasets.val.scales': [2]},
     'datasets.train.scale_range: x4 is out of range for network_g, IARN for x1 to x3'),
])
def test_options_that_do_not_go_together(refused, changes, words):
    options = good()
    for place, value in changes.items():
        options = changed(options, place, value)
    assert words in refused(options)


def test_wandb_that_is_not_installed(refused, monkeypatch):
    from iarn_basicsr.config import option_checks
    monkeypatch.setattr(option_checks, 'find_spec', lambda name: None)
    options = changed(changed(good(), 'logger.use_tb_logger', True), 'logger.wandb.project', 'x')
    assert "logger.wandb.project: 'x'; it needs the package wandb (pip install wandb)" in refused(options)


def test_no_gpu(refused, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    assert 'num_gpu: 1; PyTorch finds no GPU here; expected auto, or 0' in refused(changed(good(), 'num_gpu', 1))


@pytest.mark.parametrize(('entry', 'words'), [
    ('train:total_iter=-5', 'train.total_iter: -5; expected'),
    ('train:total_iters=5', "unknown option 'total_iters'; did you"),
    ('path:pretrain_network=x.pth', "path: unknown option 'pretrain_network'; did you mean 'pretrain_network_g'"),
    ('name=../../escape', "name: '../../escape'; expected"), ('name=7', 'name: 7; expected'),
    ('datasets=Set5', "datasets: 'Set5'; expected a mapping"),
    ('datasets:train:use_hflip=maybe', "use_hflip: 'maybe'; expected"),
    ('train:scheduler:milestones=abc', "milestones: 'abc'; expected"), ('val:val_freq=0', 'val.val_freq: 0; expected'),
    ('logger:print_freq=~', "logger: option 'print_freq' is missing; expected"),
    ('train:optim_g=[1]', 'train.optim_g: [1]; expected a mapping'),
    ('train:optim_g:lr=.nan', 'train.optim_g.lr: nan; expected'), ('network_g=[]', 'network_g: []; expected'),
    ('=5', 'expected section:key=value'),
])
def test_command_line(refused, entry, words):
    assert words in refused(good(), '--force_yml', entry)


@pytest.mark.parametrize(('place', 'value', 'words'), [
    ('train', {'total_iter': -5}, 'train.total_iter: -5; expected'),
    ('path', {'pretrain_network': 'x'}, 'pretrain_network_g'),
    ('logger', {'print_freq': 0}, 'logger.print_freq: 0'), ('datasets', 'Set5', "datasets: 'Set5'"),
    ('name', 7, 'name: 7'),
    ('val', {'val_freq': 0}, 'val.val_freq: 0'),
])
@pytest.mark.parametrize('own', [True, False])
def test_based_on(refused, tmp_path, place, value, words, own):
    """A fault in the file itself, or in the one that it is based on."""
    whole, part = {place: value}, good()
    base = part if own else {**part, **{place: {**part[place], **value} if isinstance(value, dict) else value}}
    write_yaml(base, tmp_path / 'base.yml')
    assert words in refused({'based_on': 'base.yml', **(whole if own else {})})


@pytest.mark.parametrize(('text', 'words'), [
    (b'name: \xff\xfe', 'utf-8'), (b'a: &a [*a]', 'without end'), (b'a: &a {b: *a}', 'not valid YAML'),
    (b'[1, 2', 'YAML'), (b'a0: &a0 [1, 1]\n' + b''.join(b'a%d: &a%d [*a%d, *a%d, *a%d]\n' % (n, n, *3 * [n - 1])
                                                        for n in range(1, 40)), 'more than 100000 values'),
    (b'- a', 'not an option file'), (b'', 'not an option file'), (b'\x00', 'YAML'), (b'? [a, b]\n: 1', 'YAML'),
    (b'a: 1', "option file: unknown option 'a'; known: datasets"),
    (b'name: x', "model_type: None is not registered with BasicSR; known: EDVRModel"),
])
def test_files_that_are_no_option_files(refused, tmp_path, text, words):
    (tmp_path / 'options.yml').write_bytes(text)
    assert words in refused(None)


@pytest.mark.parametrize(('text', 'words'), [
    ('!!set {a, b}', 'name: {'), ('!!binary aGk=', "name: b'hi'"), ('2026-01-01', 'name: datetime.date(2026, 1, 1)'),
    ('"\\ud800"', r"name: '\ud800'"), ('"a\\nb"', r"name: 'a\nb'"), ('yes', 'name: True'), ('1e5', 'name: 100000.0'),
    ('0x' + 'f' * 5000, 'name: a number too long to be shown; expected'), ('.inf', 'name: inf'),
    ('*a', 'not valid YAML'),
])
def test_values_of_yaml(refused, tmp_path, text, words):
    file = write_yaml(good(), tmp_path / 'options.yml')
    file.write_text(file.read_text().replace('name: run\n', f'name: {text}\n', 1))
    assert words in refused(None)


@pytest.mark.parametrize(('place', 'value'), [
    ('name', '../x'), ('val', MISSING), ('val.save_img', MISSING), ('val.save_img', 'maybe'), ('val.sufix', 'x'),
    ('datasets.train', {'name': 'x', 'type': 'ArbitraryScaleDataset'}), ('datasets', {}), ('datasets.test_1', 'Set5'),
    ('datasets.test_1.scales', MISSING), ('datasets.test_1.scales', [0.5]), ('datasets.test_1.mod_crop', 0),
    ('datasets.test_1.use_hflip', True), ('path.pretrain_network', 'x.pth'), ('path', MISSING), ('network_g.growht', 4),
    ('num_gpu', -1), ('val.metrics.psnr.compare', 'both'), ('val.metrics.psnr.croop_border', 3),
    ('datasets.test_1.persistent_workers', True), ('datasets.test_1.dataroot_gt', 'nowhere'),
])
def test_wrong_test_file(refused, place, value):
    line = refused(changed(good('test'), place, value), which='test')
    assert place.rpartition('.')[2] in line


# ---------------------------------------------------------------------------------------------- what must be accepted


@pytest.mark.parametrize('which', ['train', 'test'])
def test_good_file(which):
    options = good(which)
    before = copy.deepcopy(options)
    check_options(options, which == 'train', files=False)
    assert options == before


@pytest.mark.parametrize(('place', 'value'), [
    ('num_gpu', 'auto'), ('manual_seed', None), ('val', None), ('val.val_freq', 5e3), ('train.total_iter', 4.0),
    ('train.warmup_iter', -1), ('train.ema_decay', 0), ('train.grad_clip', 0), ('train.amp', 'bf16'),
    ('train.optim_g', {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'nesterov': True}),
    ('train.optim_g', {'type': 'Adafactor', 'lr': 0.1, 'eps': [None, 1e-3]}),
    ('train.optim_g', {'type': 'AdamW', 'lr': 1e-3, 'fused': True, 'weight_decay': 0}), ('train.optim_g.lr', 0),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [2, 2],
                         'restart_weights': [1, 0.5], 'eta_min': 0}),
    ('train.scheduler', {'type': 'MultiStepRestartLR', 'milestones': [1e5], 'restarts': [0, 3],
                         'restart_weights': [1, 1]}),
    ('train.guide_opt', None), ('train.pixel_opt', {'type': 'CharbonnierLoss', 'eps': 1e-9}),
    ('train.perceptual_opt', {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}, 'criterion': 'l1'}),
    ('val.metrics', {'n': {'type': 'calculate_niqe', 'crop_border': 0, 'convert_to': 'y', 'better': 'lower'},
                     'c': {'type': 'calculate_ciede2000', 'percentile': 95, 'compare': 'lr'}}),
    ('datasets.train.dataset_enlarge_ratio', 0.5), ('datasets.train.num_worker_per_gpu', 2),
    ('path.pretrain_network_g', 'x'),
    ('path.ignore_resume_networks', ['network_d']), ('logger.wandb', None), ('network_g', {'type': 'IARN'}),
    ('name', 'Übung 3 (x1.5–4)'), ('datasets.val.scales', ['1.5x3', 2, [2, 3]]), ('datasets.val_2', {
        'name': 'two', 'type': 'ArbitraryScaleDataset', 'dataroot_gt': 'hr', 'scales': [2]}),
    ('plugin', 'iarn_basicsr.plugin.__version__'), ('find_unused_parameters', True), ('val.suffix', 'a b'),
])
def test_accepted_value(place, value):
    check_options(changed(good(), place, value), True, files=False)


def test_stock_model_trains(tmp_path, image_folder, pipeline):
    """BasicSR's SRModel, EDSR and PairedImageDataset, with an option file of BasicSR's own."""
    image_folder('gt', [(32, 32)])
    image_folder('lq', [(16, 16)])
    pipeline('train', write_yaml(FOREIGN, tmp_path / 'edsr.yml'))
    assert (tmp_path / 'experiments' / '201_EDSR_Mx2' / 'models' / 'net_g_latest.pth').is_file()


@pytest.mark.parametrize(('place', 'value'), [
    ('name', 'x'), ('resize_prob', [0.2, 0.7, 0.1]), ('gt_usm', True), ('train.tsa_iter', 50000),
    ('train.fix_flow', 5000),
    ('train.dcn_lr_mul', 1), ('train.flow_lr_mul', 0.125), ('train.r1_reg_weight', 10), ('train.mixing_prob', 0.9),
    ('val.flip_seq', True), ('val.center_frame_only', True), ('datasets.train.mean', [0.5] * 3), ('val.metrics', None),
    ('train.mine_opt', {'weight': 3}), ('train.mine', 'x'), ('datasets.train.color', 'y'), ('logger.mine', 1),
])
@pytest.mark.parametrize('options', [FOREIGN, gan()], ids=['SRModel', 'ESRGANModel'])
def test_keys_of_other_models_pass(options, place, value, caplog):
    check_options(changed(options, place, value), True)
    assert not caplog.records


@pytest.mark.parametrize(('place', 'value'), [
    ('train.total_iter', -5), ('train.optim_d.betas', [2]), ('train.gan_opt.gan_type', 'vanila'),
    ('train.net_d_iters', 0),
    ('train.gan_opt.loss_wieght', 1), ('path.strict_load_d', 'maybe'), ('datasets.train.num_worker_per_gpu', -1),
    ('datasets.train.batch_size_per_gpu', 0), ('val.metrics.psnr.crop_border', 'auto'),
    ('val.metrics.psnr.test_y', True),
    ('network_g.num_feat', 'abc'), ('network_g.upscal', 2), ('name', '../x'), ('logger.print_freq', 0),
    ('val.val_freq', 0),
    ('datasets.train', 'DIV2K'), ('datasets.train.dataroot_lq', ['lq']), ('datasets.train.prefetch_mode', 'cuda'),
])
def test_known_keys_of_other_models_are_checked(place, value):
    with pytest.raises(OptionError, match=place.rpartition('.')[2]) as caught:
        check_options(changed(gan(), place, value), True)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('place', 'name'), [
    ('path.pretrain_network_g', 'pretrain_network'), ('train.ema_decay', 'ema_decays'), ('val.metrics', 'metric'),
    ('datasets.train.prefetch_mode', 'prefetch_mod'), ('find_unused_parameters', 'find_unused_parameter')])
def test_misspelt_key_of_another_model_is_a_warning(caplog, place, name):
    options = renamed(changed(copy.deepcopy(FOREIGN), 'find_unused_parameters', False), place, name)
    with caplog.at_level(logging.WARNING, 'iarn_basicsr'):
        check_options(options, True)
    (record, ) = caplog.records
    key = place.rpartition('.')[2]
    assert f"option '{name}' is not known here; did you mean '{key}'" in record.getMessage()


@pytest.mark.parametrize('place', ['name', 'scale', 'network_g', 'path', 'train.total_iter', 'train.optim_g', 'logger',
                                   'datasets.train.scale_range', 'val.metrics', 'nobody'])
@pytest.mark.parametrize('endless', [False, True])
def test_more_values_than_can_be_counted(place, endless):
    """What nine lines of YAML with anchors hold."""
    value = ['x'] * 9
    if endless:
        value.append(value)
    for _ in range(40):
        value = [value] * 9
    options = changed(good(), place, None)  # with a value it could not be copied
    *sections, key = place.split('.')
    section = options
    for name in sections:
        section = section[name]
    section[key] = value
    with pytest.raises(OptionError, match='more than 100000 values'):
        check_options(options, True)
