"""Rescaling pictures with trained weights: arrays, tensors, pictures and files, of any size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, Union, overload

import numpy as np
import torch

from iarn_basicsr import zoo
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import IARNError, LossyFileError, OptionError
from iarn_basicsr.ops.jpeg import DEFAULT_QUALITY, QUALITIES, is_jpeg
from iarn_basicsr.ops.size import Scale, Size, check_hr_size

from . import log_remarks
from .arrays import rescale_array
from .picture_file import LOSSLESS_ENDINGS, Picture, read_picture, refuse_unwritable, write_picture
from .picture_rescaler import PictureRescaler, remarks_on_original
from .tiling import Progress

__all__ = ['Rescaler', 'RoundTrip']

Path = Union[str, 'os.PathLike[str]']
Array = TypeVar('Array', np.ndarray, torch.Tensor)


class RoundTrip(NamedTuple):
    """LR and restored image, of the type that was given; of a path, pictures."""

    lr: Any
    restored: Any


class Rescaler(PictureRescaler):
    """Downscale to any size and restore.

        rescaler = Rescaler.load('default')
        lr = rescaler.downscale(image, scale=2.5)
        restored = rescaler.upscale(lr, size=image.shape[:2])

    What goes in comes out: numpy uint8 (or uint16, of which the 8-bit LR keeps 8 bits) RGB of shape (H, W, 3), torch
    float tensors in [0, 1] of shape (3, H, W) or (N, 3, H, W), or a ``Picture``, which is also what the path of a file
    is read as. ``downscale_file`` and ``upscale_file`` write files. The LR and the restored image have 8-bit values,
    which bfloat16 does not hold: of such tensors come float32 ones.

    What the user should know about a file is logged to ``iarn_basicsr``, and stands in ``Picture.remarks``.

    Args:
        net: the network.
        name: of its weights, written into LR files.
        device: ``cuda`` where there is one, else ``cpu``, if None.
        tile: side of a tile in HR pixels, at least 64; from the free memory if None.
        payload: bits of each LR sample, 0 to 3, that hold coded detail when downscaling; ``auto``: as many as leave the
            LR about as near to bicubic as it is, 1 with a network and 2 without. An addition of this project's; when
            upscaling a payload is found by itself.
        effort: gradient steps on the LR when downscaling, see ``effort.refine_tiled``; 30 gain most of it.
        progress: called after every tile and every such step with the share of the picture that is done, up to 1.

    Raises:
        OptionError: naming the device, tile, payload or effort that cannot be used.
    """

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

        Of a picture or path: a ``Picture`` with the metadata to restore it.

        Raises:
            OptionError: if not just one of ``scale`` and ``size`` is given, or the image is of another kind.
            SizeError: if the LR would be out of the network's range.
            ImageError: naming the file, if it cannot be read.
        """
        if isinstance(image, (str, os.PathLike, Picture)):
            picture = _picture(image)
            with _naming(picture):
                made = self.lr_size(picture.size, scale, size)
            return self.downscale_picture(picture, made)

        def work(rgb: np.ndarray) -> np.ndarray:
            return self.downscale_pixels(rgb, self.lr_size((rgb.shape[0], rgb.shape[1]), scale, size))

        return rescale_array(image, work)

    @overload
    def upscale(self, lr: Array, size: Size | None = None, force: bool = False) -> Array:
        ...

    @overload
    def upscale(self, lr: Path | Picture, size: Size | None = None, force: bool = False) -> Picture:
        ...

    def upscale(self, lr: np.ndarray | torch.Tensor | Path | Picture, size: Size | None = None,
                force: bool = False) -> np.ndarray | torch.Tensor | Picture:
        """Restore to ``size`` (H, W); a picture or path with metadata needs none.

        Args:
            lr: the LR image.
            size: of the restored image.
            force: restore a picture that its metadata refuses, see ``restored_size``.

        Raises:
            OptionError: if the size is missing or the image is of another kind.
            SizeError, MetadataError, ImageError: as of ``restored_size`` and ``downscale``.
        """
        if isinstance(lr, (str, os.PathLike, Picture)):
            picture = _picture(lr)
            with _naming(picture):
                made = self.restored_size(picture, size, force)
            restored = self.upscale_picture(picture, made)
            log_remarks(picture.path, *restored.remarks)
            return restored
        if size is None:
            raise OptionError('upscale needs size=(H, W): pixels alone do not say how large the original was')

        def work(rgb: np.ndarray) -> np.ndarray:
            return self.upscale_pixels(rgb, check_hr_size((rgb.shape[0], rgb.shape[1]), size, self.net.max_scale))

        return rescale_array(lr, work)

    def roundtrip(self, image: np.ndarray | torch.Tensor | Path | Picture, scale: Scale | None = None,
                  size: Size | None = None) -> RoundTrip:
        """Down and up again; raises as ``downscale`` does."""
        lr = self.downscale(image, scale, size)
        if isinstance(image, torch.Tensor):
            return RoundTrip(lr, self.upscale(lr, (image.shape[-2], image.shape[-1])))
        if isinstance(image, np.ndarray):
            return RoundTrip(lr, self.upscale(lr, (image.shape[0], image.shape[1])))
        return RoundTrip(lr, self.upscale(lr))

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
        remarks = log_remarks(path, *picture.remarks, *remarks_on_original(picture))
        if dry_run:
            return replace(_blank(picture, made), remarks=remarks)
        lr = self.downscale_picture(picture, made)
        del picture, source  # the memory is needed for writing
        if quality is None and zoo.survives_jpeg(self.weights_hash):
            quality = DEFAULT_QUALITY
        return replace(lr, remarks=remarks + log_remarks(path, *write_picture(lr, target, quality)))

    def upscale_file(self, source: Path | Picture, target: Path, size: Size | None = None, force: bool = False, *,
                     dry_run: bool = False) -> Picture:
        """Read, restore, write; returns the restored picture.

        Args:
            source: the LR file, or a picture that was read already.
            target: the file to write.
            size, force: as of ``upscale``.
            dry_run: check all that is known before the work, and return a blank picture.

        Raises:
            OptionError: if the target is the source.
            ImageError: if the source cannot be read, or the target cannot be written.
            SizeError, MetadataError: as of ``restored_size``.
        """
        target, picture = os.fspath(target), _picture(source)
        _refuse_same(picture, target)
        with _naming(picture):
            made = self.restored_size(picture, size, force)
        refuse_unwritable(picture, made, target)
        path = picture.path
        remarks = log_remarks(path, *picture.remarks, *self.remarks_on_lr(picture, made))
        if dry_run:
            return replace(_blank(picture, made), remarks=remarks)
        with _naming(picture):
            restored = self.upscale_picture(picture, made)
        del picture, source
        written = write_picture(restored, target)
        return replace(restored, remarks=remarks + log_remarks(path, *restored.remarks, *written))

    def _refuse_lossy(self, target: str) -> None:
        """Raise if an LR of these weights should not become a file of this name."""
        remedy = 'or pass allow_lossy=True'
        if target.lower().endswith(LOSSLESS_ENDINGS):
            return
        if not is_jpeg(target):
            raise LossyFileError(f'{target}: only PNG, WebP and JPEG carry the metadata to restore an LR image: name '
                                 'one of those', remedy)
        if not zoo.survives_jpeg(self.weights_hash):
            raise LossyFileError(f'{target}: what the weights {self.name!r} hide in an LR image does not survive a '
                                 f'JPEG: write .png or .webp, or use the weights {zoo.JPEG!r}', remedy)
        for name, value in (('payload', self.payload), ('effort', self.effort)):
            if value:
                raise LossyFileError(f'{target}: {name} {value:g} is lost in a JPEG: leave it out, or write .png or '
                                     '.webp', remedy)


def _picture(source: Path | Picture) -> Picture:
    return source if isinstance(source, Picture) else read_picture(os.fspath(source))


def _refuse_same(picture: Picture, target: str) -> None:
    if picture.path and os.path.exists(target) and os.path.samefile(picture.path, target):
        raise OptionError(f'{target}: the output would replace the input, name another file')


def _blank(picture: Picture, size: Size) -> Picture:
    """What would be made of a picture, without pixels and without memory for them."""
    return Picture(np.broadcast_to(np.zeros(1, np.uint8), (*size, 3)), mode=picture.mode, made_from=picture.size)


@contextmanager
def _naming(picture: Picture) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except IARNError as error:
        if picture.path:
            error.args = (f'{picture.path}: {error}', *error.args[1:])
        raise
