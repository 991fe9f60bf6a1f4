"""End to end through BasicSR's own pipelines: train, stop, resume, test; one process and several."""

from __future__ import annotations

import gc
import json
import math
import multiprocessing
import os
import signal
import subprocess
import time
import weakref
from argparse import Namespace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TORCHRUN, as_test, run_python, tiny_net, train_options, write_yaml
from hostile.option_files import FOREIGN

from iarn_basicsr.archs.irn import IRN
from iarn_basicsr.compat import complete_options, init_dist, pipelines
from iarn_basicsr.models.iarn_model import IARNModel
from iarn_basicsr.pipeline import training


def same(a: Any, b: Any) -> bool:
    """Whether two (nested) states are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b


def load(run_folder: Path, name: str) -> Any:
    return torch.load(run_folder / name, weights_only=True)


def test_train_then_test(tmp_path, options, pipeline):
    """A training file tests the newest weights of its run, by their average, or those that the command line names."""
    options['logger'].update(use_tb_logger=True, save_checkpoint_freq=1)
    options['train']['total_iter'] = 2
    file = write_yaml(options, tmp_path / 'train.yml')
    pipeline('train', file)
    run_folder = tmp_path / 'experiments' / 'run'
    assert (run_folder / 'train.yml').exists() and list((tmp_path / 'tb_logger' / 'run').iterdir())
    trained = json.loads((run_folder / 'metrics' / 'val_2.json').read_text())
    options['path'] = {'pretrain_network_g': 'iarn_light_x1-4', 'param_key_g': 'params', 'strict_load_g': False}
    pipeline('test', write_yaml(options, tmp_path / 'train.yml'), '--force_yml', 'val:save_img=true')
    results = tmp_path / 'results' / 'run'
    tested = json.loads((results / 'metrics' / 'val_run.json').read_text())
    assert tested['mean'] == trained['mean']
    assert (results / 'visualization' / 'val' / 'x2' / 'sr' / 'image0.png').exists()
    assert 'lr_psnr_y' in next(results.glob('test_run_*.log')).read_text()
    pipeline('test', write_yaml(as_test(options), tmp_path / 'test.yml'))
    assert json.loads((results / 'metrics' / 'val_run.json').read_text())['mean'] == trained['mean']
    earlier = {'pretrain_network_g': str(run_folder / 'models' / 'net_g_1.pth'), 'param_key_g': 'params'}
    pipeline('test', file, '--force_yml', *(f'path:{key}={value}' for key, value in earlier.items()), 'name=first')
    pipeline('test', write_yaml({**as_test(options, **earlier), 'name': 'second'}, tmp_path / 'test.yml'))
    first, second = (json.loads((tmp_path / 'results' / name / 'metrics' / f'val_{name}.json').read_text())['mean']
                     for name in ('first', 'second'))
    assert first == second != trained['mean']


def test_nothing_trained_yet(options, ends, tmp_path):
    line = ends(options, program='test')
    assert f"no weights to test: '{tmp_path / 'experiments' / 'run' / 'models'}' has none" in line
    assert 'train \'run\' first, or name a weight file' in line and not (tmp_path / 'results').exists()
    assert 'is a training file of another model: name its weights' in ends(FOREIGN, program='test')


@pytest.mark.parametrize(('program', 'sections', 'message'), [
    ('train', {'num_gpu': 2}, 'num_gpu: 2 without a launcher'),
    ('train', {'path': {'pretrain_network_g': 'bare.pth'}}, 'bare.pth does not fit network_g: '),
    ('test', {'network_g': {'max_scale': 2.5}, 'scale': 3, 'path': {'pretrain_network_g': 'bare.pth'}},
     'datasets.test_1.scale: x3 is out of range for network_g'),
    ('train', {'datasets': {'val': {'name': 'val', 'type': 'ArbitraryScaleDataset', 'dataroot_gt': 'experiments',
                                    'scales': [2]}}}, "datasets.val.dataroot_gt: no image in 'experiments'"),
])
def test_what_the_model_would_refuse_leaves_all_as_it_is(tmp_path, options, ends, monkeypatch, program, sections,
                                                         message):
    """One line, before BasicSR puts the folder of an old run away or makes a new one."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: sections.keys() == {'num_gpu'})
    if program == 'test':
        options = as_test(options)
        (tmp_path / 'results' / 'run').mkdir(parents=True)
    else:
        (tmp_path / 'experiments' / 'run').mkdir(parents=True)
    torch.save(tiny_net(width=5).state_dict(), tmp_path / 'bare.pth')
    for section, changes in sections.items():
        options[section] = {**options[section], **changes} if isinstance(changes, dict) else changes
    write_yaml(options, tmp_path / 'options.yml')
    before = sorted(tmp_path.rglob('*'))
    assert message in ends(options, program=program)
    assert sorted(tmp_path.rglob('*')) == before


def test_design_that_only_the_weights_say(tmp_path, options, pipeline):
    """``type`` alone: training starts from the file, and a test takes it."""
    path = {'pretrain_network_g': str(tmp_path / 'irn.pth')}
    IRN(scale=2, num_block=1, width=4).save(path['pretrain_network_g'])
    options['datasets']['train'].update(scale_range=[2, 2], asymmetric_prob=0)
    options['datasets']['val']['scales'] = [2]
    options['train']['total_iter'] = 1
    options.update(network_g={'type': 'IRN'}, path=path)
    pipeline('test', write_yaml(as_test(options, **path), tmp_path / 'test.yml'))
    assert (tmp_path / 'results' / 'run' / 'metrics' / 'val_run.json').exists()
    pipeline('train', write_yaml(options, tmp_path / 'train.yml'))
    arch = load(tmp_path / 'experiments' / 'run', 'models/net_g_latest.pth')['arch']
    assert arch['scale'] == 2 and arch['num_block'] == 1


def test_runs_of_one_name_in_the_same_second(tmp_path, options, ends, monkeypatch):
    """The second one cannot put the folder of the first one away."""
    monkeypatch.setattr('basicsr.utils.misc.get_time_str', lambda: 'now')
    for folder in ('run', 'run_archived_now'):
        (tmp_path / 'experiments' / folder / 'models').mkdir(parents=True)
    assert "name: 'run': another run of this name has started in the same second" in ends(options)


def test_debug_without_validation_and_without_a_state(tmp_path, options, pipeline):
    """``--auto_resume`` starts a new run where there is none."""
    options['val'] = None
    pipeline('train', write_yaml(options, tmp_path / 'train.yml'), '--debug', '--auto_resume')
    assert (tmp_path / 'experiments' / 'debug_run' / 'models' / 'net_g_latest.pth').exists()


def test_model_is_gone_when_training_ends(tmp_path, options, pipeline, monkeypatch):
    """Without waiting for the garbage collector: DDP must not outlive its process group."""
    models, init = [], IARNModel.__init__

    def remembered(model: IARNModel, opt: dict[str, Any]) -> None:
        init(model, opt)
        models.append(weakref.ref(model))

    monkeypatch.setattr(IARNModel, '__init__', remembered)
    options['train']['total_iter'] = 1
    gc.disable()
    try:
        pipeline('train', write_yaml(options, tmp_path / 'train.yml'))
        assert [m() for m in models] == [None]
    finally:
        gc.enable()


def test_resumed_run_equals_an_uninterrupted_one(tmp_path, image_folder, pipeline):
    """To the bit, resumed at the end of an epoch and in the middle of one, whatever the random generators hold."""
    options = train_options(image_folder('hr', [(32, 40), (24, 26), (20, 30), (18, 18)]), 'whole')
    options['datasets']['train'].update(dataset_enlarge_ratio=1.5, curriculum={'start': 2, 'hold': 1, 'widen': 4})
    options['train'].update(total_iter=7, scheduler={'type': 'MultiStepLR', 'milestones': [2, 5], 'gamma': 0.5},
                            grad_accumulation=2, jpeg={'prob': 0.8, 'quality': [30, 95]})
    options['logger']['save_checkpoint_freq'] = 7
    whole, parts = tmp_path / 'experiments' / 'whole', tmp_path / 'experiments' / 'parts'
    pipeline('train', write_yaml(options, tmp_path / 'whole.yml'))
    for save_at in (3, 5):  # 3 iterations make an epoch
        first = {**options, 'name': 'parts', 'train': {**options['train'], 'total_iter': save_at},
                 'logger': {**options['logger'], 'save_checkpoint_freq': save_at}}
        pipeline('train', write_yaml(first, tmp_path / 'first.yml'))
        torch.manual_seed(1234)
        pipeline('train', write_yaml({**options, 'name': 'parts'}, tmp_path / 'second.yml'), '--auto_resume')
        for name in ('models/net_g_7.pth', 'training_states/7.state'):
            assert same(load(whole, name), load(parts, name)), (save_at, name)
        assert not same(load(parts, f'models/net_g_{save_at}.pth'), load(parts, 'models/net_g_7.pth'))


def test_run_may_be_made_longer_by_its_option_file(tmp_path, options, pipeline):
    """BasicSR resumes with the schedule of the state, which ends with the first run."""
    options['train'].update(total_iter=2, warmup_iter=-1, scheduler={
        'type': 'CosineAnnealingRestartLR', 'periods': [2], 'restart_weights': [1], 'eta_min': 1e-4})
    options['logger']['save_checkpoint_freq'] = 2
    pipeline('train', write_yaml(options, tmp_path / 'run.yml'))
    options['train'].update(total_iter=4)
    options['train']['scheduler'].update(periods=[8])
    options['train']['optim_g']['lr'] = 5e-4
    pipeline('train', write_yaml(options, tmp_path / 'run.yml'), '--auto_resume')
    run_folder = tmp_path / 'experiments' / 'run'
    rate = load(run_folder, 'training_states/4.state')['optimizers'][0]['param_groups'][0]['lr']
    assert rate == pytest.approx(1e-4 + (1e-3 - 1e-4) * (1 + math.cos(math.pi * 3 / 8)) / 2)  # the 4th step
    log = ''.join(p.read_text() for p in run_folder.glob('*.log'))
    assert "'periods': [8]" in log and 'from now on, another until now' in log
    assert 'optim_g.lr: 0.0005 in the option file, but the run that goes on has 0.001, which counts' in log


@pytest.mark.skipif(os.name != 'posix', reason='signals of POSIX')
@pytest.mark.parametrize(('reason', 'stopped_at'), [('minutes', 1), ('SIGTERM to all processes', 2)])
def test_stopped_run_resumes(tmp_path, options, pipeline, monkeypatch, reason, stopped_at):
    options['name'] = 'whole'
    options['train']['total_iter'] = options['logger']['save_checkpoint_freq'] = 4
    options['datasets']['train']['num_worker_per_gpu'] = 1
    pipeline('train', write_yaml(options, tmp_path / 'whole.yml'))
    file = write_yaml({**options, 'name': 'parts'}, tmp_path / 'parts.yml')
    step = IARNModel.optimize_parameters

    def terminated(model: IARNModel, current_iter: int) -> None:
        step(model, current_iter)
        if current_iter == stopped_at:
            workers = [p.pid for p in multiprocessing.active_children()]
            assert workers
            subprocess.run(['kill', *map(str, [os.getpid(), *workers])], check=True)
            time.sleep(0.5)  # in which the end of a worker would be noticed

    with monkeypatch.context() as patch:
        if reason == 'minutes':
            pipeline('train', file, '--minutes', '1e-6')
        else:
            patch.setattr(IARNModel, 'optimize_parameters', terminated)
            pipeline('train', file)
    parts = tmp_path / 'experiments' / 'parts'
    assert [p.name for p in (parts / 'training_states').iterdir()] == [f'{stopped_at}.state']
    assert f'stopped and saved at iteration {stopped_at} of 4' in next(parts.glob('*.log')).read_text()
    assert not (parts / 'models' / 'net_g_latest.pth').exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    pipeline('train', file, '--auto_resume')
    assert same(load(parts, 'models/net_g_4.pth'), load(tmp_path / 'experiments' / 'whole', 'models/net_g_4.pth'))


@pytest.mark.parametrize(('arguments', 'message'), [
    (['-opt', 'none.yml'], "-opt: 'none.yml' does not exist"),
    (['-opt', 'train.yml', '--force_yml', 'trian:total_iter=1'], "no section 'trian'; did you mean 'train'"),
    (['-opt', 'train.yml', '--force_yml', 'train'], 'expected section:key=value'),
    (['-opt', 'train.yml', '--force_yml', 'datasets:train:prefetch_mode=cuda', 'datasets:train:pin_memory=true'],
     'there is no CUDA here'),
    (['-opt', 'train.yml', '--force_yml', 'datasets:train:dataroot_gt=nowhere'],
     "datasets.train.dataroot_gt: 'nowhere' does not exist"),
    (['-opt', 'train.yml', '--launcher', 'slurm'], 'use torchrun'),
    (['-opt', 'train.yml', '--launcher', 'pytorch'], 'needs the environment that torchrun sets'),
    (['-opt', 'train.yml', '--minutes', 'inf'], '--minutes: inf; expected a number above 0'),
])
def test_mistakes_end_with_one_line(tmp_path, options, monkeypatch, arguments, message):
    """Before anything is written."""
    from iarn_basicsr.train import main
    write_yaml(options, tmp_path / 'train.yml')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr('sys.argv', ['iarn-train', *arguments])
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(SystemExit) as stop:
        main()
    assert str(stop.value).startswith('iarn-train: ') and message in str(stop.value) and '\n' not in str(stop.value)
    assert sorted(tmp_path.rglob('*')) == before


def test_processes_without_a_launcher_are_refused(tmp_path, options, ends, pipeline, monkeypatch):
    """With one, the second process leaves the copy of the option file to the first."""
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert '--launcher none in one of 2 processes of torchrun: all would do the same' in ends(options)
    monkeypatch.delenv('RANK')
    monkeypatch.setattr('basicsr.utils.dist_util.get_dist_info', lambda: (1, 2))
    monkeypatch.setattr(training.pipeline, 'train_pipeline',
                        lambda root: training.pipeline.copy_opt_file('options.yml', 'copy'))
    pipeline('train', tmp_path / 'options.yml')
    assert not (tmp_path / 'copy').exists()


@pytest.mark.parametrize(('num_gpu', 'backend'), [(0, 'gloo'), (1, None)])
def test_backend_by_where_training_runs(options, monkeypatch, num_gpu, backend):
    """NCCL serves no tensors of the CPU, also where there is a GPU."""
    started: list[Any] = []
    monkeypatch.setattr(pipelines, 'init_dist', lambda *arguments: started.append(arguments))
    monkeypatch.setattr('basicsr.utils.dist_util.get_dist_info', lambda: (1, 2))
    args = Namespace(launcher='pytorch', auto_resume=False, debug=False)
    opt = complete_options({**options, 'num_gpu': num_gpu}, args, is_train=True)
    assert started == [('pytorch', backend)]
    assert torch.initial_seed() == opt['manual_seed'] + 1, 'by rank'
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda *given, **more: started.append((given, more)))
    init_dist('pytorch', 'gloo')
    assert started[1] == (('gloo', ), {'timeout': timedelta(hours=2)})


def test_options_are_completed_as_basicsr_does(tmp_path, options, monkeypatch):
    """All that its ``parse_options`` makes of the same file."""
    from basicsr.utils.options import parse_options
    options.update(num_gpu='auto', scale=2)
    options['path'].update(pretrain_network_g='~/x.pth', resume_state='~/y.state')
    options['datasets']['val'].update(dataroot_gt='~/hr')
    file = write_yaml(options, tmp_path / 'x.yml')
    monkeypatch.chdir(tmp_path)
    for is_train in (True, False):
        for flags in ([], ['--auto_resume', '--debug']):
            monkeypatch.setattr('sys.argv', ['x', '-opt', str(file), *flags])
            stock, _ = parse_options(str(tmp_path), is_train)
            args = Namespace(launcher='none', auto_resume=bool(flags), debug=bool(flags))
            assert complete_options(options, args, is_train=is_train) == stock


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path, image_folder, pipeline):
    """gloo, through torchrun, in parts, with a cycle: half the batch each, the same weights; validation shared out."""
    options = train_options(image_folder('hr', [(32, 40), (24, 26), (20, 30)]), 'two')
    options['train'].update(total_iter=3, warmup_iter=-1, optim_g={'type': 'SGD', 'lr': 0.1}, grad_accumulation=2,
                            cycle_opt={'type': 'MSELoss', 'loss_weight': 0.5}, cycle_freq=2)
    file = write_yaml(options, tmp_path / 'two.yml')
    done = run_python(*TORCHRUN, '-m', 'iarn_basicsr.train', '-opt', file, '--launcher', 'pytorch', cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    options['name'] = 'one'
    options['datasets']['train']['batch_size_per_gpu'] = 4
    pipeline('train', write_yaml(options, tmp_path / 'one.yml'))
    two, one = (load(tmp_path / 'experiments' / r, 'models/net_g_latest.pth') for r in ('two', 'one'))
    assert max((two['params'][k] - two['params_ema'][k]).abs().max() for k in one['params']) > 1e-4  # moved ...
    for key in ('params', 'params_ema'):
        for name, value in one[key].items():
            assert torch.allclose(two[key][name], value, atol=1e-6), name  # ... both to the same place
    by_two, by_one = (json.loads((tmp_path / 'experiments' / r / 'metrics' / 'val_3.json').read_text())
                      for r in ('two', 'one'))
    assert [r['index'] for r in by_two['images']] == list(range(6))
    for scale, row in by_one['mean'].items():
        assert by_two['mean'][scale] == pytest.approx(row, abs=0.02)


@pytest.mark.slow
def test_a_failure_of_one_process_ends_all(tmp_path, image_folder):
    """A damaged image in a worker: exit code 1 and the name of the file, without waiting for the other."""
    folder = image_folder('hr', [(32, 40), (40, 32)])
    (folder / 'image1.png').write_bytes((folder / 'image1.png').read_bytes()[:60])
    options = train_options(folder)
    options['datasets']['train'].update(num_worker_per_gpu=1, persistent_workers=True)
    options['datasets']['val'].update(dataroot_gt=str(image_folder('val', [(32, 32)])))
    done = run_python(*TORCHRUN, '-m', 'iarn_basicsr.train', '-opt', write_yaml(options, tmp_path / 'train.yml'),
               '--launcher', 'pytorch', cwd=tmp_path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith('iarn-train: ')]
    assert any('image1.png' in line for line in lines)
    assert all('image1.png' in line or 'another process of this run has ended' in line for line in lines)
    assert 'Original Traceback' not in done.stderr and '[rank' not in done.stderr  # torchrun adds one of its own
