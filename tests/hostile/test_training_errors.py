"""What ends a training run and is no bug: one line that names the file, exit code 1, no process left."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from helpers import make_image, make_lmdb, train_options, write_yaml
from torch._utils import ExceptionWrapper

from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.data.image_source import ImageSource, jpeg_is_whole
from iarn_basicsr.errors import OptionError, SizeError
from iarn_basicsr.models.iarn_model import IARNModel
from iarn_basicsr.pipeline import training
from iarn_basicsr.pipeline.launch import one_line


def jpeg(seed: int = 0) -> bytes:
    """A photograph as a JPEG file, which ends in its marker."""
    return cv2.imencode('.jpg', make_image(64, 80, seed))[1].tobytes()


def png(seed: int = 0) -> bytes:
    return cv2.imencode('.png', make_image(32, 40, seed))[1].tobytes()


@pytest.mark.parametrize(('name', 'content'), [
    ('empty.png', b''), ('cut.png', png()[:60]), ('cut_and_padded.jpg', jpeg()[:-300] + bytes(300))])
def test_damaged_image(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OSError, match=f"^key: image '{re.escape(str(tmp_path / name))}' "):
        ImageSource(str(tmp_path), 'disk', None, 'key').read(name)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes here')
def test_pipe_among_the_images(tmp_path, options, ends):
    os.mkfifo(tmp_path / 'hr' / 'pipe.png')
    assert 'pipe.png' in ends(options)


@pytest.mark.parametrize(('workers', 'mode'), [(0, None), (1, None), (1, 'cpu')])
def test_damaged_image_with_every_loader(tmp_path, options, ends, workers, mode):
    """In this process, in a worker, and in BasicSR's prefetching thread, whose end training would wait for."""
    (tmp_path / 'hr' / 'cut.png').write_bytes(png()[:60])
    options['datasets']['train'].update(num_worker_per_gpu=workers, prefetch_mode=mode)
    assert f"datasets.train.dataroot_gt: image '{tmp_path / 'hr' / 'cut.png'}' " in ends(options)


THUMBNAIL = b'\xff\xe1' + (2 + len(jpeg(1))).to_bytes(2, 'big') + jpeg(1)  # a whole JPEG in a segment


@pytest.mark.parametrize('flags', [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
def test_end_of_a_jpeg(flags):
    """Whole whatever follows, also with another JPEG inside; cut short wherever it is cut."""
    content = cv2.imencode('.jpg', make_image(64, 80, 0), flags)[1].tobytes()
    for whole in (content + b'more', content[:2] + THUMBNAIL + content[2:] + b'more', png()[:50], b''):
        assert jpeg_is_whole(whole)
    assert not [n for n in range(2, len(content)) if jpeg_is_whole(content[:n])]
    assert not jpeg_is_whole(content[:2] + THUMBNAIL + content[2:-100])


@pytest.fixture
def database(tmp_path: Path, image_folder: Callable[..., Path]) -> Path:
    """An LMDB of two images."""
    return make_lmdb(image_folder('hr', [(64, 80)] * 2), tmp_path / 'hr.lmdb')


@pytest.mark.parametrize(('size', 'message'), [(-1, '{}/data.mdb is cut short'), (100, '{}: not an LMDB, or it is dam'),
                                              (None, "image key 'image0' of '{}' cannot be decoded")])
def test_damaged_lmdb(database, size, message):
    file = database / 'data.mdb'
    if size is not None:
        os.truncate(file, size % file.stat().st_size)
    else:
        file.write_bytes(file.read_bytes().replace(b'PNG', b'png'))
    with pytest.raises(OSError, match=re.escape(message.replace('{}', str(database)))):
        ImageSource(str(database), 'lmdb', None, 'key').read('image0')


def test_lmdb_without_a_listed_image(database, tmp_path):
    """By its own list or another."""
    for name in ('hr.lmdb/meta_info.txt', 'list.txt'):
        (tmp_path / name).write_text('image0.png (64,80,3) 1\nä.png\n', encoding='utf-8')
        with pytest.raises(OptionError, match=f"1 of 2 images that '.*{name}' lists are not in .* the first is 'ä'"):
            ImageSource(str(database), 'lmdb', str(tmp_path / 'list.txt') if name == 'list.txt' else None, 'key')


def in_worker(error: Exception) -> Exception:
    """The error as torch raises it again in the main process."""
    try:
        raise error
    except Exception:
        wrapped = ExceptionWrapper(where='in DataLoader worker process 0')
    with pytest.raises(type(error)) as again:
        wrapped.reraise()
    return again.value


@pytest.mark.parametrize('place', [lambda error: error, in_worker], ids=['main', 'worker'])
@pytest.mark.parametrize(('error', 'line'), [
    (OptionError('train.x: 3; expected 2'), 'train.x: 3; expected 2'), (OSError('a: b: c'), 'a: b: c'),
    (SizeError('no such size', (1, 1), (2, 2), (3, 3)), 'no such size'), (KeyError('a bug'), None), (TypeError(), None),
    (FloatingPointError('20 steps'), '20 steps'), (RuntimeError('a bug'), None),
])
def test_line_of_an_error(place, error, line):
    assert one_line(place(error)) == line


@pytest.mark.parametrize(('error', 'words'), [
    (OSError(28, 'No space left on device, 0.0 MB free', 'a/b.pth'), 'a/b.pth: No space left on device, 0.0 MB free'),
    (FileNotFoundError(2, 'No such file or directory', b'a.png'), 'a.png: No such file or directory'),
    (MemoryError(), 'MemoryError'),
    (RuntimeError('CUDA out of memory. Tried to allocate 2 GiB.\nmore'), 'smaller batch_size_per_gpu'),
    (RuntimeError('DataLoader worker (pid(s) 12) exited unexpectedly'), 'num_worker_per_gpu'),
    (RuntimeError('[third_party/gloo/pair.cc:561] Connection closed by peer [127.0.0.1]:913'), 'another process'),
])
def test_line_names_what_helps(error, words):
    line = one_line(error)
    assert line and words in line and '\n' not in line


def test_bug_keeps_its_traceback(tmp_path, options, pipeline, monkeypatch):
    """And ends the workers nevertheless, for which Python would wait."""

    def broken(*_: Any) -> None:
        assert len(multiprocessing.active_children()) == 2
        raise ZeroDivisionError('a bug')

    monkeypatch.setattr(IARNModel, 'optimize_parameters', broken)
    options['datasets']['train']['num_worker_per_gpu'] = 2
    with pytest.raises(ZeroDivisionError):
        pipeline('train', write_yaml(options, tmp_path / 'options.yml'))
    assert not multiprocessing.active_children()


def test_worker_that_was_killed(options, ends, monkeypatch):
    """As the kernel does where memory is short."""
    step = IARNModel.optimize_parameters

    def killing(model: IARNModel, current_iter: int) -> None:
        step(model, current_iter)
        for worker in multiprocessing.active_children():
            worker.kill()
        time.sleep(0.3)

    monkeypatch.setattr(IARNModel, 'optimize_parameters', killing)
    options['train']['total_iter'] = 1000
    options['datasets']['train']['num_worker_per_gpu'] = 1
    assert 'try fewer workers, by num_worker_per_gpu' in ends(options)


@pytest.mark.slow
@pytest.mark.parametrize('seconds', [1, 1000])
def test_worker_that_keeps_a_lock(tmp_path, image_folder, pipeline, monkeypatch, seconds):
    """One that was killed with the lock of torch's event left torch waiting for it, in the exit or in a collection."""
    read, seen, broke, start = ArbitraryScaleDataset.__getitems__, [], tmp_path / 'broke', time.monotonic()

    def keeping(self: Any, indices: Any) -> Any:
        frame: Any = sys._getframe()
        while frame.f_code.co_name != '_worker_loop':
            frame = frame.f_back
        done = frame.f_locals['done_event']
        seen.append(indices)
        while len(seen) > 1 and not broke.exists() and not done.is_set():  # in a worker, whose first batch is used
            time.sleep(0.01)
        if broke.exists():
            with done._cond:
                time.sleep(seconds)
        return read(self, indices)

    def broken(*_: Any) -> None:
        broke.touch()
        time.sleep(0.3)
        raise ZeroDivisionError('a bug')

    monkeypatch.setattr(ArbitraryScaleDataset, '__getitems__', keeping)
    monkeypatch.setattr(IARNModel, 'optimize_parameters', broken)
    monkeypatch.setattr(training, 'PATIENCE', 3.0)
    options = train_options(image_folder('hr', [(32, 40)] * 8))
    options['datasets']['train'].update(num_worker_per_gpu=1, batch_size_per_gpu=1)
    with pytest.raises(ZeroDivisionError):
        pipeline('train', write_yaml(options, tmp_path / 'options.yml'))
    gc.collect()
    assert time.monotonic() - start < 300 and not multiprocessing.active_children()


@pytest.mark.parametrize('phase', ['train', 'val'])
def test_a_listed_picture_that_is_missing_ends_a_run_before_it_writes(tmp_path, options, ends, phase):
    (tmp_path / 'meta.txt').write_text('nowhere.png\n', encoding='utf-8')
    options['datasets'][phase]['meta_info_file'] = str(tmp_path / 'meta.txt')
    assert f'datasets.{phase}.dataroot_gt: 1 of 1 images' in ends(options)
    assert not (tmp_path / 'experiments').exists()
