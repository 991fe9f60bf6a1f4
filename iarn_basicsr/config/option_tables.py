"""What BasicSR 1.4.2 reads from an option file: key -> kind of its value, section by section.

The keys of a dataset or model of this package stand in its class, what a loss, metric, network, optimiser or scheduler
takes in its signature; here are only the ranges that a signature does not tell.
"""

from __future__ import annotations

from typing import Any

from iarn_basicsr.checks import ANYTHING, FILE_NAME, FLAG, TEXT, Kind, Table, choice, listed, real, whole
from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.jpeg import QUALITIES
from iarn_basicsr.ops.size import SIZE_RULES, parse_scale
from iarn_basicsr.payload import MAX_BITS

__all__ = ['ARGUMENTS', 'DIST_PARAMS', 'IMAGES', 'LOADER', 'LOGGER', 'METRIC', 'OUR_METRIC', 'PATH', 'PATH_OF_NETWORK',
           'SCALE', 'SCHEDULERS', 'TOP', 'TRAIN', 'VAL', 'WANDB']



def _is_scale(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, bool) or not isinstance(part, (int, float, str)) for part in parts):
        return False
    try:
        parse_scale(value)
    except OptionError:
        return False
    return True


_SECTION = Kind('a mapping', lambda v: isinstance(v, dict))
_PATH = TEXT.or_none()
_FACTOR = real(0)  # weights of losses, factors of learning rates
_COUNT = whole(1)
SCALE = Kind('a scale from 1 such as 2.5, 1.5x3 or [1.5, 3]', _is_scale)
_SCALES = Kind(f'{SCALE.words}, or a list of them',
               lambda v: _is_scale(v) or (isinstance(v, list) and all(map(_is_scale, v))))
_GPUS = Kind('auto or a whole number from 0, without a point',
             lambda v: v == 'auto' or whole(0, 1024, point=False).fits(v))

TOP: Table = {
    'name': FILE_NAME,
    'model_type': TEXT,
    'scale': _SCALES.or_none(),
    'num_gpu': _GPUS,
    'manual_seed': whole(0, 4 * 10**9, point=False).or_none(),  # NumPy's seeds end at 2^32, and each worker adds to it
    'datasets': _SECTION,
    'path': _SECTION,
    'train': _SECTION.or_none(),
    'val': _SECTION.or_none(),
    'logger': _SECTION.or_none(),
    'dist_params': _SECTION.or_none(),
    'find_unused_parameters': FLAG,
    'plugin': ANYTHING,
}
DIST_PARAMS: Table = {'backend': TEXT, 'port': whole(1, 65535).or_none()}

PATH: Table = {
    'resume_state': _PATH,
    'ignore_resume_networks': listed(TEXT).or_none(),
    'experiments_root': _PATH,
    'results_root': _PATH,
}
PATH_OF_NETWORK: Table = {'pretrain_network': _PATH, 'strict_load': FLAG, 'param_key': _PATH}  # and _g, _d, ...

LOGGER: Table = {
    'print_freq': _COUNT,
    'save_checkpoint_freq': _COUNT,
    'use_tb_logger': FLAG,
    'wandb': _SECTION.or_none(),
}
WANDB: Table = {'project': TEXT.or_none(), 'resume_id': TEXT.or_none()}

VAL: Table = {
    'val_freq': _COUNT,
    'save_img': FLAG,
    'suffix': FILE_NAME.or_none(),
    'pbar': FLAG.or_none(),
    'payload': listed(real(0, MAX_BITS)).or_none(),
    'jpeg': listed(whole(*QUALITIES)).or_none(),
    'metrics': _SECTION.or_none(),
    'num_val_samples': _COUNT,
    'flip_seq': FLAG,
    'center_frame_only': FLAG,
}
METRIC: Table = {
    'type': TEXT,
    'better': choice('higher', 'lower'),
    'crop_border': whole(0, point=False),
    'input_order': choice('HWC', 'CHW'),
    'convert_to': choice('y', 'gray'),
    'percentile': real(0, 100).or_none(),
}
OUR_METRIC: Table = {  # of IARNModel
    'crop_border': Kind('auto or a whole number from 0', lambda v: v == 'auto' or whole(0).fits(v)),
    'compare': Kind('hr (restored against HR) or lr (LR against bicubic LR)', choice('hr', 'lr').fits),
}

TRAIN: Table = {
    'total_iter': _COUNT,
    'warmup_iter': whole(-1),
    'ema_decay': real(0, below=1),
    'cuda_graph': FLAG.or_none(),  # this and amp, grad_clip, ...: IARNModel
    'optim_g': _SECTION,
    'scheduler': _SECTION,
    'optim_d': _SECTION,
    'net_d_iters': _COUNT,
    'net_d_init_iters': whole(0),
    'net_g_reg_every': _COUNT,
    'net_d_reg_every': _COUNT,
    'r1_reg_weight': _FACTOR,
    'path_reg_weight': _FACTOR,
    'path_batch_shrink': _COUNT,
    'mixing_prob': real(0, 1),
    'tsa_iter': whole(0).or_none(),
    'fix_flow': whole(0).or_none(),
    'lr_flow': _FACTOR,
    'flow_lr_mul': _FACTOR,
    'dcn_lr_mul': _FACTOR,
}
SCHEDULERS = {'MultiStepLR': 'MultiStepRestartLR', 'MultiStepRestartLR': 'MultiStepRestartLR',
              'CosineAnnealingRestartLR': 'CosineAnnealingRestartLR'}  # BasicSR's names -> its classes
ARGUMENTS: Table = {  # of losses, optimisers and schedulers
    'loss_weight': _FACTOR,
    'perceptual_weight': _FACTOR,
    'style_weight': _FACTOR,
    'reduction': choice('mean', 'sum', 'none'),
    'criterion': choice('l1', 'l2', 'fro'),
    'gan_type': choice('vanilla', 'lsgan', 'wgan', 'wgan_softplus', 'hinge'),
    'layer_weights': Kind('a mapping of numbers from 0', lambda v: isinstance(v, dict) and all(map(_FACTOR.fits,
                                                                                                  v.values()))),
    'lr': _FACTOR,
    'betas': listed(real(0, below=1), 2),
    'weight_decay': _FACTOR,
    'milestones': listed(whole(0)),
    'gamma': real(above=0),
    'restarts': listed(whole(0)),
    'restart_weights': listed(_FACTOR),
    'periods': listed(_COUNT, least=1),
    'eta_min': _FACTOR,
}

LOADER: Table = {
    'name': FILE_NAME,
    'type': TEXT,
    'phase': choice('train', 'val', 'test'),
    'dataroot_gt': _PATH,
    'dataroot_lq': _PATH,
    'io_backend': _SECTION,
    'num_worker_per_gpu': whole(0, 1024, point=False),
    'batch_size_per_gpu': whole(1, 65536, point=False),
    'dataset_enlarge_ratio': real(above=0),
    'use_shuffle': FLAG.or_none(),
    'pin_memory': FLAG.or_none(),
    'persistent_workers': FLAG.or_none(),
    'prefetch_mode': choice('cpu', 'cuda').or_none(),
    'num_prefetch_queue': whole(1, 65536, point=False),
}
IMAGES: Table = {  # of ArbitraryScaleDataset, beside what it checks itself
    'meta_info_file': _PATH,
    'filename_tmpl': TEXT,
    'use_hflip': FLAG,
    'use_rot': FLAG,
    'start_iter': whole(0),
    'scale': _SCALES.or_none(),
    'scales': _SCALES.or_none(),
    'size_rule': choice(*SIZE_RULES),
    'scale_range': listed(SCALE, 2),
}
