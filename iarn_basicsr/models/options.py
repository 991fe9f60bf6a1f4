"""What ``IARNModel`` takes from an option file: values from the schema, and what several sections must agree on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from iarn_basicsr.config.schema import DEFAULT_RANGE, TrainOptions, ValOptions, check
from iarn_basicsr.errors import IARNError, OptionError
from iarn_basicsr.ops.size import parse_scale, scale_label

__all__ = ['check_network', 'read_options', 'section']


@contextmanager
def section(name: str) -> Iterator[None]:
    """What BasicSR's registries, torch and other constructors say to the options of a section, in one line."""
    try:
        yield
    except IARNError:
        raise
    except (AssertionError, AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise OptionError(f'{name}: {" ".join(str(text).split()) or type(error).__name__}') from None


def read_options(opt: Mapping[str, Any]) -> tuple[TrainOptions | None, ValOptions]:
    """Sections ``train``, which a test has not, and ``val``, which may be missing.

    Raises:
        OptionError: naming the key, if a value is wrong or does not fit the processes or the batch.
    """
    if opt['num_gpu'] > 1 and not opt['dist']:
        raise OptionError(f'num_gpu: {opt["num_gpu"]} without a launcher: start one process per GPU with '
                          'torchrun ... --launcher pytorch, or set num_gpu: 1')
    val = check('val', ValOptions, opt.get('val') or {})
    if not opt['is_train']:
        return None, val
    train, data = check('train', TrainOptions, opt['train']), opt['datasets'].get('train') or {}
    if train.grad_accumulation > data.get('batch_size_per_gpu', 16):
        raise OptionError(f'train.grad_accumulation: {train.grad_accumulation} parts cannot be made of '
                          f'datasets.train.batch_size_per_gpu: {data["batch_size_per_gpu"]}')
    return train, val


def check_network(net: nn.Module, opt: Mapping[str, Any]) -> None:
    """Raise ``OptionError``, naming the key, unless the network serves both directions, all scales and the losses."""
    if not callable(getattr(net, 'upscale', None)):
        raise OptionError(f'network_g.type: {type(net).__name__!r} does not downscale and restore: choose IARN or IRN, '
                          'or another model_type')
    network: Any = net
    low, high = network.min_scale, network.max_scale
    span = scale_label(low) + (' alone' if low == high else f' to {scale_label(high)}')
    for phase, dataset in opt['datasets'].items():
        keys = 'scale', 'scales', 'scale_range'
        dataset = {'scale': opt.get('scale'), **dataset}  # as BasicSR does
        if phase == 'train' and dataset.get('type') == 'ArbitraryScaleDataset' and not any(map(dataset.get, keys)):
            dataset = {'scale_range': DEFAULT_RANGE}
        for key in keys:
            asked = dataset.get(key) or []
            for scale in asked if isinstance(asked, (list, tuple)) else [asked]:
                if not all(low <= s <= high for s in parse_scale(scale)):
                    raise OptionError(f'datasets.{phase}.{key}: {scale_label(scale)} is out of range for network_g, '
                                      f'{type(net).__name__} for {span}')
    if opt['is_train'] and opt['train'].get('inv_opt') and network.hparams.get('split') != 'cubic_interp':
        raise OptionError('train.inv_opt serves IARN with split: cubic_interp, where the low branch may leave what '
                          'the LR holds; leave it out')
