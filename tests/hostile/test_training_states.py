"""States and weights that are damaged, and disks that are full: the file is named, whole files stay whole."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import train_options, write_yaml

from iarn_basicsr.models.iarn_model import IARNModel


class Evil:
    """Makes a file if it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ('executed', )


def keep(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(share * path.stat().st_size))


def replace(path: Path, **entries: Any) -> None:
    """Other entries in a file of torch."""
    content = torch.load(path, weights_only=True)
    torch.save({**content, **entries}, path)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    'empty': keep(0), 'cut': keep(0.5), 'without the last byte': lambda p: os.truncate(p, p.stat().st_size - 1),
    'text': lambda p: p.write_text('not a state'), 'zeros': lambda p: p.write_bytes(bytes(p.stat().st_size)),
    'a pickle that executes': lambda p: p.write_bytes(pickle.dumps(Evil())),
    'something else': lambda p: torch.save([1, 2], p), 'missing': lambda p: p.unlink(),
}
STATE, WEIGHTS = 'training_states/4.state', 'models/net_g_4.pth'


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory, _images: Path) -> Path:
    """A run of 4 iterations with states at 2 and 4."""
    folder = tmp_path_factory.mktemp('trained')
    with pytest.MonkeyPatch.context() as patch:
        _train(patch, folder, _options(_images))
    return folder / 'experiments' / 'run'


@pytest.fixture(scope='module')
def _images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import cv2
    from helpers import make_image
    folder = tmp_path_factory.mktemp('hr')
    cv2.imwrite(str(folder / 'a.png'), make_image(32, 40, 0))
    return folder


def _options(images: Path) -> dict[str, Any]:
    options = train_options(images)
    options['logger']['save_checkpoint_freq'] = 2
    return options


def _train(patch: pytest.MonkeyPatch, folder: Path, options: dict[str, Any], *arguments: str) -> None:
    import logging

    from basicsr.utils import logger

    from iarn_basicsr.train import main
    logger.initialized_logger.clear()
    logging.getLogger('basicsr').handlers.clear()
    patch.chdir(folder)
    patch.setattr('sys.argv', ['iarn-train', '-opt', str(write_yaml(options, folder / 'options.yml')), *arguments])
    main()


@pytest.fixture
def again(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, _images: Path) -> Callable[..., Path]:
    """Trains the copied run to iteration 6, after something has been done to one of its files."""
    shutil.copytree(trained, tmp_path / 'experiments' / 'run')

    def run(*arguments: str, change: Callable[[dict[str, Any]], Any] | None = None) -> Path:
        options = _options(_images)
        options['train']['total_iter'] = 6
        if change:
            change(options)
        _train(monkeypatch, tmp_path, options, *arguments)
        return tmp_path / 'experiments' / 'run'

    return run


def line_of(stop: pytest.ExceptionInfo[SystemExit]) -> str:
    """What a run ended with."""
    line = stop.value.code
    assert isinstance(line, str) and line.startswith('iarn-train: ') and '\n' not in line and len(line) < 900
    assert not Path('executed').exists() and not multiprocessing.active_children()
    return line


# ------------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize('name', [STATE, WEIGHTS])
@pytest.mark.parametrize('damage', DAMAGE)
def test_auto_resume_takes_the_newest_whole_state(tmp_path: Path, again: Callable[..., Path], damage: str, name: str,
                                                  capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / 'experiments' / 'run' / name
    DAMAGE[damage](path)
    run = again('--auto_resume')
    err = capfd.readouterr().err
    assert 'Resuming training from epoch: 1, iter: 2' in err or 'Resuming training from epoch: 0, iter: 2' in err
    told = [line for line in err.splitlines() if line.startswith('iarn-train: ')]
    if name == STATE and damage == 'missing':
        assert not told
    else:
        assert len(told) == 1 and str(path) in told[0]
        assert told[0].endswith(f'; going on from {run}/training_states/2.state')
    assert torch.load(run / 'training_states' / '6.state', weights_only=True)['iter'] == 6
    assert torch.load(run / STATE, weights_only=True)['iter'] == 4  # made again
    assert not Path('executed').exists()


@pytest.mark.parametrize('folder', ['training_states', 'models'])
def test_no_whole_state_is_no_new_run(tmp_path: Path, again: Callable[..., Path], folder: str) -> None:
    """Which would put the old one away."""
    for path in (tmp_path / 'experiments' / 'run' / folder).iterdir():
        keep(0.5)(path)
    before = sorted(tmp_path.rglob('*.*'))
    with pytest.raises(SystemExit) as stop:
        again('--auto_resume')
    line = line_of(stop)
    assert '--auto_resume: no saved state in ' in line and ('4.state' in line or 'net_g_4.pth' in line)
    assert [p for p in sorted(tmp_path.rglob('*.*')) if p != tmp_path / 'options.yml'] == before


@pytest.mark.parametrize('damage', DAMAGE)
def test_state_that_is_named(tmp_path: Path, again: Callable[..., Path], damage: str) -> None:
    path = tmp_path / 'x.state'
    shutil.copy(tmp_path / 'experiments' / 'run' / STATE, path)
    DAMAGE[damage](path)
    with pytest.raises(SystemExit) as stop:
        again(change=lambda o: o['path'].update(resume_state=str(path)))
    assert 'path.resume_state' in (line := line_of(stop)) and str(path) in line


@pytest.mark.parametrize('entries', [
    {'optimizers': []}, {'schedulers': []}, {'optimizers': [{}]}, {'optimizers': 3}, {'schedulers': [None]},
    {'optimizers': [{'state': {}, 'param_groups': []}]},
    {'optimizers': [{'state': {}, 'param_groups': [{'lr': 1, 'params': [0, 1]}]}]},
], ids=str)
def test_state_of_another_network(tmp_path: Path, again: Callable[..., Path], entries: dict[str, Any]) -> None:
    path = tmp_path / 'experiments' / 'run' / STATE
    replace(path, **entries)
    with pytest.raises(SystemExit) as stop:
        again(change=lambda o: o['path'].update(resume_state=str(path)))
    assert f'{str(path)!r} does not fit network_g or train.optim_g' in line_of(stop)


@pytest.mark.parametrize('value', ['four', None, -1, 2.5, [4]], ids=str)
def test_state_without_a_number(tmp_path: Path, again: Callable[..., Path], value: Any) -> None:
    path = tmp_path / 'experiments' / 'run' / STATE
    replace(path, iter=value)
    with pytest.raises(SystemExit) as stop:
        again(change=lambda o: o['path'].update(resume_state=str(path)))
    assert str(path) in line_of(stop)


def test_resumed_with_another_network(again: Callable[..., Path]) -> None:
    with pytest.raises(SystemExit) as stop:
        again('--auto_resume', change=lambda o: o['network_g'].update(width=6))
    assert 'net_g_4.pth does not fit network_g: ' in (line := line_of(stop)) and 'size mismatch' in line


# ----------------------------------------------------------------------------------------------------- weights to start


@pytest.mark.parametrize('damage', DAMAGE)
def test_weights_to_start_from(tmp_path: Path, again: Callable[..., Path], damage: str) -> None:
    path = tmp_path / 'start.pth'
    shutil.copy(tmp_path / 'experiments' / 'run' / WEIGHTS, path)
    DAMAGE[damage](path)
    with pytest.raises(SystemExit) as stop:
        again(change=lambda o: o['path'].update(pretrain_network_g=str(path)))
    assert str(path) in line_of(stop)


@pytest.mark.parametrize(('name', 'hint'), [('iarn_ligth_x1-4', "did you mean 'iarn_light_x1-4'"),
                                            ('experiments/gone.pth', 'known: default, iarn_')])
def test_no_such_weights(again: Callable[..., Path], name: str, hint: str) -> None:
    with pytest.raises(SystemExit) as stop:
        again(change=lambda o: o['path'].update(pretrain_network_g=name))
    assert f'weights {name!r}: no such file, and no released weights of this name; {hint}' in line_of(stop)


@pytest.mark.parametrize(('change', 'words'), [
    (lambda o: o['network_g'].update(width=6), 'does not fit network_g: '),
    (lambda o: o['network_g'].update(num_block=2), 'does not fit network_g: '),
    (lambda o: o['network_g'].update(order=3), 'does not fit network_g: '),
])
def test_weights_of_another_shape(tmp_path: Path, again: Callable[..., Path], change: Callable[[dict[str, Any]], Any],
                                  words: str) -> None:
    path = tmp_path / 'start.pth'
    shutil.copy(tmp_path / 'experiments' / 'run' / WEIGHTS, path)

    def changed(options: dict[str, Any]) -> None:
        options['path'].update(pretrain_network_g=str(path))
        change(options)

    with pytest.raises(SystemExit) as stop:
        again(change=changed)
    assert f'{path} {words}' in line_of(stop)


def test_weights_without_the_key(tmp_path: Path, again: Callable[..., Path]) -> None:
    path = tmp_path / 'start.pth'
    weights = torch.load(tmp_path / 'experiments' / 'run' / WEIGHTS, weights_only=True)['params']
    torch.save({'state_dict': weights}, path)
    with pytest.raises(SystemExit) as stop:
        again(change=lambda o: o['path'].update(pretrain_network_g=str(path), param_key_g='params_ema'))
    assert f"path.param_key_g: {path} has no 'params_ema'" in line_of(stop)


# ------------------------------------------------------------------------------------------------------------ full disk


@pytest.mark.parametrize(('number', 'name'), [(1, 'net_g_2.pth'), (2, '2.state'), (3, 'net_g_4.pth'), (4, '4.state'),
                                              (5, 'net_g_latest.pth')])
def test_disk_that_gets_full(tmp_path: Path, _images: Path, monkeypatch: pytest.MonkeyPatch, number: int,
                             name: str) -> None:
    """At every file that training writes."""
    calls, sync = [], os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(SystemExit) as stop:
        _train(monkeypatch, tmp_path, _options(_images))
    line = line_of(stop)
    assert line.split(': ')[1].endswith(name) and 'No space left on device, ' in line and 'B free' in line
    run = tmp_path / 'experiments' / 'run'
    assert not list(run.rglob('.writing-*')) and not list(run.rglob(name))
    for path in [*run.rglob('*.pth'), *run.rglob('*.state')]:
        torch.load(path, weights_only=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KB; needs root."""
    folder = tmp_path / 'experiments'
    folder.mkdir()
    mounted = shutil.which('mount') and subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', str(folder)], capture_output=True, timeout=20)
    if not mounted or mounted.returncode:
        pytest.skip('mounting a small file system needs root')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True, timeout=20)


def test_full_disk(small_disk: Path, tmp_path: Path, _images: Path, monkeypatch: pytest.MonkeyPatch,
                   capfd: pytest.CaptureFixture) -> None:
    """The log, the states and the weights on a file system that is too small for them."""
    options = _options(_images)
    options['train']['total_iter'] = 1000
    options['logger'].update(print_freq=1, save_checkpoint_freq=1)
    with pytest.raises(SystemExit) as stop:
        _train(monkeypatch, tmp_path, options)
    assert 'No space left on device' in line_of(stop)
    out = capfd.readouterr()
    assert 'Traceback' not in out.err + out.out
    for path in [*small_disk.rglob('*.pth'), *small_disk.rglob('*.state')]:
        torch.load(path, weights_only=True)
    assert not list(small_disk.rglob('.writing-*'))


def test_log_that_cannot_be_written(tmp_path: Path, _images: Path, monkeypatch: pytest.MonkeyPatch,
                                    capfd: pytest.CaptureFixture) -> None:
    """Is told once; training goes on."""
    import logging

    def full(handler: logging.FileHandler, record: logging.LogRecord) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            handler.handleError(record)

    monkeypatch.setattr(logging.FileHandler, 'emit', full)
    _train(monkeypatch, tmp_path, _options(_images))
    err = capfd.readouterr().err
    assert err.count('the log cannot be written: [Errno 28]') == 1 and 'Traceback' not in err
    assert (tmp_path / 'experiments' / 'run' / 'models' / 'net_g_latest.pth').is_file()


def test_images_of_a_validation_on_a_full_disk(tmp_path: Path, _images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV says nothing of it."""
    options = _options(_images)
    options['val'].update(save_img=True)
    stock = IARNModel._save_images

    def full(model: IARNModel, *arguments: Any) -> None:
        def no_space(handle: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, 'fsync', no_space)
            stock(model, *arguments)

    monkeypatch.setattr(IARNModel, '_save_images', full)
    with pytest.raises(SystemExit) as stop:
        _train(monkeypatch, tmp_path, options)
    assert 'visualization/val/x2/lr/a_4.png: No space left' in line_of(stop)
    assert not list(tmp_path.rglob('*.png'))
