"""Ways to downscale an image and to restore it, behind one interface: IARN, and what a user would pick instead.

=================== ==================================================================================================
type                down -> up
=================== ==================================================================================================
``IARN``            the network of this package, every scale
``IRN``             one network per integer scale; elsewhere the pre-resize protocol: HR resized to the integer
                    multiple of the LR size, IRN, and the restored image resized back to the HR size
``SR``              bicubic LR, then a one-way network of BasicSR's registry; at a scale it is not made for, the network
                    of the next integer scale, and its result resized to the HR size
``spandrel``        the same with a network of which spandrel finds architecture and scale from the file
``payload``         coded detail in the low bits of the LR, which is an IARN's or, without weights, the bicubic one
``bicubic``         antialiased bicubic, plain bicubic interpolation
``least_squares``   antialiased bicubic D, its right inverse U: the HR image of least norm that has this LR
``area``            mean over the HR area, plain bicubic interpolation
``lanczos``         OpenCV's ``INTER_LANCZOS4`` both ways (it does not antialias)
=================== ==================================================================================================

Every LR and every restored image has 8-bit values: what would be stored is what is measured.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from iarn_basicsr import zoo
from iarn_basicsr.archs.grid import make_grid
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.archs.one_way import SpandrelNet, reaches, resized
from iarn_basicsr.checks import TEXT, Kind, Table, check_needed, check_values, listed, near, real, shown, whole
from iarn_basicsr.config.option_arguments import check_network, registered
from iarn_basicsr.errors import OptionError
from iarn_basicsr.inference import MOST_EFFORT
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.resample import bicubic_downscale, bicubic_lr, bicubic_upscale
from iarn_basicsr.ops.size import Size, check_lr_size, compute_padding, max_scale_of
from iarn_basicsr.payload import MAX_BITS
from iarn_basicsr.zoo.weights import read_weights

__all__ = ['METHODS', 'ONE_WAY', 'Method', 'MissingWeightsError', 'UnsupportedSizeError', 'build_method',
           'check_method', 'fingerprint']

ONE_WAY = ('SR', 'spandrel')  # types of methods whose LR is bicubic, whatever restores it
MEASURED = 2  # raised when a method of the same options gives other values, or more of them
COUNTED_LR = 48  # pixels; side of the LR image on which the operations of a one-way network are counted


class MissingWeightsError(OSError):
    """A weight file that the options name is not there; the method is left out of the tables, and they say so."""


class UnsupportedSizeError(ValueError):
    """A method that has no result at this size."""


class Method:
    """Downscale and restore. Images are RGB (1, 3, height, width) in [0, 1] with 8-bit values, in and out.

    Attributes:
        two_way: whether the LR is made for its own way back, rather than plain bicubic.
        weights: files whose content decides the result.
        nets: the networks by integer scale; an IARN stands under 0, every scale.
        device: where they are, and where images are expected.
    """

    two_way = True
    weights: tuple[str, ...] = ()
    nets: dict[int, Any] = {}
    device = torch.device('cpu')

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        """LR of ``size`` (h, w)."""
        raise NotImplementedError(type(self).__name__)

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        """Restored image of ``size`` (H, W)."""
        raise NotImplementedError(type(self).__name__)

    def check(self, hr: Size, lr: Size) -> None:
        """Raise :class:`UnsupportedSizeError`, saying why, if there is no result at these sizes."""

    def complexity(self, hr: Size, lr: Size) -> dict[str, float]:
        """``params``; ``macs_down`` and ``macs_up``, multiply-accumulates per HR pixel; resampling is not counted."""
        return {'params': 0, 'macs_down': 0, 'macs_up': 0}

    def to(self, device: torch.device) -> Method:
        """The method with its networks on a device."""
        for net in self.nets.values():
            net.to(device)
        self.device = device
        return self


class Interpolation(Method):
    """No parameters: a pair of resizes."""

    def __init__(self, down: Callable[[Tensor, Size], Tensor], up: Callable[[Tensor, Size], Tensor]) -> None:
        self._down, self._up = down, up

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        return quantise(self._down(hr, size))

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        return quantise(self._up(lr, size))


class IARNMethod(Method):
    """This package's network; ``weights`` is a released name or a file."""

    def __init__(self, weights: str = zoo.DEFAULT) -> None:
        self.weights = (_weight_file(weights), )
        self.net = IARN.from_file(self.weights[0])
        self.nets = {0: self.net}

    def check(self, hr: Size, lr: Size) -> None:
        _check_range(hr, lr, self.net)

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        return quantise(self.net.downscale(hr, size).lr)

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        return quantise(self.net.upscale(lr, size))

    def complexity(self, hr: Size, lr: Size) -> dict[str, float]:
        cost = self.net.complexity(hr, lr)
        return {'params': cost['params'], 'macs_down': cost['macs_per_pixel'], 'macs_up': cost['macs_per_pixel']}


class PayloadMethod(Method):
    """Coded detail in the low bits of the LR, as ``iarn downscale --payload`` makes it.

    Args:
        bits: of each LR sample, 0 to 3.
        weights: released name or file of the IARN that predicts, or ``none``.
        effort: gradient steps on the LR.

    Raises:
        MissingCodecError: if Pillow has no AVIF.
    """

    def __init__(self, bits: float, weights: str = zoo.NONE, effort: int = 0) -> None:
        self.weights = () if weights == zoo.NONE else (_weight_file(weights), )
        self._rescaler = Rescaler.load(weights, 'cpu', payload=bits, effort=effort)
        self.net = self._rescaler.net
        self.nets = {0: self.net}

    def to(self, device: torch.device) -> Method:
        made = self._rescaler
        self._rescaler = Rescaler(self.net, made.name, str(device), payload=made.payload,
                                  effort=made.effort)
        return super().to(device)

    def check(self, hr: Size, lr: Size) -> None:
        _check_range(hr, lr, self.net)

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        return self._rescaler.downscale(hr, size=size)

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        return self._rescaler.upscale(lr, size=size)

    def complexity(self, hr: Size, lr: Size) -> dict[str, float]:
        """A payload needs a prediction; a step of effort goes forward and back, which counts as three passes."""
        if not self.net.blocks:
            return super().complexity(hr, lr)
        cost, made = self.net.complexity(hr, lr), self._rescaler
        passes = 1 + bool(made.payload) + (3 * made.effort + 1 if made.effort else 0)
        macs = cost['macs_per_pixel']
        return {'params': cost['params'], 'macs_down': passes * macs, 'macs_up': macs}


class PerScale(Method):
    """Networks that know one integer scale each: the smallest that reaches the scale asked for does the work."""

    def __init__(self, nets: Mapping[int, nn.Module], weights: tuple[str, ...]) -> None:
        self.nets = {k: nets[k].eval() for k in sorted(nets)}
        self.weights = weights

    def factor(self, hr: Size, lr: Size) -> int:
        """Integer scale of the network used at these sizes."""
        for k in self.nets:
            if reaches(k, hr, lr):
                return k
        raise UnsupportedSizeError(f'no network for a scale of {max_scale_of(hr, lr):.4g}; there are '
                                   f'{", ".join(f"x{k}" for k in self.nets)}')

    def check(self, hr: Size, lr: Size) -> None:
        self.factor(hr, lr)

    def _params(self, hr: Size, lr: Size) -> int:
        return sum(p.numel() for p in self.nets[self.factor(hr, lr)].parameters() if p.requires_grad)


class IRNMethod(PerScale):
    """IRN (arXiv:2005.05650), one network per scale, with the pre-resize protocol between them."""

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        k = self.factor(_size(hr), size)
        return quantise(self.nets[k].downscale(resized(hr, (k * size[0], k * size[1])), size).lr)

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        k = self.factor(size, _size(lr))
        h, w = _size(lr)
        return quantise(resized(self.nets[k].upscale(lr, (k * h, k * w)), size))

    def complexity(self, hr: Size, lr: Size) -> dict[str, float]:
        k = self.factor(hr, lr)
        macs = self.nets[k].complexity((k * lr[0], k * lr[1]), lr)['macs'] / (hr[0] * hr[1])
        return {'params': self._params(hr, lr), 'macs_down': macs, 'macs_up': macs}


class SRMethod(PerScale):
    """One-way super-resolution networks behind a bicubic LR.

    Args:
        nets: scale -> network (N, 3, h, w) -> (N, 3, k h, k w) in [0, 1].
        multiple: scale -> what the LR size is extended to a multiple of, by reflection (SwinIR's window).
    """

    two_way = False

    def __init__(self, nets: Mapping[int, nn.Module], weights: tuple[str, ...], multiple: Mapping[int, int]) -> None:
        super().__init__(nets, weights)
        self.multiple = multiple

    def check(self, hr: Size, lr: Size) -> None:
        multiple = self.multiple[self.factor(hr, lr)]
        if any(-n % multiple >= n for n in lr):
            raise UnsupportedSizeError(f'an LR of {lr[0]}x{lr[1]} cannot be reflected up to multiples of {multiple}')

    def downscale(self, hr: Tensor, size: Size) -> Tensor:
        return bicubic_lr(hr, size)

    def upscale(self, lr: Tensor, size: Size) -> Tensor:
        k = self.factor(size, _size(lr))
        pad, unpad = compute_padding(_size(lr), self.multiple[k])
        hr = F.pad(self.nets[k](F.pad(lr, pad, mode='reflect')), [k * n for n in unpad])
        return quantise(resized(hr, size))

    def complexity(self, hr: Size, lr: Size) -> dict[str, float]:
        k = self.factor(hr, lr)
        net, side = self.nets[k], self._counted_side(k)
        image = next(net.parameters()).new_zeros(1, 3, side, side)
        with FlopCounterMode(display=False) as counter:
            net(image)
        per_lr_pixel = counter.get_total_flops() / 2 / side**2
        return {'params': self._params(hr, lr), 'macs_down': 0,
                'macs_up': per_lr_pixel * lr[0] * lr[1] / (hr[0] * hr[1])}

    def _counted_side(self, k: int) -> int:
        return COUNTED_LR + -COUNTED_LR % self.multiple[k]


class SpandrelMethod(SRMethod):
    """One-way networks that spandrel found from their files; they extend their LR themselves."""

    def __init__(self, nets: Mapping[int, SpandrelNet], weights: tuple[str, ...]) -> None:
        super().__init__(nets, weights, dict.fromkeys(nets, 1))

    def _counted_side(self, k: int) -> int:
        return self.nets[k].padded_side(COUNTED_LR)


def _size(x: Tensor) -> Size:
    return x.shape[-2], x.shape[-1]


def _lanczos(x: Tensor, size: Size) -> Tensor:
    """OpenCV's Lanczos over 8 x 8 pixels."""
    image = cv2.resize(x[0].permute(1, 2, 0).cpu().numpy(), size[::-1], interpolation=cv2.INTER_LANCZOS4)
    return torch.from_numpy(image).permute(2, 0, 1)[None].to(x)


def _area_down(x: Tensor, size: Size) -> Tensor:
    return make_grid(_size(x), size, 'area', 1, x.dtype, x.device).down(x)


def _right_inverse_up(x: Tensor, size: Size) -> Tensor:
    return make_grid(size, _size(x), 'cubic', 1, x.dtype, x.device).up(x)


_INTERPOLATIONS: dict[str, tuple[Callable[[Tensor, Size], Tensor], Callable[[Tensor, Size], Tensor]]] = {
    'bicubic': (bicubic_downscale, bicubic_upscale),
    'least_squares': (bicubic_downscale, _right_inverse_up),
    'area': (_area_down, bicubic_upscale),
    'lanczos': (_lanczos, _lanczos),
}
METHODS = ('IARN', 'IRN', *ONE_WAY, 'payload', *_INTERPOLATIONS)
_NETS = Kind('a list of {scale: 2, path: FILE, network: {type: ...}}', lambda v: isinstance(v, list) and len(v) > 0)
_FILE = Kind('the name of a file', lambda v: isinstance(v, str) and v.isprintable() and v != '')
_KEYS: dict[str, Table] = {
    'IARN': {'weights': _FILE},
    'payload': {'bits': real(0, MAX_BITS), 'weights': _FILE, 'effort': whole(0, MOST_EFFORT, point=False)},
    'IRN': {'nets': _NETS},
    'SR': {'nets': _NETS},
    'spandrel': {'path': _FILE, 'paths': listed(_FILE, least=1)},
}
_NET: Table = {
    'scale': whole(2, 8, point=False),
    'path': _FILE,
    'network': Kind('a mapping with type and its options', lambda v: isinstance(v, dict)),
    'multiple': whole(1, 1024, point=False),
}


def build_method(name: str, options: Mapping[str, Any]) -> Method:
    """The method that an option file describes.

    Args:
        name: of the method, for messages.
        options: ``type`` and, by type, ``weights`` (IARN: released name or file; ``default``), ``bits``, ``weights``
            and ``effort`` (payload, see :class:`PayloadMethod`), ``nets`` (IRN, SR): a list of ``{scale, path,
            network: options of the architecture, multiple}``, or ``path`` (spandrel): a file; of several scales
            ``paths``.

    Raises:
        MissingCodecError: for a payload, if Pillow has no AVIF.
        OptionError: naming the option.
        WeightsError: naming the file.
        MissingWeightsError: naming the file.
    """
    check_method(name, options)
    section, kind = f'methods.{name}', options['type']
    if kind in _INTERPOLATIONS:
        return Interpolation(*_INTERPOLATIONS[kind])
    if kind == 'IARN':
        return IARNMethod(options.get('weights', 'default'))
    if kind == 'payload':
        return PayloadMethod(**{k: v for k, v in options.items() if k != 'type'})
    return _spandrel(section, options) if kind == 'spandrel' else _per_scale(section, kind, options)


def check_method(name: str, options: Any) -> None:
    """Raise :class:`OptionError` as :func:`build_method` would, before weights are looked for."""
    section = f'methods.{name}'
    kind = options.get('type') if isinstance(options, Mapping) else None
    if kind not in METHODS:
        if not isinstance(options, Mapping):
            raise OptionError(f'{section}: {shown(options)}; expected a mapping with type and what belongs to it')
        raise OptionError(f'{section}.type: {shown(kind)} is no method; {near(kind, METHODS)}')
    check_values(section, options, {'type': TEXT, **_KEYS.get(kind, {})})
    if kind == 'spandrel' and ('path' in options) == ('paths' in options):
        raise OptionError(f'{section}: expected path: FILE or, for several scales, paths: [FILE, FILE]')
    if kind == 'payload':
        check_needed(section, options, ['bits'], _KEYS[kind])
        if options.get('effort') and options.get('weights', zoo.NONE) == zoo.NONE:
            raise OptionError(f'{section}.effort: {options["effort"]}; these steps go through a network: name its '
                              'weights, or leave effort out')
    if kind in ('IRN', 'SR'):
        check_needed(section, options, ['nets'], _KEYS[kind])
        for k, entry in enumerate(options['nets']):
            _check_net(f'{section}.nets[{k}]', kind, entry)


def _check_net(place: str, kind: str, entry: Any) -> None:
    check_values(place, entry, _NET if kind == 'SR' else {k: v for k, v in _NET.items() if k != 'multiple'})
    check_needed(place, entry, ['scale', 'path'], _NET)
    if 'network' in entry:
        check_network(f'{place}.network', entry['network'], complete=False)  # its weight file may say the rest


def _spandrel(section: str, options: Mapping[str, Any]) -> SpandrelMethod:
    """Networks whose scale is found from the file."""
    paths = options['paths'] if 'paths' in options else [options['path']]
    nets: dict[int, SpandrelNet] = {}
    for path in paths:
        _need(path)
        net = SpandrelNet.from_file(path)
        if net.scale in nets:
            raise OptionError(f'{section}.paths: {path} is for x{net.scale}, as another is; give one file a scale')
        nets[net.scale] = net
    return SpandrelMethod(nets, tuple(paths))


def _per_scale(section: str, kind: str, options: Mapping[str, Any]) -> PerScale:
    """Networks of BasicSR's registry, IRN or SR."""
    nets, multiple, weights = {}, {}, []
    for k, entry in enumerate(options['nets']):
        scale = entry['scale']
        nets[scale] = _network(f'{section}.nets[{k}]', kind, scale, entry)
        multiple[scale] = entry.get('multiple', 1)
        weights += [entry['path'], *_own_source(nets[scale])]
    return IRNMethod(nets, tuple(weights)) if kind == 'IRN' else SRMethod(nets, tuple(weights), multiple)


def _network(place: str, kind: str, scale: int, entry: Mapping[str, Any]) -> nn.Module:
    """A network of BasicSR's registry with its weights."""
    path = entry['path']
    _need(path)
    state, arch = read_weights(path)
    options = dict(entry.get('network') or arch or ({'type': 'IRN', 'scale': scale} if kind == 'IRN' else {}))
    arch_type = options.pop('type', None)
    architecture = registered(f'{place}.network.type', arch_type, ARCH_REGISTRY)
    try:
        net = architecture(**options)
        net.load_state_dict(state)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f'{place}: {path} does not fit network {arch_type} {options}: '
                          f'{" ".join(str(error).split())[:600]}') from None
    return net


def _own_source(net: nn.Module) -> list[str]:
    """The file that defines a network of the user's own: its results change with it as with the weights."""
    if type(net).__module__.partition('.')[0] in ('basicsr', 'iarn_basicsr'):
        return []
    return [path for path in [inspect.getsourcefile(type(net))] if path and os.path.isfile(path)]


def _weight_file(weights: str) -> str:
    """Path of the weights of an IARN, by released name or file."""
    if weights not in (zoo.DEFAULT, *zoo.list_models()):
        _need(weights)
    return zoo.resolve(weights)[0]


def _check_range(hr: Size, lr: Size, net: IARN) -> None:
    try:
        check_lr_size(hr, lr, net.max_scale)
    except ValueError as error:
        raise UnsupportedSizeError(str(error)) from None


def _remark(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def _need(path: str) -> None:
    if not os.path.isfile(path):
        raise MissingWeightsError(f'weights not found: {path} (scripts/bench/fetch_weights.py fetches official ones)')


def fingerprint(options: Mapping[str, Any], method: Method) -> str:
    """Changes when the method's options or its weights do, or what is measured: older results are not used again."""
    digest = hashlib.sha256(f'{MEASURED}{sorted(options.items())!r}'.encode())
    for path in method.weights:
        with open(path, 'rb') as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()[:16]
