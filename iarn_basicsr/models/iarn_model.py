"""Training of rescaling networks in both directions: one step. Validation and files are in the modules beside this."""

from __future__ import annotations

import copy
from collections import OrderedDict
from contextlib import nullcontext
from typing import Any
from urllib.error import URLError

import torch
from basicsr.archs import build_network
from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH
from basicsr.losses import build_loss
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from iarn_basicsr import zoo
from iarn_basicsr.errors import OptionError
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS
from iarn_basicsr.ops.image import cpu_has_bf16
from iarn_basicsr.zoo.weights import read_weights

from .checkpoints import Checkpoints, fill, with_weights
from .graphed_step import GraphedStep, largest_patch
from .jpeg_channel import JPEGChannel
from .losses import TERMS, luma
from .options import check_network, read_options, section
from .validation import Validation

__all__ = ['IARNModel', 'check_model']


@MODEL_REGISTRY.register()
class IARNModel(Validation, Checkpoints):
    """Bidirectional rescaling model: HR -> 8-bit LR of any size -> restored HR, trained jointly.

    Loss, with the losses of BasicSR's registry (their ``loss_weight`` is the weight):

        L = pixel_opt(restored, HR) + luma_opt(Y of restored, Y of HR) + guide_opt(LR, bicubic LR) + latent_opt(z, 0)
            + inv_opt(l, U D l) + cycle_opt(LR of the 8-bit restored image, 8-bit LR) + perceptual_opt(restored, HR)

    logged as ``l_rec``, ``l_luma``, ``l_guide``, ``l_latent``, ``l_inv``, ``l_cycle``, ``l_percep``; Y is BT.601's.
    The terms on luma and the cycle are ours, the others IRN's. The LR size is that of the batch's ``lq``.

    Options: ``TrainOptions`` and ``ValOptions`` of ``config.schema``.

    Overridden hooks of BasicSR: ``init_training_settings``, ``feed_data``, ``optimize_parameters``, ``model_ema``,
    ``get_current_log``; both validations in ``Validation``; saving, loading and resuming in ``Checkpoints``.

    Raises:
        OptionError, WeightsError: in one line, naming the section and key, or the file.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        torch.backends.cudnn.benchmark = False  # BasicSR's pipelines set it; it would re-tune for every new LR size
        opt = with_weights(opt)
        BaseModel.__init__(self, opt)
        train, self.val = read_options(opt)
        self.metrics = (opt.get('val') or {}).get('metrics') or DEFAULT_METRICS  # as they stand: with their arguments
        self.skipped = self.skipped_in_a_row = 0
        self.last_iter: int | None = None  # that ran
        self._log: dict[str, Tensor] = {}
        with section('network_g'):
            net = build_network(opt['network_g'])
        check_network(net, opt)
        self.net_g = self.model_to_device(net)
        self.print_network(self.net_g)
        self.load_weights(self.net_g)
        if train:
            self.train_options = train
            self.init_training_settings()

    def init_training_settings(self) -> None:
        """Averaged weights, losses, optimiser, scheduler, and what the steps pass through."""
        train, options, device = self.train_options, self.opt['train'], self.device
        self.bf16 = train.amp == 'bf16'
        if self.bf16 and device.type == 'cpu' and not cpu_has_bf16():
            get_root_logger().warning('train.amp: bf16: this CPU has no instructions for bfloat16, which would take '
                                      'many times as long; the run trains in float32')
            self.bf16 = False
        self.net_g.train()
        if train.ema_decay > 0:
            self.net_g_ema = copy.deepcopy(self.get_bare_model(self.net_g))  # what the file lacks begins as in net_g
            self.load_weights(self.net_g_ema)
            self.net_g_ema.eval()
        self.criteria = {}
        for name, key in TERMS.items():
            if options.get(key):
                try:
                    with section(f'train.{key}'):
                        self.criteria[name] = build_loss(options[key]).to(device)
                except URLError as error:
                    raise OptionError(f'train.{key}: the weights of its VGG network cannot be fetched ({error.reason})'
                                      f'; put them at {VGG_PRETRAIN_PATH!r} below the current directory') from None
        with section('train.optim_g'):
            self.setup_optimizers()
        with section('train.scheduler'):
            self.setup_schedulers()
        seed = (self.opt['datasets'].get('train') or {}).get('seed', 0)
        self.jpeg = JPEGChannel(train.jpeg, int(seed), self.opt['rank']) if train.jpeg else None
        self.graphed = None
        if train.cuda_graph:
            net = self.get_bare_model(self.net_g)
            self.graphed = GraphedStep(net, self._losses, self._autocast, largest_patch(net, self.opt, train))

    def feed_data(self, data: dict[str, Any]) -> None:
        """A batch of the dataset: ``lq`` (N, 3, h, w), ``gt`` (N, 3, H, W)."""
        self.lq = data['lq'].to(self.device, non_blocking=True)
        self.gt = data['gt'].to(self.device, non_blocking=True)

    def optimize_parameters(self, current_iter: int) -> None:
        """One step; one without a finite gradient is skipped."""
        self.last_iter = current_iter
        if self.jpeg:
            self.jpeg.draw(current_iter, len(self.gt))
        self.optimizer_g.zero_grad(set_to_none=True)
        kept = {name: value for name, value in self._log.items() if name == 'l_cycle'}  # of the last step that had it
        cycle = 'l_cycle' in self.criteria and current_iter % self.train_options.cycle_freq == 0
        losses = self.graphed(self.gt, self.lq, cycle) if self.graphed else self._backward(cycle)
        parameters = [p for group in self.optimizer_g.param_groups for p in group['params']]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.train_options.grad_clip or float('inf'))
        self._log = {**kept, **losses, 'grad_norm': norm}
        if not torch.isfinite(norm):  # the same on all ranks: DDP has averaged the gradients
            self._skip_step(current_iter)
            return
        self.skipped_in_a_row = 0
        self.optimizer_g.step()
        if self.train_options.ema_decay > 0:
            self.model_ema(decay=self.train_options.ema_decay)

    def _backward(self, cycle: bool) -> dict[str, Tensor]:
        """Gradient of the batch, computed in ``grad_accumulation`` parts; returns the mean losses."""
        total: dict[str, Tensor] = {}
        count = self.train_options.grad_accumulation
        parts = list(zip(self.gt.tensor_split(count), self.lq.tensor_split(count)))
        for k, (gt, lq) in enumerate(parts):
            last = k == len(parts) - 1
            with nullcontext() if last or not self.opt['dist'] else self.net_g.no_sync():
                with self._autocast():
                    out = self.net_g(gt, tuple(lq.shape[-2:]), self.jpeg, cycle)
                losses = self._losses(out, gt, lq)
                share = len(gt) / len(self.gt)
                (share * torch.stack(list(losses.values())).sum()).backward()
            for name, value in losses.items():
                total[name] = total.get(name, 0) + share * value.detach()
        return total

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _losses(self, out: dict[str, Tensor], gt: Tensor, lq: Tensor) -> dict[str, Tensor]:
        """The weighted losses by name: those of which the network gave the tensors."""
        pairs = {
            'l_rec': (out['sr'], gt),
            'l_guide': (out['lr_raw'], lq),
            'l_latent': (out['latent'], torch.zeros_like(out['latent'])),
        }
        if 'l_luma' in self.criteria:
            pairs['l_luma'] = luma(out['sr']), luma(gt)
        if 'low_projected' in out:
            pairs['l_inv'] = out['low'], out['low_projected']
        if 'lr_again' in out:
            pairs['l_cycle'] = out['lr_again'], out['lr'].detach()
        losses = {name: criterion(*pairs[name]) for name, criterion in self.criteria.items() if name in pairs}
        if 'l_percep' in self.criteria:
            perceptual = zip(('l_percep', 'l_style'), self.criteria['l_percep'](out['sr'], gt))
            losses.update((name, value) for name, value in perceptual if value is not None)
        return losses

    def _skip_step(self, current_iter: int) -> None:
        """Leave out a step whose gradient is not finite; give up after too many in a row."""
        self.optimizer_g.zero_grad(set_to_none=True)
        self.skipped += 1
        self.skipped_in_a_row += 1
        losses = ', '.join(f'{k} {v.item():.3g}' for k, v in self._log.items())
        get_root_logger().warning(f'Iteration {current_iter}: non-finite gradient, step skipped ({losses}); '
                                  f'{self.skipped} skipped in all.')
        if self.skipped_in_a_row >= self.train_options.nonfinite_limit:
            raise FloatingPointError(
                f'{self.skipped_in_a_row} steps in a row had a non-finite gradient (last iteration {current_iter}). '
                'Go on from an earlier state with a smaller train.optim_g.lr or train.grad_clip; if amp is bf16, try '
                'none; check the training images for damaged files.')

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """BasicSR's moving average, of all weights in one go: one by one they hold up a GPU."""
        average, weights = self.net_g_ema.parameters(), self.get_bare_model(self.net_g).parameters()
        get_ema_multi_avg_fn(decay)(list(average), list(weights), 0)

    def get_current_log(self) -> OrderedDict[str, float]:
        """Losses averaged over the ranks; called on all of them."""
        log = self.reduce_loss_dict(OrderedDict((k, v.float()) for k, v in self._log.items()))
        if self.skipped:
            log['skipped'] = float(self.skipped)
        return log


def check_model(opt: dict[str, Any]) -> None:
    """Raise what ``IARNModel`` would say to the options and the weight file, before a run writes anything.

    Args:
        opt: all options, as a model receives them; not changed. Those of another model pass.

    Raises:
        OptionError, WeightsError: in one line, naming the key or the file.
    """
    if opt['model_type'] != 'IARNModel':
        return
    opt = with_weights(opt)
    train, _ = read_options(opt)
    network = dict(opt['network_g'])
    with section('network_g'), torch.device('meta'):  # without memory, and without a random number drawn
        net = ARCH_REGISTRY.get(network.pop('type'))(**network)  # build_network would start the log, without its file
    check_network(net, opt)
    path = opt['path']
    if path.get('pretrain_network_g') and path.get('strict_load_g', True):
        file, _ = zoo.resolve(path['pretrain_network_g'])
        fill(net, read_weights(file, ema=not opt['is_train'], key=path['param_key_g']).state, file, assign=True)
    if train and train.cuda_graph:
        largest_patch(net, opt, train)
