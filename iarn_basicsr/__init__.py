"""IARN for BasicSR: one invertible network that downscales to any LR size and restores the HR image from it.

Importing the package is cheap; what is named below is loaded when it is asked for. ``import iarn_basicsr.plugin``
registers the networks, the dataset, the model and the losses with BasicSR.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .archs.iarn import IARN
    from .errors import IARNError
    from .inference.rescaler import Rescaler
    from .ops.image import quantise
    from .ops.size import lr_size
    from .zoo import list_models

__all__ = ['IARN', 'IARNError', 'Rescaler', '__version__', 'list_models', 'lr_size', 'quantise']

_PLACES = {'IARN': 'archs.iarn', 'IARNError': 'errors', 'Rescaler': 'inference.rescaler', 'list_models': 'zoo',
           'lr_size': 'ops.size', 'quantise': 'ops.image'}


def __getattr__(name: str) -> object:
    """Load a public name (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(import_module(f'.{_PLACES[name]}', __name__), name)
    globals()[name] = value
    return value
