"""Option files: read, completed from the file they are based on, changed from the command line, resumed.

An option file is YAML. Nothing in it is executed: the only tag that is understood is the one by which the plugin is
found, ``!!python/name:iarn_basicsr.plugin.__version__ ''``, and it is read as text. ``based_on: base.yml`` takes all
that a file does not say itself from another file, relative to it.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from os import path as osp
from typing import Any

import torch
import yaml

from iarn_basicsr.errors import OptionError, WeightsError, suggestion
from iarn_basicsr.files import save_text
from iarn_basicsr.pipeline.launch import say
from iarn_basicsr.zoo.weights import read_weights

__all__ = ['copy_option_file', 'load_resume_state', 'parse_options', 'read_option_file']

_FLOAT = re.compile(r'^[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+$')  # 1e-4: a number to YAML 1.2 and to people
_BASED_ON = 'based_on'
_MOST_BYTES = 10**6  # of an option file
_MOST_VALUES = 10**5


class _Loader(yaml.SafeLoader):
    """Plain YAML with ``1e-4`` as a number, and the tag that names this package."""


def _plugin_tag(loader: yaml.Loader, suffix: str, node: yaml.Node) -> str:
    if suffix.split('.')[0] != 'iarn_basicsr':
        raise yaml.constructor.ConstructorError(None, None, f'the tag !!python/name:{suffix} is not read: only names '
                                                'of iarn_basicsr are', node.start_mark)
    return suffix


def _ordered_dict(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    """As PyYAML writes an OrderedDict: a list with one list of pairs."""
    pairs = loader.construct_sequence(node, deep=True)  # type: ignore[arg-type]
    return dict(pairs[0] if pairs else [])


_Loader.add_implicit_resolver('tag:yaml.org,2002:float', _FLOAT, list('+-.0123456789'))
_Loader.add_multi_constructor('tag:yaml.org,2002:python/name:', _plugin_tag)
_Loader.add_constructor('tag:yaml.org,2002:python/object/apply:collections.OrderedDict', _ordered_dict)


def parse_options(root_path: str, is_train: bool = True, *,
                  check: Callable[[dict[str, Any], bool], None]) -> tuple[dict[str, Any], argparse.Namespace]:
    """BasicSR's ``parse_options`` behind a command line that is safe to type.

    Accepts ``--local-rank`` and ``--local_rank``; ``--force_yml a:b=value`` is parsed as YAML, never executed; text
    that is a number (``1e-4``) becomes one. ``check`` sees the options before anything else does.
    """
    from basicsr.utils import options

    args = _command_line(is_train).parse_args()
    if is_train and args.minutes is not None and not 0 < args.minutes < float('inf'):
        raise OptionError(f'--minutes: {args.minutes:g}; expected a number above 0')
    opt = read_option_file(args.opt)
    for entry in args.force_yml or []:
        override(opt, entry)
    if args.launcher == 'none' and 'RANK' in os.environ and os.environ.get('WORLD_SIZE', '1') != '1':
        raise OptionError(f'--launcher none in one of {os.environ["WORLD_SIZE"]} processes of torchrun: all would do '
                          'the same; pass --launcher pytorch')
    check(opt, is_train)
    opt = {key: value for key, value in opt.items() if value is not None}  # which BasicSR takes for sections
    with tempfile.TemporaryDirectory() as folder:
        processed = osp.join(folder, osp.basename(args.opt))
        with open(processed, 'w', encoding='utf-8') as file:
            yaml.safe_dump(opt, file, sort_keys=False)
        flags = [f for f in ('auto_resume', 'debug') if getattr(args, f)]
        argv, sys.argv = sys.argv, [sys.argv[0], '-opt', processed, '--launcher', args.launcher,
                                    *(f'--{flag}' for flag in flags)]
        init_dist = options.init_dist
        if opt['num_gpu'] == 0:  # NCCL, where there is a GPU, serves no tensors of the CPU
            options.init_dist = functools.partial(init_dist, backend='gloo')
        try:
            opt, _ = options.parse_options(root_path, is_train)
        finally:
            sys.argv, options.init_dist = argv, init_dist
    return opt, args


def _command_line(is_train: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='BasicSR with the IARN plugin. Results land below the current directory.',
        epilog='several GPUs (or CPU processes): torchrun --nproc_per_node=2 -m iarn_basicsr.train -opt FILE '
        '--launcher pytorch')
    parser.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='pytorch: torchrun')
    parser.add_argument('--auto_resume', action='store_true', help='go on from the newest saved state of this run')
    parser.add_argument('--debug', action='store_true', help='log and validate often')
    if is_train:
        parser.add_argument('--minutes', type=float, help='save and stop after so many; --auto_resume goes on')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument('--force_yml', nargs='+', metavar='SECTION:KEY=VALUE',
                        help='change options, for example train:ema_decay=0.99 datasets:train:gt_size=96')
    return parser


def read_option_file(path: str) -> dict[str, Any]:
    """The options of a file, with those of the file it is based on; numeric text (``1e-4``) as numbers.

    Raises:
        OptionError: naming the file, if it does not exist or is not an option file.
    """
    return _read(path, '-opt', ())


def _read(path: str, key: str, before: tuple[str, ...]) -> dict[str, Any]:
    if not osp.isfile(path):
        there = 'is a folder, name an option file' if osp.isdir(path) else 'does not exist'
        raise OptionError(f'{key}: {path!r} {there} (current directory {os.getcwd()})')
    try:
        opt = _yaml(_text(path))
    except OSError as error:
        raise OptionError(f'{key}: {path!r} cannot be read ({error.strerror})') from None
    except ValueError as error:
        raise OptionError(f'{key}: {path!r} is not valid YAML: {" ".join(str(error).split())}') from None
    if not isinstance(opt, dict):
        raise OptionError(f'{key}: {path!r} is not an option file: expected a YAML mapping with name, model_type, ...')
    if _BASED_ON not in opt:
        return opt
    base = osp.join(osp.dirname(path), str(opt.pop(_BASED_ON)))
    if osp.realpath(base) in (*before, osp.realpath(path)):
        raise OptionError(f'{path}, {_BASED_ON}: {base!r} is based on this file itself')
    return _merged(_read(base, f'{path}, {_BASED_ON}', (*before, osp.realpath(path))), opt)


def _text(path: str) -> str:
    """The text of a file in UTF-8, with or without a byte-order mark; ``ValueError`` for any other."""
    with open(path, 'rb') as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f'it has more than {_MOST_BYTES} bytes')
    if content[:2] in (b'\xff\xfe', b'\xfe\xff'):
        raise ValueError('it is utf-16; save it as utf-8')
    return content.decode('utf-8-sig')


def copy_option_file(path: str, folder: str) -> None:
    """Keep the option file of a run beside its results; of one that is based on another, what both say together."""
    if os.environ.get('RANK', '0') != '0':
        return  # one process writes
    text = _text(path)
    if _BASED_ON in _yaml(text):
        text = yaml.safe_dump(read_option_file(path), sort_keys=False, allow_unicode=True)
    command = ' '.join(' '.join(sys.argv).split()).encode('utf-8', 'replace').decode()  # a name may be of any bytes
    save_text(f'# {time.asctime()}: {command}\n{text}', osp.join(folder, osp.basename(path)))


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``own`` over ``base``, section by section; ``~`` leaves out what the base has."""
    merged = dict(base)
    for key, value in own.items():
        if value is None and key in base:
            del merged[key]
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merged(base[key], value)
        else:
            merged[key] = value
    return merged


def _yaml(text: str) -> Any:
    """Plain dicts, lists and values; ``ValueError`` in one line for what is not YAML or holds a tag not read here."""
    try:
        value = yaml.load(text, Loader=_Loader)
        if _count(value, {}) > _MOST_VALUES:
            raise ValueError(f'more than {_MOST_VALUES} values: the anchors (&, *) repeat each other')
    except RecursionError:
        raise ValueError('it is nested without end') from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:  # of values such as !!int abc
        raise ValueError(' '.join(str(error).split()) or type(error).__name__) from None
    return value


def _count(value: Any, counted: dict[int, int]) -> int:
    """The values in a value, those behind an anchor wherever it is repeated: nine lines of YAML can hold billions."""
    if id(value) not in counted:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        counted[id(value)] = 1 + sum(_count(v, counted) for v in inner)
    return counted[id(value)]


def override(opt: dict[str, Any], entry: str) -> None:
    """Set one option from ``section:key=value``; the sections must exist, the value is YAML, ``null`` leaves it out."""
    keys, separator, text = entry.partition('=')
    *sections, last = (k.strip() for k in keys.split(':'))
    if not separator or not last:
        raise OptionError(f'--force_yml {entry!r}: expected section:key=value')
    place = opt
    for section in sections:
        if not isinstance(place.get(section), dict):
            raise OptionError(f'--force_yml {entry!r}: no section {section!r}; {suggestion(section, place)}')
        place = place[section]
    try:
        value = _yaml(text)
    except ValueError as error:
        raise OptionError(f'--force_yml {entry!r}: the value is not valid YAML: {error}') from None
    place.pop(last, None)
    if value is not None:
        place[last] = value


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """The state to resume from, or None for a new run; tells the training set at which iteration it goes on.

    ``--auto_resume`` takes the newest whole state of the run's own folder, with weights that are whole, and says so
    where that is not the newest one; ``path.resume_state`` names one.

    Raises:
        OptionError, WeightsError: naming the file, if it is missing, damaged or not a training state.
    """
    from basicsr.utils import check_resume

    if opt['auto_resume']:
        path, state = _newest_whole_state(opt)
    else:
        path = opt['path'].get('resume_state')
        state = _read_state(path) if path else None
    if not path or state is None:
        return None
    opt['path']['resume_state'] = path
    check_resume(opt, state['iter'])
    opt['datasets']['train']['start_iter'] = state['iter']
    return state


def _read_state(path: str) -> dict[str, Any]:
    """A ``.state`` file; nothing in it is executed."""
    if not osp.isfile(path):
        raise OptionError(f'path.resume_state: {path!r} does not exist: name a file training_states/ITER.state')
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        raise OptionError(f'path.resume_state: {path!r} cannot be read ({error.strerror or error})') from None
    except Exception as error:  # what unpickling makes of bytes that are no pickle
        raise OptionError(f'path.resume_state: {path!r} is damaged or cut short, or not a training state '
                          f'({type(error).__name__}, {osp.getsize(path)} bytes)') from None
    if not isinstance(state, dict) or not {'epoch', 'iter', 'optimizers', 'schedulers'} <= state.keys():
        raise OptionError(f'path.resume_state: {path!r} is not a training state: name a training_states/ITER.state')
    if not isinstance(state['iter'], int) or state['iter'] < 0:
        raise OptionError(f'path.resume_state: {path!r} is damaged: its iteration is {str(state["iter"])[:40]!r}')
    return state


def _newest_whole_state(opt: dict[str, Any]) -> tuple[str | None, dict[str, Any] | None]:
    """Path and content of the newest state that can be gone on from; None twice where there is no state at all.

    Raises:
        OptionError: if there are states and none can be used, for a new run would put the old one away.
    """
    folder, networks = opt['path']['training_states'], [k[8:] for k in opt if k.startswith('network_')]
    left_out = opt['path'].get('ignore_resume_networks') or []
    problem = ''
    for iteration in _saved_iterations(folder):
        path = osp.join(folder, f'{iteration}.state')
        try:
            state = _read_state(path)
            for network in networks:
                if f'network_{network}' not in left_out:
                    read_weights(osp.join(opt['path']['models'], f'net_{network}_{iteration}.pth'))
        except (OptionError, WeightsError) as error:
            problem = problem or str(error)
            continue
        if problem and opt['rank'] == 0:
            say(f'iarn-train: {problem}; going on from {path}')
        return path, state
    if problem:
        raise OptionError(f'--auto_resume: no saved state in {folder!r} is whole ({problem}); start anew without '
                          '--auto_resume')
    return None, None


def _saved_iterations(folder: str) -> list[int]:
    """Iterations with a state, the last one first."""
    names = os.listdir(folder) if osp.isdir(folder) else []
    return sorted((int(n[:-6]) for n in names if n.endswith('.state') and n[:-6].isdigit()), reverse=True)
