"""Makes BasicSR usable on today's PyTorch and registers the networks, a loss, the dataset and the model with it.

Option files name it, so that BasicSR itself imports it: ``plugin: !!python/name:iarn_basicsr.plugin.__version__ ''``.
``iarn-train`` and ``iarn-test`` import it; a script that uses BasicSR's registries writes
``import iarn_basicsr.plugin``.
"""

from .compat import patch_basicsr, prepare_import
from .version import __version__

__all__ = ['__version__']

prepare_import()
patch_basicsr()

from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY  # noqa: E402  (after what makes it importable)

from .archs.iarn import IARN  # noqa: E402
from .archs.irn import IRN  # noqa: E402
from .data import arbitrary_scale_dataset  # noqa: E402, F401  (imported to register)
from .metrics import colour  # noqa: E402, F401
from .models import iarn_model  # noqa: E402, F401
from .models.losses import RMSELoss  # noqa: E402

for network in (IARN, IRN):
    ARCH_REGISTRY.register(network)
LOSS_REGISTRY.register(RMSELoss)
