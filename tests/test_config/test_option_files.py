"""Every file in options/ builds: network, datasets, losses, optimiser; each ablation changes what its name says."""

import inspect
import json
import re
from pathlib import Path, PurePosixPath

import pytest
import yaml
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.utils.options import ordered_yaml
from basicsr.utils.registry import ARCH_REGISTRY

import iarn_basicsr
from iarn_basicsr import IARN, list_models
from iarn_basicsr.config.benchmark_schema import check_benchmark
from iarn_basicsr.config.option_checks import check_options
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.zoo.weights import weights_hash

OPTIONS = Path(__file__).resolve().parents[2] / 'options'
BENCHMARKS = sorted(OPTIONS.glob('benchmark*.yml'))
FILES = sorted({*OPTIONS.rglob('*.yml')} - {*BENCHMARKS})
RECIPES = sorted({*OPTIONS.glob('train_*.yml'), *OPTIONS.glob('test_*.yml')})
STAGES = sorted((OPTIONS / 'released').rglob('*.yml'))
PLUGIN = "plugin: !!python/name:iarn_basicsr.plugin.__version__ ''"


def file_id(path):
    """The path of an option file for the name of a test."""
    return str(path.relative_to(OPTIONS))


def with_images(opt, folder):
    """The options with every dataset on a small folder."""
    for phase, dataset in opt['datasets'].items():
        dataset.update(phase=phase.split('_')[0], dataroot_gt=str(folder), io_backend={'type': 'disk'})
    return opt


@pytest.mark.parametrize('path', FILES, ids=file_id)
def test_file_builds(path, image_folder, tmp_path):
    opt = read_option_file(str(path))
    assert opt['plugin'] == 'iarn_basicsr.plugin.__version__'
    assert 'resample' not in opt['network_g']  # the old name of split
    is_train = 'train' in opt
    check_options(opt, is_train, files=False)
    if is_train:
        assert isinstance(opt['train']['optim_g']['lr'], float)
    with_images(opt, image_folder('hr', [(160, 160)]))
    for dataset in opt['datasets'].values():
        assert len(build_dataset(dataset)) >= 1
    net = build_network(opt['network_g'])
    if opt['network_g']['type'] == 'IARN':
        assert sum(p.numel() for p in net.parameters()) <= 1.66e6
    opt.update(is_train=is_train, dist=False, rank=0, world_size=1, num_gpu=0)
    opt['path'].update(pretrain_network_g=None)
    model = build_model(opt)
    if is_train:
        assert set(model.criteria) >= {'l_rec', 'l_guide'}
        periods = opt['train']['scheduler'].get('periods')
        assert periods is None or sum(periods) >= opt['train']['total_iter']


def test_recipes_are_found():
    assert {p.name for p in RECIPES} >= {'train_IARN_x1-4.yml', 'train_IARN_light_x1-4.yml', 'test_IARN_x1-4.yml'}


@pytest.mark.parametrize('path', RECIPES, ids=file_id)
def test_stock_basicsr_reads_recipe(path):
    """With the loader of BasicSR's own parse_options: complete, the same options, the plugin imported."""
    text = path.read_text(encoding='utf-8')
    opt = yaml.load(text, Loader=ordered_yaml()[0])
    assert text.count(PLUGIN) == 1
    assert opt.pop('plugin') == iarn_basicsr.__version__
    assert 'based_on' not in opt
    assert opt == {k: v for k, v in read_option_file(str(path)).items() if k != 'plugin'}  # 1e-3 is a number to both
    assert {'name', 'model_type', 'num_gpu', 'datasets', 'network_g', 'path'} <= opt.keys()


# ------------------------------------------------------------------------------------------------------------ released

NAMED = [p for p in RECIPES if read_option_file(str(p))['path']['pretrain_network_g'] in list_models()]


def test_the_recipes_with_released_weights():
    assert {p.name for p in NAMED} >= {'test_IARN_x1-4.yml', 'test_IARN_light_x1-4.yml', 'train_IARN_jpeg_x1-4.yml',
                                       'train_IARN_light_x1-4_finetune.yml'}


@pytest.mark.parametrize('path', NAMED, ids=file_id)
def test_recipe_takes_released_weights_by_name(path, tmp_path, monkeypatch):
    """Wherever it is called from: an installed package has them too."""
    monkeypatch.chdir(tmp_path)
    opt = read_option_file(str(path))
    opt.update(is_train='train' in opt, dist=False, rank=0, world_size=1, num_gpu=0)
    released = IARN.from_pretrained(opt['path']['pretrain_network_g'])
    nets = [net for net in vars(build_model(opt)).values() if isinstance(net, IARN)]
    assert len(nets) == 1 + opt['is_train']  # and the averaged one
    for net in nets:
        assert weights_hash(net.state_dict()) == weights_hash(released.state_dict())


@pytest.mark.parametrize('path', STAGES, ids=file_id)
def test_released_stage_starts_from_an_earlier_one(path):
    """Or from a run of the ablation; what was grown, from the light model."""
    start = read_option_file(str(path))['path']['pretrain_network_g']
    number = int(path.name.split('_')[0])
    earlier = [p for p in STAGES if p.parent == path.parent and int(p.name.split('_')[0]) < number]
    light = [p for p in STAGES if p.parent.name == 'iarn_light_x1-4' and path.stem.endswith('grown')]
    ablation = (path.parents[2] / 'ablation').glob('*.yml')
    if not earlier:
        assert start is None
    else:
        assert PurePosixPath(start).parts[1] in {
            read_option_file(str(p))['name'] for p in (*earlier, *light, *ablation)}


@pytest.mark.parametrize('folder', ['iarn_light_x1-4', 'iarn_x1-4'])
def test_names_of_released_stages_differ(folder):
    names = [read_option_file(str(p))['name'] for p in STAGES if p.parent.name == folder]
    assert len(names) == len(set(names)) >= 3


# ------------------------------------------------------------------------------------------------------------ ablation

ABLATION = {
    'split_area': {('network_g', 'split')},
    'split_cubic_interp': {('network_g', 'split'), ('train', 'inv_opt')},
    'coupling_hr_grid': {('network_g', 'coupling'), ('network_g', 'order'), ('network_g', 'fold'),
                         ('network_g', 'width')},
    'order_2': {('network_g', 'order'), ('network_g', 'width')},
    'order_3': {('network_g', 'order'), ('network_g', 'width')},
    'extra_13': {('network_g', 'order'), ('network_g', 'width'), ('network_g', 'extra_channels')},
    'extra_29': {('network_g', 'order'), ('network_g', 'width'), ('network_g', 'extra_channels')},
    'residual': {('network_g', 'order'), ('network_g', 'width'), ('network_g', 'extra_channels'),
                 ('network_g', 'subnet'), ('network_g', 'num_unit')},
    'residual_deep': {('network_g', 'order'), ('network_g', 'width'), ('network_g', 'extra_channels'),
                      ('network_g', 'subnet'), ('network_g', 'num_unit'), ('network_g', 'num_block')},
    'extra_13_guide_2': {('network_g', 'order'), ('network_g', 'width'), ('network_g', 'extra_channels'),
                         ('train', 'guide_opt', 'loss_weight')},
    'no_curriculum': {('datasets', 'train', 'curriculum')},
    'init_last_0': {('network_g', 'init_last')},
    'guide_4': {('train', 'guide_opt', 'loss_weight')},
    'guide_16': {('train', 'guide_opt', 'loss_weight')},
    'latent_1': {('train', 'latent_opt')},
    'luma': {('train', 'luma_opt')},
    'fixed_x2': {('datasets', 'train', 'scale_range'), ('datasets', 'train', 'curriculum'),
                 ('datasets', 'val', 'scales')},
    'fixed_x4': {('datasets', 'train', 'scale_range'), ('datasets', 'train', 'curriculum'),
                 ('datasets', 'val', 'scales')},
    'patch_hr_56': {('datasets', 'train', 'lq_size'), ('datasets', 'train', 'gt_size')},
}
IRN = {'irn_x2': 'base', 'irn_x4': 'base', 'irn_x2_luma': 'luma'}  # and the run that it stands against


def ablation(name):
    """The options of a file in options/ablation."""
    return read_option_file(str(OPTIONS / 'ablation' / f'{name}.yml'))


def differences(a, b, place=()):
    """Places where two nested dicts differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {d for k in a.keys() | b.keys() for d in differences(a.get(k), b.get(k), (*place, k))}
    return set() if a == b else {place}


def test_all_ablations_are_listed_and_were_run():
    names = {p.stem for p in (OPTIONS / 'ablation').glob('*.yml')}
    assert names == {*ABLATION, *IRN, 'base'}
    results = json.loads((OPTIONS / 'ablation' / 'results.json').read_text(encoding='utf-8'))
    assert {r.removeprefix('ablation_').removesuffix('_seed1') for r in results} == names
    assert {ablation(n)['name'] for n in names} <= results.keys()


@pytest.mark.parametrize('name', IRN)
def test_irn_of_the_ablation_has_equal_training_and_as_many_parameters(name):
    reference, irn = ablation(IRN[name]), ablation(name)
    scale = irn['network_g']['scale']
    assert name.startswith(f'irn_x{scale}')
    assert reference['train'] == irn['train']
    assert {p[1:] for p in differences(reference['datasets'], irn['datasets'])} == {('scale_range', ), ('curriculum', ),
                                                                                   ('scales', )}
    assert irn['datasets']['train']['scale_range'] == [scale, scale]
    sizes = [sum(p.numel() for p in build_network(o['network_g']).parameters()) for o in (reference, irn)]
    assert sizes[1] >= sizes[0]


@pytest.mark.parametrize('name', ABLATION)
def test_ablation_changes_one_thing(name):
    base, variant = ablation('base'), ablation(name)
    assert differences(base, variant) == {('name',), *ABLATION[name]}
    sizes = [sum(p.numel() for p in build_network(o['network_g']).parameters()) for o in (base, variant)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.065)


def test_encoders_of_jpeg_are_compared_alone():
    files = {p.stem: read_option_file(str(p)) for p in (OPTIONS / 'ablation' / 'jpeg').glob('*.yml')}
    assert {name: options['train']['jpeg']['encoder'] for name, options in files.items()} == {n: n for n in files}
    assert len(files) == 3
    for options in files.values():
        assert differences(files['libjpeg'], options) <= {('name', ), ('train', 'jpeg', 'encoder')}
        check_options(options, True, files=False)


# ----------------------------------------------------------------------------------------------------------- benchmark


@pytest.mark.parametrize('path', BENCHMARKS, ids=lambda p: p.name)
def test_benchmark_file(path):
    options = yaml.safe_load(path.read_text(encoding='utf-8'))
    check_benchmark(options)
    for name, method in options['methods'].items():
        for entry in method.get('nets', []):
            if 'network' in entry:
                network = dict(entry['network'])
                arch = ARCH_REGISTRY.get(network.pop('type'))
                assert {*network} <= {*inspect.signature(arch).parameters}
                assert network['upscale' if 'upscale' in network else 'scale'] == entry['scale'], name


# ------------------------------------------------------------------------------------------------------------- folders


def holds(folder, other):
    """Whether the images of a folder, read with its sub-folders, include those of another."""
    folder, other = (PurePosixPath(p.split('{')[0]) for p in (folder, other))
    return folder == other or folder in other.parents


def test_holds():
    assert holds('datasets/Set5', 'datasets/Set5/LR/{scale}')
    assert holds('datasets/Set5', 'datasets/Set5')
    assert holds('datasets/LR/Set5', 'datasets/LR/Set5/{scale}')
    assert not holds('datasets/Set5', 'datasets/Set50/{scale}')
    assert not holds('datasets/Set5', 'datasets/LR/Set5/{scale}')


def test_no_hr_folder_holds_lr_images():
    """A dataset reads sub-folders too: LR images in them would count as HR images.

    LR folders are those of the option files and those that options/README.md tells people to make.
    """
    datasets = [(path, dataset) for path in (*FILES, *BENCHMARKS)
                for dataset in read_option_file(str(path))['datasets'].values()]
    hr = {d['dataroot_gt'] for _, d in datasets if d.get('dataroot_gt')}
    lr = {d['dataroot_lq'] for _, d in datasets if d.get('dataroot_lq')}
    told = re.findall(r'(?:dataroot_lq: |make_lr\.py .*-o )[\'"]?([\w./{}-]+)',
                      (OPTIONS / 'README.md').read_text(encoding='utf-8'))
    assert told and 'datasets/Set5' in hr
    assert [(folder, other) for folder in sorted(hr) for other in sorted({*lr, *told}) if holds(folder, other)] == []
