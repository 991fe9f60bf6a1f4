"""Small things about training that could end in a traceback, or be wrong in silence."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from helpers import write_yaml

from iarn_basicsr.pipeline import training


def test_last_validation_is_named_after_an_iteration_that_ran(tmp_path, pipeline, options):
    total, freq = 3, 2
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
def test_logger_that_is_not_installed(options, ends, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [n for n in sys.modules if n.startswith('torch.utils.tensorboard')]:
        monkeypatch.delitem(sys.modules, name)
    options['logger'].update(use_tb_logger=True, **({'wandb': {'project': 'p'}} if package == 'wandb' else {}))
    line = ends(options)
    assert line.startswith('iarn-train: logger') and f'pip install {package}' in line


def test_wandb_that_does_not_start(options, ends, monkeypatch):
    """As it does without a key, or offline."""

    def init(opt: Any) -> None:
        raise type('UsageError', (Exception, ), {'__module__': 'wandb.errors'})('api_key not configured\n(no-tty)')

    monkeypatch.setattr(training, 'init_tb_loggers', init)
    assert ends(options) == 'iarn-train: logger.wandb: api_key not configured (no-tty)'
