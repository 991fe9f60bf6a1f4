"""IARN for BasicSR: one invertible network that downscales to any LR size and restores the HR image from it.

Importing the package makes BasicSR usable on today's PyTorch and registers the network, the dataset and the model.
Where BasicSR is not installed, the mathematics (``iarn_basicsr.ops``) and the network (``iarn_basicsr.archs.iarn``) can
still be imported; they need torch, numpy and scipy only.
"""

from importlib.util import find_spec

from .version import __version__

__all__ = ['Rescaler', '__version__']

if find_spec('basicsr') is not None:
    from . import compat

    compat.prepare_import()
    compat.patch_basicsr()
    from . import archs, data, models  # noqa: F401  (imported to register)


def __getattr__(name: str) -> object:
    """``from iarn_basicsr import Rescaler``, loaded when it is asked for."""
    if name == 'Rescaler':
        from .rescaler import Rescaler
        return Rescaler
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
