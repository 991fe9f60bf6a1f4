"""Networks of one's own: modules that register them with BasicSR, imported because the command line names them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from os import path as osp

from basicsr.utils.registry import ARCH_REGISTRY

import iarn_basicsr.plugin  # noqa: F401  (registers what is known already)
from iarn_basicsr.errors import OptionError

__all__ = ['import_networks']


def import_networks(modules: Sequence[str]) -> None:
    """Import modules that register networks with BasicSR.

    Args:
        modules: names on ``sys.path``, or ``.py`` files; what lies beside a file can be imported by it.

    Raises:
        OptionError: naming the module, if it cannot be imported or registers no network.
    """
    for module in modules:
        before = set(ARCH_REGISTRY.keys())
        try:
            _import(module)
        except (Exception, SystemExit) as error:  # whatever the module does
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
            raise OptionError(f'--import {module}: cannot be imported ({reason})') from None
        if set(ARCH_REGISTRY.keys()) == before:
            raise OptionError(f'--import {module}: registers no new network; write @ARCH_REGISTRY.register() above its '
                              'class (from basicsr.utils.registry import ARCH_REGISTRY)')


def _import(module: str) -> None:
    if not module.endswith('.py'):
        importlib.import_module(module)
        return
    path = osp.abspath(module)
    if not osp.isfile(path):
        raise FileNotFoundError('there is no such file')
    sys.path.append(osp.dirname(path))
    spec = importlib.util.spec_from_file_location(f'own_{osp.basename(path)[:-3]}', path)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[loaded.__name__] = loaded
    spec.loader.exec_module(loaded)
