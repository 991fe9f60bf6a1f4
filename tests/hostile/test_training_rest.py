"""Small things about training that ended in a traceback, or went on in silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from basicsr.models import build_model
from basicsr.utils import logger as basicsr_logger
from helpers import train_options, write_yaml

from iarn_basicsr.errors import OptionError

ROOT = Path(__file__).resolve().parents[2]


def end_of(pipeline: Callable[..., None], file: Path, *arguments: str) -> str:
    """The one line with which a training ends."""
    with pytest.raises(SystemExit) as stop:
        pipeline('train', file, *arguments)
    line = stop.value.code
    assert isinstance(line, str) and line.startswith('iarn-train: ') and '\n' not in line
    return line


@pytest.fixture
def options(image_folder: Callable[..., Path]) -> dict[str, Any]:
    return train_options(image_folder('hr', [(32, 40), (24, 26)]))


@pytest.mark.parametrize('minutes', ['0', '-1', 'nan', 'inf', '-inf', '-0.0'])
def test_minutes(tmp_path: Path, pipeline: Callable[..., None], options: dict[str, Any], minutes: str) -> None:
    """0 and NaN trained to the end."""
    line = end_of(pipeline, write_yaml(options, tmp_path / 'options.yml'), f'--minutes={minutes}')
    assert line.startswith('iarn-train: --minutes: ') and line.endswith('; expected a number above 0')
    assert not (tmp_path / 'experiments').exists()


def test_option_file_that_is_a_folder(tmp_path: Path, pipeline: Callable[..., None]) -> None:
    assert f'-opt: {str(tmp_path)!r} is a folder, name an option file' in end_of(pipeline, tmp_path)


@pytest.mark.parametrize(('total', 'freq'), [(4, 1000), (4, 2), (3, 2), (1, 1)])
def test_last_validation_is_named_after_an_iteration_that_ran(tmp_path: Path, pipeline: Callable[..., None],
                                                              options: dict[str, Any], total: int, freq: int) -> None:
    options['train']['total_iter'] = total
    options['val'].update(val_freq=freq, save_img=True)
    options['logger']['save_checkpoint_freq'] = total
    file = write_yaml(options, tmp_path / 'options.yml')
    expected = {f'val_{n}.json' for n in (*range(freq, total + 1, freq), total)}
    for arguments in ((), ('--auto_resume', )):  # the second one finds nothing left to do
        pipeline('train', file, *arguments)
        run = tmp_path / 'experiments' / 'run'
        assert {p.name for p in (run / 'metrics').iterdir()} == expected
        assert json.loads((run / 'metrics' / f'val_{total}.json').read_text())['iter'] == total
        assert not list(run.rglob(f'*_{total + 1}.png')) and list(run.rglob(f'image0_{total}.png'))


@pytest.mark.parametrize('package', ['wandb', 'tensorboard'])
def test_logger_that_is_not_installed(tmp_path: Path, pipeline: Callable[..., None], options: dict[str, Any],
                                      monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for name in [n for n in sys.modules if n.startswith('torch.utils.tensorboard')]:
        monkeypatch.delitem(sys.modules, name)
    options['logger'].update(use_tb_logger=True, **({'wandb': {'project': 'p'}} if package == 'wandb' else {}))
    line = end_of(pipeline, write_yaml(options, tmp_path / 'options.yml'))
    assert line.startswith('iarn-train: logger') and f'pip install {package}' in line


def test_wandb_that_does_not_start(tmp_path: Path, pipeline: Callable[..., None], options: dict[str, Any],
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does without a key, or offline."""
    error = type('UsageError', (Exception, ), {'__module__': 'wandb.errors'})

    def init(**_: Any) -> None:
        raise error('api_key not configured\n(no-tty)')

    wandb = types.ModuleType('wandb')
    wandb.__spec__ = ModuleSpec('wandb', None)
    vars(wandb).update(init=init, util=types.SimpleNamespace(generate_id=lambda: 'x'))
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    options['logger'].update(use_tb_logger=True, wandb={'project': 'p'})
    line = end_of(pipeline, write_yaml(options, tmp_path / 'options.yml'))
    assert line == 'iarn-train: logger.wandb: api_key not configured (no-tty)'


def test_weights_of_vgg_that_cannot_be_fetched(tmp_path: Path, pipeline: Callable[..., None], options: dict[str, Any],
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise URLError('Name or service not known')

    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', offline)
    options['train']['perceptual_opt'] = {'type': 'PerceptualLoss', 'layer_weights': {'conv1_2': 1.0}}
    line = end_of(pipeline, write_yaml(options, tmp_path / 'options.yml'))
    assert 'train.perceptual_opt: the weights of its VGG network cannot be fetched (Name or service not known)' in line
    assert 'experiments/pretrained_models/vgg19-dcbb9e9d.pth' in line


# ---------------------------------------------------------------------------------------------------- parts of a batch


def model_of(options: dict[str, Any], tmp_path: Path, batch: int, parts: int) -> Any:
    basicsr_logger.initialized_logger.clear()
    options['datasets']['train']['batch_size_per_gpu'] = batch
    options['train']['grad_accumulation'] = parts
    options.update(is_train=True, dist=False, rank=0, world_size=1)
    options['path'].update(models=str(tmp_path), training_states=str(tmp_path), log=str(tmp_path))
    torch.manual_seed(0)
    return build_model(options)


@pytest.mark.parametrize(('batch', 'parts'), [(4, 3), (4, 2), (4, 4), (5, 3), (7, 4), (3, 3), (2, 1)])
def test_batch_is_computed_in_so_many_parts(tmp_path: Path, options: dict[str, Any], batch: int, parts: int) -> None:
    """Of sizes that differ by one at most, and with the gradient of the whole batch."""
    data = {'gt': torch.rand(batch, 3, 16, 16), 'lq': torch.rand(batch, 3, 8, 8)}
    gradients, sizes = [], []
    for count in (1, parts):
        model = model_of(options, tmp_path, batch, count)
        model.net_g.register_forward_pre_hook(lambda net, inputs, sizes=sizes: sizes.append(len(inputs[0])))
        model.feed_data(data)
        model._backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.net_g.parameters()]))
    assert sizes[0] == sum(sizes[1:]) == batch and len(sizes) == 1 + parts
    assert max(sizes[1:]) - min(sizes[1:]) <= 1
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(('batch', 'parts'), [(4, 5), (1, 2), (2, 1024)])
def test_more_parts_than_images(tmp_path: Path, options: dict[str, Any], batch: int, parts: int) -> None:
    with pytest.raises(OptionError, match=rf'train\.grad_accumulation: {parts} parts .*batch_size_per_gpu: {batch}'):
        model_of(options, tmp_path, batch, parts)


# ----------------------------------------------------------------------------------------------------- without BasicSR


def test_without_basicsr(tmp_path: Path) -> None:
    """One line each, that says how to install it."""
    code = ('import importlib.util as util, sys; find = util.find_spec\n'
            'util.find_spec = lambda name, *more: None if name == "basicsr" else find(name, *more)\n'
            'from iarn_basicsr import test, train\n'
            'for program in (train, test):\n'
            '    try:\n        program.main()\n'
            '    except SystemExit as stop:\n        print(stop.code, file=sys.stderr)\n')
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, timeout=100,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)})
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and done.returncode == 0
    for line, program in zip(lines, ('train', 'test')):
        assert line.startswith(f'iarn-{program}: BasicSR is not installed; this line does it: ')
