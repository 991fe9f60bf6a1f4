"""Training and validation of rescaling networks in both directions."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from os import path as osp
from pickle import UnpicklingError
from typing import Any
from urllib.error import URLError

import cv2
import torch
from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH
from basicsr.losses import build_loss
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.dist_util import master_only
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from iarn_basicsr import zoo
from iarn_basicsr.checks import check_keys, number, shown
from iarn_basicsr.data.schedule import DEFAULT_RANGE
from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.files import is_image, save_bytes, save_json
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, PROTOCOL, evaluate
from iarn_basicsr.ops.image import cpu_has_bf16, full_float32, quantise, to_levels, to_pixels, to_tensor
from iarn_basicsr.ops.jpeg import jpeg_copy
from iarn_basicsr.ops.resample import DENSE_LIMIT
from iarn_basicsr.ops.size import parse_scale, scale_label
from iarn_basicsr.payload import bits
from iarn_basicsr.payload.detail import Predict, read_detail, write_detail
from iarn_basicsr.zoo.weights import read_weights, save_torch, write_weights

from .graphed_step import GraphedStep
from .jpeg_channel import JPEGChannel

__all__ = ['TRAIN_KEYS', 'VAL_KEYS', 'IARNModel']

_LOSSES = {'l_rec': 'pixel_opt', 'l_luma': 'luma_opt', 'l_guide': 'guide_opt', 'l_latent': 'latent_opt',
           'l_inv': 'inv_opt'}
TRAIN_KEYS = {
    *_LOSSES.values(), 'perceptual_opt', 'optim_g', 'scheduler', 'total_iter', 'warmup_iter', 'ema_decay', 'grad_clip',
    'grad_accumulation', 'amp', 'cuda_graph', 'nonfinite_limit', 'jpeg'
}
VAL_KEYS = {'val_freq', 'save_img', 'suffix', 'metrics', 'pbar', 'payload', 'jpeg'}


@MODEL_REGISTRY.register()
class IARNModel(SRModel):
    """Bidirectional rescaling model: HR -> 8-bit LR of any size -> restored HR, trained jointly.

    Loss, with the losses of BasicSR's registry (their ``loss_weight`` is the weight):

        L = pixel_opt(restored, HR) + luma_opt(Y of restored, Y of HR) + guide_opt(LR, bicubic LR)
            + latent_opt(z, 0) + inv_opt(l, U D l) + perceptual_opt

    logged as ``l_rec``, ``l_luma``, ``l_guide``, ``l_latent``, ``l_inv``, ``l_percep``; Y is BT.601's luma
    (this term is ours, the others are IRN's). The LR size is that of the batch's ``lq``.

    Options of ``train`` beside BasicSR's (``optim_g``, ``scheduler``, ``total_iter``, ``warmup_iter``, ``ema_decay``):
        pixel_opt, luma_opt, guide_opt, latent_opt, inv_opt, perceptual_opt: losses; ``inv_opt`` serves
            ``cubic_interp``.
        grad_clip: largest gradient norm, default 1.0; 0 switches clipping off.
        grad_accumulation: number of parts in which a batch is computed, default 1, at most its images; the gradient
            stays the batch's.
        cuda_graph: ``true`` records the step on a GPU and replays it, default false: several times as fast where the
            GPU waits for the host. IARN with ``lr_grid`` on one GPU, ``datasets.train.lq_size``, losses that are means
            over pixels; see :class:`.graphed_step.GraphedStep`.
        amp: ``bf16`` for autocast to bfloat16, ``none`` by default. A CPU without bfloat16 trains in float32, with a
            warning.
        jpeg: ``{prob, quality: [60, 95], subsampling, encoder}``, a JPEG between the two directions, for weights whose
            LR survives one; see :class:`.jpeg_channel.JPEGChannel`.
        nonfinite_limit: so many steps in a row with a non-finite gradient are skipped and counted, default 20; then
            training stops with advice.

    New functions: ``check_options``, ``_read_options``, ``_check_network``, ``_graphed_step``,
    ``_complete_average``, ``_losses``, ``_skip_step``, ``_validate``, ``_rescale``.
    Overridden: ``init_training_settings``, ``feed_data``, ``optimize_parameters``, ``model_ema``, ``get_current_log``,
    both validations, saving, loading and resuming.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        torch.backends.cudnn.benchmark = False  # BasicSR's pipelines set it; it would re-tune for every new LR size
        self._read_options(opt)
        self.skipped = self.skipped_in_a_row = 0
        self.last_iter: int | None = None  # that ran
        self._log: dict[str, Tensor] = {}
        super().__init__(opt)
        self._check_network()
        self.graphed = self._graphed_step() if opt['is_train'] and opt['train'].get('cuda_graph') else None

    @classmethod
    def check_options(cls, opt: dict[str, Any]) -> None:
        """Raise ``OptionError`` as the constructor would, from the options alone: without data, weights or a device."""
        model = cls.__new__(cls)
        model.opt = opt
        model._read_options(opt)
        network = dict(opt['network_g'])
        with torch.device('meta'):
            model.net_g = ARCH_REGISTRY.get(network.pop('type'))(**network)
        model._check_network()
        if opt['is_train'] and opt['train'].get('cuda_graph'):
            model.criteria = {name: None for name, key in _LOSSES.items() if opt['train'].get(key)}
            model.cri_perceptual = opt['train'].get('perceptual_opt')
            model._graphed_step()

    def _read_options(self, opt: dict[str, Any]) -> None:
        if opt['num_gpu'] > 1 and not opt['dist']:
            raise OptionError(f'num_gpu: {opt["num_gpu"]} without a launcher: start one process per GPU with '
                              'torchrun ... --launcher pytorch, or set num_gpu: 1')
        if opt['is_train']:
            self._read_train_options(opt['train'], opt['datasets'].get('train') or {})
        self.jpeg = None
        if opt['is_train'] and opt['train'].get('jpeg'):
            seed = number('datasets.train', opt['datasets'].get('train') or {}, 'seed', 0, 0, 2**63 - 1, int)
            self.jpeg = JPEGChannel(opt['train']['jpeg'], seed, opt.get('rank', 0))
        val = opt.get('val') or {}
        check_keys('val', val, VAL_KEYS)
        self.metrics = val.get('metrics') or DEFAULT_METRICS
        self.val_suffix, self.val_bar = val.get('suffix'), bool(val.get('pbar', False))
        self.val_payload, self.val_jpeg = val.get('payload') or [0], val.get('jpeg') or []

    def _graphed_step(self) -> GraphedStep:
        """The step of ``cuda_graph``, where it can be had."""
        net, data = self.get_bare_model(self.net_g), self.opt['datasets']['train']
        lq_size = data.get('lq_size') or 0
        largest = round(lq_size * parse_scale((data.get('scale_range') or [1, 1])[1])[0])
        cells = lq_size * net.hparams.get('order', 1)
        missing = [text for text, fits in (
            ('network_g of type IARN with coupling: lr_grid', net.hparams.get('coupling') == 'lr_grid'),
            ('datasets.train.lq_size and scale_range', largest and data.get('scale_range')),
            (f'lq_size times the largest scale, and times order, of at most {DENSE_LIMIT} (a smaller lq_size)',
             max(largest, cells) <= DENSE_LIMIT),
            ('one process (no --launcher)', not self.opt['dist']),
            ('grad_accumulation: 1', self.accumulation == 1),
            ('no jpeg', self.jpeg is None),
            ('no inv_opt and no perceptual_opt', 'l_inv' not in self.criteria and not self.cri_perceptual),
        ) if not fits]
        if missing:
            raise OptionError(f'train.cuda_graph: true needs {"; ".join(missing)}')
        return GraphedStep(net, self._losses, self._autocast, (largest, largest))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp == 'bf16')

    def _check_network(self) -> None:
        """The network serves both ways, every scale that a dataset asks for, and the losses."""
        net = self.get_bare_model(self.net_g)
        if not callable(getattr(net, 'upscale', None)):
            raise OptionError(f'network_g.type: {type(net).__name__!r} does not downscale and restore: choose IARN or '
                              'IRN, or another model_type')
        low, high = net.min_scale, net.max_scale
        span = scale_label(low) + (' alone' if low == high else f' to {scale_label(high)}')
        for phase, dataset in self.opt['datasets'].items():
            keys = 'scale', 'scales', 'scale_range'
            dataset = {'scale': self.opt.get('scale'), **dataset}  # as BasicSR does
            if phase == 'train' and dataset.get('type') == 'ArbitraryScaleDataset' and not any(map(dataset.get, keys)):
                dataset = {'scale_range': DEFAULT_RANGE}
            for key in keys:
                asked = dataset.get(key) or []
                for scale in asked if isinstance(asked, (list, tuple)) else [asked]:
                    if not all(low <= s <= high for s in parse_scale(scale)):
                        raise OptionError(f'datasets.{phase}.{key}: {scale_label(scale)} is out of range for '
                                          f'network_g, {type(net).__name__} for {span}')
        if self.opt['is_train'] and self.opt['train'].get('inv_opt') and net.hparams.get('split') != 'cubic_interp':
            raise OptionError('train.inv_opt serves IARN with split: cubic_interp, where the low branch may leave what '
                              'the LR holds; leave it out')

    def _read_train_options(self, train: dict[str, Any], data: dict[str, Any]) -> None:
        check_keys('train', train, TRAIN_KEYS)
        self.grad_clip = number('train', train, 'grad_clip', 1.0, 0, 1e6)
        self.accumulation = number('train', train, 'grad_accumulation', 1, 1, 1024, int)
        if self.accumulation > data.get('batch_size_per_gpu', 16):
            raise OptionError(f'train.grad_accumulation: {self.accumulation} parts cannot be made of '
                              f'datasets.train.batch_size_per_gpu: {data["batch_size_per_gpu"]}')
        self.nonfinite_limit = number('train', train, 'nonfinite_limit', 20, 1, 10**6, int)
        self.amp = str(train.get('amp', 'none')).lower()
        if self.amp not in ('none', 'bf16'):
            raise OptionError(f'train.amp: {shown(train["amp"])}; choose none or bf16')
        if not train.get('pixel_opt'):
            raise OptionError('train.pixel_opt is missing: the loss between restored and HR image, '
                              'for example {type: L1Loss, loss_weight: 1.0, reduction: mean}')
        for key in _LOSSES.values():
            reduction = (train.get(key) or {}).get('reduction', 'mean')
            whole_batch = self.accumulation == 1 and not train.get('cuda_graph')
            if reduction == 'none' or (reduction == 'sum' and not whole_batch):
                raise OptionError(f'train.{key}.reduction: {reduction!r}; expected mean' + (
                    '' if reduction == 'none' else ', which grad_accumulation and cuda_graph need'))

    def init_training_settings(self) -> None:
        train = self.opt['train']
        if self.amp == 'bf16' and self.device.type == 'cpu' and not cpu_has_bf16():
            get_root_logger().warning('train.amp: bf16: this CPU has no instructions for bfloat16, which would take '
                                      'many times as long; the run trains in float32')
            self.amp = 'none'
        try:
            super().init_training_settings()
        except URLError as error:
            raise OptionError(f'train.perceptual_opt: the weights of its VGG network cannot be fetched ({error.reason})'
                              f'; put them at {VGG_PRETRAIN_PATH!r} below the current directory') from None
        if self.ema_decay > 0 and not self.opt['path'].get('strict_load_g', True):
            self._complete_average()
        self.criteria = {'l_rec': self.cri_pix}
        for name, key in _LOSSES.items():
            if name != 'l_rec' and train.get(key):
                self.criteria[name] = build_loss(train[key]).to(self.device)

    def _complete_average(self) -> None:
        """EMA weights that the file to start from does not have begin as those of ``net_g``, not as others."""
        start = self.opt['path'].get('pretrain_network_g')
        held = read_weights(zoo.resolve(start)[0]).state if start else {}
        weights = self.get_bare_model(self.net_g).state_dict()
        for name, average in self.net_g_ema.state_dict().items():
            if name not in held or held[name].shape != average.shape:
                average.copy_(weights[name])

    # ------------------------------------------------------------------------------------------------ training

    def feed_data(self, data: dict[str, Any]) -> None:
        self.lq = data['lq'].to(self.device, non_blocking=True)
        self.gt = data['gt'].to(self.device, non_blocking=True)

    def optimize_parameters(self, current_iter: int) -> None:
        self.last_iter = current_iter
        if self.jpeg:
            self.jpeg.draw(current_iter, len(self.gt))
        self.optimizer_g.zero_grad(set_to_none=True)
        self._log = self.graphed(self.gt, self.lq) if self.graphed else self._backward()
        parameters = [p for group in self.optimizer_g.param_groups for p in group['params']]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.grad_clip or float('inf'))
        self._log['grad_norm'] = norm
        if not torch.isfinite(norm):  # the same on all ranks: DDP has averaged the gradients
            self._skip_step(current_iter)
            return
        self.skipped_in_a_row = 0
        self.optimizer_g.step()
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """BasicSR's moving average, of all weights in one go: one by one they hold up a GPU."""
        average, weights = self.net_g_ema.parameters(), self.get_bare_model(self.net_g).parameters()
        get_ema_multi_avg_fn(decay)(list(average), list(weights), 0)

    def _backward(self) -> dict[str, Tensor]:
        """Gradient of the batch, computed in ``grad_accumulation`` parts; returns the mean losses."""
        total: dict[str, Tensor] = {}
        parts = list(zip(self.gt.tensor_split(self.accumulation), self.lq.tensor_split(self.accumulation)))
        for k, (gt, lq) in enumerate(parts):
            last = k == len(parts) - 1
            with nullcontext() if last or not self.opt['dist'] else self.net_g.no_sync():
                with self._autocast():
                    out = self.net_g(gt, tuple(lq.shape[-2:]), self.jpeg)
                losses = self._losses(out, gt, lq)
                share = len(gt) / len(self.gt)
                (share * torch.stack(list(losses.values())).sum()).backward()
            for name, value in losses.items():
                total[name] = total.get(name, 0) + share * value.detach()
        return total

    def _losses(self, out: dict[str, Tensor], gt: Tensor, lq: Tensor) -> dict[str, Tensor]:
        """The weighted losses by name."""
        pairs = {
            'l_rec': (out['sr'], gt),
            'l_guide': (out['lr_raw'], lq),
            'l_latent': (out['latent'], torch.zeros_like(out['latent'])),
        }
        if 'l_luma' in self.criteria:
            pairs['l_luma'] = luma(out['sr']), luma(gt)
        if 'l_inv' in self.criteria:
            pairs['l_inv'] = out['low'], out['low_projected']
        losses = {name: criterion(*pairs[name]) for name, criterion in self.criteria.items()}
        if self.cri_perceptual:
            for name, value in zip(('l_percep', 'l_style'), self.cri_perceptual(out['sr'], gt)):
                if value is not None:
                    losses[name] = value
        return losses

    def _skip_step(self, current_iter: int) -> None:
        """Leave out a step whose gradient is not finite; give up after too many in a row."""
        self.optimizer_g.zero_grad(set_to_none=True)
        self.skipped += 1
        self.skipped_in_a_row += 1
        losses = ', '.join(f'{k} {v.item():.3g}' for k, v in self._log.items())
        get_root_logger().warning(f'Iteration {current_iter}: non-finite gradient, step skipped ({losses}); '
                                  f'{self.skipped} skipped in all.')
        if self.skipped_in_a_row >= self.nonfinite_limit:
            raise FloatingPointError(
                f'{self.skipped_in_a_row} steps in a row had a non-finite gradient (last iteration {current_iter}). '
                'Go on from an earlier state with a smaller train.optim_g.lr or train.grad_clip; if amp is bf16, try '
                'none; check the training images for damaged files.')

    def get_current_log(self) -> OrderedDict[str, float]:
        """Losses averaged over the ranks; called on all of them."""
        log = self.reduce_loss_dict(OrderedDict((k, v.float()) for k, v in self._log.items()))
        if self.skipped:
            log['skipped'] = float(self.skipped)
        return log

    # ------------------------------------------------------------------------------------------------ validation

    def dist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        self._validate(dataloader.dataset, current_iter, tb_logger, save_img)

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        self._validate(dataloader.dataset, current_iter, tb_logger, save_img)

    def _validate(self, dataset: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Measure every image at every scale, the images shared out over the ranks."""
        if self.last_iter is not None:  # at the end of a run BasicSR counts on beyond it
            current_iter = min(current_iter, self.last_iter)
        results = []
        twins = _of_one_name(getattr(dataset, 'names', ()))
        rank, world_size = self.opt['rank'], self.opt['world_size']
        ways = [*((k, 0) for k in self.val_payload), *((0, quality) for quality in self.val_jpeg)]
        tasks = [(index, *way) for index in range(rank, len(dataset), world_size) for way in ways]
        for index, k, quality in tqdm(tasks, unit='image', disable=not self.val_bar or rank > 0):
            item = dataset[index]
            images = self._rescale(item, k, quality)
            ratios = [n / m for n, m in zip(images['sr'].shape, images['lr'].shape)]
            scale = item.get('scale_name') or scale_label([max(1.0, round(r, 3)) for r in ratios])
            path = item.get('gt_path', item['lq_path'])
            name = _name_below(dataset.opt, path, scale)
            name += osp.splitext(path)[1] if name in twins else ''
            scale += f'_payload{k:g}' if k else f'_jpeg{quality:g}' if quality else ''
            if save_img:
                self._save_images(images, dataset.opt['name'], scale, name, current_iter)
            values = {}
            if 'gt' in images:
                values = evaluate((images['sr'], images['gt']), (images['lr'], images['lq']), self.metrics)
            results.append({'index': index, 'image': path, 'scale': scale, **values})
        if self.opt['dist']:
            gathered: list[Any] = [None] * world_size
            torch.distributed.all_gather_object(gathered, results)
            results = sorted((r for part in gathered for r in part), key=lambda r: r['index'])
        self._report(results, dataset.opt['name'], current_iter, tb_logger)

    @torch.no_grad()
    @full_float32()
    def _rescale(self, item: dict[str, Any], k: float = 0, quality: float = 0) -> dict[str, Any]:
        """8-bit BGR images ``lr``, ``sr``, ``lq`` (bicubic LR or the given LR) and, where there is one, ``gt``.

        With k > 0 the LR has a payload of k bits a sample. With a ``quality`` it becomes a JPEG (4:2:0) before it is
        restored, and ``lr`` is what is left of it.
        """
        net = self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)
        lq = item['lq'][None].to(self.device)
        net.eval()
        if 'gt' in item:
            gt = item['gt'][None].to(self.device)
            lr = quantise(net.downscale(gt, tuple(lq.shape[-2:])).lr)
            if k:
                lr, sr = self._with_payload(net, gt, lr, k)
            else:
                if quality:
                    lr = to_tensor(jpeg_copy(to_pixels(lr)[0], int(quality)))[None].to(self.device)
                sr = net.upscale(lr, (gt.shape[-2], gt.shape[-1]))
            tensors = {'lr': lr, 'sr': sr, 'lq': lq, 'gt': gt}
        else:
            height, width = (int(n) for n in item['hr_size'])
            tensors = {'lr': lq, 'lq': lq, 'sr': self._restored(net, lq, (height, width))}
        self.net_g.train(self.is_train)
        return {name: tensor2img(t) for name, t in tensors.items()}

    def _restored(self, net: Any, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """From an LR image, with the coded detail that it may hold; as ``pictures.Rescaler`` does it."""
        pixels = to_pixels(lr)[0]
        k = bits.declared(pixels)
        if not k:
            return net.upscale(lr, size)
        predict = self._prediction(net, size)
        return to_tensor(read_detail(pixels, size, k, predict, None, get_root_logger().warning))[None]

    def _with_payload(self, net: Any, gt: Tensor, lr: Tensor, k: float) -> tuple[Tensor, Tensor]:
        """The LR with coded detail, and what is restored from it."""
        size = (gt.shape[-2], gt.shape[-1])
        stored = write_detail(to_pixels(gt)[0], to_pixels(lr)[0], k, self._prediction(net, size))
        stored_lr = to_tensor(stored)[None].to(self.device)
        return stored_lr, self._restored(net, stored_lr, size)

    def _prediction(self, net: Any, size: tuple[int, int]) -> Predict:
        return lambda known: to_levels(net.upscale(to_tensor(known)[None].to(self.device), size)[0])

    def _save_images(self, images: dict[str, Any], dataset: str, scale: str, name: str, current_iter: Any) -> None:
        """visualization/DATASET/SCALE/{lr,sr}/NAME.png, with the iteration in the name during training."""
        name += f'_{current_iter}' if self.is_train else ''
        name += f'_{self.val_suffix}' if self.val_suffix else ''
        for kind in ('lr', 'sr'):
            folder = osp.join(self.opt['path']['visualization'], dataset, scale, kind)
            save_bytes(cv2.imencode('.png', images[kind])[1].tobytes(), osp.join(folder, f'{name}.png'))

    @master_only
    def _report(self, results: list[dict[str, Any]], dataset: str, current_iter: Any, tb_logger: Any) -> None:
        """Log the table, feed tensorboard and write JSON."""
        metrics = list(self.metrics)
        scales = OrderedDict((r['scale'], [q for q in results if q['scale'] == r['scale']]) for r in results)
        table = {s: {m: sum(v) / len(v) for m in metrics if (v := [r[m] for r in rs if m in r])}
                 for s, rs in scales.items()}
        weights = 'EMA weights' if hasattr(self, 'net_g_ema') else 'weights'
        logger = get_root_logger()
        if not any(table.values()):
            logger.info(f'{dataset}: {len(results)} LR images restored; without HR images nothing is measured.')
            return
        logger.info(f'Validation {dataset} @ {current_iter} ({weights}; {PROTOCOL})\n' +
                    '\n'.join(_table_lines(table, {s: len(rs) for s, rs in scales.items()}, metrics)))
        if tb_logger:
            for scale, row in table.items():
                for metric, value in row.items():
                    tb_logger.add_scalar(f'metrics/{dataset}/{scale}/{metric}', value, current_iter)
        save_json({'dataset': dataset, 'iter': current_iter, 'protocol': PROTOCOL, 'weights': weights, 'mean': table,
                   'images': results}, osp.join(self.opt['path']['log'], 'metrics', f'{dataset}_{current_iter}.json'))

    # -------------------------------------------------------------------------------------------- files and resuming

    @master_only
    def save_network(self, net: Any, net_label: str, current_iter: int, param_key: Any = 'params') -> None:
        """BasicSR's ``params`` / ``params_ema``, plus ``arch`` from which the network can be rebuilt; atomic."""
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        bare = [self.get_bare_model(wrapped) for wrapped in nets]
        name = 'latest' if current_iter == -1 else current_iter
        write_weights(osp.join(self.opt['path']['models'], f'{net_label}_{name}.pth'), bare[0].arch,
                      **{key: one.state_dict() for key, one in zip(keys, bare)})

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """What a resumed run needs beside the weights; atomic."""
        if current_iter == -1:
            return
        state = {
            'epoch': epoch,
            'iter': current_iter,
            'optimizers': [o.state_dict() for o in self.optimizers],
            'schedulers': [_plain(s.state_dict()) for s in self.schedulers],
            'skipped': self.skipped,
        }
        save_torch(state, osp.join(self.opt['path']['training_states'], f'{current_iter}.state'))

    def load_network(self, net: Any, load_path: str, strict: bool = True, param_key: str | None = 'params') -> None:
        """BasicSR's, which also takes the name of released weights (``zoo.list_models()``).

        Nothing in the file is executed, and what is wrong with it is said in one line.
        """
        load_path, _ = zoo.resolve(load_path)
        read_weights(load_path)
        try:
            super().load_network(net, load_path, strict, _key_of(load_path, param_key))
        except UnpicklingError:
            raise WeightsError(f'{load_path}: training and testing read .pth files') from None
        except KeyError:
            raise WeightsError(f'path.param_key_g: {load_path} has no {param_key!r}') from None
        except RuntimeError as error:
            text = ' '.join(str(error).split())
            raise WeightsError(f'{load_path} does not fit network_g: {text[:300]}') from None

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Goes on from a state with the schedule of the option file, so that a run may be made longer.

        The learning rate that it starts from is the state's, as BasicSR has it. The log names what differs.
        """
        asked = [(_schedule(s), s.base_lrs) for s in self.schedulers]
        try:
            super().resume_training(resume_state)
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:  # whatever torch trips over
            raise OptionError(f'path.resume_state: {self.opt["path"]["resume_state"]!r} does not fit network_g or '
                              f'train.optim_g: {" ".join(str(error).split())}') from None
        for scheduler, (schedule, rate) in zip(self.schedulers, asked):
            if _schedule(scheduler) != schedule:
                wanted = dict(self.opt['train']['scheduler'])
                get_root_logger().info(f'scheduler: {wanted} from now on, another until now')
                vars(scheduler).update(schedule)
            if scheduler.base_lrs != rate:
                get_root_logger().warning(
                    f'optim_g.lr: {rate[0]:g} in the option file, but the run that goes on has '
                    f'{scheduler.base_lrs[0]:g}, which counts; for another, start a new run from its weights '
                    '(path.pretrain_network_g)')
        self.skipped, self.last_iter = resume_state.get('skipped', 0), resume_state['iter']


def _name_below(dataset: dict[str, Any], path: str, scale: str) -> str:
    """Path of an image, without its ending, below the folder that a data set names; a key of an LMDB as it is."""
    stem = osp.splitext(path)[0] if is_image(osp.basename(path)) else path
    for key in ('dataroot_gt', 'dataroot_lq'):
        root = str(dataset.get(key) or '').replace('{scale}', scale).replace('{factor}', scale[1:])
        if root.endswith('.lmdb'):
            return stem
        if root and path.startswith(osp.join(root, '')):
            return osp.relpath(stem, root)
    return osp.basename(stem)


def _of_one_name(names: Iterable[str]) -> set[str]:
    """Names without their ending that several images have, ``x.jpg`` and ``x.png``: saved, they need it."""
    stems = Counter(osp.splitext(name)[0] for name in names if is_image(name))
    return {stem for stem, count in stems.items() if count > 1}


def _schedule(scheduler: Any) -> dict[str, Any]:
    """What a scheduler was made with, without where it stands."""
    return {k: v for k, v in vars(scheduler).items()
            if not k.startswith('_') and k not in ('optimizer', 'last_epoch', 'base_lrs', 'verbose')}


def _key_of(path: str, asked: str | None) -> str | None:
    """The key of the weights to take from a ``.pth``: ``asked`` where it has several, None where it is the weights."""
    content = torch.load(path, map_location='cpu', weights_only=True)
    if not any(isinstance(value, dict) for value in content.values()):
        return None
    return 'params' if asked is None and 'params' in content else asked


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Counters as dicts: PyTorch before 2.4 reads no others where nothing is executed."""
    return {k: dict(v) if isinstance(v, Counter) else v for k, v in state.items()}


def luma(rgb: Tensor) -> Tensor:
    """Y of BT.601 less its offset of 16 / 255: RGB (N, 3, H, W) in [0, 1] -> (N, H, W).

    BasicSR's rgb2ycbcr_pt copies its matrix from the host at every call, which a CUDA graph cannot.
    """
    red, green, blue = rgb.unbind(1)
    return (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def _table_lines(table: dict[str, dict[str, float]], counts: dict[str, int], metrics: list[str]) -> Iterator[str]:
    """Rows of a text table: one scale a line."""
    width = max(7, *(len(s) for s in table))
    columns = [max(8, len(m)) for m in metrics]
    yield '  '.join([f'{"scale":{width}}', 'images', *(f'{m:>{c}}' for m, c in zip(metrics, columns))])
    for scale, row in table.items():
        cells = [f'{row[m]:{c}.{4 if "ssim" in m else 2}f}' if m in row else f'{"-":>{c}}'
                 for m, c in zip(metrics, columns)]
        yield '  '.join([f'{scale:{width}}', f'{counts[scale]:6d}', *cells])
