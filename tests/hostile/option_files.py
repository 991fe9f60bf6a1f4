"""Option files in which nothing is wrong, and how to spoil them."""

import copy
from pathlib import Path

import yaml
from helpers import train_options

__all__ = ['BENCHMARK', 'FOREIGN', 'MISSING', 'changed', 'good', 'renamed']

MISSING = object()


def good(which='train'):
    """An option file in which nothing is wrong; the folder of images is the one that ``refused`` makes."""
    options = train_options(Path('hr'))
    options['path'].update(pretrain_network_g=None, param_key_g='params', ignore_resume_networks=None)
    options['logger']['wandb'] = {'project': None, 'resume_id': None}
    options['val'].update(metrics={'psnr': {'type': 'calculate_psnr', 'crop_border': 'auto', 'test_y_channel': True}},
                          suffix=None, pbar=False)
    options['datasets']['train'].update(
        use_hflip=True, use_rot=True, pin_memory=False, persistent_workers=False, prefetch_mode=None,
        num_prefetch_queue=1, seed=0, curriculum={'start': 2, 'hold': 1, 'widen': 2},
        common_scales={'prob': 0.5, 'scales': [2, 3]})
    options['dist_params'] = {'backend': 'gloo', 'port': 29500}
    if which == 'test':
        for section in ('train', 'logger'):
            del options[section]
        options['datasets'] = {'test_1': {**options['datasets']['val'], 'mod_crop': 2}}
        del options['val']['val_freq']
    return options


def changed(options, place, value):
    """The options with a value in a place such as ``train.optim_g.lr``; MISSING takes it out."""
    options = copy.deepcopy(options)
    *sections, key = place.split('.')
    section = options
    for name in sections:
        section = section[name]
    if value is MISSING:
        del section[key]
    else:
        section[key] = value
    return options


def renamed(options, place, name):
    """The options with a key of another name."""
    *sections, key = place.split('.')
    section = options
    for part in sections:
        section = section[part]
    section[name] = section.pop(key)
    return options


FOREIGN = yaml.safe_load("""
name: 201_EDSR_Mx2
model_type: SRModel
scale: 2
num_gpu: auto
manual_seed: 10
datasets:
  train:
    {name: DIV2K, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq, filename_tmpl: '{}',
     io_backend: {type: disk}, gt_size: 16, use_hflip: true, use_rot: true, num_worker_per_gpu: 0,
     batch_size_per_gpu: 2, dataset_enlarge_ratio: 2, prefetch_mode: ~}
  val: {name: Set5, type: PairedImageDataset, dataroot_gt: gt, dataroot_lq: lq, io_backend: {type: disk}}
network_g: {type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 4, num_block: 1, upscale: 2, res_scale: 1,
            img_range: 255., rgb_mean: [0.4488, 0.4371, 0.4040]}
path: {pretrain_network_g: ~, strict_load_g: false, resume_state: ~}
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: 1.0e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [200000], gamma: 0.5}
  total_iter: 2
  warmup_iter: -1
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
val:
  val_freq: 5000.0
  save_img: false
  metrics: {psnr: {type: calculate_psnr, crop_border: 2, test_y_channel: false, better: higher}}
logger: {print_freq: 1, save_checkpoint_freq: 5000.0, use_tb_logger: false, wandb: {project: ~, resume_id: ~}}
dist_params: {backend: nccl, port: 29500}
""")
BENCHMARK = {
    'name': 'tiny', 'threads': 1, 'device': 'cpu', 'scales': [2, [1.5, 3]],
    'datasets': {'two': {'dataroot_gt': 'hr', 'mod_crop': 12}},
    'methods': {'ours': {'type': 'IARN', 'weights': 'default'}, 'bicubic': {'type': 'bicubic'},
                'EDSR': {'type': 'SR', 'nets': [{'scale': 2, 'path': 'x.pth', 'network': {'type': 'EDSR'}}]},
                'own': {'type': 'spandrel', 'path': ['x.pth']}},
    'cost': {'hr_size': [32, 48], 'scales': [2], 'repeats': 1}, 'cycles': {'scales': [2], 'counts': [1, 3]},
    'files': {'scales': [2], 'formats': ['jpeg'], 'qualities': [95], 'methods': ['bicubic'], 'dataset': 'two'},
    'published': [{'source': 'x', 'metric': 'psnr_y', 'values': {'two': {'ours': {'x2': 12.34}}}}],
}
