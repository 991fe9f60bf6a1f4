"""Modules that BasicSR imports and that are not there: an import hook that finds what they have become.

============================================  =========================================================================
``torchvision.transforms.functional_tensor``  gone since torchvision 0.17: the file ``_functional_tensor.py`` beside it
``scipy.ndimage.filters``                     gone in SciPy 2: the file ``_filters.py`` beside it
``distutils``                                 gone since Python 3.12: the one in setuptools
``basicsr.version``                           written when a checkout is installed: the number in its file ``VERSION``
============================================  =========================================================================

It is asked after all others, so it never replaces a module that is there. The installation puts a copy of this file
beside the package (``iarn_basicsr_stand_ins.py``), and a ``.pth`` by which every Python of the environment starts with
``install()``. So BasicSR's own ``python basicsr/train.py`` runs too, which imports all of BasicSR before it reads the
option file that names the plugin. Therefore nothing of this package, and nothing that takes time, is imported here.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing's own would cost every start of Python
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ['StandIns', 'install']


class StandIns:
    """A finder for ``sys.meta_path``."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Where a module that is gone is now; None for all others."""
        if name == 'torchvision.transforms.functional_tensor':
            return _file(name, *(f'{folder}/{file}' for file in ('_functional_tensor.py', 'functional.py')
                                 for folder in path or ()))
        if name == 'scipy.ndimage.filters':
            return _file(name, *(f'{folder}/_filters.py' for folder in path or ()))
        if name == 'distutils':
            from importlib.machinery import PathFinder
            spec = PathFinder.find_spec('setuptools')
            return _file(name, *(f'{folder}/_distutils/__init__.py'
                                 for folder in (spec and spec.submodule_search_locations) or ()))
        if name == 'basicsr.version':
            return _version(name, *(f'{folder}/../VERSION' for folder in path or ()))
        return None


def _file(name: str, *files: str) -> ModuleSpec | None:
    """The first file that exists, as a module of that name."""
    from importlib.util import spec_from_file_location
    from os.path import dirname, isfile
    found = next(filter(isfile, files), None)
    if found is None:
        return None
    package = [dirname(found)] if found.endswith('__init__.py') else None
    return spec_from_file_location(name, found, submodule_search_locations=package)


def _version(name: str, *files: str) -> ModuleSpec | None:
    """What BasicSR's setup.py would have written into ``version.py``, from the file with the number."""
    from importlib.util import spec_from_loader
    from os.path import isfile
    from types import SimpleNamespace
    found = next(filter(isfile, files), None)
    if found is None:
        return None

    def fill(module: ModuleType) -> None:
        with open(found, encoding='utf-8') as file:
            number = file.read().strip()
        vars(module).update(__version__=number, __gitsha__='unknown',
                            version_info=tuple(int(n) if n.isdigit() else n for n in number.split('.')))

    return spec_from_loader(name, SimpleNamespace(create_module=lambda spec: None, exec_module=fill))


def install() -> None:
    """Ask the hook after all other finders; once, whichever copy of this file does it."""
    if not any(getattr(finder, '__name__', '') == StandIns.__name__ for finder in sys.meta_path):
        sys.meta_path.append(StandIns)
