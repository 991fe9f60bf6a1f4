"""What makes stock BasicSR work: its patches, and the modules that are found elsewhere."""

from __future__ import annotations

import pickle
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import basicsr
import lmdb
import numpy as np
import pytest
import scipy.ndimage
import torch
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import PrefetchGenerator
from basicsr.models.base_model import BaseModel
from basicsr.utils import FileClient
from helpers import run_python

from iarn_basicsr.compat import patch_basicsr, stand_ins
from iarn_basicsr.errors import OptionError
from iarn_basicsr.inference import doctor
from iarn_basicsr.ops.soap import SOAP


def test_patches_are_made_once():
    before = BaseModel.get_optimizer, EnlargedSampler.__iter__
    patch_basicsr()
    assert before == (BaseModel.get_optimizer, EnlargedSampler.__iter__)


def test_other_data_sets_draw_as_before():
    """The patched sampler serves data sets that number their draws and leaves others alone."""
    sampler = EnlargedSampler(range(7), 2, 1, 2)
    sampler.set_epoch(3)
    order = torch.randperm(14, generator=torch.Generator().manual_seed(3)).tolist()
    assert list(sampler) == [v % 7 for v in order][1:14:2] and len(sampler) == 7


def test_optimisers_of_torch_and_soap():
    model, weight = BaseModel.__new__(BaseModel), torch.nn.Parameter(torch.zeros(1))
    assert isinstance(model.get_optimizer('RMSprop', [weight], lr=0.1), torch.optim.RMSprop)
    assert isinstance(model.get_optimizer('SOAP', [weight], lr=0.1, refresh=3), SOAP)
    with pytest.raises(OptionError, match="^type of the optimiser: 'Adamm' is not known; did you mean 'Adam'"):
        model.get_optimizer('Adamm', [weight], lr=0.1)


def test_prefetching_thread_hands_over_an_error():
    def batches() -> Any:
        yield 1
        raise OSError('damaged')

    prefetched = PrefetchGenerator(batches(), 1)
    assert next(prefetched) == 1
    with pytest.raises(OSError, match='damaged'):
        next(prefetched)
    assert list(PrefetchGenerator(iter([1, 2]), 1)) == [1, 2]


WITHOUT_HOOK = [f for f in sys.meta_path if getattr(f, '__name__', '') != 'StandIns']  # an installed copy's, or ours


def test_filters_of_scipy_2(monkeypatch):
    """``scipy.ndimage.filters`` is gone there; BasicSR's NIQE and its landmarks import it."""
    find = PathFinder.find_spec

    def of_scipy_2(name: str, *more: Any) -> Any:
        return None if name == 'scipy.ndimage.filters' else find(name, *more)

    monkeypatch.setattr(PathFinder, 'find_spec', of_scipy_2)
    monkeypatch.setattr(sys, 'meta_path', [*WITHOUT_HOOK, stand_ins.StandIns])
    monkeypatch.delitem(sys.modules, 'scipy.ndimage.filters', raising=False)
    monkeypatch.delattr(scipy.ndimage, 'filters', raising=False)
    from scipy.ndimage.filters import convolve
    assert sys.modules['scipy.ndimage.filters'].__file__.endswith('_filters.py')
    image, window = np.arange(20.0).reshape(4, 5), np.ones((3, 3))
    assert np.array_equal(convolve(image, window, mode='nearest'),
                          scipy.ndimage.convolve(image, window, mode='nearest'))


def test_version_of_a_fresh_checkout(tmp_path):
    (tmp_path / 'VERSION').write_text('1.4.2\n')
    (tmp_path / 'basicsr').mkdir()
    spec: Any = stand_ins.StandIns.find_spec('basicsr.version', [str(tmp_path / 'basicsr')])
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (module.__version__, module.version_info, module.__gitsha__) == ('1.4.2', (1, 4, 2), 'unknown')


@pytest.mark.parametrize('name', ['numpy', 'torchvision.transforms.functional', 'iarn_basicsr.nothing', '',
                                  'torchvision.transforms.functional_tensor', 'scipy.ndimage.filters', 'distutils',
                                  'basicsr.version'])
def test_hook_finds_nothing_else_and_nothing_that_is_not_there(monkeypatch, name):
    monkeypatch.setattr(PathFinder, 'find_spec', lambda *_: None)
    for path in (None, [], ['/nowhere']):
        assert stand_ins.StandIns.find_spec(name, path) is None


def test_hook_is_asked_last_and_installed_once(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', list(WITHOUT_HOOK))
    stand_ins.install()
    stand_ins.install()
    assert sys.meta_path == [*WITHOUT_HOOK, stand_ins.StandIns]


@pytest.mark.parametrize('hook', [True, False])
@pytest.mark.parametrize('place', ['beside it', 'elsewhere', 'nowhere'])
def test_doctor_says_which_basicsr_own_commands_import(tmp_path, monkeypatch, place, hook):
    """In a fresh checkout beside an installed BasicSR, elsewhere, and where none is installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, 'iarn_basicsr_stand_ins', stand_ins)
    if not hook:
        monkeypatch.delitem(sys.modules, 'iarn_basicsr_stand_ins')
    found = module = Path(basicsr.__file__).resolve().parent
    script = ''
    if place == 'beside it':
        (tmp_path / 'basicsr').mkdir()
        (tmp_path / 'basicsr' / '__init__.py').touch()
        module = tmp_path / 'basicsr'
        script = f'the checkout in {tmp_path} is not installed, so the script alone is from there; '
    elif place == 'nowhere':
        monkeypatch.setattr(sys, 'path', [''])
        found = module = 'none: BasicSR is not installed'
    says = doctor._stock_commands()
    assert says.startswith(f'python basicsr/train.py imports {found}; {script}'
                           f'python -m basicsr.train imports {module}; ')
    assert says.endswith('; with the import hook of this package' if hook else 'newer: pip install this package again')


def test_open_lmdb_can_be_sent_to_a_worker_that_opens_it_itself(tmp_path):
    with lmdb.open(str(tmp_path / 'a.lmdb')) as env, env.begin(write=True) as transaction:
        transaction.put(b'key', b'value')
    patch_basicsr()
    client, again = (FileClient('lmdb', db_paths=str(tmp_path / 'a.lmdb')) for _ in range(2))
    (tmp_path / 'sent').write_bytes(pickle.dumps(client))
    done = run_python('-c', 'import pickle, sys, iarn_basicsr.compat as compat; compat.prepare_import()\n'
                      f'print(pickle.load(open({str(tmp_path / "sent")!r}, "rb")).get("key"))')
    assert done.stdout == "b'value'\n", done.stderr
    assert bytes(client.get('key')) == bytes(again.get('key')) == b'value'
