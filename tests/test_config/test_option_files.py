"""Every file in options/ builds: network, datasets, losses; each file of the ablation changes what its name says."""

from __future__ import annotations

import inspect
import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.utils.options import ordered_yaml
from basicsr.utils.registry import ARCH_REGISTRY

import iarn_basicsr
from iarn_basicsr import list_models
from iarn_basicsr.config.benchmark_schema import check_benchmark
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.pipeline.registered import check_file

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ROOT / 'options'
BENCHMARKS = sorted(OPTIONS.glob('benchmark*.yml'))
FILES = sorted({*OPTIONS.rglob('*.yml')} - {*BENCHMARKS})
COMPLETE = [p for p in FILES if 'based_on:' not in p.read_text(encoding='utf-8')]
SCHEMA = ROOT / 'iarn_basicsr' / 'config' / 'option_file.schema.json'


def file_id(path: Path) -> str:
    """The path of an option file for the name of a test."""
    return path.relative_to(OPTIONS).as_posix()


def options(path: Path | str) -> dict[str, Any]:
    """The options of a file, or of a name below options/."""
    return read_option_file(str(OPTIONS / path))


@pytest.mark.parametrize('path', FILES, ids=file_id)
def test_file_builds(path, image_folder):
    opt = options(path)
    is_train = 'train' in opt
    check_file(opt, is_train, files=False)
    folder = image_folder('hr', [(160, 160)])
    for phase, dataset in opt['datasets'].items():
        dataset.update(phase=phase.split('_')[0], dataroot_gt=str(folder), io_backend={'type': 'disk'})
        assert len(build_dataset(dataset)) >= 1
    assert opt['network_g']['type'] == 'IRN' or \
        sum(p.numel() for p in build_network(opt['network_g']).parameters()) <= 1.66e6
    opt.update(is_train=is_train, dist=False, rank=0, world_size=1, num_gpu=0)
    if is_train or not opt['path'].get('pretrain_network_g'):  # weights of the run, which is not there
        opt['path']['pretrain_network_g'] = None if is_train else 'iarn_light_x1-4'
    model = build_model(opt)
    if is_train:
        assert isinstance(opt['train']['optim_g']['lr'], float)
        assert set(model.criteria) >= {'l_rec', 'l_guide'}
        periods = opt['train']['scheduler'].get('periods')
        assert periods is None or sum(periods) >= opt['train']['total_iter']


@pytest.mark.parametrize('path', FILES, ids=file_id)
def test_editors_find_the_schema(path):
    first = path.read_text(encoding='utf-8').splitlines()[0]
    key, _, target = first.partition('$schema=')
    assert key == '# yaml-language-server: '
    assert (path.parent / target).resolve() == SCHEMA


@pytest.mark.parametrize('path', COMPLETE, ids=file_id)
def test_stock_basicsr_reads_it(path):
    """With the loader of BasicSR's own parse_options: the same options, and the plugin imported."""
    opt = yaml.load(path.read_text(encoding='utf-8'), Loader=ordered_yaml()[0])
    assert opt.pop('plugin') == iarn_basicsr.__version__
    assert opt == {k: v for k, v in options(path).items() if k != 'plugin'}  # 1e-3 is a number to both


def test_released_weights_bring_their_design():
    """A file that starts from released weights says nothing of the network; one that tests them says so in its name."""
    named = {p.name: options(p) for p in FILES if options(p)['path'].get('pretrain_network_g') in list_models()}
    assert {*named} == {'test_released_IARN_light_x1-4.yml', 'test_released_IARN_x1-4.yml', 'train_IARN_jpeg_x1-4.yml',
                        'train_IARN_light_x1-4_finetune.yml'}
    assert all(opt['network_g'] == {'type': 'IARN'} for opt in named.values())


def test_a_test_file_tests_the_run_of_its_name():
    for path in OPTIONS.glob('test_IARN*.yml'):
        assert options(path)['name'] == options(path.name.replace('test_', 'train_'))['name']


# ------------------------------------------------------------------------------------------------------------ released


@pytest.mark.parametrize('path', sorted((OPTIONS / 'released').rglob('*.yml')), ids=file_id)
def test_released_stage_starts_from_an_earlier_run(path):
    """An earlier stage, a run of the ablation or, where it was grown, the light model; its name is its own."""
    opt, number = options(path), int(path.name.split('_')[0])
    earlier = [*(OPTIONS / 'ablation').glob('*.yml'), *(OPTIONS / 'released/iarn_light_x1-4').glob('*.yml'),
               *(p for p in path.parent.glob('*.yml') if int(p.name.split('_')[0]) < number)]
    runs = {options(p)['name'] for p in earlier if p != path}
    assert opt['name'] not in runs
    start = opt['path']['pretrain_network_g']
    assert start is None or PurePosixPath(start).parts[1] in runs


# ------------------------------------------------------------------------------------------------------------ ablation

SCALES = {('datasets', 'train', 'scale_range'), ('datasets', 'train', 'curriculum'), ('datasets', 'val', 'scales')}
ABLATION = {
    'coupling_hr_grid': {('network_g', key) for key in ('coupling', 'order', 'fold', 'width')},
    'extra_13': {('network_g', key) for key in ('order', 'width', 'extra_channels')},
    'guide_4': {('train', 'guide_opt', 'loss_weight')},
    'irn_x2': {*SCALES, ('network_g', )},
    'irn_x4': {*SCALES, ('network_g', )},
    'luma': {('train', 'luma_opt')},
    'no_curriculum': {('datasets', 'train', 'curriculum')},
    'order_3': {('network_g', 'order'), ('network_g', 'width')},
    'residual_deep': {('network_g', key) for key in ('order', 'width', 'extra_channels', 'subnet', 'num_unit',
                                                     'num_block')},
    'split_area': {('network_g', 'split')},
}


def differences(a, b, place=()):
    """Places where two nested dicts differ; a network of another type differs as a whole."""
    if isinstance(a, dict) and isinstance(b, dict) and (place != ('network_g', ) or a['type'] == b['type']):
        return {d for k in a.keys() | b.keys() for d in differences(a.get(k), b.get(k), (*place, k))}
    return set() if a == b else {place}


def test_all_ablations_are_listed_and_have_results():
    names = {p.stem for p in (OPTIONS / 'ablation').glob('*.yml')}
    assert names == {*ABLATION, 'base'}
    results = json.loads((OPTIONS / 'ablation' / 'results.json').read_text(encoding='utf-8'))
    assert {r.removeprefix('ablation_').removesuffix('_seed1') for r in results} == names


@pytest.mark.parametrize('name', ABLATION)
def test_ablation_changes_one_thing(name):
    base, variant = options('ablation/base.yml'), options(f'ablation/{name}.yml')
    assert differences(base, variant) == {('name',), *ABLATION[name]}
    sizes = [sum(p.numel() for p in build_network(o['network_g']).parameters()) for o in (base, variant)]
    assert sizes[1] >= sizes[0] if 'irn' in name else sizes[1] == pytest.approx(sizes[0], rel=0.065)


# ----------------------------------------------------------------------------------------------------------- benchmark


@pytest.mark.parametrize('path', BENCHMARKS, ids=lambda p: p.name)
def test_benchmark_file(path):
    opt = yaml.safe_load(path.read_text(encoding='utf-8'))
    check_benchmark(opt)
    for name, method in opt['methods'].items():
        for entry in method.get('nets', []):
            if 'network' in entry:
                network = dict(entry['network'])
                arch = ARCH_REGISTRY.get(network.pop('type'))
                assert {*network} <= {*inspect.signature(arch).parameters}
                assert network['upscale' if 'upscale' in network else 'scale'] == entry['scale'], name
