"""Rescaling pictures with trained weights: arrays, tensors and files, of any size."""

from __future__ import annotations

import base64
import functools
import math
import numbers
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, Union, overload

import numpy as np
import torch

from iarn_basicsr import zoo
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import IARNError, MetadataError, NoMetadataError, OptionError, OtherWeightsError
from iarn_basicsr.ops.image import full_float32, to_levels, to_tensor
from iarn_basicsr.ops.jpeg import DEFAULT_QUALITY, QUALITIES, is_jpeg
from iarn_basicsr.ops.size import Scale, Size, check_hr_size, check_lr_size, lr_size
from iarn_basicsr.payload import MAX_BITS, bits, codec
from iarn_basicsr.payload.detail import MakePull, Predict, read_detail, write_detail
from iarn_basicsr.zoo.weights import weights_hash

from .effort import refine_tiled
from .limits import MOST_EFFORT, SMALLEST_TILE
from .lr_metadata import LRMetadata, checksum
from .memory import available_memory
from .payload import without_network
from .picture_file import (
    LOSSLESS_ENDINGS,
    Picture,
    eight_bit,
    is_gray_profile,
    read_picture,
    refuse_unwritable,
    write_picture,
)
from .text import shortened
from .tiling import (
    bicubic_downscale_tiled,
    bicubic_upscale_tiled,
    default_tile,
    downscale_tiled,
    tile_count,
    upscale_tiled,
)

__all__ = ['Rescaler', 'RoundTrip']

MEMORY_SHARE = 0.4  # of the memory that is free, for the tensors of one tile
MEMORY_LIMIT = 0.4e9  # bytes; larger tiles are not faster on a CPU
EFFORT_MEMORY = 2  # of a block, whose tensors a gradient step keeps, beside those of a restoration
Path = Union[str, 'os.PathLike[str]']
Array = TypeVar('Array', np.ndarray, torch.Tensor)


class RoundTrip(NamedTuple):
    """LR and restored image, in the type that was given; of a path, pictures."""

    lr: Any
    restored: Any


class Rescaler:
    """Downscale to any size and restore.

        rescaler = Rescaler.load('default')
        lr = rescaler.downscale(image, scale=2.5)
        restored = rescaler.upscale(lr, size=image.shape[:2])

    What goes in comes out: numpy uint8 (or uint16, of which the 8-bit LR keeps 8 bits) RGB of shape (H, W, 3), torch
    float tensors in [0, 1] of shape (3, H, W) or (N, 3, H, W), or a :class:`Picture`, as which the path of a file is
    read. ``downscale_file`` and ``upscale_file`` write files. The LR and the restored image have 8-bit values, which
    bfloat16 does not hold: of such tensors come float32 ones.

    Args:
        net: the network.
        name: of its weights, written into LR files.
        device: ``cuda`` where there is one, else ``cpu``, if None.
        tile: side of a tile in HR pixels, at least 64; from the free memory if None.
        say: receives remarks, one line each.
        payload: bits of each LR sample, 0 to 3, that hold coded detail when downscaling; ``auto``: as many as leave the
            LR about as near to bicubic as it is, 1 with a network and 2 without. An addition of this project's; when
            upscaling a payload is found by itself.
        effort: gradient steps on the LR when downscaling, see :func:`effort.refine_tiled`; 30 gain most of it.
        progress: called after every such step with the share of the picture that is done, up to 1.

    Raises:
        OptionError: naming the device, tile, payload or effort that cannot be used.
    """

    def __init__(self, net: IARN, name: str, device: str | None = None, tile: int | None = None,
                 say: Callable[[str], object] = lambda line: None, payload: float | str = 0, effort: int = 0,
                 progress: Callable[[float], object] = lambda share: None) -> None:
        if tile is not None and not (isinstance(tile, numbers.Integral) and tile >= SMALLEST_TILE):
            raise OptionError(f'tile {tile!r}: expected a whole number of HR pixels, at least {SMALLEST_TILE}')
        self.device = _usable_device(device if net.blocks else 'cpu')
        self.net = net.to(self.device).eval()
        self.name, self.tile, self.say, self.progress = name, tile, say, progress
        self.payload, self.effort = _checked_payload(payload, net), _checked_effort(effort, net)
        self.weights_hash = weights_hash(net.state_dict())

    @classmethod
    def load(cls, weights: Path = zoo.DEFAULT, device: str | None = None, tile: int | None = None,
             say: Callable[[str], object] = lambda line: None, payload: float | str = 0, effort: int = 0,
             progress: Callable[[float], object] = lambda share: None) -> Rescaler:
        """From the name of released weights (see ``list_models``) or a ``.pth`` or ``.safetensors``.

        ``none`` stands for no weights: the bicubic LR and its right inverse, to which a payload adds the detail.

        Raises:
            WeightsError: naming the file or name, if there is none such or it is for another network.
            OptionError: naming the device, tile, payload or effort that cannot be used.
        """
        if weights == zoo.NONE:
            return cls(IARN(num_block=0, extra_channels=0), zoo.NONE, device, tile, say, payload, effort, progress)
        path, name = zoo.resolve(os.fspath(weights))
        return cls(IARN.from_file(path), name, device, tile, say, payload, effort, progress)

    # ------------------------------------------------------------------------------------ arrays, tensors, pictures

    @overload
    def downscale(self, image: Array, scale: Scale | None = None, size: Size | None = None) -> Array:
        ...

    @overload
    def downscale(self, image: Path | Picture, scale: Scale | None = None, size: Size | None = None) -> Picture:
        ...

    def downscale(self, image: np.ndarray | torch.Tensor | Path | Picture, scale: Scale | None = None,
                  size: Size | None = None) -> np.ndarray | torch.Tensor | Picture:
        """LR of an image, by ``scale`` (2.5, (1.5, 3), '1.5x3') or to ``size`` (h, w).

        Of a picture or path: a :class:`Picture` with the metadata to restore it.

        Raises:
            OptionError: if not just one of ``scale`` and ``size`` is given, or the image is of another kind.
            SizeError: if the LR would be out of the network's range.
            ImageError: naming the file, if it cannot be read.
        """
        if isinstance(image, (str, os.PathLike)):
            with _naming(os.fspath(image)) as path:
                return self._downscale_picture(read_picture(path), scale, size)
        if isinstance(image, Picture):
            return self._downscale_picture(image, scale, size)
        return _apply(image, lambda rgb: self._down(rgb, self.lr_size(_size(rgb), scale, size)))

    @overload
    def upscale(self, lr: Array, size: Size | None = None, force: bool = False) -> Array:
        ...

    @overload
    def upscale(self, lr: Path | Picture, size: Size | None = None, force: bool = False) -> Picture:
        ...

    def upscale(self, lr: np.ndarray | torch.Tensor | Path | Picture, size: Size | None = None,
                force: bool = False) -> np.ndarray | torch.Tensor | Picture:
        """Restore to ``size`` (H, W); a picture or path with a metadata needs none.

        Args:
            lr: the LR image.
            size: of the restored image.
            force: restore a picture that its metadata refuses, see :meth:`restored_size`.

        Raises:
            OptionError: if the size is missing or the image is of another kind.
            SizeError, MetadataError, ImageError: as of :meth:`restored_size` and :meth:`downscale`.
        """
        if isinstance(lr, (str, os.PathLike)):
            with _naming(os.fspath(lr)) as path:
                return self._upscale_picture(read_picture(path), size, force)
        if isinstance(lr, Picture):
            return self._upscale_picture(lr, size, force)
        if size is None:
            raise OptionError('upscale needs size=(H, W): pixels alone do not say how large the original was')
        return _apply(lr, lambda rgb: self._up(rgb, check_hr_size(_size(rgb), size, self.net.max_scale)))

    def roundtrip(self, image: np.ndarray | torch.Tensor | Path | Picture, scale: Scale | None = None,
                  size: Size | None = None) -> RoundTrip:
        """Down and up again; raises as :meth:`downscale` does."""
        lr = self.downscale(image, scale, size)
        if isinstance(image, torch.Tensor):
            return RoundTrip(lr, self.upscale(lr, (image.shape[-2], image.shape[-1])))
        return RoundTrip(lr, self.upscale(lr, _size(image) if isinstance(image, np.ndarray) else None))

    # -------------------------------------------------------------------------------------------------------- files

    def downscale_file(self, source: Path, target: Path, scale: Scale | None = None, size: Size | None = None,
                       allow_lossy: bool = False, quality: int | None = None) -> Picture:
        """Read, downscale, write; returns the LR picture. Raises as :meth:`downscale` does.

        A JPEG (of ``quality`` 1 to 100 and halved chroma; 90 if None) is for the weights ``iarn_jpeg_x1-4``, whose LR
        survives it. With ``allow_lossy`` it may be of any weights, and None stands for 95 with whole chroma.

        Raises:
            OptionError: if ``target`` is ``source``, or, unless ``allow_lossy``, of a kind that loses what is hidden in
                the LR or cannot hold its metadata; for a JPEG with payload or effort, or another quality.
            ImageError: before the work, as far as it can be told, if it cannot be written.
        """
        _refuse_same(source, target)
        if quality is not None and not (type(quality) is int and QUALITIES[0] <= quality <= QUALITIES[1]):
            raise OptionError(f'quality {quality!r}: expected a whole number from {QUALITIES[0]} to {QUALITIES[1]}')
        unfit = '' if allow_lossy else self.unfit_for(os.fspath(target))
        if unfit:
            raise OptionError(f'{os.fspath(target)}: {unfit}; or pass allow_lossy=True')
        with _naming(os.fspath(source)) as path:
            picture = read_picture(path)
            made = self.lr_size(picture.size, scale, size)
        refuse_unwritable(picture, made, os.fspath(target))
        return self._written(self._downscale_picture(picture, None, made), target, quality or self.jpeg_quality)

    def upscale_file(self, source: Path, target: Path, size: Size | None = None, force: bool = False) -> Picture:
        """Read, restore, write; returns the restored picture. Raises as :meth:`upscale` does.

        Raises:
            OptionError: if ``target`` is ``source``.
            ImageError: before the work, as far as it can be told, if ``target`` cannot be written.
        """
        _refuse_same(source, target)
        with _naming(os.fspath(source)) as path:
            picture = read_picture(path)
            made = self.restored_size(picture, size, force)
        refuse_unwritable(picture, made, os.fspath(target))
        restored = self._upscale_picture(picture, size, force, lambda line: self.say(f'{os.fspath(source)}: {line}'))
        return self._written(restored, target)

    @property
    def jpeg_quality(self) -> int | None:
        """Of JPEG files for which none is asked for, as :func:`files.write_picture` understands it."""
        return DEFAULT_QUALITY if zoo.survives_jpeg(self.weights_hash) else None

    def unfit_for(self, target: str) -> str:
        """Why an LR of these weights should not become a file of this name, and what would be right; or nothing."""
        if target.lower().endswith(LOSSLESS_ENDINGS):
            return ''
        if not is_jpeg(target):
            return 'only PNG, WebP and JPEG carry the metadata to restore an LR image: name one of those'
        if not zoo.survives_jpeg(self.weights_hash):
            return (f'what the weights {self.name!r} hide in an LR image does not survive a JPEG: write .png or .webp, '
                    f'or use the weights {zoo.JPEG!r}')
        for name, value in (('payload', self.payload), ('effort', self.effort)):
            if value:
                return f'{name} {value:g} is lost in a JPEG: leave it out, or write .png or .webp'
        return ''

    def _written(self, picture: Picture, target: Path, quality: int | None = None) -> Picture:
        for remark in write_picture(picture, os.fspath(target), quality):
            self.say(f'{os.fspath(target)}: {remark}')
        return picture

    # -------------------------------------------------------------------------------------------------------- sizes

    def lr_size(self, hr: Size, scale: Scale | None = None, size: Size | None = None) -> Size:
        """The LR size that a scale or size asks for, checked against the network's range."""
        if scale is not None and size is None:
            return check_lr_size(hr, lr_size(hr, scale), self.net.max_scale)
        if size is not None and scale is None:
            return check_lr_size(hr, size, self.net.max_scale)
        raise OptionError(f'give either scale or size, not {"both" if size is not None else "neither"}')

    def restored_size(self, picture: Picture, size: Size | None = None, force: bool = False) -> Size:
        """(H, W) that :meth:`upscale` would make of a picture.

        Raises:
            NoMetadataError: without a metadata or size; with damaged metadata unless there are ``size`` and ``force``.
            MetadataError: where the LR was made with other weights, or was changed since, unless ``force``.
            SizeError: if the size is out of the network's range.
        """
        metadata = picture.metadata
        if picture.no_metadata and not (force and size is not None):
            raise NoMetadataError(picture.no_metadata,
                                  'to enlarge rather than restore it, give size=(H, W) and force=True')
        wanted = size if size is not None else (metadata.hr_size if metadata else None)
        if wanted is None:
            raise NoMetadataError('its metadata hold no metadata of IARN: it was made otherwise, or they were removed',
                                'give size=(H, W), what to make')
        refusal = None if force else self.refusal(picture)
        if refusal:
            raise refusal
        return check_hr_size(picture.size, wanted, self.net.max_scale)

    def refusal(self, picture: Picture) -> MetadataError | None:
        """Why a picture is not what its metadata says, or not for these weights; None if all fits or it has none."""
        metadata, (height, width) = picture.metadata, picture.size
        if metadata is None:
            return None
        if metadata.weights != self.weights_hash:
            return OtherWeightsError(
                f'it was made with the weights {metadata.model!r} ({metadata.weights}), these are {self.name!r} '
                f'({self.weights_hash})', 'restore it with those, or try with force=True')
        try_it, (h, w) = 'force=True tries all the same', metadata.lr_size
        if (height, width) != (h, w):
            return MetadataError(f'it is {width}x{height} but was made {w}x{h} (width x height): it was resized, '
                               'turned or cropped since, and what it hid is lost', try_it)
        change = metadata.change(eight_bit(picture.rgb))
        if change:
            return MetadataError(change, try_it)
        if not metadata.intact:
            return MetadataError('its IARN metadata were edited since it was made, and may name another size', try_it)
        return None

    # ---------------------------------------------------------------------------------------------------- computing

    def _downscale_picture(self, picture: Picture, scale: Scale | None, size: Size | None) -> Picture:
        """LR picture with the metadata to restore it; alpha goes by bicubic."""
        target = self.lr_size(picture.size, scale, size)
        lr = self._down(picture.rgb, target)
        held = bits.declared(lr) if self.payload else 0
        alpha = None if picture.alpha is None else bicubic_downscale_tiled(picture.alpha[..., None], target)[..., 0]
        gray, icc = (picture.icc, None) if is_gray_profile(picture.icc) else (None, picture.icc)
        metadata = LRMetadata(picture.size, target, self.name, self.weights_hash, picture.mode, checksum(lr),
                        alpha is not None, base64.b64encode(gray or b'').decode(), 2 if held else 1, held).sealed()
        return Picture(lr, alpha, picture.mode, icc, picture.exif, metadata)

    def _upscale_picture(self, picture: Picture, size: Size | None, force: bool,
                         say: Callable[[str], object] | None = None) -> Picture:
        metadata, target = picture.metadata, self.restored_size(picture, size, force)
        alpha = None if picture.alpha is None else bicubic_upscale_tiled(picture.alpha[..., None], target)[..., 0]
        mode, icc = picture.mode, picture.icc
        if metadata:
            mode, icc = metadata.mode, base64.b64decode(metadata.gray_icc) or icc
            if metadata.alpha and alpha is None:  # it was opaque, or the file would still have it
                alpha = np.full(target, 255, np.uint8)
        rgb = self._up(picture.rgb, target, metadata.payload if metadata else None, say)
        return Picture(rgb, alpha, mode, icc, picture.exif)

    def _down(self, rgb: np.ndarray, size: Size) -> np.ndarray:
        if size == _size(rgb):
            return eight_bit(rgb)  # nothing to hide, nothing to lose
        lr = self._tiled(downscale_tiled, rgb, size, _size(rgb), size)
        if self.effort:
            lr = self._refined(rgb, lr)
        if self.payload:
            lr = write_detail(eight_bit(rgb), lr, self.payload, *self._detail(_size(rgb), size, self.payload))
        return lr

    def _up(self, rgb: np.ndarray, size: Size, payload: float | None = None,
            say: Callable[[str], object] | None = None) -> np.ndarray:
        """Restored from an LR that has a payload, if its metadata says so (not 0); else the pixels say it."""
        rgb = eight_bit(rgb)
        if size == _size(rgb):
            return rgb
        k = 0 if payload == 0 else bits.declared(rgb) or payload
        if k:
            return read_detail(rgb, size, k, *self._detail(size, _size(rgb), k), say or self.say)
        return self._tiled(upscale_tiled, rgb, size, size, _size(rgb))

    def _detail(self, hr: Size, lr: Size, k: float) -> tuple[Predict, MakePull | None]:
        """How a payload is predicted: by the network, in levels that are not rounded, or without one."""
        if not self.net.blocks:
            return without_network(hr, lr, k)
        upscale = functools.partial(upscale_tiled, values=to_levels)
        return lambda known: self._tiled(upscale, known, hr, hr, lr), None

    def _refined(self, rgb: np.ndarray, lr: np.ndarray) -> np.ndarray:
        """Of a payload's bits the restoration will know nothing."""
        def refine(net: IARN, rgb: np.ndarray, size: Size, tile: int, device: torch.device) -> np.ndarray:
            return refine_tiled(net, rgb, lr, self.effort, tile, device, 8 - math.ceil(self.payload), self.progress)

        return self._tiled(refine, rgb, _size(lr), _size(rgb), _size(lr), len(self.net.blocks) * EFFORT_MEMORY)

    def _tiled(self, run: Callable[..., np.ndarray], rgb: np.ndarray, size: Size, hr: Size, lr: Size,
               memory: float = 1) -> np.ndarray:
        """Run over tiles; on a GPU that runs out of memory, halve them and go on.

        ``memory``: how many times as much as a restoration it takes.
        """
        tile = self.tile or default_tile(self.net, hr, lr, self._memory() / memory)
        while True:
            try:
                with full_float32():
                    return run(self.net, rgb, size, tile, self.device)
            except torch.cuda.OutOfMemoryError:
                if tile // 2 < SMALLEST_TILE:
                    raise
                torch.cuda.empty_cache()
                tile //= 2
                self.say(f'out of GPU memory: going on with {tile_count(hr, lr, tile)} tiles of {tile} pixels')

    def _memory(self) -> float:
        """Bytes for the tensors of one tile."""
        if self.device.type == 'cuda':
            return MEMORY_SHARE * torch.cuda.mem_get_info(self.device)[0]
        return min(MEMORY_LIMIT, MEMORY_SHARE * available_memory())


def _apply(image: np.ndarray | torch.Tensor,
           rescale: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | torch.Tensor:
    """Run on numpy pixels whatever the type, and give back the same type."""
    if isinstance(image, torch.Tensor):
        if image.dim() == 4 and len(image):
            return torch.stack([_tensor_of(one, rescale) for one in image])
        return _tensor_of(image, rescale)
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 \
            or image.dtype not in (np.uint8, np.uint16):
        what = f'shape {image.shape}, type {image.dtype}' if isinstance(image, np.ndarray) else repr(image)
        raise OptionError(f'image ({what}): expected RGB (H, W, 3), uint8 or uint16')
    result = rescale(image)
    return result.copy() if result is image else result


def _tensor_of(image: torch.Tensor, rescale: Callable[[np.ndarray], np.ndarray]) -> torch.Tensor:
    holds_8_bits = torch.finfo(image.dtype).eps <= 2**-9 if image.is_floating_point() else False
    return to_tensor(rescale(_deep_pixels(image))).to(image.device, image.dtype if holds_8_bits else torch.float32)


def _deep_pixels(image: torch.Tensor) -> np.ndarray:
    """Float (3, H, W) -> uint16 (H, W, 3), or uint8 where 8 bits hold it."""
    if image.dim() != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise OptionError(f'tensor of shape {tuple(image.shape)} and type {image.dtype}: expected float RGB '
                          '(3, H, W) or (N, 3, H, W) in [0, 1]')
    if not torch.isfinite(image).all():
        raise OptionError(f'tensor of shape {tuple(image.shape)} holds values that are not finite')
    deep = (image.detach().float().clamp(0, 1) * 65535).round().permute(1, 2, 0).cpu().numpy().astype(np.uint16)
    return deep if (deep % 257).any() else (deep // 257).astype(np.uint8)


def _checked_payload(payload: float | str, net: IARN) -> float:
    if payload == 'auto':
        payload = 1 if net.blocks else 2
    if isinstance(payload, bool) or not isinstance(payload, (int, float)) or not 0 <= payload <= MAX_BITS:
        raise OptionError(f'payload {payload!r}: expected a number of bits from 0 to {MAX_BITS}, or auto')
    if payload:
        codec.check_codec()  # now, not after the work
    return payload


def _checked_effort(effort: int, net: IARN) -> int:
    if isinstance(effort, bool) or not isinstance(effort, int) or not 0 <= effort <= MOST_EFFORT:
        raise OptionError(f'effort {effort!r}: expected a number of steps from 0 to {MOST_EFFORT}')
    if effort and not net.blocks:
        raise OptionError(f'effort {effort}: these steps go through a network, and the weights {zoo.NONE} have none')
    return effort


def _size(pixels: np.ndarray) -> Size:
    """(H, W)."""
    return pixels.shape[0], pixels.shape[1]


def _usable_device(name: str | None) -> torch.device:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of kinds of devices that are gone
            device = torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
            (torch.ones(1, device=device) + 1).item()  # some exist by name alone
    except Exception as error:  # RuntimeError, AssertionError, ImportError: each kind of device has its own
        here = ['cpu', *(f'cuda:{k}' for k in range(torch.cuda.device_count()))]
        reason = shortened((str(error).splitlines() or [type(error).__name__])[0], 200)
        raise OptionError(f'device {name!r} cannot be used ({reason}); here are: {", ".join(here)}') from None
    return device


def _refuse_same(source: Path, target: Path) -> None:
    if os.path.exists(source) and os.path.exists(target) and os.path.samefile(source, target):
        raise OptionError(f'{os.fspath(target)}: the output would replace the input, name another file')


@contextmanager
def _naming(path: str) -> Iterator[str]:
    """Errors name the file."""
    try:
        yield path
    except IARNError as error:
        if not str(error).startswith(path):
            error.args = (f'{path}: {error}', *error.args[1:])
        raise
