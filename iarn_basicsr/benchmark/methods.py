"""Ways to downscale an image and to restore it, behind one interface: IARN, and what a user would pick instead.

README.md has the table of them. Every LR and every restored image has 8-bit values: what would be stored is what is
measured.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import basicsr.archs
import cv2
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from msgspec import structs
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import iarn_basicsr.plugin  # noqa: F401  (registers what is known already)
from iarn_basicsr import zoo
from iarn_basicsr.archs.grid import make_grid
from iarn_basicsr.archs.one_way import PaddedNet, SpandrelNet, reaches, resized
from iarn_basicsr.config.benchmark_schema import NetOptions, check_method
from iarn_basicsr.errors import OptionError, shortened, suggestion
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import bicubic_downscale, bicubic_lr, bicubic_upscale
from iarn_basicsr.ops.size import Size, check_lr_size, max_scale_of
from iarn_basicsr.version import __version__
from iarn_basicsr.zoo.weights import read_weights

__all__ = ['ONE_WAY', 'Method', 'UnavailableError', 'UnsupportedSizeError', 'build_method', 'fingerprint',
           'import_networks', 'size_of']

ONE_WAY = ('SR', 'spandrel')  # types of methods whose LR is bicubic, whatever restores it
COUNTED_LR = 48  # pixels; side of the LR image on which the operations of a one-way network are counted
CPU = torch.device('cpu')
Resize = Callable[[Tensor, Size], Tensor]


class UnavailableError(Exception):
    """What a method needs is not here: its weights, its network or spandrel. The tables leave it out, and say so."""


class UnsupportedSizeError(ValueError):
    """A method has no result at this size."""


class Method:
    """Downscale and restore. Images are RGB (1, 3, height, width) in [0, 1] with 8-bit values, in and out.

    Attributes:
        two_way: whether the LR is made for its own way back, rather than plain bicubic.
        weights: files whose content decides the result.
        device: where images are expected.
    """

    two_way = True
    weights: tuple[str, ...] = ()
    device = CPU

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        """LR of ``size`` (h, w)."""
        raise NotImplementedError

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        """Restored image of ``size`` (H, W)."""
        raise NotImplementedError

    def check(self, hr: Size, lr: Size) -> None:
        """Raise ``UnsupportedSizeError``, saying why, if there is no result at these sizes."""

    def complexity(self, hr: Size, lr: Size) -> dict[str, float]:
        """``params``; ``macs_down`` and ``macs_up``, multiply-accumulates per HR pixel; resampling is not counted."""
        return {'params': 0, 'macs_down': 0, 'macs_up': 0}


class Interpolation(Method):
    """No parameters: a pair of resizes."""

    def __init__(self, down: Resize, up: Resize, device: torch.device) -> None:
        self._down, self._up, self.device = down, up, device

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        return quantise(self._down(hr, size))

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        return quantise(self._up(lr, size))


class IARNMethod(Method):
    """This package's network as ``Rescaler`` applies it, with or without coded detail in the low bits of the LR.

    Args:
        weights: released name or file; ``none``: no network, a bicubic LR and its right inverse, by which the restored
            image is the one of least norm that has this LR.
        bits: of each LR sample, 0 to 3, that hold coded detail.
        effort: gradient steps on the LR.

    Raises:
        MissingCodecError: for ``bits``, if Pillow has no AVIF.
    """

    def __init__(self, device: torch.device, weights: str, bits: float, effort: int) -> None:
        if weights not in (zoo.NONE, zoo.DEFAULT, *zoo.list_models()):
            _need(weights)
        self.weights = () if weights == zoo.NONE else (zoo.resolve(weights)[0], )
        self.device = device
        self.rescaler = Rescaler.load(weights, str(device), payload=bits, effort=effort)
        self.net = self.rescaler.net

    def check(self, hr: Size, lr: Size) -> None:
        try:
            check_lr_size(hr, lr, self.net.max_scale)
        except ValueError as error:
            raise UnsupportedSizeError(str(error)) from None

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        return self.rescaler.downscale(hr, size=size)

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        return self.rescaler.upscale(lr, size=size)

    def complexity(self, hr: Size, lr: Size) -> dict[str, float]:
        """A payload needs a prediction; a step of effort goes forward and back, which counts as three passes."""
        if not self.net.blocks:
            return super().complexity(hr, lr)
        cost, effort = self.net.complexity(hr, lr), self.rescaler.effort
        passes = 1 + bool(self.rescaler.payload) + (3 * effort + 1 if effort else 0)
        macs = cost['macs_per_pixel']
        return {'params': cost['params'], 'macs_down': passes * macs, 'macs_up': macs}


class PerScale(Method):
    """Networks that know one integer scale each: the smallest that reaches the scale asked for does the work."""

    def __init__(self, nets: Mapping[int, Any], weights: Sequence[str], device: torch.device) -> None:
        self.nets = {k: nets[k].eval().to(device) for k in sorted(nets)}
        self.weights, self.device = tuple(weights), device

    def factor(self, hr: Size, lr: Size) -> int:
        """Integer scale of the network used at these sizes."""
        for k in self.nets:
            if reaches(k, hr, lr):
                return k
        raise UnsupportedSizeError(f'no network for a scale of {max_scale_of(hr, lr):.4g}; there are '
                                   f'{", ".join(f"x{k}" for k in self.nets)}')

    def check(self, hr: Size, lr: Size) -> None:
        self.factor(hr, lr)

    def _params(self, k: int) -> int:
        return sum(p.numel() for p in self.nets[k].parameters() if p.requires_grad)


class IRNMethod(PerScale):
    """IRN (arXiv:2005.05650), one network per scale, with the pre-resize protocol between them."""

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        k = self.factor(size_of(hr), size)
        return quantise(self.nets[k].downscale(resized(hr, (k * size[0], k * size[1])), size).lr)

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        k = self.factor(size, size_of(lr))
        h, w = size_of(lr)
        return quantise(resized(self.nets[k].upscale(lr, (k * h, k * w)), size))

    def complexity(self, hr: Size, lr: Size) -> dict[str, float]:
        k = self.factor(hr, lr)
        macs = self.nets[k].complexity((k * lr[0], k * lr[1]), lr)['macs'] / (hr[0] * hr[1])
        return {'params': self._params(k), 'macs_down': macs, 'macs_up': macs}


class SRMethod(PerScale):
    """One-way networks behind a bicubic LR: ``PaddedNet`` or ``SpandrelNet`` by scale."""

    two_way = False

    def check(self, hr: Size, lr: Size) -> None:
        multiple = self.nets[self.factor(hr, lr)].multiple
        if any(-n % multiple >= n for n in lr):
            raise UnsupportedSizeError(f'an LR of {lr[0]}x{lr[1]} cannot be reflected up to multiples of {multiple}')

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        return bicubic_lr(hr, size)

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        return quantise(resized(self.nets[self.factor(size, size_of(lr))](lr), size))

    def complexity(self, hr: Size, lr: Size) -> dict[str, float]:
        k = self.factor(hr, lr)
        net = self.nets[k]
        side = net.padded_side(COUNTED_LR)
        image = next(net.parameters()).new_zeros(1, 3, side, side)
        with FlopCounterMode(display=False) as counter:
            net(image)
        macs = counter.get_total_flops() / 2 / side**2 * lr[0] * lr[1] / (hr[0] * hr[1])
        return {'params': self._params(k), 'macs_down': 0, 'macs_up': macs}


def size_of(x: Tensor) -> Size:
    """(height, width)."""
    return x.shape[-2], x.shape[-1]


def _lanczos(x: Tensor, size: Size) -> Tensor:
    image = cv2.resize(x[0].permute(1, 2, 0).cpu().numpy(), size[::-1], interpolation=cv2.INTER_LANCZOS4)
    return torch.from_numpy(image).permute(2, 0, 1)[None].to(x)


def _area_down(x: Tensor, size: Size) -> Tensor:
    return make_grid(size_of(x), size, 'area', 1, x.dtype, x.device).down(x)


INTERPOLATIONS: dict[str, tuple[Resize, Resize]] = {
    'bicubic': (bicubic_downscale, bicubic_upscale),
    'area': (_area_down, bicubic_upscale),
    'lanczos': (_lanczos, _lanczos),
}


def build_method(name: str, options: Mapping[str, Any], device: torch.device = CPU) -> Method:
    """The method that an option file describes by ``type`` and what ``config.benchmark_schema`` has for it.

    Raises:
        MissingCodecError: for a payload, if Pillow has no AVIF.
        OptionError: naming the option.
        WeightsError, UnavailableError: naming the file.
    """
    given: Any = check_method(name, options)
    kind, section = options['type'], f'methods.{name}'
    if kind in INTERPOLATIONS:
        return Interpolation(*INTERPOLATIONS[kind], device)
    if kind == 'IARN':
        return IARNMethod(device, **structs.asdict(given))
    if kind == 'spandrel':
        paths = [given.path] if isinstance(given.path, str) else given.path
        found: dict[int, SpandrelNet] = {}
        for path in paths:
            _need(path)
            if importlib.util.find_spec('spandrel') is None:
                raise UnavailableError('needs the package spandrel (pip install spandrel)')
            net = SpandrelNet.from_file(path)
            if net.scale in found:
                raise OptionError(f'{section}.path: {path} is for x{net.scale}, as another is; give one file a scale')
            found[net.scale] = net
        return SRMethod(found, paths, device)
    nets = {entry.scale: _network(f'{section}.nets[{k}]', kind, entry) for k, entry in enumerate(given.nets)}
    weights = [path for entry in given.nets for path in (entry.path, *_own_source(nets[entry.scale]))]
    if kind == 'IRN':
        return IRNMethod(nets, weights, device)
    return SRMethod({e.scale: PaddedNet(nets[e.scale], e.scale, e.multiple) for e in given.nets}, weights, device)


def _network(place: str, kind: str, entry: NetOptions) -> nn.Module:
    """A network of BasicSR's registry with its weights."""
    _need(entry.path)
    state, arch = read_weights(entry.path)
    options = dict(entry.network or arch or ({'type': 'IRN', 'scale': entry.scale} if kind == 'IRN' else {}))
    arch_type = options.pop('type', None)
    if arch_type not in ARCH_REGISTRY and f'{arch_type}_basicsr' not in ARCH_REGISTRY:
        raise UnavailableError(f'{place}.network.type: {shortened(arch_type)} is not registered with BasicSR (--import '
                               f'a module that does so); {suggestion(arch_type, ARCH_REGISTRY.keys())}')
    try:
        net = ARCH_REGISTRY.get(arch_type)(**options)
        net.load_state_dict(state)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f'{place}: {entry.path} does not fit network {arch_type} {options}: '
                          f'{" ".join(str(error).split())[:600]}') from None
    return net


def _own_source(net: nn.Module) -> list[str]:
    """The file that defines a network of the user's own: its results change with it as with the weights."""
    own = type(net).__module__.partition('.')[0] not in ('basicsr', 'iarn_basicsr')
    return [path for path in [inspect.getsourcefile(type(net))] if own and path and os.path.isfile(path)]


def _need(path: str) -> None:
    if not os.path.isfile(path):
        raise UnavailableError(f'weights not found: {path} (scripts/bench/fetch_weights.py fetches official ones)')


def fingerprint(options: Mapping[str, Any], method: Method) -> str:
    """Changes with the method's options, its weights and this package's version: older results are not used again."""
    digest = hashlib.sha256(f'{__version__}{sorted(options.items())!r}'.encode())
    for path in method.weights:
        with open(path, 'rb') as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()[:16]


def import_networks(modules: Sequence[str]) -> None:
    """Import modules that register networks with BasicSR: the user's own, which the command line names.

    Args:
        modules: names on ``sys.path``, or ``.py`` files, which may import what lies beside them. One in
            ``basicsr/archs`` of a fork of BasicSR finds the others there as ``basicsr.archs.NAME``.

    Raises:
        OptionError: naming the module, if it cannot be imported or registers no network.
    """
    for module in modules:
        before = set(ARCH_REGISTRY.keys())
        try:
            if module.endswith('.py'):
                _import_file(module)
            else:
                importlib.import_module(module)
        except (Exception, SystemExit) as error:  # whatever the module does
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
            raise OptionError(f'--import {module}: cannot be imported ({reason})') from None
        if set(ARCH_REGISTRY.keys()) == before:
            raise OptionError(f'--import {module}: registers no new network; write @ARCH_REGISTRY.register() above its '
                              'class (from basicsr.utils.registry import ARCH_REGISTRY)')


def _import_file(file: str) -> None:
    path = os.path.abspath(file)
    if not os.path.isfile(path):
        raise FileNotFoundError('there is no such file')
    folder = os.path.dirname(path)
    sys.path.append(folder)
    if folder.endswith(os.path.join('basicsr', 'archs')):  # of a fork: its other modules are found as in the fork
        basicsr.archs.__path__.append(folder)
    spec = importlib.util.spec_from_file_location(f'own_{os.path.basename(path)[:-3]}', path)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[loaded.__name__] = loaded
    spec.loader.exec_module(loaded)
