"""Mathematics of image rescaling in torch, numpy and scipy only; nothing here imports basicsr.

Dependencies run one way: ``size``, ``quantise``, ``precision`` -> ``resample`` -> ``position`` -> ``grid``.
"""

from .grid import Grid, PaddedGrid, grid
from .precision import full_float32
from .quantise import quantise
from .resample import PAIRS, AxisMap, bicubic_downscale
from .size import check_lr_size, compute_padding, lr_size, max_scale_of, parse_scale, scale_label

__all__ = [
    'PAIRS', 'AxisMap', 'Grid', 'PaddedGrid', 'bicubic_downscale', 'check_lr_size', 'compute_padding', 'full_float32',
    'grid', 'lr_size', 'max_scale_of', 'parse_scale', 'quantise', 'scale_label'
]
