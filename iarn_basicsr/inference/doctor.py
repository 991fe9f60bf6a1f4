"""``iarn doctor``: checks an installation."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from os import path as osp

import torch

from iarn_basicsr.ops.image import cpu_has_bf16

__all__ = ['checks']

PACKAGES = ('torch', 'torchvision', 'basicsr', 'opencv-python', 'lmdb', 'pyyaml', 'numpy', 'scipy', 'pillow', 'msgspec',
            'click', 'safetensors')
TESTED = 'Python 3.9 to 3.13'


def checks() -> Iterator[tuple[str, bool, str]]:
    """(name, good, text) of every check."""
    from iarn_basicsr.version import __version__
    yield 'python', sys.version_info >= (3, 9), (f'{platform.python_version()} on {platform.system()} '
                                                 f'{platform.machine()}; tested: {TESTED}')
    yield 'iarn_basicsr', True, __version__
    for name in PACKAGES:
        try:
            yield name, True, version(name)
        except PackageNotFoundError:
            optional = name == 'safetensors'
            yield name, optional, 'not installed' + ('; only .safetensors files need it' if optional else '')
    for name, check in (('import basicsr', _basicsr), ('BasicSR\'s own commands', _stock_commands),
                        ('registration', _registration), ('LMDB', _lmdb), ('distributed', _distributed),
                        ('write here', _write), ('released weights', _weights)):
        try:
            yield name, True, check()
        except Exception as error:  # a check that fails is a finding, whatever it raised
            yield name, False, f'{type(error).__name__}: {" ".join(str(error).split())}'
    yield 'CUDA', True, _cuda()


def _basicsr() -> str:
    importlib.import_module('iarn_basicsr.compat').prepare_import()
    return f'from {osp.dirname(importlib.import_module("basicsr").__file__ or "?")}'


def _stock_commands() -> str:
    """Which BasicSR they import and why, and whether the import hook that it needs is installed."""
    here = os.getcwd()
    rest = [folder for folder in sys.path if osp.realpath(folder or here) != osp.realpath(here)]
    specs = [PathFinder.find_spec('basicsr', path) for path in ([here], rest)]
    local, installed = (osp.dirname(spec.origin) if spec and spec.origin else None for spec in specs)
    script = installed or 'none: BasicSR is not installed'  # Python puts the script's folder on its path, not this one
    why = '' if not local else f'; the checkout in {here} is not installed, so the script alone is from there'
    text = f'python basicsr/train.py imports {script}{why}; python -m basicsr.train imports {local or script}'
    if 'iarn_basicsr_stand_ins' in sys.modules:
        return f'{text}; with the import hook of this package'
    return (f'{text}; the import hook is not installed, without which BasicSR 1.4.2 fails on torchvision 0.17 and '
            'newer: pip install this package again')


def _registration() -> str:
    importlib.import_module('iarn_basicsr.plugin')
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY
    found = [ARCH_REGISTRY.get('IARN'), ARCH_REGISTRY.get('IRN'), DATASET_REGISTRY.get('ArbitraryScaleDataset'),
             MODEL_REGISTRY.get('IARNModel')]  # which raises KeyError where one is missing
    return ', '.join(cls.__name__ for cls in found)


def _lmdb() -> str:
    import lmdb
    with tempfile.TemporaryDirectory() as folder:
        env = lmdb.open(folder, map_size=2**20)
        with env.begin(write=True) as transaction:
            transaction.put(b'key', b'value')
        with env.begin() as transaction:
            if transaction.get(b'key') != b'value':
                raise OSError('a value written was not read back')
        env.close()
    return 'written and read'


def _distributed() -> str:
    if not torch.distributed.is_available():
        raise OSError('this PyTorch is built without torch.distributed: torchrun will not work')
    backends = [n for n in ('gloo', 'nccl') if getattr(torch.distributed, f'is_{n}_available')()]
    return f'{", ".join(backends)}; iarn-train takes {"nccl" if torch.cuda.is_available() else "gloo"} here'


def _write() -> str:
    with tempfile.NamedTemporaryFile(dir='.'):
        pass
    return f'{os.getcwd()} (experiments/, results/ and tb_logger/ land here)'


def _weights() -> str:
    from iarn_basicsr import zoo
    from iarn_basicsr.archs.iarn import IARN
    return ', '.join(f'{name} ({sum(p.numel() for p in IARN.from_pretrained(name).parameters())} parameters)'
                     for name in zoo.list_models()) or 'none in this package'


def _cuda() -> str:
    if not torch.cuda.is_available():
        bf16 = 'bf16' if cpu_has_bf16() else 'no bf16: it trains in float32'
        return f'none: everything runs on the CPU, {bf16}'
    names = {torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())}
    bf16 = 'bf16' if torch.cuda.is_bf16_supported() else 'no bf16: set train.amp to none'
    return f'{torch.cuda.device_count()} x {", ".join(sorted(names))}, {bf16}'
