"""Rescaling pictures with trained weights: arrays, tensors and files, of any size."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from iarn_basicsr import zoo
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.images import Picture, Recipe, checksum, eight_bit, is_gray_profile, read_picture, write_picture
from iarn_basicsr.ops import check_lr_size, full_float32, lr_size
from iarn_basicsr.ops.size import Scale, Size, largest_hr_size, whole_pixels
from iarn_basicsr.tiling import (
    SMALLEST_TILE,
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
Array = Any  # np.ndarray (H, W, 3) uint8 or uint16 RGB, or torch.Tensor (3, H, W) or (N, 3, H, W) float in [0, 1]


class RoundTrip(NamedTuple):
    """LR and restored image, in the type that was given."""

    lr: Array
    restored: Array


class Rescaler:
    """Downscale to any size and restore.

        rescaler = Rescaler.load('default')
        lr = rescaler.downscale(image, scale=2.5)
        restored = rescaler.upscale(lr, size=image.shape[:2])

    Images are RGB: numpy uint8 (or uint16, of which the 8-bit LR keeps 8 bits) of shape (H, W, 3), torch float tensors
    in [0, 1] of shape (3, H, W) or (N, 3, H, W), or paths of files. The LR and the restored image have 8-bit values.

    Args:
        net: the network.
        name: of its weights, written into LR files.
        device: ``cuda`` where there is one, else ``cpu``, if None.
        tile: side of a tile in HR pixels; from the free memory if None.
        say: receives remarks, one line each.

    Raises:
        ValueError: naming the device or tile that cannot be used.
    """

    def __init__(self, net: IARN, name: str, device: str | None = None, tile: int | None = None,
                 say: Callable[[str], object] = lambda line: None) -> None:
        if tile is not None and (int(tile) != tile or tile < 1):
            raise ValueError(f'tile {tile!r}: expected a whole number of HR pixels, at least 1')
        self.device = _usable_device(device)
        self.net = net.to(self.device).eval()
        self.name, self.tile, self.say = name, tile, say
        self.weights_hash = weights_hash(net)

    @classmethod
    def load(cls, weights: str | os.PathLike[str] = 'default', **options: Any) -> Rescaler:
        """From the name of released weights (``default``, see ``iarn_basicsr.zoo``) or a ``.pth`` or ``.safetensors``.

        Raises:
            ValueError: naming the file or name, if there is none such or it is for another architecture.
        """
        net, name = zoo.load(os.fspath(weights))
        return cls(net, name, **options)

    def downscale(self, image: Array, scale: Scale | None = None, size: Size | None = None) -> Array:
        """LR of an image, by ``scale`` (2.5, (1.5, 3), '1.5x3') or to ``size`` (h, w); same type as given.

        For a path: a :class:`Picture` with the recipe to restore it.

        Raises:
            ValueError: if not just one of the two is given, or it is out of the model's range.
        """
        if isinstance(image, (str, os.PathLike)):
            with _naming(os.fspath(image)) as path:
                return self.downscale_picture(read_picture(path), scale, size)
        return self._apply(image, lambda rgb: self._down(rgb, self.lr_size(rgb.shape[:2], scale, size)))

    def upscale(self, lr: Array, size: Size | None = None) -> Array:
        """Restore to ``size`` (H, W); a path or :class:`Picture` with a recipe needs none. Same type as given."""
        if isinstance(lr, (str, os.PathLike)):
            with _naming(os.fspath(lr)) as path:
                return self.upscale_picture(read_picture(path), size)
        if isinstance(lr, Picture):
            return self.upscale_picture(lr, size)
        if size is None:
            raise ValueError('upscale needs size=(H, W): pixels alone do not say how large the original was')
        return self._apply(lr, lambda rgb: self._up(rgb, self._hr_size(rgb.shape[:2], size)))

    def roundtrip(self, image: Array, scale: Scale | None = None, size: Size | None = None) -> RoundTrip:
        """Down and up again."""
        lr = self.downscale(image, scale, size)
        if isinstance(lr, Picture):
            return RoundTrip(lr, self.upscale(lr))
        whole = image.shape[-2:] if isinstance(image, torch.Tensor) else image.shape[:2]
        return RoundTrip(lr, self.upscale(lr, (whole[0], whole[1])))

    def lr_size(self, hr: Size, scale: Scale | None = None, size: Size | None = None) -> Size:
        """The LR size that a scale or size asks for, checked against the model's range."""
        if (scale is None) == (size is None):
            raise ValueError(f'give either scale or size, not {"both" if size is not None else "neither"}')
        wanted = size if size is not None else lr_size(hr, scale)  # type: ignore[arg-type]
        return check_lr_size(hr, wanted, self.net.max_scale)

    def downscale_picture(self, picture: Picture, scale: Scale | None = None, size: Size | None = None) -> Picture:
        """LR picture with the recipe to restore it; alpha goes by bicubic."""
        target = self.lr_size(picture.size, scale, size)
        lr = self._down(picture.rgb, target)
        alpha = None if picture.alpha is None else bicubic_downscale_tiled(picture.alpha[..., None], target)[..., 0]
        gray, icc = (picture.icc, None) if is_gray_profile(picture.icc) else (None, picture.icc)
        recipe = Recipe(picture.size, target, self.name, self.weights_hash, picture.mode, checksum(lr),
                        alpha is not None, base64.b64encode(gray or b'').decode())
        return Picture(lr, alpha, picture.mode, icc, picture.exif, recipe)

    def upscale_picture(self, picture: Picture, size: Size | None = None, force: bool = False) -> Picture:
        """Restored picture; raises as :meth:`restored_size` does."""
        recipe, target = picture.recipe, self.restored_size(picture, size, force)
        alpha = None if picture.alpha is None else bicubic_upscale_tiled(picture.alpha[..., None], target)[..., 0]
        mode, icc = picture.mode, picture.icc
        if recipe:
            mode, icc = recipe.mode, base64.b64decode(recipe.gray_icc) or icc
            if recipe.alpha and alpha is None:  # it was opaque, or the file would still have it
                alpha = np.full(target, 255, np.uint8)
        return Picture(self._up(picture.rgb, target), alpha, mode, icc, picture.exif)

    def restored_size(self, picture: Picture, size: Size | None = None, force: bool = False) -> Size:
        """(H, W) that :meth:`upscale_picture` would make.

        Raises:
            ValueError: without a recipe or size; where the LR was made with other weights, was changed since or has
                damaged metadata, unless ``force``; if the size is out of the model's range.
        """
        recipe = picture.recipe
        if picture.no_recipe and not (force and size):
            raise ValueError(f'{picture.no_recipe}; to enlarge rather than restore it, pass --size WxH and --force')
        if recipe is None and size is None:
            raise ValueError('it was not made by IARN (no recipe in its metadata): name the size to make (--size WxH)')
        if recipe and not force:
            self._check_recipe(recipe, picture)
        return self._hr_size(picture.size, size or recipe.hr_size)  # type: ignore[union-attr]

    def downscale_file(self, source: str, target: str, scale: Scale | None = None, size: Size | None = None) -> Picture:
        """Read, downscale, write; returns the LR picture."""
        with _naming(source):
            lr = self.downscale_picture(read_picture(source), scale, size)
        self._write(lr, target)
        return lr

    def upscale_file(self, source: str, target: str, size: Size | None = None, force: bool = False) -> Picture:
        """Read, restore, write; returns the restored picture."""
        with _naming(source):
            restored = self.upscale_picture(read_picture(source), size, force)
        self._write(restored, target)
        return restored

    def _write(self, picture: Picture, target: str) -> None:
        for remark in write_picture(picture, target):
            self.say(f'{target}: {remark}')

    def _check_recipe(self, recipe: Recipe, picture: Picture) -> None:
        (height, width), (h, w) = picture.size, recipe.lr_size
        if recipe.weights != self.weights_hash:
            raise ValueError(f'it was made with the weights {recipe.model!r} ({recipe.weights}), these are '
                             f'{self.name!r} ({self.weights_hash}): restore it with those (--weights), or pass --force')
        if (height, width) != (h, w):
            raise ValueError(f'it is {width}x{height} but was made {w}x{h} (width x height): it was resized since, and '
                             'what it hid is lost; pass --force to try')
        if checksum(picture.rgb) != recipe.pixels:
            raise ValueError('it was edited or recompressed since it was made, and what it hid is damaged; pass '
                             '--force to try')

    def _hr_size(self, lr: Size, size: Size) -> Size:
        height, width = whole_pixels(size, 'size')
        high = largest_hr_size(lr, self.net.max_scale)
        if not (lr[0] <= height <= high[0] and lr[1] <= width <= high[1]):
            raise ValueError(f'size {height}x{width} (height x width) is out of range: an LR of {lr[0]}x{lr[1]} can '
                             f'become {lr[0]}x{lr[1]} to {high[0]}x{high[1]}')
        return height, width

    def _down(self, rgb: np.ndarray, size: Size) -> np.ndarray:
        if size == rgb.shape[:2]:
            return eight_bit(rgb)  # nothing to hide, nothing to lose
        return self._tiled(downscale_tiled, rgb, size, (rgb.shape[0], rgb.shape[1]), size)

    def _up(self, rgb: np.ndarray, size: Size) -> np.ndarray:
        rgb = eight_bit(rgb)
        if size == rgb.shape[:2]:
            return rgb
        return self._tiled(upscale_tiled, rgb, size, size, (rgb.shape[0], rgb.shape[1]))

    def _tiled(self, run: Callable[..., np.ndarray], rgb: np.ndarray, size: Size, hr: Size, lr: Size) -> np.ndarray:
        """Run over tiles; on a GPU that runs out of memory, halve them and go on."""
        tile = self.tile or default_tile(self.net, hr, lr, self._memory())
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
        return min(MEMORY_LIMIT, MEMORY_SHARE * _available_memory())

    def _apply(self, image: Array, rescale: Callable[[np.ndarray], np.ndarray]) -> Array:
        """Run on numpy pixels whatever the type, and give back the same type."""
        if isinstance(image, torch.Tensor):
            if image.dim() == 4 and len(image):
                return torch.stack([self._apply(one, rescale) for one in image])
            if image.dim() != 3 or image.shape[0] != 3 or not image.is_floating_point():
                raise ValueError(f'tensor of shape {tuple(image.shape)} and type {image.dtype}: expected float RGB '
                                 '(3, H, W) or (N, 3, H, W) in [0, 1]')
            if not torch.isfinite(image).all():
                raise ValueError(f'tensor of shape {tuple(image.shape)} holds values that are not finite')
            deep = (image.detach().float().clamp(0, 1) * 65535).round().permute(1, 2, 0).cpu().numpy().astype(np.uint16)
            values = deep if (deep % 257).any() else (deep // 257).astype(np.uint8)
            out = torch.from_numpy(rescale(values)).permute(2, 0, 1)
            return (out.to(torch.float32) / 255).to(image.device, image.dtype)
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 \
                or image.dtype not in (np.uint8, np.uint16):
            what = f'shape {image.shape}, type {image.dtype}' if isinstance(image, np.ndarray) else repr(image)
            raise ValueError(f'image ({what}): expected RGB (H, W, 3), uint8 or uint16')
        result = rescale(image)
        return result.copy() if result is image else result


def _usable_device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        here = ['cpu', *(f'cuda:{k}' for k in range(torch.cuda.device_count()))]
        raise ValueError(f'device {name!r} cannot be used ({str(error).splitlines()[0]}); here are: '
                         f'{", ".join(here)}') from None
    return device


@contextmanager
def _naming(path: str) -> Iterator[str]:
    """Errors name the file."""
    try:
        yield path
    except ValueError as error:
        raise error if str(error).startswith(path) else ValueError(f'{path}: {error}') from None


def weights_hash(net: IARN) -> str:
    """First 16 hexadecimal digits of the SHA-256 over names and values of all weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _available_memory() -> float:
    """Free bytes of this machine; 4 GB where it does not say."""
    try:
        with open('/proc/meminfo', encoding='ascii') as file:
            return next(float(line.split()[1]) * 1024 for line in file if line.startswith('MemAvailable'))
    except (OSError, StopIteration):
        return 4e9
