"""What makes stock BasicSR work on today's Python, PyTorch and torchvision."""

from .basicsr import NoBasicSRError, init_dist, patch_basicsr, prepare_import

__all__ = ['NoBasicSRError', 'init_dist', 'patch_basicsr', 'prepare_import']
