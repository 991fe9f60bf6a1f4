"""HR images with LR images at any size: made on the fly by bicubic, or read from folders or LMDBs per scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from os import path as osp
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY

from iarn_basicsr.config.schema import EvalDatasetOptions, TrainDatasetOptions, check, filled
from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.image import to_tensor
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.ops.size import Size, lr_size, scale_label

from .augment import shrunk, source_size, with_noise
from .image_source import image_sources
from .schedule import Draw, batch_scale, batches_per_epoch, epoch_draws, generator, stored_scale

__all__ = ['ArbitraryScaleDataset']

Item = dict[str, Any]


@DATASET_REGISTRY.register()
class ArbitraryScaleDataset(torch.utils.data.Dataset):
    """Paired HR/LR dataset for every scale.

    An item is a dict: ``gt`` (3, H, W) and ``lq`` (3, h, w) float RGB in [0, 1], ``lq`` with 8-bit values; ``gt_path``,
    ``lq_path`` (the gt one where the LR is made on the fly); ``scale`` (2,) true ratio HR / LR, vertical first;
    ``hr_size`` (2,) = (H, W); ``scale_name`` such as ``x2.5``; ``name``, the path below its folder. Without HR images
    there is no ``gt``.

    In training an index is a ``Draw``, and a whole batch has one LR size. In validation and test every image comes at
    every scale: item ``i`` is image ``i // len(scales)`` at scale ``i % len(scales)``.

    Args:
        opt: the section of the option file, with ``phase``; see ``config.schema.TrainDatasetOptions`` and
            ``EvalDatasetOptions`` for its keys.

    Raises:
        OptionError: for an unknown key, a value out of range, a missing or empty folder, a listed image that is not
            there.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt  # from which BasicSR's models read the name
        self.name = f'datasets.{opt.get("name", "?")}'
        self.train = opt.get('phase', 'train') == 'train'
        o: Any = check(self.name, TrainDatasetOptions if self.train else EvalDatasetOptions, opt)
        self.options, self.scales = o, [*(o.scales or ())]
        if self.train:
            self.batch_size = o.batch_size_per_gpu
        self.gt, self.lq = image_sources(o, self.name)
        self.names = self.gt.names if self.gt else next(iter(self.lq.values())).names

    def __len__(self) -> int:
        return len(self.names) * (1 if self.train else len(self.scales))

    def batches_per_epoch(self, ratio: float, world_size: int) -> int:
        """Training iterations of one epoch."""
        return batches_per_epoch(len(self), ratio, self.batch_size, world_size)

    def draws(self, epoch: int, rank: int, world_size: int, ratio: float) -> Iterator[Draw]:
        """The draws of one rank in one epoch; a resumed run (option ``start_iter``) leaves out those already used."""
        batches, o = self.batches_per_epoch(ratio, world_size), self.options
        skip = min(max(o.start_iter - epoch * batches, 0), batches)
        return epoch_draws(len(self), ratio, self.batch_size, world_size, rank, o.seed, epoch, skip)

    def __getitem__(self, index: int | Draw) -> Item:
        """An item; in training, a plain index counts as the first draw of that image, at the first step."""
        if isinstance(index, Draw):
            return self.__getitems__([index])[0]
        return self.__getitems__([Draw(index, index, 1)])[0] if self.train else self._eval_item(index)

    def __getitems__(self, indices: Iterable[Any]) -> list[Item]:
        """A whole batch, as PyTorch's fetcher asks for it: one LR size for all of it."""
        if not self.train:
            return [self._eval_item(i) for i in indices]
        draws: list[Draw] = list(indices)
        step, o = draws[0].step, self.options
        if self.lq:
            scale = stored_scale(o.seed, step, self.scales)
            return [self._stored_patch(d, scale) for d in draws]
        scale = batch_scale(o, step)
        if o.lq_size is None:
            patch: Size = (o.gt_size, o.gt_size)
            size = lr_size(patch, scale, o.size_rule)
        else:
            patch, size = (round(o.lq_size * scale[0]), round(o.lq_size * scale[1])), (o.lq_size, o.lq_size)
        gts = to_tensor(np.stack([self._augmented_patch(d, patch) for d in draws]))
        label = scale_label([p / n for p, n in zip(patch, size)])
        return [self._item(label, lq, None, gt, self.names[d.image])
                for gt, lq, d in zip(gts, bicubic_lr(gts, size), draws)]

    def _eval_item(self, index: int) -> Item:
        """Image index // scales at scale index % scales."""
        which, k = divmod(index, len(self.scales))
        name, scale = self.names[which], self.scales[k]
        label = scale_label(scale)
        if self.gt is None:
            source = self.lq[label]
            lq = to_tensor(source.read(name))
            hr_size = tuple(int(n * s + 0.5) for n, s in zip(lq.shape[1:], scale))
            return self._item(label, lq, source.path(name), None, name, hr_size)
        gt = to_tensor(self._read_gt(name))
        size = lr_size((gt.shape[1], gt.shape[2]), scale, self.options.size_rule)
        if not self.lq:
            return self._item(label, bicubic_lr(gt[None], size)[0], None, gt, name)
        image, lq_path = self._read_lq(name, scale, size)
        return self._item(label, to_tensor(image), lq_path, gt, name)

    def _item(self, label: str, lq: torch.Tensor, lq_path: str | None, gt: torch.Tensor | None, name: str,
              hr_size: tuple[int, ...] = ()) -> Item:
        item: Item = {'name': name, 'scale_name': label, 'lq': lq, 'lq_path': lq_path}
        if self.gt and gt is not None:
            path, hr_size = self.gt.path(name), tuple(gt.shape[1:])
            item.update(gt=gt, gt_path=path, lq_path=lq_path or path)
        item['hr_size'] = torch.tensor(hr_size)
        item['scale'] = torch.tensor([n / m for n, m in zip(hr_size, lq.shape[1:])])
        return item

    def _read_gt(self, name: str) -> np.ndarray:
        assert self.gt is not None
        image, multiple = self.gt.read(name), 1 if self.train else self.options.mod_crop
        height, width = (n - n % multiple for n in image.shape[:2])
        if not height or not width:
            raise OptionError(f'{self.name}.mod_crop: {multiple} leaves nothing of {self.gt.path(name)!r} '
                              f'({image.shape[0]}x{image.shape[1]})')
        return image[:height, :width]

    def _read_lq(self, name: str, scale: tuple[float, float], size: Size) -> tuple[np.ndarray, str]:
        """LR image of an HR name, checked against the size that the scale gives, and its path."""
        source = self.lq[scale_label(scale)]
        folder, base = osp.split(name if source.backend == 'lmdb' else osp.splitext(name)[0])
        stem = osp.join(folder, filled(self.options.filename_tmpl, scale, base))
        lq_name = stem if source.backend == 'lmdb' else stem + osp.splitext(name)[1]
        if source.backend == 'disk' and not osp.exists(source.path(lq_name)):
            lq_name = stem + '.png'  # HR may be JPEG; an LR image worth restoring is lossless
        image, path = source.read(lq_name), source.path(lq_name)
        if image.shape[:2] != tuple(size):
            raise OSError(f'{source.key}: {path!r} is {image.shape[0]}x{image.shape[1]}, expected {size[0]}x{size[1]} '
                          f'(height x width) for {scale_label(scale)} of {name!r} by rule {self.options.size_rule!r}; '
                          'if other software made it, try another size_rule or mod_crop')
        return image, path

    def _augmented_patch(self, draw: Draw, patch: Size) -> np.ndarray:
        """Flips and rotation, then a random crop, shrunk and with noise where that is wanted, of one HR image."""
        rng, o = generator(self.options.seed, 'augment', draw.number), self.options
        image = self._turned(self._read_gt(self.names[draw.image]), rng.random(3) < 0.5)
        missing = [max(0, m - n) for n, m in zip(image.shape[:2], patch)]
        if any(missing):
            image = np.pad(image, [(0, missing[0]), (0, missing[1]), (0, 0)], mode='symmetric')
        source = source_size(o.shrink, patch, image.shape[:2], rng) if o.shrink else patch
        top, left = (int(rng.integers(n - m + 1)) for n, m in zip(image.shape[:2], source))
        crop = shrunk(image[top:top + source[0], left:left + source[1]], patch)
        return with_noise(crop, o.noise, rng) if o.noise else crop

    def _turned(self, image: np.ndarray, coins: np.ndarray, may_transpose: bool = True) -> np.ndarray:
        if self.options.use_hflip and coins[0]:
            image = image[:, ::-1]
        if self.options.use_rot:
            image = image[::-1] if coins[1] else image
            image = image.swapaxes(0, 1) if coins[2] and may_transpose else image
        return image

    def _stored_patch(self, draw: Draw, scale: tuple[float, float]) -> Item:
        """A patch pair cut where HR and LR pixel edges coincide."""
        name, rng = self.names[draw.image], generator(self.options.seed, 'augment', draw.number)
        gt = self._read_gt(name)
        lq, lq_path = self._read_lq(name, scale, lr_size(gt.shape[:2], scale, self.options.size_rule))
        gt_cut, lq_cut = zip(*(self._aligned_cut(n, m, name, rng) for n, m in zip(gt.shape[:2], lq.shape[:2])))
        coins, symmetric = rng.random(3) < 0.5, scale[0] == scale[1]  # a quarter turn would exchange the two scales
        gt, lq = self._turned(gt[gt_cut], coins, symmetric), self._turned(lq[lq_cut], coins, symmetric)
        return self._item(scale_label(scale), to_tensor(lq), lq_path, to_tensor(gt), name)

    def _aligned_cut(self, n: int, m: int, name: str, rng: np.random.Generator) -> tuple[slice, slice]:
        side, (p, q) = self.options.gt_size, Fraction(n, m).as_integer_ratio()
        if side % p or side > n:
            raise OptionError(f'{self.name}.gt_size: {side} cannot be cut from {name!r} together with its LR image '
                              f'({n} and {m} pixels along one axis, edges meet every {p} HR pixels): use a multiple of '
                              f'{p} up to {n}, images cropped to a multiple, or LR made on the fly')
        k, start = side // p, int(rng.integers((n - side) // p + 1))
        return slice(start * p, (start + k) * p), slice(start * q, (start + k) * q)
