"""Where a run goes on: the state that is named, or the newest one that is whole."""

from __future__ import annotations

import logging
import os
from os import path as osp
from typing import Any

import torch

from iarn_basicsr.errors import OptionError, WeightsError
from iarn_basicsr.zoo.weights import read_weights

__all__ = ['load_resume_state']

_logger = logging.getLogger('iarn_basicsr')


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """The state to resume from, or None for a new run; writes into ``opt`` where its files lie and where it goes on.

    ``--auto_resume`` takes the newest whole state of the run's own folder, with weights that are whole, and says so
    where that is not the newest one; ``path.resume_state`` names one.

    Raises:
        OptionError: naming the file, if it is missing, damaged or not a training state.
    """
    from basicsr.utils import check_resume

    path = opt['path'].get('resume_state')
    state = _newest_whole_state(opt) if opt['auto_resume'] else _read_state(path) if path else None
    if state:
        check_resume(opt, state['iter'])
        opt['datasets']['train']['start_iter'] = state['iter']
    return state


def _read_state(path: str) -> dict[str, Any]:
    """A ``.state`` file; nothing in it is executed."""
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        if {'epoch', 'iter', 'optimizers', 'schedulers'} <= state.keys() and isinstance(state['iter'], int):
            return state
        problem = 'is not a training state'
    except OSError as error:
        problem = f'cannot be read ({error.strerror or error})'
    except Exception as error:  # whatever unpickling makes of other bytes
        problem = f'is damaged or cut short, or not a training state ({type(error).__name__})'
    raise OptionError(f'path.resume_state: {path!r} {problem}: name a file training_states/ITER.state')


def _newest_whole_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """The newest state that can be resumed, with its path in ``opt``; None where there is no state at all.

    Raises:
        OptionError: if there are states and none can be used, for a new run would put the old one away.
    """
    folder, left_out = opt['path']['training_states'], opt['path'].get('ignore_resume_networks') or []
    networks = [key[len('network_'):] for key in opt if key.startswith('network_') and key not in left_out]
    names = os.listdir(folder) if osp.isdir(folder) else []
    problem = ''
    for iteration in sorted((int(n[:-6]) for n in names if n.endswith('.state') and n[:-6].isdigit()), reverse=True):
        path = osp.join(folder, f'{iteration}.state')
        try:
            state = _read_state(path)
            for network in networks:
                read_weights(osp.join(opt['path']['models'], f'net_{network}_{iteration}.pth'))
        except (OptionError, WeightsError) as error:
            problem = problem or str(error)
            continue
        if problem and opt['rank'] == 0:
            _logger.warning('%s; resuming from %s', problem, path)
        opt['path']['resume_state'] = path
        return state
    if problem:
        raise OptionError(f'--auto_resume: no saved state in {folder!r} is whole ({problem}); start anew without '
                          '--auto_resume')
    return None
