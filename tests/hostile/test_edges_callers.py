"""Whatever surrounds a call of a ``Rescaler``: processes, threads, modes of torch, wrapped networks."""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers import make_image, tiny_net
from hostile.inference_tools import RGB, weights
from PIL import Image, ImageFile

from iarn_basicsr.archs.grid import make_grid
from iarn_basicsr.archs.irn import IRN
from iarn_basicsr.errors import OptionError
from iarn_basicsr.inference.picture_file import Picture
from iarn_basicsr.inference.rescaler import Rescaler

ROOT = Path(__file__).resolve().parents[2]
THREADS = 8

# ---------------------------------------------------------------------------------------------- processes and threads

# Every way to work in parallel gives the results of this process, with two OpenMP threads, also after it used them.
PARALLEL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import torch
from helpers import make_image
from iarn_basicsr import Rescaler

IMAGES = [make_image(80, 90 + k, seed=k) for k in range(3)]


class Images(torch.utils.data.Dataset):

    def __init__(self, rescaler):
        self.rescaler = rescaler

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, k):
        return self.rescaler.roundtrip(IMAGES[k], 2).restored


if __name__ == '__main__':
    torch.set_num_threads(2)
    images = Images(Rescaler.load('iarn_light_x1-4', device='cpu'))
    with multiprocessing.get_context('fork').Pool(2) as pool:
        loaded = pool.map(images.__getitem__, range(3))
    expected = [images[k] for k in range(3)]

    def check(name, found):
        print(name, len(found) == 3 and all(np.array_equal(a, b) for a, b in zip(found, expected)), flush=True)

    check('loaded, then forked', loaded)
    with multiprocessing.get_context('fork').Pool(2) as pool:
        check('used, then forked', pool.map(images.__getitem__, range(3)))
    with ProcessPoolExecutor(1, multiprocessing.get_context('forkserver')) as pool:
        check('forkserver', list(pool.map(images.__getitem__, range(3))))
    for start in ('fork', 'spawn'):
        loader = torch.utils.data.DataLoader(images, None, num_workers=1, multiprocessing_context=start,
                                             collate_fn=np.asarray)
        check('DataLoader, ' + start, list(loader))
    # Last: a fork while MKL tears down a thread that has just ended leaves its lock held in the child.
    with ThreadPoolExecutor(3) as pool:
        check('threads', list(pool.map(images.__getitem__, range(3))))
    print(torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_processes_and_threads(tmp_path: Path) -> None:
    script = tmp_path / 'parallel.py'
    script.write_text(PARALLEL, encoding='utf-8')
    paths = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    done = subprocess.run([sys.executable, str(script)], text=True, capture_output=True, timeout=300,
                          env={**os.environ, 'PYTHONPATH': paths, 'OMP_WAIT_POLICY': 'PASSIVE'})
    assert done.stdout.splitlines() == [*(f'{name} True' for name in (
        'loaded, then forked', 'used, then forked', 'forkserver', 'DataLoader, fork', 'DataLoader, spawn', 'threads',
    )), '2'], done.stderr[-2000:]


def state() -> dict[str, Any]:
    """What holds for the whole process, or for this thread."""
    cudnn = torch.backends.cudnn
    return {
        'threads': (torch.get_num_threads(), cv2.getNumThreads()),
        'precision': (cudnn.allow_tf32, cudnn.benchmark, torch.get_float32_matmul_precision()),
        'modes': (torch.get_default_dtype(), torch.empty(0).device, torch.is_grad_enabled(),
                  torch.is_inference_mode_enabled(), torch.is_anomaly_enabled(),
                  torch.are_deterministic_algorithms_enabled()),
        'random': (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()),
        'numpy': np.geterr(), 'warnings': list(warnings.filters),
        'pictures': (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, cv2.utils.logging.getLogLevel()),
        'process': (os.getcwd(), dict(os.environ)),
    }


def slowly(work: Callable[..., Any]) -> Callable[..., Any]:
    """Another thread has its turn before it."""
    return lambda *given, **options: (time.sleep(0.01), work(*given, **options))[1]


@pytest.mark.parametrize('options', [{'effort': 1}, {'payload': 1}, {'weights': 'none', 'payload': 2}], ids=str)
def test_no_call_changes_what_others_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         options: dict[str, Any]) -> None:
    """Neither alone nor from many threads at once."""
    alpha = Picture(RGB, RGB[..., 0].copy())
    cv2.imwrite(str(tmp_path / 'deep.png'), RGB.astype(np.uint16) * 257)
    for owner, name in ((cv2, 'imdecode'), (Image, 'open')):
        monkeypatch.setattr(owner, name, slowly(getattr(owner, name)))
    barrier, given = threading.Barrier(THREADS), {'weights': weights(), 'device': 'cpu', **options}

    def work(number: int, alone: bool = False) -> list[np.ndarray]:
        if not alone:
            barrier.wait()
        rescaler = Rescaler.load(**given)
        files = [str(tmp_path / f'{name}{number}.png') for name in ('lr', 'restored')]
        rescaler.downscale_file(tmp_path / 'deep.png', files[0], scale=2)
        restored = rescaler.upscale_file(*files)
        trip = rescaler.roundtrip(alpha, 1.5)
        return [restored.rgb, trip.lr.rgb, trip.lr.alpha, trip.restored.rgb]

    before = state()
    expected = work(THREADS, alone=True)
    assert state() == before
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(work, range(THREADS)))
    assert state() == before
    assert all(np.array_equal(a, b) for found in results for a, b in zip(found, expected))


# ------------------------------------------------------------------------------------------------------- surroundings


@contextmanager
def switched(switch: Callable[[Any], object], on: object, off: object) -> Iterator[None]:
    switch(on)
    try:
        yield
    finally:
        switch(off)


SURROUNDINGS: dict[str, Callable[[], Any]] = {
    'bf16': lambda: torch.autocast('cpu', torch.bfloat16),
    'fp16': lambda: torch.autocast('cpu', torch.float16),
    'inference_mode': torch.inference_mode,
    'bfloat16': lambda: switched(torch.set_default_dtype, torch.bfloat16, torch.float32),
    'meta': lambda: switched(torch.set_default_device, 'meta', None),
}


def results(rescalers: list[Rescaler]) -> list[np.ndarray]:
    image = make_image(45, 52, seed=3)
    return [x for rescaler in rescalers for x in rescaler.roundtrip(image, 1.7)]


def made() -> list[Rescaler]:
    return [Rescaler.load(weights(), 'cpu', effort=1), Rescaler.load(weights(), 'cpu', payload=1),
            Rescaler.load('none', payload=1)]


@pytest.mark.parametrize('name', SURROUNDINGS)
def test_the_surroundings_of_a_call_change_nothing(name: str) -> None:
    """Nor those in which a ``Rescaler`` was made, to the bit."""
    outside = made()
    expected = results(outside)
    make_grid.cache_clear()  # or the call inside would find what that outside left
    with SURROUNDINGS[name]():
        inside = made()
        found = results(outside) + results(inside)
    found += results(inside)
    assert len(found) == 3 * len(expected)
    assert all(np.array_equal(a, b) for a, b in zip(found, 3 * expected))


def test_what_inference_leaves_serves_training() -> None:
    """Grids are kept: those that inference mode made too."""
    net, hr = tiny_net(), torch.rand(1, 3, 37, 41)
    with torch.inference_mode():
        net(hr, (19, 23))
    net(hr, (19, 23))['sr'].sum().backward()
    assert all(p.grad is not None for p in net.parameters())


# ----------------------------------------------------------------------------------------------------------- networks


def on_loan(net: torch.nn.Module) -> torch.nn.Module:
    with torch.inference_mode():
        return copy.deepcopy(net)


@pytest.mark.parametrize('wrap', [
    torch.compile, lambda net: torch.compile(torch.nn.DataParallel(net)), on_loan, lambda net: net.train(),
], ids=['compiled', 'compiled and parallel', 'made in inference mode', 'in training'])
def test_a_network_is_what_it_is_however_it_is_wrapped(wrap: Callable[[Any], torch.nn.Module]) -> None:
    """The same LR, and the same weights, so that the LR of one restores with the other."""
    plain, net = Rescaler(tiny_net(), 'tiny', 'cpu', effort=1), wrap(tiny_net())
    training = net.training
    rescaler = Rescaler(net, 'tiny', 'cpu', effort=1)
    lr = rescaler.downscale(Picture(RGB), 2)
    assert np.array_equal(lr.rgb, plain.downscale(RGB, 2))
    assert np.array_equal(rescaler.upscale(lr).rgb, plain.upscale(lr).rgb)
    assert net.training == training


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_compute_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    """From a network, which stays as it is, or a file."""
    net = tiny_net().to(dtype)
    expected = Rescaler(copy.deepcopy(net).float(), 'tiny', 'cpu')
    net.save(tmp_path / 'half.pth')
    for rescaler in (Rescaler(net, 'tiny', 'cpu'), Rescaler.load(tmp_path / 'half.pth', 'cpu')):
        assert rescaler.weights_hash == expected.weights_hash
        assert np.array_equal(rescaler.downscale(RGB, 2), expected.downscale(RGB, 2))
    assert next(net.parameters()).dtype == dtype


@pytest.mark.parametrize('net', [IRN(scale=2), torch.nn.DataParallel(torch.nn.Conv2d(3, 3, 3))])
def test_a_network_of_another_kind(net: torch.nn.Module) -> None:
    with pytest.raises(OptionError, match=f'^net {type(net).__name__}: expected an IARN$'):
        Rescaler(net, 'other')
