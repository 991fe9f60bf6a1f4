"""Wrong option files: each ends with one line that names key and value, before anything is built or written."""

import copy

import pytest
from helpers import write_yaml
from hostile.option_files import FOREIGN, MISSING, changed, good, renamed

from iarn_basicsr.config.option_file import override, read_option_file
from iarn_basicsr.errors import OptionError
from iarn_basicsr.pipeline.check import check_file

NAN, INFINITE = float('nan'), float('inf')


def refusal(options, is_train=True):
    """The one line with which options are refused."""
    with pytest.raises(OptionError) as caught:
        check_file(options, is_train)
    line = str(caught.value)
    assert '\n' not in line and line.isprintable() and len(line) < 700
    return line


@pytest.mark.parametrize(('place', 'value'), [
    *(('name', name) for name in (5, '../../escape', 'a\\b', '..', '', 'two\nlines', 'esc\x1b[31m', 'end\n', ' x',
                                  'x' * 101, '\ud800', 'x2:1', 'dot.', 'space ', 'nul', 'COM1.txt')),
    ('num_gpu', 'all'), ('num_gpu', True), ('scale', {'a': 1}), ('model_type', ['IARNModel']),
    ('network_g.num_block', -1), ('network_g.order', 2.5), ('path.pretrain_network_g', 'nul\0'),
    ('val.jpeg', [101]), ('val.metrics', ['psnr']), ('val.metrics', {5: {'type': 'calculate_psnr'}}),
    ('val.metrics.psnr.crop_border', 'automatic'), ('train.total_iter', 10**400), ('train.total_iter', INFINITE),
    ('train.amp', 'x' * 20000), ('train.optim_g.lr', NAN), ('train.optim_g.betas', [0.9]),
    ('train.pixel_opt.reduction', 'none'), ('train.jpeg', {'subsampling': ['4:1:1']}),
    ('datasets.train.io_backend.type', 'disc'), ('datasets.train.shrink', {'range': [1, 10**400]}),
    ('datasets.val.scales', [0.5]),
])
def test_wrong_value(place, value):
    line = refusal(changed(good(), place, value))
    assert place.rpartition('.')[2] in line and 'expected' in line
    if isinstance(value, (int, float, str)) and len(repr(value)) < 100:
        assert repr(value) in line


@pytest.mark.parametrize(('place', 'value', 'words'), [
    ('network_g.type', 'IRAN', "network_g.type: 'IRAN' is not known; did you mean 'IRN'"),
    ('datasets.train.type', 'ArbitraryScale', "type: 'ArbitraryScale' is not known; did you mean 'ArbitraryScaleDat"),
    ('model_type', 'IARNModell', "model_type: 'IARNModell' is not known; did you mean 'IARNModel'"),
    ('train.pixel_opt.type', 'L3Loss', "train.pixel_opt.type: 'L3Loss' is not known; did you mean 'L1Loss'"),
    ('train.optim_g.type', 'Adamm', "train.optim_g.type: 'Adamm' is not known; did you mean 'Adam'"),
    ('train.scheduler.type', 'StepLR', "train.scheduler.type: 'StepLR' is not known; did you mean 'MultiStepLR'"),
    ('val.metrics.psnr.type', 'calculate_pnsr', "val.metrics.psnr.type: 'calculate_pnsr' is not known; did you mean"),
    ('val.metrics.psnr.type', 'calculate_psnr_pt', 'takes tensors; expected calculate_psnr'),
    ('network_g', {'type': 'EDSR'}, 'network_g: num_in_ch is missing'),
    ('datasets.validation', {'name': 'x'}, 'datasets.validation: no data set of this name is read; known: train, val'),
    ('datasets.train', 'Set5', "datasets.train: 'Set5'; expected a section"),
    ('logger.wandb.project', 'x', "logger: wandb.project: 'x' needs use_tb_logger: true"),
])
def test_wording(place, value, words):
    assert words in refusal(changed(good(), place, value))


def test_no_gpu(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    assert 'num_gpu: 1; PyTorch finds no GPU here; expected auto, or 0' in refusal(changed(good(), 'num_gpu', 1))


def places(options, above=''):
    """Every key of the sections, but for names that are free."""
    for key, value in options.items():
        yield f'{above}{key}'
        if isinstance(value, dict):
            yield from places(value, f'{above}{key}.')


@pytest.mark.parametrize('place', [p for p in places(good()) if p != 'val.metrics.psnr' and 'dist_params.' not in p])
def test_misspelt_key(place):
    """The line names what is misspelt, or what is now missing; and mostly the right key."""
    key = place.rpartition('.')[2]
    line = refusal(renamed(good(), place, f'{key[:-1]}_{key[-1]}'))
    assert key in line, line


@pytest.mark.parametrize('key', [5, None, 'two\nlines', 'x' * 5000], ids=lambda k: repr(k)[:20])
@pytest.mark.parametrize('section', ['path', 'train.optim_g', 'datasets', 'val.metrics'])
def test_keys_that_are_no_words(section, key):
    options = good()
    place = options
    for name in section.split('.'):
        place = place[name]
    place[key] = 1
    assert repr(key)[:50] in refusal(options).replace('\\\\', '\\')


@pytest.mark.parametrize('place', [
    'name', 'train', 'logger', 'network_g.type', 'datasets.train', 'datasets.train.type', 'datasets.train.dataroot_gt',
    'datasets.val.scales', 'train.optim_g.type', 'train.scheduler.milestones', 'train.pixel_opt.type', 'val.val_freq',
    'val.save_img', 'val.metrics.psnr.type', 'logger.print_freq'])
@pytest.mark.parametrize('value', [MISSING, None], ids=['left out', 'empty'])
def test_missing_option(place, value):
    assert place.rpartition('.')[2] in refusal(changed(good(), place, value))


@pytest.mark.parametrize(('entry', 'words'), [
    ('train:total_iter=-5', 'train.total_iter: -5; expected an integer >= 1'), ('name=7', 'name: 7; expected'),
    ('path:pretrain_network=x', "path: unknown option 'pretrain_network'; did you mean 'pretrain_network_g'"),
    ('logger:print_freq=~', 'logger: print_freq is missing'), ('network_g:type=EDSR', 'network_g: unknown option'),
])
def test_command_line(entry, words):
    options = good()
    override(options, entry)
    assert words in refusal(options)


@pytest.mark.parametrize(('text', 'words'), [
    ('!!set {a, b}', 'name: {'), ('!!binary aGk=', "name: b'hi'"), ('2026-01-01', 'name: datetime.date(2026, 1, 1)'),
    ('"\\ud800"', r"name: '\ud800'"), ('1e5', 'name: 100000.0'),
    ('0x' + 'f' * 5000, 'name: a number too long to be shown; expected'),
])
def test_values_of_yaml(tmp_path, text, words):
    file = write_yaml(good(), tmp_path / 'options.yml')
    file.write_text(file.read_text().replace('name: run\n', f'name: {text}\n', 1))
    assert words in refusal(read_option_file(str(file)))


@pytest.mark.parametrize(('place', 'value'), [
    ('val', MISSING), ('val.save_img', MISSING), ('datasets', {}), ('datasets.test_1.scales', MISSING),
    ('datasets.test_1.use_hflip', True), ('network_g.growht', 4), ('val.metrics.psnr.croop_border', 3)])
def test_wrong_test_file(place, value):
    assert place.rpartition('.')[2] in refusal(changed(good('test'), place, value), is_train=False)


@pytest.mark.parametrize(('which', 'is_train'), [('train', True), ('test', False), ('train', False)])
def test_good_file(which, is_train):
    """A training file can be tested, too."""
    options = good(which)
    before = copy.deepcopy(options)
    check_file(options, is_train)
    assert options == before


@pytest.mark.parametrize(('place', 'value'), [
    ('num_gpu', 'auto'), ('manual_seed', None), ('val', None), ('val.val_freq', 5e3), ('train.total_iter', 4.0),
    ('train.optim_g', {'type': 'Adafactor', 'lr': 0.1, 'eps': [None, 1e-3]}), ('train.optim_g.lr', 0),
    ('train.optim_g', {'type': 'SOAP', 'lr': 0.1, 'refresh': 5}),
    ('train.scheduler', {'type': 'CosineAnnealingRestartLR', 'periods': [2, 2], 'restart_weights': [1, 0.5],
                         'eta_min': 0}),
    ('train.guide_opt', None), ('train.pixel_opt', {'type': 'CharbonnierLoss', 'eps': 1e-9}),
    ('train.cycle_opt', {'type': 'L1Loss'}),
    ('train.perceptual_opt', {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}, 'criterion': 'l1'}),
    ('val.metrics', {'n': {'type': 'calculate_niqe', 'crop_border': 0, 'convert_to': 'y', 'better': 'lower'},
                     'c': {'type': 'calculate_ciede2000', 'percentile': 95, 'compare': 'lr'}}),
    ('datasets.train.dataset_enlarge_ratio', 0.5), ('path.ignore_resume_networks', ['network_d']),
    ('logger.wandb', None), ('network_g', {'type': 'IARN'}),
    *(('name', name) for name in ('Übung 3 (x1.5–4)', 'console.nul', '.x')),
    ('datasets.val.scales', ['1.5x3', 2, [2, 3]]), ('datasets.val_2', {
        'name': 'two', 'type': 'ArbitraryScaleDataset', 'dataroot_gt': 'hr', 'scales': [2]}),
    ('plugin', 'iarn_basicsr.plugin.__version__'), ('val.suffix', 'a b'),
])
def test_accepted_value(place, value):
    check_file(changed(good(), place, value), True)


def test_stock_model_trains(tmp_path, image_folder, pipeline):
    """BasicSR's SRModel, EDSR and PairedImageDataset, with an option file of BasicSR's own."""
    image_folder('gt', [(32, 32)])
    image_folder('lq', [(16, 16)])
    pipeline('train', write_yaml(FOREIGN, tmp_path / 'edsr.yml'))
    assert (tmp_path / 'experiments' / '201_EDSR_Mx2' / 'models' / 'net_g_latest.pth').is_file()


@pytest.mark.parametrize(('place', 'value'), [
    ('resize_prob', [0.2, 0.7, 0.1]), ('train.mine_opt', {'weight': 3}), ('train.mine', 'x'), ('val.flip_seq', True),
    ('datasets.train.color', 'y'), ('path.pretrain_network', 'x'), ('val', None)])
def test_keys_of_other_models_pass_unread(place, value):
    check_file(changed(FOREIGN, place, value), True)


@pytest.mark.parametrize(('place', 'value'), [
    ('name', '../x'), ('num_gpu', -1), ('network_g.upscal', 2), ('logger.print_freq', 0), ('path.strict_load_g', 1),
    ('datasets.train', 'DIV2K'), ('datasets.train.type', 'PairedImage'), ('network_d', {'type': 'VGGStyle'})])
def test_what_is_checked_with_other_models(place, value):
    assert place.rpartition('.')[2] in refusal(changed(FOREIGN, place, value))
    assert 'option file: unknown option 0; known: ' in refusal({**FOREIGN, 0: 1})
