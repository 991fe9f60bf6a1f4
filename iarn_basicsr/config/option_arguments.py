"""Options that become arguments, checked by signatures: of networks, losses, metrics, optimisers, schedulers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from basicsr.models import lr_scheduler
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY

from iarn_basicsr.archs.base import RescalingNet
from iarn_basicsr.checks import ANYTHING, FLAG, TEXT, Kind, Table, check_keys, check_values, near, place, real, shown
from iarn_basicsr.errors import OptionError

from .option_tables import ARGUMENTS, METRIC, SCHEDULERS

__all__ = ['check_loss', 'check_metric', 'check_network', 'check_optimiser', 'check_scheduler', 'registered']

_ON_GPU = ('fused', 'capturable')  # arguments of optimisers that depend on where the weights are


def registered(key: str, name: object, registry: Any) -> Any:
    """The object of a registered name; BasicSR's own may carry the suffix ``_basicsr``."""
    if not isinstance(name, str) or (name not in registry and f'{name}_basicsr' not in registry):
        raise OptionError(f'{key}: {shown(name)} is not registered with BasicSR; {near(name, registry.keys())}')
    return registry.get(name)


def check_network(section: str, options: Any, complete: bool = True) -> None:
    """The type is registered and takes every option given; a network of this package can be built.

    Args:
        section: where the options stand.
        options: ``type`` and arguments.
        complete: no argument that is needed is missing.
    """
    network = registered(f'{section}.type', _mapping(section, options).get('type'), ARCH_REGISTRY)
    arguments = {k: v for k, v in options.items() if k != 'type'}
    _check_call(section, arguments, network, options['type'], complete=complete)
    if complete and inspect.isclass(network) and issubclass(network, RescalingNet):
        with torch.device('meta'):  # without memory, and without a random number drawn
            net = network(**arguments)
        if not any(True for _ in net.parameters()):
            raise OptionError(f'{section}.num_block: {arguments.get("num_block")!r}; expected at least 1: a network '
                              'without blocks has nothing to train')


def check_loss(section: str, options: Any) -> None:
    """The type is registered, and takes what is given."""
    loss = registered(f'{section}.type', _mapping(section, options).get('type'), LOSS_REGISTRY)
    _check_call(section, {k: v for k, v in options.items() if k != 'type'}, loss, options['type'], ARGUMENTS)


def check_metric(section: str, options: Any, table: Table) -> None:
    """The type is registered, and has the arguments given: BasicSR's metrics swallow any other key.

    Args:
        section: where the options stand.
        options: of the metric.
        table: of keys that are not the metric's but the model's, or that the model reads in its own way.
    """
    metric = registered(f'{section}.type', _mapping(section, options).get('type'), METRIC_REGISTRY)
    if table and options['type'].endswith('_pt'):
        raise OptionError(f'{section}.type: {options["type"]!r} takes tensors, and is given arrays; expected '
                          f'{options["type"][:-3]}')
    if metric.__module__.partition('.')[0] in ('basicsr', 'iarn_basicsr'):  # another's may well read other keys
        named = {n for n, p in inspect.signature(metric).parameters.items() if p.kind is not p.VAR_KEYWORD}
        check_keys(section, options, {'type', 'better', *table, *named} - {'img', 'img2'})
    check_values(section, options, {**METRIC, **table}, others=True)
    own = {k: v for k, v in options.items() if k not in table and k not in ('type', 'better')}
    _check_call(section, own, metric, options['type'], METRIC, given=('img', 'img2', *table))


def check_optimiser(section: str, options: Any) -> torch.optim.Optimizer:
    """Any of ``torch.optim`` that can take a step with these arguments; returns one, for a scheduler to try."""
    known = [n for n, c in vars(torch.optim).items()
             if isinstance(c, type) and issubclass(c, torch.optim.Optimizer) and c is not torch.optim.Optimizer]
    kind = _mapping(section, options).get('type')
    if kind not in known:
        raise OptionError(f'{section}.type: {shown(kind)} is not an optimiser of torch.optim; {near(kind, known)}')
    optimiser = getattr(torch.optim, kind)
    arguments = {k: v for k, v in options.items() if k != 'type'}
    _check_call(section, arguments, optimiser, kind, ARGUMENTS, given=('params', ))
    if arguments.get('lr') is None:
        raise OptionError(f'{section}: option \'lr\' is missing; expected {ARGUMENTS["lr"].words}')

    def step() -> torch.optim.Optimizer:
        weight = torch.nn.Parameter(torch.zeros(1, 1, 1, 1))
        weight.grad = torch.zeros_like(weight)
        made = optimiser([weight], **{k: v for k, v in arguments.items() if k not in _ON_GPU})
        made.step()
        return made

    return _tried(section, options, step)


def check_scheduler(section: str, options: Any, optimiser: torch.optim.Optimizer, total_iter: object) -> None:
    """One of BasicSR's, with what it takes, that lasts for all iterations."""
    kind = _mapping(section, options).get('type')
    if not isinstance(kind, str) or kind not in SCHEDULERS:
        raise OptionError(f'{section}.type: {shown(kind)} is no scheduler; {near(kind, SCHEDULERS)}')
    scheduler = getattr(lr_scheduler, SCHEDULERS[kind])
    arguments = {k: v for k, v in options.items() if k != 'type'}
    _check_call(section, arguments, scheduler, kind, ARGUMENTS, given=('optimizer', 'last_epoch'))
    _tried(section, options, lambda: scheduler(optimiser, **arguments))
    periods = arguments.get('periods')
    if periods and isinstance(total_iter, (int, float)) and sum(periods) + 1 < total_iter:
        raise OptionError(f'{section}.periods: {shown(periods)} end at iteration {sum(periods):g}; expected a sum of '
                          f'at least train.total_iter, {total_iter:g}')


def _mapping(section: str, options: Any) -> Mapping[str, Any]:
    if not isinstance(options, Mapping):
        raise OptionError(f'{section}: {shown(options)}; expected a mapping with type and its options')
    return options


def _check_call(section: str, options: Mapping[str, Any], function: Callable[..., Any], name: str,
                table: Table | None = None, given: Iterable[str] = (), complete: bool = True) -> None:
    """Options are arguments that a function or class takes, of the kind that the table or their default tells.

    Args:
        section: where the options stand.
        options: the arguments.
        function: what takes them.
        name: its name.
        table: argument -> kind.
        given: arguments that come from elsewhere.
        complete: none of the others that is needed may be missing.
    """
    parameters = {n: p for n, p in inspect.signature(function).parameters.items() if n not in given}
    named = {n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        check_keys(section, options, named)
    kinds = {n: (table or {}).get(n) or _kind_of(p.default) for n, p in named.items()}
    check_values(section, options, kinds, others=True)
    for key, parameter in named.items():
        if complete and parameter.default is parameter.empty and key not in options:
            raise OptionError(f'{section}: option {key!r} of {name} is missing')


def _kind_of(default: object) -> Kind:
    """Kind of an argument with this default."""
    if isinstance(default, bool):
        return FLAG
    if isinstance(default, (int, float)):
        return real()
    return TEXT if isinstance(default, str) else ANYTHING


def _tried(section: str, options: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What is made; :class:`OptionError` with the reason if it cannot be."""
    try:
        return make()
    except Exception as error:  # whatever a class of another package says to arguments
        reason = ' '.join(f'{error}'.split()) or type(error).__name__
        given = ', '.join(f'{place("", k)}: {shown(v)}' for k, v in options.items())
        raise OptionError(f'{section}: {{{given}}} is refused: {reason[:300]}') from None
