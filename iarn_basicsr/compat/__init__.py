"""What makes stock BasicSR work on today's Python, PyTorch and torchvision."""

from .basicsr import NoBasicSRError, init_dist, patch_basicsr, prepare_import
from .pipelines import complete_options, entered

__all__ = ['NoBasicSRError', 'complete_options', 'entered', 'init_dist', 'patch_basicsr', 'prepare_import']
