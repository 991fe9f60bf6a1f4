"""Every file in options/ builds: network, datasets, losses."""

import inspect
import json
from pathlib import PurePosixPath

import pytest
import yaml
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.utils.options import ordered_yaml
from basicsr.utils.registry import ARCH_REGISTRY
from helpers import ROOT

import iarn_basicsr
from iarn_basicsr.config.benchmark_schema import check_benchmark
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.pipeline.check import check_file

OPTIONS = ROOT / 'options'
BENCHMARKS = sorted(OPTIONS.glob('benchmark*.yml'))
FILES = sorted({*OPTIONS.rglob('*.yml')} - {*BENCHMARKS})
COMPLETE = [p for p in FILES if 'based_on:' not in p.read_text(encoding='utf-8')]
SCHEMA = ROOT / 'iarn_basicsr' / 'config' / 'option_file.schema.json'


def file_id(path):
    return path.relative_to(OPTIONS).as_posix()


def options(path):
    """The options of a file, or of a name below options/."""
    return read_option_file(str(OPTIONS / path))


@pytest.mark.parametrize('path', FILES, ids=file_id)
def test_file_builds(path, image_folder):
    opt = options(path)
    is_train = 'train' in opt
    check_file(opt, is_train)
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


def test_a_test_file_tests_the_run_of_its_name():
    for path in OPTIONS.glob('test_IARN*.yml'):
        assert options(path)['name'] == options(path.name.replace('test_', 'train_'))['name']


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


def test_every_ablation_has_results():
    names = {p.stem for p in (OPTIONS / 'ablation').glob('*.yml')}
    results = json.loads((OPTIONS / 'ablation' / 'results.json').read_text(encoding='utf-8'))
    assert {r.removeprefix('ablation_').removesuffix('_seed1') for r in results} == names


@pytest.mark.parametrize('path', BENCHMARKS, ids=lambda p: p.name)
def test_benchmark_file(path):
    opt = yaml.safe_load(path.read_text(encoding='utf-8'))
    check_benchmark(opt)
    for name, method in opt['methods'].items():
        for entry in method.get('nets', []):
            if 'network' in entry:
                network = dict(entry['network'])
                kind = network.pop('type')
                if kind not in ('vapsr', 'BSRN'):  # which a clone of theirs registers
                    assert {*network} <= {*inspect.signature(ARCH_REGISTRY.get(kind)).parameters}
                assert network['upscale' if 'upscale' in network else 'scale'] == entry['scale'], name
