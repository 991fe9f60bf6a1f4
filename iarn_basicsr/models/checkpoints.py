"""Weights and training states: what a run starts from, what it saves, and how it resumes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from os import path as osp
from typing import Any

from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import Tensor, nn

from iarn_basicsr import zoo
from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.zoo.weights import read_weights, save_torch, write_weights

__all__ = ['Checkpoints', 'fill', 'newest_weights', 'with_weights']


def newest_weights(folder: str) -> str | None:
    """The newest weights in ``experiments/NAME/models``, or None.

    ``net_g_latest.pth``, which the end of a run writes, unless the run was made longer since; then, and where there is
    none, the highest iteration.
    """
    names = os.listdir(folder) if osp.isdir(folder) else []
    saved = {int(found[1]): name for name in names if (found := re.fullmatch(r'net_g_(\d+)\.pth', name))}
    candidates = [name for name in ('net_g_latest.pth', saved[max(saved)] if saved else '') if name in names]
    return max((osp.join(folder, name) for name in candidates), key=osp.getmtime, default=None)


def with_weights(opt: dict[str, Any]) -> dict[str, Any]:
    """The options, completed by the weights that training starts from, or that are tested.

    A test takes the newest weights of the run of this name where ``path.pretrain_network_g`` names none. What
    ``network_g`` leaves out comes from the weight file.

    Raises:
        OptionError: if there is nothing to test, or ``network_g`` contradicts the weight file.
        WeightsError: naming the file, if it cannot be read.
    """
    path = {'param_key_g': None, **opt['path']}
    if not opt['is_train'] and not path.get('pretrain_network_g') and 'results_root' in path:
        root = osp.dirname(osp.dirname(path['results_root']))  # of ROOT/results/NAME
        folder = osp.join(root, 'experiments', opt['name'], 'models')
        path['pretrain_network_g'] = newest_weights(folder)
        if path['pretrain_network_g'] is None:
            raise OptionError(f'path.pretrain_network_g: no weights to test: {folder!r} has none either; train '
                              f'{opt["name"]!r} first, or name a weight file')
    start, network = path.get('pretrain_network_g'), dict(opt['network_g'])
    if start:
        file, _ = zoo.resolve(start)
        arch = read_weights(file, ema=not opt['is_train'], key=path['param_key_g']).arch or {}
        if path.get('strict_load_g', True):
            for key in sorted(network.keys() & arch.keys(), key=lambda key: (key != 'type', key)):
                if network[key] != arch[key]:
                    raise OptionError(f'network_g.{key}: {network[key]!r}, but {start} was made with {arch[key]!r}: '
                                      'leave it out, or set path.strict_load_g: false to take the weights that fit')
        if network['type'] == arch.get('type'):
            network = {**arch, **network}
    return {**opt, 'path': path, 'network_g': network}


def fill(net: nn.Module, state: Mapping[str, Tensor], file: str, **how: bool) -> None:
    """``load_state_dict`` that names the file in ``WeightsError`` where its weights do not fit."""
    try:
        net.load_state_dict(state, **how)
    except RuntimeError as error:
        raise WeightsError(f'{file} does not fit network_g: {" ".join(str(error).split())[:300]}') from None


class Checkpoints(SRModel):
    """The part of ``IARNModel`` that loads, saves and resumes; files are written atomically."""

    skipped: int
    last_iter: int | None

    def load_weights(self, net: Any) -> None:
        """Load the weight file (see ``zoo.weights``) or released weights that ``path.pretrain_network_g`` may name.

        Without ``path.param_key_g`` training takes ``params``, a test and ``net_g_ema`` take averaged ones of the file.

        Raises:
            WeightsError: naming the file.
        """
        path, averaged = self.opt['path'], net is getattr(self, 'net_g_ema', None)
        if not path.get('pretrain_network_g'):
            return
        file, _ = zoo.resolve(path['pretrain_network_g'])
        key = None if averaged else path['param_key_g']
        state = read_weights(file, ema=averaged or not self.is_train, key=key).state
        net, strict = self.get_bare_model(net), path.get('strict_load_g', True)
        get_root_logger().info(f'Loading {type(net).__name__}{" (EMA)" if averaged else ""} from {file}.')
        self._print_different_keys_loading(net, state, strict)  # also takes out, unless strict, what has another shape
        fill(net, state, file, strict=strict)

    @master_only
    def save(self, epoch: int, current_iter: int) -> None:
        """Weights with the architecture, and the state that a resumed run needs; at the end (-1) weights alone."""
        net, path = self.get_bare_model(self.net_g), self.opt['path']
        weights = {'params': net.state_dict()}
        if hasattr(self, 'net_g_ema'):
            weights['params_ema'] = self.net_g_ema.state_dict()
        name = 'latest' if current_iter == -1 else current_iter
        write_weights(osp.join(path['models'], f'net_g_{name}.pth'), net.arch, **weights)
        if current_iter == -1:
            return
        # PyTorch before 2.4 loads no Counter where nothing is executed
        schedulers = [{k: dict(v) if isinstance(v, Counter) else v for k, v in s.state_dict().items()}
                      for s in self.schedulers]
        save_torch({'epoch': epoch, 'iter': current_iter, 'optimizers': [o.state_dict() for o in self.optimizers],
                    'schedulers': schedulers, 'skipped': self.skipped},
                   osp.join(path['training_states'], f'{current_iter}.state'))

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Resume from a state with the schedule of the option file, so that a run may be made longer.

        The learning rate stays the state's, as in BasicSR. The log names what differs.
        """
        asked = [(_schedule(s), s.base_lrs) for s in self.schedulers]
        try:
            super().resume_training(resume_state)
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:  # whatever torch trips over
            raise OptionError(f'path.resume_state: {self.opt["path"]["resume_state"]!r} does not fit network_g or '
                              f'train.optim_g: {" ".join(str(error).split())}') from None
        for scheduler, (schedule, rate) in zip(self.schedulers, asked):
            if _schedule(scheduler) != schedule:
                get_root_logger().info(f'scheduler: {dict(self.opt["train"]["scheduler"])} from now on, another until '
                                       'now')
                vars(scheduler).update(schedule)
            if scheduler.base_lrs != rate:
                get_root_logger().warning(
                    f'optim_g.lr: {rate[0]:g} in the option file, but the run that goes on has '
                    f'{scheduler.base_lrs[0]:g}, which counts; for another, start a new run from its weights '
                    '(path.pretrain_network_g)')
        self.skipped, self.last_iter = resume_state.get('skipped', 0), resume_state['iter']


def _schedule(scheduler: Any) -> dict[str, Any]:
    """What a scheduler was made with, without its position."""
    return {k: v for k, v in vars(scheduler).items()
            if not k.startswith('_') and k not in ('optimizer', 'last_epoch', 'base_lrs', 'verbose')}
