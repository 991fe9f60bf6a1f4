"""Rescaling pictures with trained weights: arrays, tensors, pictures and files, of any size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeVar, Union, overload

import numpy as np
import torch
from torch import nn

from iarn_basicsr import zoo
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import (
    DamagedMetadataError,
    IARNError,
    LossyFileError,
    MetadataError,
    NoMetadataError,
    OptionError,
)
from iarn_basicsr.ops.image import to_tensor
from iarn_basicsr.ops.jpeg import DEFAULT_QUALITY, QUALITIES, is_jpeg
from iarn_basicsr.ops.size import Region, Scale, Size, check_hr_size, check_lr_size, lr_size, part_of, part_size
from iarn_basicsr.ops.transparency import blended, seen
from iarn_basicsr.payload import bits
from iarn_basicsr.zoo.weights import weights_hash

from . import log_remarks
from .lr_metadata import LRMetadata
from .picture_file import LOSSLESS_ENDINGS, Picture, read_picture, refuse_unwritable, write_picture
from .pixel_rescaler import PixelRescaler
from .tiling import Progress, bicubic_downscale_tiled, bicubic_upscale_tiled

__all__ = ['Rescaler', 'RoundTrip']

Path = Union[str, 'os.PathLike[str]']
Array = TypeVar('Array', np.ndarray, torch.Tensor)


class RoundTrip(NamedTuple):
    """LR and restored image, of the type that was given; of a path, pictures."""

    lr: Any
    restored: Any


class Rescaler(PixelRescaler):
    """Downscale to any size and restore.

        rescaler = Rescaler.load('default')
        lr = rescaler.downscale(image, scale=2.5)
        restored = rescaler.upscale(lr, size=image.shape[:2])

    What goes in comes out: numpy uint8 (or uint16, of which the 8-bit LR keeps 8 bits) RGB of shape (H, W, 3), torch
    float tensors in [0, 1] of shape (3, H, W) or (N, 3, H, W), or a ``Picture``, which is also what the path of a file
    is read as. ``downscale_file`` and ``upscale_file`` write files. The LR and the restored image have 8-bit values,
    which bfloat16 does not hold: of such tensors come float32 ones.

    The result is that of float32 whatever surrounds a call: autocast, other modes and defaults of torch, threads.
    Processes that are forked once there is a ``Rescaler`` compute with one thread.

    What the user should know about a file is logged to ``iarn_basicsr``, and stands in ``Picture.remarks``.

    Args:
        net: an ``IARN``, or one inside torch.compile, DDP or DataParallel; a float32 copy of it is kept.
        name: of its weights, written into LR files.
        device: ``cuda`` where there is one, else ``cpu``, if None.
        tile: side of a tile in HR pixels, at least 64; from the free memory if None.
        payload: bits of each LR sample, 0 to 3, that hold coded detail when downscaling; ``auto``: as many as leave the
            LR about as near to bicubic as it is, 1 with a network and 2 without. An addition of this project's; when
            upscaling a payload is found by itself.
        effort: gradient steps on the LR when downscaling, see ``effort.refine_tiled``; 10 gain most of it.
        progress: called after every tile and every such step with the share of the picture that is done, up to 1.

    Raises:
        OptionError: naming the device, tile, payload or effort that cannot be used.
    """

    def __init__(self, net: nn.Module, name: str, device: str | None = None, tile: int | None = None,
                 payload: float | str = 0, effort: int = 0, progress: Progress | None = None) -> None:
        super().__init__(net, device=device, tile=tile, payload=payload, effort=effort, progress=progress)
        self.name, self.weights_hash = name, weights_hash(self.net.state_dict())

    @classmethod
    def load(cls, weights: Path = zoo.DEFAULT, device: str | None = None, tile: int | None = None,
             payload: float | str = 0, effort: int = 0, progress: Progress | None = None) -> Rescaler:
        """From the name of released weights (see ``list_models``) or a ``.pth`` or ``.safetensors``.

        ``none`` stands for no weights: the bicubic LR and its right inverse, to which a payload adds the detail.

        Raises:
            WeightsError: naming the file or name, if there is none such or it is for another network.
            OptionError: naming the device, tile, payload or effort that cannot be used.
        """
        if weights == zoo.NONE:
            return cls(IARN(num_block=0, extra_channels=0), zoo.NONE, device, tile, payload, effort, progress)
        path, name = zoo.resolve(os.fspath(weights))
        return cls(IARN.from_file(path), name, device, tile, payload, effort, progress)

    # -------------------------------------------------------------------------------- arrays, tensors, pictures, paths

    @overload
    def downscale(self, image: Array, scale: Scale | None = None, size: Size | None = None) -> Array:
        ...

    @overload
    def downscale(self, image: Path | Picture, scale: Scale | None = None, size: Size | None = None) -> Picture:
        ...

    def downscale(self, image: np.ndarray | torch.Tensor | Path | Picture, scale: Scale | None = None,
                  size: Size | None = None) -> np.ndarray | torch.Tensor | Picture:
        """LR of an image, by ``scale`` (2.5, (1.5, 3), '1.5x3') or to ``size`` (h, w).

        Of a picture or path: a ``Picture`` with the metadata to restore it; its alpha goes by bicubic.

        Raises:
            OptionError: if not just one of ``scale`` and ``size`` is given, or the image is of another kind.
            SizeError: if the LR would be out of the network's range.
            ImageError: naming the file, if it cannot be read.
        """
        if not isinstance(image, (str, os.PathLike, Picture)):
            return _rescale_array(image, lambda rgb: self.downscale_pixels(
                rgb, self.lr_size((rgb.shape[0], rgb.shape[1]), scale, size)))
        picture = _picture(image)
        with _naming(picture):
            made = self.lr_size(picture.size, scale, size)
        rgb, alpha = picture.rgb, None
        if picture.alpha is not None:
            rgb = blended(rgb, picture.alpha, made)
            alpha = bicubic_downscale_tiled(picture.alpha[..., None], made)[..., 0]
        rgb = self.downscale_pixels(rgb, made, alpha)
        mode: Literal['L', 'RGB'] = 'L' if picture.mode == 'L' else 'RGB'
        lr = Picture(rgb, alpha, mode, picture.extras, remarks=picture.remarks, made_from=picture.size)
        lr.metadata = LRMetadata.of(lr.visible, hr_size=picture.size, model=self.name, weights=self.weights_hash,
                                    mode=mode, alpha=alpha is not None,
                                    payload=bits.declared(seen(rgb, alpha)) if self.payload else 0)
        return lr

    @overload
    def upscale(self, lr: Array, size: Size | None = None, force: bool = False, region: Region | None = None) -> Array:
        ...

    @overload
    def upscale(self, lr: Path | Picture, size: Size | None = None, force: bool = False,
                region: Region | None = None) -> Picture:
        ...

    def upscale(self, lr: np.ndarray | torch.Tensor | Path | Picture, size: Size | None = None, force: bool = False,
                region: Region | None = None) -> np.ndarray | torch.Tensor | Picture:
        """Restore to ``size`` (H, W), which a picture or path with metadata need not be told, or a region of that.

        Args:
            lr: the LR image.
            size: of the whole restored image.
            force: restore a picture that its metadata refuses, see ``restored_size``.
            region: (top, left, height, width) in HR pixels: only this is restored, at the cost of its pixels and of
                some 24 LR pixels around them. It equals the same region of the whole as tiles do. With a payload the
                low bits of the whole LR are read, and with one of the weights ``none`` the whole image is restored.

        Raises:
            OptionError: if the size is missing, the region is not four integers, or the image is of another kind.
            RegionError: if the region is empty or reaches outside the restored image.
            SizeError, MetadataError, ImageError: as of ``restored_size`` and ``downscale``.
        """
        if not isinstance(lr, (str, os.PathLike, Picture)):
            if size is None:
                raise OptionError('upscale needs size=(H, W): pixels alone do not say how large the original was')

            def work(rgb: np.ndarray) -> np.ndarray:
                made = check_hr_size((rgb.shape[0], rgb.shape[1]), size, self.net.max_scale)
                return self.upscale_pixels(rgb, made, part_of(made, region))

            return _rescale_array(lr, work)
        picture = _picture(lr)
        metadata, remarks = picture.metadata, list[str]()
        with _naming(picture):
            made = self.restored_size(picture, size, force)
            part = part_of(made, region)
            rgb = self.upscale_pixels(picture.rgb, made, part, metadata.payload if metadata else None, remarks.append,
                                      picture.alpha)
        alpha = None if picture.alpha is None else bicubic_upscale_tiled(picture.alpha[..., None], made, part)[..., 0]
        if metadata and metadata.alpha and alpha is None:  # it was opaque, or the file would still have it
            alpha = np.full(rgb.shape[:2], 255, np.uint8)
        return Picture(rgb, alpha, metadata.mode if metadata else picture.mode, picture.extras,
                       remarks=log_remarks(picture.path, *remarks), made_from=picture.size)

    def roundtrip(self, image: np.ndarray | torch.Tensor | Path | Picture, scale: Scale | None = None,
                  size: Size | None = None) -> RoundTrip:
        """Down and up again; raises as ``downscale`` does."""
        lr: Any = self.downscale(image, scale, size)
        restored: Any = None  # of a picture, whose metadata say it
        if isinstance(image, torch.Tensor):
            restored = image.shape[-2:]
        elif isinstance(image, np.ndarray):
            restored = image.shape[:2]
        return RoundTrip(lr, self.upscale(lr, restored))

    # -------------------------------------------------------------------------------------------------------- files

    def downscale_file(self, source: Path | Picture, target: Path, scale: Scale | None = None,
                       size: Size | None = None, max_side: int | None = None, *, allow_lossy: bool = False,
                       quality: int | None = None, dry_run: bool = False) -> Picture:
        """Read, downscale, write; returns the LR picture.

        Args:
            source: the file, or a picture that was read already.
            target: the file to write, a PNG or WebP; a JPEG with the weights ``iarn_jpeg_x1-4``, whose LR survives it.
            scale, size, max_side: just one of them, see ``lr_size``.
            allow_lossy: write a JPEG or BMP with any weights.
            quality: of a JPEG, 1 to 100, with halved chroma. None stands for 90, and for 95 with whole chroma where
                only ``allow_lossy`` permits a JPEG.
            dry_run: check all that is known before the work, and return a blank picture.

        Raises:
            OptionError: if the target is the source, or the quality does not fit it.
            LossyFileError: if the target loses what is hidden in the LR, its metadata, its payload or its effort.
            ImageError: if the source cannot be read, or the target cannot be written.
            SizeError: if the LR would be out of the network's range.
        """
        target = os.fspath(target)
        if quality is not None and not (type(quality) is int and QUALITIES[0] <= quality <= QUALITIES[1]):
            raise OptionError(f'quality {quality!r}: expected an integer from {QUALITIES[0]} to {QUALITIES[1]}')
        if quality is not None and not is_jpeg(target):
            raise OptionError(f'quality {quality}: {target} is not a JPEG')
        if not allow_lossy:
            self._refuse_lossy(target)
        picture = _picture(source)
        _refuse_same(picture, target)
        with _naming(picture):
            made = self.lr_size(picture.size, scale, size, max_side)
        refuse_unwritable(picture, made, target)
        path = picture.path
        remarks = list(picture.remarks)
        if picture.metadata:
            remarks.append('it is an LR image already: restoring both steps loses more than restoring one; downscale '
                           'its original instead')
        if picture.rgb.dtype == np.uint16:
            remarks.append('it has 16 bits a channel; the LR, and what is restored from it, have 8')
        log_remarks(path, *remarks)
        if dry_run:
            return _blank(picture, made, remarks)
        lr = self.downscale(picture, size=made)
        del picture, source
        if quality is None and zoo.survives_jpeg(self.weights_hash):
            quality = DEFAULT_QUALITY
        return replace(lr, remarks=(*remarks, *log_remarks(path, *write_picture(lr, target, quality))))

    def upscale_file(self, source: Path | Picture, target: Path, size: Size | None = None, force: bool = False, *,
                     region: Region | None = None, dry_run: bool = False) -> Picture:
        """Read, restore, write; returns the restored picture.

        Args:
            source: the LR file, or a picture that was read already.
            target: the file to write.
            size, force, region: as of ``upscale``.
            dry_run: check all that is known before the work, and return a blank picture.

        Raises:
            OptionError: if the target is the source, or the region is not four integers.
            RegionError: if the region is empty or reaches outside the restored image.
            ImageError: if the source cannot be read, or the target cannot be written.
            SizeError, MetadataError: as of ``restored_size``.
        """
        target, picture = os.fspath(target), _picture(source)
        _refuse_same(picture, target)
        with _naming(picture):
            whole = self.restored_size(picture, size, force)
            made = part_size(part_of(whole, region))
        refuse_unwritable(picture, made, target)
        path = picture.path
        remarks = log_remarks(path, *filter(None, (*picture.remarks, self._remark_on_lr(picture, whole))))
        if dry_run:
            return _blank(picture, made, remarks)
        restored = self.upscale(picture, whole, force, region)
        del picture, source  # the memory is needed for writing
        written = log_remarks(path, *write_picture(restored, target))
        return replace(restored, remarks=(*remarks, *restored.remarks, *written))

    def _refuse_lossy(self, target: str) -> None:
        """Raise if an LR of these weights should not become a file of this name."""
        lost = [f'{name} {value:g}' for name, value in (('payload', self.payload), ('effort', self.effort)) if value]
        if target.lower().endswith(LOSSLESS_ENDINGS):
            return
        if not is_jpeg(target):
            reason = 'only PNG, WebP and JPEG carry the metadata to restore an LR image: name one of those'
        elif not zoo.survives_jpeg(self.weights_hash):
            reason = (f'what the weights {self.name!r} hide in an LR image does not survive a JPEG: write .png or '
                      f'.webp, or use the weights {zoo.JPEG!r}')
        elif lost:
            reason = f'{" and ".join(lost)} is lost in a JPEG: leave it out, or write .png or .webp'
        else:
            return
        raise LossyFileError(f'{target}: {reason}', 'or pass allow_lossy=True')

    # ------------------------------------------------------------------------------------------ sizes and pictures

    def lr_size(self, hr: Size, scale: Scale | None = None, size: Size | None = None,
                max_side: int | None = None) -> Size:
        """The LR size (h, w) of an HR size (H, W).

        Args:
            hr: (H, W).
            scale: HR / LR.
            size: the LR size itself.
            max_side: of the longer side; a smaller picture keeps its size.

        Raises:
            OptionError: if not just one of the three is given.
            SizeError: if the LR is out of the network's range.
        """
        options = {'scale': scale, 'size': size, 'max_side': max_side}
        given = [name for name, value in options.items() if value is not None]
        if len(given) != 1:
            raise OptionError(f'give one of scale, size and max_side, not {" and ".join(given) or "none"}')
        if max_side is not None:
            if type(max_side) is not int or max_side < 1:
                raise OptionError(f'max_side {max_side!r}: expected an integer >= 1')
            scale = max(1.0, max(hr) / max_side)
        made = size if size is not None else lr_size(hr, scale)  # type: ignore[arg-type]  # one of them is given
        return check_lr_size(hr, made, self.net.max_scale)

    def restored_size(self, picture: Picture, size: Size | None = None, force: bool = False) -> Size:
        """(H, W) that ``upscale`` would make of a picture.

        Raises:
            NoMetadataError: without metadata or size.
            DamagedMetadataError: unless there are both ``size`` and ``force``.
            OtherWeightsError: if the LR was made with other weights, unless ``force``.
            MetadataError: if the LR was changed since it was made, unless ``force``.
            SizeError: if the size is out of the network's range.
        """
        if picture.no_metadata and not (force and size is not None):
            raise DamagedMetadataError(picture.no_metadata,
                                       'to enlarge rather than restore it, give size=(H, W) and force=True')
        if picture.metadata and not force:
            picture.metadata.check(picture.visible, self.name, self.weights_hash)
        if size is None and picture.metadata is None:
            raise NoMetadataError('no IARN metadata: not made by IARN, or stripped', 'give size=(H, W), what to make')
        wanted = picture.metadata.hr_size if size is None and picture.metadata else size
        return check_hr_size(picture.size, wanted, self.net.max_scale)  # type: ignore[arg-type]

    def _remark_on_lr(self, picture: Picture, size: Size) -> str:
        """Why what is made of an LR may not be its original; empty if it will be."""
        if picture.no_metadata:
            return 'enlarged, not restored'
        if picture.metadata is None:
            return (f'no IARN metadata: restored if it was made with the weights {self.name} from a picture of that '
                    'size, else enlarged')
        try:
            picture.metadata.check(picture.visible, self.name, self.weights_hash)
        except MetadataError as error:  # in spite of which force goes on
            return f'{error.reason}: not restored as it was'
        same = size == picture.metadata.hr_size
        return '' if same else 'the size is not that of its original: not restored as it was'


def _picture(source: Path | Picture) -> Picture:
    return source if isinstance(source, Picture) else read_picture(os.fspath(source))


def _refuse_same(picture: Picture, target: str) -> None:
    if picture.path and os.path.exists(target) and os.path.samefile(picture.path, target):
        raise OptionError(f'{target}: the output would replace the input, name another file')


def _blank(picture: Picture, size: Size, remarks: Iterable[str]) -> Picture:
    """What would be made of a picture, without memory for its pixels."""
    return Picture(np.broadcast_to(np.zeros(1, np.uint8), (*size, 3)), mode=picture.mode, remarks=tuple(remarks),
                   made_from=picture.size)


@contextmanager
def _naming(picture: Picture) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except IARNError as error:
        if picture.path:
            error.args = (f'{picture.path}: {error}', *error.args[1:])
        raise


def _rescale_array(image: np.ndarray | torch.Tensor, work: Callable[[np.ndarray], np.ndarray]) -> Any:
    """What ``work`` makes of an image, uint8 or uint16 -> uint8, as an array of its kind; never the image itself."""
    if isinstance(image, torch.Tensor):
        if image.dim() == 4 and len(image):
            return torch.stack([_rescale_array(one, work) for one in image])
        made = to_tensor(work(_pixels(image)))
        return made.to(image.device, image.dtype if torch.finfo(image.dtype).eps <= 2**-9 else torch.float32)
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 \
            or image.dtype not in (np.uint8, np.uint16):
        what = f'shape {image.shape}, type {image.dtype}' if isinstance(image, np.ndarray) else repr(image)
        raise OptionError(f'image ({what}): expected RGB (H, W, 3), uint8 or uint16')
    result = work(image)
    return result.copy() if np.may_share_memory(result, image) else result


def _pixels(image: torch.Tensor) -> np.ndarray:
    """Float (3, H, W) -> uint16 (H, W, 3), or uint8 where 8 bits hold it."""
    if image.dim() != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise OptionError(f'tensor of shape {tuple(image.shape)} and type {image.dtype}: expected float RGB '
                          '(3, H, W) or (N, 3, H, W) in [0, 1]')
    if not torch.isfinite(image).all():
        raise OptionError(f'tensor of shape {tuple(image.shape)} holds values that are not finite')
    deep = (image.detach().float().clamp(0, 1) * 65535).round().permute(1, 2, 0).cpu().numpy().astype(np.uint16)
    return deep if (deep % 257).any() else (deep // 257).astype(np.uint8)
