"""End to end through BasicSR's own pipelines: train, resume, test, several processes, stock entry points."""

import gc
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.utils import misc
from helpers import train_options, write_yaml

from iarn_basicsr.models.iarn_model import IARNModel

ROOT = Path(__file__).resolve().parents[2]


def run(*command, cwd, **environment):
    """A command in a new process, one thread each."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **environment}
    return subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


def same(a, b):
    """Whether two (nested) states are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b


def load(folder, name):
    return torch.load(folder / name, weights_only=True)


def test_train_then_test(tmp_path, image_folder, pipeline):
    options = train_options(image_folder('hr', [(32, 40), (24, 26)]))
    options['logger']['use_tb_logger'] = True
    pipeline('train', write_yaml(options, tmp_path / 'train.yml'))
    run_folder = tmp_path / 'experiments' / 'run'
    assert (run_folder / 'models' / 'net_g_latest.pth').exists() and (run_folder / 'train.yml').exists()
    assert list((tmp_path / 'tb_logger' / 'run').iterdir())
    trained = json.loads(next((run_folder / 'metrics').glob('val_*.json')).read_text())

    test = {k: options[k] for k in ('name', 'model_type', 'num_gpu', 'manual_seed', 'network_g')}
    test['datasets'] = {'test_1': {**options['datasets']['val'], 'name': 'held_out'}}
    test['path'] = {'pretrain_network_g': str(run_folder / 'models' / 'net_g_latest.pth'),
                    'param_key_g': 'params_ema', 'strict_load_g': True}
    test['val'] = {'save_img': True, 'suffix': None}
    pipeline('test', write_yaml(test, tmp_path / 'test.yml'))
    results = tmp_path / 'results' / 'run'
    tested = json.loads((results / 'metrics' / 'held_out_run.json').read_text())
    assert tested['mean'] == trained['mean']
    assert (results / 'visualization' / 'held_out' / 'x2' / 'sr' / 'image0.png').exists()
    assert 'lr_psnr_y' in next(results.glob('test_run_*.log')).read_text()


@pytest.mark.parametrize('save_at', [10, 7])  # 9 iterations make an epoch
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, image_folder, pipeline, save_at):
    hr = image_folder('hr', [(32, 40), (24, 26), (20, 30), (18, 18), (40, 20), (33, 21)])
    options = train_options(hr, 'whole')
    options['datasets']['train'].update(dataset_enlarge_ratio=3, curriculum={'start': 2, 'hold': 4, 'widen': 10})
    options['train']['total_iter'] = 20
    options['logger']['save_checkpoint_freq'] = 20
    pipeline('train', write_yaml(options, tmp_path / 'whole.yml'))
    options['name'] = 'parts'
    options['train']['total_iter'] = save_at
    options['logger']['save_checkpoint_freq'] = save_at
    pipeline('train', write_yaml(options, tmp_path / 'first.yml'))
    torch.manual_seed(1234)
    options['train']['total_iter'] = 20
    options['logger']['save_checkpoint_freq'] = 20
    pipeline('train', write_yaml(options, tmp_path / 'second.yml'), '--auto_resume')
    for name in ('models/net_g_20.pth', 'training_states/20.state'):
        whole, parts = (load(tmp_path / 'experiments' / r, name) for r in ('whole', 'parts'))
        assert same(whole, parts), name
    weights = load(tmp_path / 'experiments' / 'parts', f'models/net_g_{save_at}.pth')
    assert not same(whole if 'params' in whole else weights, parts)  # the comparison above is not vacuous
    assert not same(weights, load(tmp_path / 'experiments' / 'parts', 'models/net_g_20.pth'))


def test_run_may_be_made_longer_by_its_option_file(tmp_path, image_folder, pipeline):
    """BasicSR goes on with the schedule of the state, which ends with the first run."""
    options = train_options(image_folder('hr', [(32, 40), (24, 26)]))
    options['train'].update(total_iter=6, scheduler={'type': 'CosineAnnealingRestartLR', 'periods': [6],
                                                     'restart_weights': [1], 'eta_min': 1e-4})
    options['logger']['save_checkpoint_freq'] = 6
    pipeline('train', write_yaml(options, tmp_path / 'run.yml'))
    options['train'].update(total_iter=12)
    options['train']['scheduler'].update(periods=[16])
    options['train']['optim_g']['lr'] = 5e-4
    pipeline('train', write_yaml(options, tmp_path / 'run.yml'), '--auto_resume')
    run = tmp_path / 'experiments' / 'run'
    rate = load(run, 'training_states/12.state')['optimizers'][0]['param_groups'][0]['lr']
    assert rate == pytest.approx(1e-4 + (1e-3 - 1e-4) * (1 + math.cos(math.pi * 11 / 16)) / 2)  # the 12th step
    log = ''.join(p.read_text() for p in run.glob('*.log'))
    assert "'periods': [16]" in log and 'from now on, another until now' in log
    assert 'optim_g.lr: 0.0005 in the option file, but the run that goes on has 0.001, which counts' in log


@pytest.mark.slow
@pytest.mark.parametrize('told', ['minutes', 'SIGTERM', 'SIGTERM to all processes'])
def test_run_that_is_told_to_stop_goes_on(tmp_path, image_folder, pipeline, monkeypatch, told):
    hr = image_folder('hr', [(32, 40), (24, 26), (20, 30)])
    options = train_options(hr, 'whole')
    options['train']['total_iter'] = 6
    options['logger']['save_checkpoint_freq'] = 6
    options['datasets']['train']['num_worker_per_gpu'] = 1
    pipeline('train', write_yaml(options, tmp_path / 'whole.yml'))
    options['name'] = 'parts'
    file = write_yaml(options, tmp_path / 'parts.yml')
    if told == 'minutes':
        pipeline('train', file, '--minutes', '1e-6')
    else:
        step = IARNModel.optimize_parameters

        def terminated(model, current_iter):
            step(model, current_iter)
            if current_iter == 4:
                workers = [p.pid for p in multiprocessing.active_children()]
                assert workers
                processes = [os.getpid(), *(workers if told.endswith('processes') else [])]
                subprocess.run(['kill', *map(str, processes)], check=True)  # workers obey their parent without a fuss
                time.sleep(0.5)  # the end of a worker would be noticed

        with monkeypatch.context() as patch:
            patch.setattr(IARNModel, 'optimize_parameters', terminated)
            pipeline('train', file)
    stopped_at = 1 if told == 'minutes' else 4
    folder = tmp_path / 'experiments' / 'parts'
    assert [p.name for p in (folder / 'training_states').iterdir()] == [f'{stopped_at}.state']
    assert f'stopped and saved at iteration {stopped_at} of 6' in next(folder.glob('*.log')).read_text()
    assert not (folder / 'models' / 'net_g_latest.pth').exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    pipeline('train', file, '--auto_resume')
    assert same(load(folder, 'models/net_g_6.pth'), load(tmp_path / 'experiments' / 'whole', 'models/net_g_6.pth'))


def test_model_is_gone_when_training_ends(tmp_path, image_folder, pipeline, monkeypatch):
    """Without waiting for the garbage collector: DDP must not outlive its process group."""
    models, init = [], IARNModel.__init__

    def remembered(model, opt):
        init(model, opt)
        models.append(weakref.ref(model))

    monkeypatch.setattr(IARNModel, '__init__', remembered)
    gc.disable()
    try:
        pipeline('train', write_yaml(train_options(image_folder('hr', [(32, 40)])), tmp_path / 'train.yml'))
        assert [m() for m in models] == [None]
    finally:
        gc.enable()


@pytest.mark.slow
def test_slots_go_on_with_the_same_run(tmp_path, image_folder, pipeline):
    hr = image_folder('hr', [(32, 40), (24, 26), (20, 30)])
    options = train_options(hr, 'whole')
    options['train']['total_iter'] = 2
    options['logger']['save_checkpoint_freq'] = 2
    pipeline('train', write_yaml(options, tmp_path / 'whole.yml'))
    options['name'] = 'slots'
    write_yaml(options, tmp_path / 'slots.yml')

    def slot(*arguments):
        done = run(sys.executable, ROOT / 'scripts' / 'release' / 'train_slot.py', *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    for minutes, reached in (('1e-6', 1), ('5', 2)):
        shutil.rmtree(tmp_path / 'slot', ignore_errors=True)
        slot('pack', '-opt', 'slots.yml', '-o', 'slot')
        (tmp_path / 'elsewhere').mkdir(exist_ok=True)
        moved = shutil.move(tmp_path / 'slot', tmp_path / 'elsewhere' / f'slot{reached}')
        assert f'iteration {reached}' in slot('run', moved, '--minutes', minutes, '-o', 'out', '--amp', 'none')
        assert f'slots: iteration {reached}' in slot('collect', 'out')
    assert 'kept' not in slot('collect', 'out')
    for run_name in ('slots', 'whole'):
        assert (tmp_path / 'experiments' / run_name / 'models' / 'net_g_2.pth').is_file()
    assert same(*(load(tmp_path / 'experiments' / n, 'models/net_g_2.pth') for n in ('slots', 'whole')))
    assert len([*(tmp_path / 'out').rglob('*.state')]) == 1

    def refused(*arguments):
        done = run(sys.executable, ROOT / 'scripts' / 'release' / 'train_slot.py', *arguments, cwd=tmp_path)
        assert done.returncode == 2
        return done.stderr.splitlines()[-1]

    minute = '--minutes', '1', '-o'
    assert 'out is not a packed slot: it has no train.yml' in refused('run', 'out', *minute, 'x')
    assert 'would be copied onto itself: choose another folder by -o' in refused('run', moved, *minute, moved)
    assert 'experiments/slots would be copied onto itself' in refused('collect', '.')
    assert len([*(tmp_path / 'experiments' / 'slots').rglob('*.state')]) == 1
    options['name'], options['path'] = 'from_a_name', {'pretrain_network_g': 'iarn_light_x1-4'}
    write_yaml(options, tmp_path / 'named.yml')  # weights for another network
    slot('pack', '-opt', 'named.yml', '-o', 'named')
    assert (tmp_path / 'named' / 'start.pth').is_file()
    assert 'named: training ended with exit status' in refused('run', 'named', *minute, 'x')


def test_processes_without_a_launcher_are_refused(tmp_path, image_folder, pipeline, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(SystemExit, match='--launcher none in one of 2 processes of torchrun: all would do the same'):
        pipeline('train', write_yaml(train_options(image_folder('hr', [(32, 40)])), tmp_path / 'train.yml'))


def test_gloo_where_training_runs_on_the_cpu(tmp_path, image_folder, monkeypatch):
    """NCCL serves no tensors of the CPU, also where there is a GPU; the option file then says num_gpu: 0."""
    from basicsr.utils import options

    from iarn_basicsr.config.option_file import parse_options
    from iarn_basicsr.config.schema import check_options
    started = []
    monkeypatch.setattr(options, 'init_dist', lambda launcher, **more: started.append(more))
    monkeypatch.setenv('RANK', '0')
    file = write_yaml(train_options(image_folder('hr', [(32, 40)])), tmp_path / 'train.yml')
    monkeypatch.setattr('sys.argv', ['iarn-train', '-opt', str(file), '--launcher', 'pytorch'])
    parse_options(str(tmp_path), check=check_options)
    assert started == [{'backend': 'gloo'}]


def test_debug_without_validation(tmp_path, image_folder, pipeline):
    options = {**train_options(image_folder('hr', [(32, 40)])), 'val': None}
    pipeline('train', write_yaml(options, tmp_path / 'train.yml'), '--debug')
    assert (tmp_path / 'experiments' / 'debug_run' / 'models' / 'net_g_latest.pth').exists()


def test_auto_resume_without_a_state_starts_a_new_run(tmp_path, image_folder, pipeline):
    options = train_options(image_folder('hr', [(32, 40)]))
    pipeline('train', write_yaml(options, tmp_path / 'train.yml'), '--auto_resume')
    assert (tmp_path / 'experiments' / 'run' / 'models' / 'net_g_latest.pth').exists()


def test_force_yml_is_yaml_not_code(tmp_path, image_folder, pipeline):
    options = train_options(image_folder('hr', [(32, 40)]))
    pipeline('train', write_yaml(options, tmp_path / 'train.yml'), '--force_yml', 'train:optim_g:lr=1e-4',
             'name=__import__("os")', 'datasets:val:scales=[3]', 'train:total_iter=1', 'train:warmup_iter=-1',
             'logger:save_checkpoint_freq=1')
    folder = tmp_path / 'experiments' / '__import__("os")'
    state = load(folder, 'training_states/1.state')
    assert state['optimizers'][0]['param_groups'][0]['initial_lr'] == 1e-4
    assert set(json.loads(next((folder / 'metrics').iterdir()).read_text())['mean']) == {'x3'}


@pytest.mark.parametrize(('change', 'message'), [
    ({'model_type': 'IARNModell'}, "model_type: 'IARNModell' is not registered with BasicSR; did you mean 'IARNModel'"),
    ({'network_g': {'type': 'IRAN'}}, "network_g.type: 'IRAN' is not registered with BasicSR; did you mean 'IRN' or "),
    ({'network_g': {'type': 'IARN', 'widht': 4}}, "network_g: unknown option 'widht'; did you mean 'width'"),
    ({'network_g': {'type': 'IARN', 'split': 'bicubic'}}, "IARN option split: 'bicubic' is not one of"),
    ({'lodger': {}}, "option file: unknown option 'lodger'; did you mean 'logger'"),
    ({'train': None}, "section or option 'train' is missing"),
    ({'datasets': {'train': {'name': 'x', 'type': 'ArbitraryScale'}}}, "did you mean 'ArbitraryScaleDataset'"),
    ({'datasets': {'train': {'name': 'x', 'type': 'ArbitraryScaleDataset', 'dataroot_gt': 'datasets/none'}}},
     "datasets.x.dataroot_gt: 'datasets/none' does not exist"),
    ({'train': {'pixel_opt': {'type': 'L3Loss'}}}, "train.pixel_opt.type: 'L3Loss' is not registered"),
    ({'val': {'metrics': {'m': {'type': 'calculate_psnr', 'compare': 'both'}}}}, "val.metrics.m.compare: 'both'; "),
    ({'num_gpu': 2}, 'num_gpu: 2 without a launcher: start one process per GPU with torchrun'),
])
def test_mistakes_end_with_one_line(tmp_path, image_folder, pipeline, change, message):
    options = {**train_options(image_folder('hr', [(32, 40)])), **change}
    with pytest.raises(SystemExit) as stop:
        pipeline('train', write_yaml(options, tmp_path / 'train.yml'))
    text = str(stop.value)
    assert text.startswith('iarn-train: ') and message in text and '\n' not in text


@pytest.mark.parametrize(('arguments', 'message'), [
    (['-opt', 'none.yml'], "-opt: 'none.yml' does not exist"),
    (['-opt', 'broken.yml'], "-opt: 'broken.yml' is not valid YAML"),
    (['-opt', 'train.yml', '--force_yml', 'trian:total_iter=1'], "no section 'trian'; did you mean 'train'"),
    (['-opt', 'train.yml', '--force_yml', 'train'], 'expected section:key=value'),
    (['-opt', 'train.yml', '--launcher', 'slurm'], 'use torchrun'),
    (['-opt', 'train.yml', '--launcher', 'pytorch'], 'needs the environment that torchrun sets'),
    (['-opt', 'train.yml', '--force_yml', 'path:resume_state=none.state'], "'none.state' does not exist"),
])
def test_wrong_command_lines(tmp_path, image_folder, monkeypatch, arguments, message):
    from iarn_basicsr.train import main
    write_yaml(train_options(image_folder('hr', [(32, 40)])), tmp_path / 'train.yml')
    (tmp_path / 'broken.yml').write_text('a: [1, 2\nb: }')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['iarn-train', *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert message in str(stop.value) and '\n' not in str(stop.value)


@pytest.mark.slow
def test_two_processes_train_like_one_with_the_double_batch(tmp_path, image_folder):
    """gloo, through torchrun: same images, same gradients, so the same weights; validation shared out."""
    hr = image_folder('hr', [(32, 40), (24, 26), (20, 30)])
    options = train_options(hr, 'two')
    options['train'].update(total_iter=3, warmup_iter=-1, optim_g={'type': 'SGD', 'lr': 0.1})
    options['val']['val_freq'] = 3
    options['logger']['save_checkpoint_freq'] = 3
    two = write_yaml(options, tmp_path / 'two.yml')
    options['name'] = 'one'
    options['datasets']['train']['batch_size_per_gpu'] = 4
    one = write_yaml(options, tmp_path / 'one.yml')
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    for command, file, extra in ((torchrun, two, ['--launcher', 'pytorch']), ([sys.executable], one, [])):
        done = run(*command, '-m', 'iarn_basicsr.train', '-opt', file, *extra, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
    two, one = (load(tmp_path / 'experiments' / r, 'models/net_g_3.pth') for r in ('two', 'one'))
    start = max((two['params'][k] - two['params_ema'][k]).abs().max() for k in one['params'])
    assert start > 1e-4  # training moved the weights ...
    for key in ('params', 'params_ema'):
        for name, value in one[key].items():
            assert torch.allclose(two[key][name], value, atol=1e-6), name  # ... to the same place
    reports = [json.loads((tmp_path / 'experiments' / r / 'metrics' / 'val_3.json').read_text())
               for r in ('two', 'one')]
    assert [r['index'] for r in reports[0]['images']] == list(range(6))
    for scale, row in reports[1]['mean'].items():
        assert reports[0]['mean'][scale] == pytest.approx(row, abs=0.02)


@pytest.mark.slow
def test_two_processes_test_like_one(tmp_path, image_folder):
    hr = image_folder('hr', [(32, 40), (24, 26), (20, 30)])
    options = train_options(hr)
    test = {k: options[k] for k in ('model_type', 'num_gpu', 'manual_seed', 'network_g')}
    test.update(name='run', datasets={'test': {**options['datasets']['val'], 'name': 'set'}}, path={},
                val={'save_img': False, 'suffix': None})
    file = write_yaml(test, tmp_path / 'test.yml')
    done = run(sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', '-m',
               'iarn_basicsr.test', '-opt', file, '--launcher', 'pytorch', cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / 'results' / 'run' / 'metrics' / 'set_run.json').read_text())
    assert [r['index'] for r in report['images']] == list(range(6))


STOCK = ("import sys, torchvision.transforms as t, torchvision.transforms.functional as f; "
         "sys.modules['torchvision.transforms.functional_tensor'] = f; "  # what BasicSR's git master does not need
         "sys.argv[0] = 'basicsr/train.py'; import runpy, basicsr; "
         "runpy.run_module('basicsr.train', run_name='__main__')")


@pytest.mark.slow
@pytest.mark.parametrize('name', ['iarn_basicsr.plugin.__version__', 'iarn_basicsr.__version__'])
def test_stock_basicsr_finds_the_plugin_by_the_yaml_line(tmp_path, image_folder, name):
    """basicsr.train as __main__, without importing the plugin: the option file does it, an older one too."""
    options = train_options(image_folder('hr', [(32, 40)]))
    options['train']['total_iter'] = 1
    options['logger']['save_checkpoint_freq'] = 1
    file = write_yaml(options, tmp_path / 'train.yml')
    file.write_text(f"plugin: !!python/name:{name} ''\n" + file.read_text())
    shadow = tmp_path / 'site' / 'basicsr'  # stock 1.4.2 writes below the folder that holds the package
    shadow.parent.mkdir()
    import basicsr
    shadow.symlink_to(Path(basicsr.__file__).parent)
    done = run(sys.executable, '-c', STOCK, '-opt', file, cwd=tmp_path,
               PYTHONPATH=f'{shadow.parent}{os.pathsep}{ROOT}')
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'Model [IARNModel] is created' in done.stderr
    saved = list((tmp_path / 'site' / 'experiments' / 'run' / 'models').glob('net_g_1.pth'))
    assert saved and 'arch' in load(saved[0].parent, 'net_g_1.pth')


def test_stock_entry_draws_the_same_batches(image_folder):
    """The patched EnlargedSampler serves our dataset and leaves other datasets alone."""
    from basicsr.data.data_sampler import EnlargedSampler

    class Plain:
        def __len__(self):
            return 7

    sampler = EnlargedSampler(Plain(), 2, 1, 2)
    sampler.set_epoch(3)
    order = torch.randperm(14, generator=torch.Generator().manual_seed(3)).tolist()
    assert list(sampler) == [v % 7 for v in order][1:14:2]
    assert len(sampler) == 7


def test_registration_is_idempotent_and_complete():
    import importlib

    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY

    import iarn_basicsr
    importlib.reload(iarn_basicsr)
    assert 'IARN' in ARCH_REGISTRY and 'ArbitraryScaleDataset' in DATASET_REGISTRY and 'IARNModel' in MODEL_REGISTRY
    assert iarn_basicsr.__version__ == yaml.load("!!python/name:iarn_basicsr.__version__ ''", Loader=yaml.UnsafeLoader)
    assert misc.check_resume  # the stock function that resuming goes through


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
def test_a_failure_with_workers_ends_the_run(tmp_path, image_folder, processes):
    """A damaged image in a worker: the run ends, with exit code 1 and the name of the file, and no worker stays."""
    folder = image_folder('hr', [(32, 40), (40, 32)])
    (folder / 'image1.png').write_bytes((folder / 'image1.png').read_bytes()[:60])
    options = train_options(folder)
    options['datasets']['train'].update(num_worker_per_gpu=2, persistent_workers=True)
    options['datasets']['val'].update(dataroot_gt=str(image_folder('val', [(32, 32)])))
    file = write_yaml(options, tmp_path / 'train.yml')
    words = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2'] if processes == 2 else []
    words += ['-m', 'iarn_basicsr.train', '-opt', file, *(['--launcher', 'pytorch'] if processes == 2 else [])]
    start = time.monotonic()
    done = run(sys.executable, *words, cwd=tmp_path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith('iarn-train: ')]
    assert lines and all('image1.png' in line or 'another process of this run has ended' in line for line in lines)
    assert any('image1.png' in line for line in lines)
    assert 'Original Traceback' not in done.stderr and '[rank' not in done.stderr  # torchrun adds one of its own
    assert time.monotonic() - start < 90
