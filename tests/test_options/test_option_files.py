"""Every file in options/ builds: network, datasets, losses, optimiser; each ablation changes what its name says."""

import inspect
from pathlib import Path

import pytest
import yaml
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY

from iarn_basicsr.benchmark.run import check_options as check_benchmark
from iarn_basicsr.checks import near, number
from iarn_basicsr.errors import OptionError
from iarn_basicsr.toolbox.option_checks import check_options
from iarn_basicsr.toolbox.option_file import read_option_file

OPTIONS = Path(__file__).resolve().parents[2] / 'options'
BENCHMARKS = sorted(OPTIONS.glob('benchmark_*.yml'))
FILES = sorted({*OPTIONS.rglob('*.yml')} - {*BENCHMARKS})


def with_images(opt, folder):
    """The options with every dataset on a small folder."""
    for phase, dataset in opt['datasets'].items():
        dataset.update(phase=phase.split('_')[0], dataroot_gt=str(folder), io_backend={'type': 'disk'})
    return opt


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(OPTIONS)))
def test_file_builds(path, image_folder, tmp_path):
    text = path.read_text(encoding='utf-8')
    assert "plugin: !!python/name:iarn_basicsr.__version__ ''" in text
    opt = read_option_file(str(path))
    is_train = 'train' in opt
    check_options(opt, is_train)
    if is_train:
        assert isinstance(opt['train']['optim_g']['lr'], float)
        assert isinstance(yaml.load(text, yaml.UnsafeLoader)['train']['optim_g']['lr'], float)  # in stock BasicSR too
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


ABLATION = {
    'split_area': {('network_g', 'resample')},
    'split_cubic_interp': {('network_g', 'resample'), ('train', 'inv_opt')},
    'coupling_hr_grid': {('network_g', 'coupling'), ('network_g', 'order'), ('network_g', 'fold'),
                         ('network_g', 'growth')},
    'coupling_hr_grid_no_encoding': {('network_g', 'coupling'), ('network_g', 'order'), ('network_g', 'fold'),
                                     ('network_g', 'growth'), ('network_g', 'encoding')},
    'order_2': {('network_g', 'order'), ('network_g', 'growth')},
    'order_3': {('network_g', 'order'), ('network_g', 'growth')},
    'blocks_6': {('network_g', 'num_block'), ('network_g', 'growth')},
    'no_encoding': {('network_g', 'encoding')},
    'no_curriculum': {('datasets', 'train', 'curriculum')},
    'init_last_0': {('network_g', 'init_last')},
    'guide_025': {('train', 'guide_opt', 'loss_weight')},
    'guide_4': {('train', 'guide_opt', 'loss_weight')},
    'guide_16': {('train', 'guide_opt', 'loss_weight')},
    'latent_1': {('train', 'latent_opt')},
    'luma': {('train', 'luma_opt')},
    'asymmetric': {('datasets', 'train', 'asymmetric_prob')},
    'varied': {('datasets', 'train', 'shrink'), ('datasets', 'train', 'noise')},
    'fixed_x2': {('datasets', 'train', 'scale_range'), ('datasets', 'train', 'curriculum'),
                 ('datasets', 'val', 'scales')},
    'fixed_x4': {('datasets', 'train', 'scale_range'), ('datasets', 'train', 'curriculum'),
                 ('datasets', 'val', 'scales')},
    'patch_hr_56': {('datasets', 'train', 'lq_size'), ('datasets', 'train', 'gt_size')},
}


def differences(a, b, place=()):
    """Places where two nested dicts differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {d for k in a.keys() | b.keys() for d in differences(a.get(k), b.get(k), (*place, k))}
    return set() if a == b else {place}


def test_all_ablations_are_listed():
    irn = {f'irn_x{scale}{suffix}' for scale in (2, 4) for suffix in ('', '_luma')}
    assert {p.stem for p in (OPTIONS / 'ablation').glob('*.yml')} == {*ABLATION, *irn, 'base'}


@pytest.mark.parametrize('scale', [2, 4])
@pytest.mark.parametrize(('reference', 'suffix'), [('base', ''), ('luma', '_luma')])
def test_irn_of_the_ablation_has_equal_training_and_as_many_parameters(scale, reference, suffix):
    base, irn = (read_option_file(str(OPTIONS / 'ablation' / f'{n}.yml')) for n in (reference, f'irn_x{scale}{suffix}'))
    assert base['train'] == irn['train']
    assert {p[1:] for p in differences(base['datasets'], irn['datasets'])} == {('scale_range', ), ('curriculum', ),
                                                                              ('scales', )}
    assert irn['datasets']['train']['scale_range'] == [scale, scale]
    sizes = [sum(p.numel() for p in build_network(o['network_g']).parameters()) for o in (base, irn)]
    assert sizes[1] >= sizes[0]


@pytest.mark.parametrize('name', ABLATION)
def test_ablation_changes_one_thing(name):
    base, variant = (read_option_file(str(OPTIONS / 'ablation' / f'{n}.yml')) for n in ('base', name))
    assert differences(base, variant) == {('name',), *ABLATION[name]}
    sizes = [sum(p.numel() for p in build_network(o['network_g']).parameters()) for o in (base, variant)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


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


def test_near_and_number():
    assert near('gorwth', ['growth', 'order']) == "did you mean 'growth'?"
    assert near('zzz', ['growth', 'order']) == 'known: growth, order'
    assert number('s', {'a': '1e-4'}, 'a', 0, 0, 1) == 1e-4
    for value in ('x', None, True, 2, [1]):
        with pytest.raises(OptionError, match=r's\.a: .*expected a number from 0 to 1'):
            number('s', {'a': value}, 'a', 0, 0, 1)
    with pytest.raises(OptionError, match='expected a whole number from 1 to 9'):
        number('s', {'a': 1.5}, 'a', 0, 1, 9, int)
