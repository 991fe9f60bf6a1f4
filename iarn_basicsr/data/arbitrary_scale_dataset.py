"""HR images with LR images at any size: made on the fly by bicubic, or read from folders or LMDBs per scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from os import path as osp
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY

from iarn_basicsr.config.schema import (
    DEFAULT_RANGE,
    DatasetOptions,
    EvalDatasetOptions,
    TrainDatasetOptions,
    check,
    filled,
)
from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.image import to_tensor
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.ops.size import Size, lr_size, scale_label

from .augment import Noise, Shrink
from .image_source import ImageSource
from .schedule import CommonScales, Curriculum, Draw, ScaleSchedule, batches_per_epoch, epoch_draws, generator

__all__ = ['ArbitraryScaleDataset']

Item = dict[str, Any]


@DATASET_REGISTRY.register()
class ArbitraryScaleDataset(torch.utils.data.Dataset):
    """Paired HR/LR dataset for every scale.

    An item is a dict: ``gt`` (3, H, W) and ``lq`` (3, h, w) float RGB in [0, 1], ``lq`` with 8-bit values; ``gt_path``,
    ``lq_path`` (the gt one where the LR is made on the fly); ``scale`` (2,) true ratio HR / LR, vertical first;
    ``hr_size`` (2,) = (H, W); ``scale_name`` such as ``x2.5``. Without HR images there is no ``gt``.

    In training an index is a ``Draw``, and a whole batch has one LR size. In validation and test every image comes at
    every scale: item ``i`` is image ``i // len(scales)`` at scale ``i % len(scales)``.

    Args:
        opt: the section of the option file, with ``phase``; see ``config.schema.TrainDatasetOptions`` and
            ``EvalDatasetOptions`` for its keys.

    Raises:
        OptionError: for an unknown key, a value out of range, a missing or empty folder, a listed image that is not
            there.
    """

    options: DatasetOptions

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt  # from which BasicSR's models read the name
        self.name = f'datasets.{opt.get("name", "?")}'
        self.train = opt.get('phase', 'train') == 'train'
        if self.train:
            self._init_train(check(self.name, TrainDatasetOptions, opt))
        else:
            evaluation = check(self.name, EvalDatasetOptions, opt)
            self.options, self.mod_crop = evaluation, evaluation.mod_crop
        o = self.options
        self.size_rule = o.size_rule
        self.scales: list[tuple[float, float]] = [*(o.scales or ())]
        self.gt = ImageSource(o.dataroot_gt, o.io_backend.type, o.meta_info_file, f'{self.name}.dataroot_gt') \
            if o.dataroot_gt else None
        meta = None if self.gt else o.meta_info_file
        self.lq = {scale: ImageSource(root, o.io_backend.type, meta, f'{self.name}.dataroot_lq')
                   for scale, root in o.lq_roots().items()}
        self.names = self.gt.names if self.gt else next(iter(self.lq.values())).names

    def _init_train(self, o: TrainDatasetOptions) -> None:
        self.options, self.seed, self.batch_size = o, o.seed, o.batch_size_per_gpu
        self.use_hflip, self.use_rot, self.start_iter = o.use_hflip, o.use_rot, o.start_iter
        self.gt_size, self.lq_size = o.gt_size or 0, o.lq_size  # one of them
        low, high = o.scale_range or DEFAULT_RANGE
        curriculum, common = o.curriculum, o.common_scales
        self.schedule = ScaleSchedule(
            low, high, o.asymmetric_prob,
            Curriculum(curriculum.start, curriculum.hold, curriculum.widen) if curriculum else None, o.seed,
            CommonScales(common.prob, tuple(common.scales)) if common else None)
        self.shrink = Shrink(o.shrink.prob, *o.shrink.range) if o.shrink else None
        self.noise = Noise(o.noise.prob, *o.noise.range) if o.noise else None

    def __len__(self) -> int:
        return len(self.names) * (1 if self.train else len(self.scales))

    def batches_per_epoch(self, ratio: float, world_size: int) -> int:
        """Training iterations of one epoch."""
        return batches_per_epoch(len(self), ratio, self.batch_size, world_size)

    def draws(self, epoch: int, rank: int, world_size: int, ratio: float) -> Iterator[Draw]:
        """The draws of one rank in one epoch; a resumed run (option ``start_iter``) leaves out those already used."""
        batches = self.batches_per_epoch(ratio, world_size)
        skip = min(max(self.start_iter - epoch * batches, 0), batches)
        return epoch_draws(len(self), ratio, self.batch_size, world_size, rank, self.seed, epoch, skip)

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
        step = draws[0].step
        if self.lq:
            scale = self.schedule.pick(step, self.scales)
            return [self._stored_patch(d, scale) for d in draws]
        patch, size = self._patch_sizes(step)
        gts = to_tensor(np.stack([self._augmented_patch(d, patch) for d in draws]))
        label = scale_label([p / n for p, n in zip(patch, size)])
        return [self._item(gt, lq, self.names[d.image], None, label)
                for gt, lq, d in zip(gts, bicubic_lr(gts, size), draws)]

    def _patch_sizes(self, step: int) -> tuple[Size, Size]:
        """HR and LR size of the patches of one training step."""
        if self.lq_size is None:
            patch = (self.gt_size, self.gt_size)
            return patch, self.schedule.size(step, patch, self.size_rule)
        s_v, s_h = self.schedule.scale(step)
        return (round(self.lq_size * s_v), round(self.lq_size * s_h)), (self.lq_size, self.lq_size)

    def _eval_item(self, index: int) -> Item:
        """Image index // scales at scale index % scales."""
        which, k = divmod(index, len(self.scales))
        name, scale = self.names[which], self.scales[k]
        label = scale_label(scale)
        if self.gt is None:
            lq = to_tensor(self.lq[label].read(name))
            return self._item(None, lq, name, name, label, tuple(int(n * s + 0.5) for n, s in zip(lq.shape[1:], scale)))
        gt = to_tensor(self._read_gt(name))
        size = lr_size((gt.shape[1], gt.shape[2]), scale, self.size_rule)
        if not self.lq:
            return self._item(gt, bicubic_lr(gt[None], size)[0], name, None, label)
        image, lq_name = self._read_lq(name, scale, size)
        return self._item(gt, to_tensor(image), name, lq_name, label)

    def _item(self, gt: torch.Tensor | None, lq: torch.Tensor, name: str, lq_name: str | None, label: str,
              hr_size: tuple[int, ...] | None = None) -> Item:
        source = self.gt or self.lq[label]
        item: Item = {'lq': lq, 'scale_name': label}
        if gt is not None:
            item.update(gt=gt, gt_path=source.path(name))
            hr_size = tuple(gt.shape[1:])
        item['lq_path'] = self.lq[label].path(lq_name) if lq_name else source.path(name)
        assert hr_size is not None
        item['hr_size'] = torch.tensor(hr_size)
        item['scale'] = torch.tensor([n / m for n, m in zip(hr_size, lq.shape[1:])])
        return item

    def _read_gt(self, name: str) -> np.ndarray:
        assert self.gt is not None
        image = self.gt.read(name)
        if self.train:
            return image
        height, width = (n - n % self.mod_crop for n in image.shape[:2])
        if not height or not width:
            raise OptionError(f'{self.name}.mod_crop: {self.mod_crop} leaves nothing of {self.gt.path(name)!r} '
                              f'({image.shape[0]}x{image.shape[1]})')
        return image[:height, :width]

    def _read_lq(self, name: str, scale: tuple[float, float], size: Size) -> tuple[np.ndarray, str]:
        """LR image of an HR name, checked against the size that the scale gives."""
        source = self.lq[scale_label(scale)]
        folder, base = osp.split(name if source.backend == 'lmdb' else osp.splitext(name)[0])
        stem = osp.join(folder, filled(self.options.filename_tmpl, scale, base))
        lq_name = stem if source.backend == 'lmdb' else stem + osp.splitext(name)[1]
        if source.backend == 'disk' and lq_name not in source:
            lq_name = stem + '.png'  # HR may be JPEG; an LR image worth restoring is lossless
        image = source.read(lq_name)
        if image.shape[:2] != tuple(size):
            raise OSError(f'{source.key}: {source.path(lq_name)!r} is {image.shape[0]}x{image.shape[1]}, expected '
                          f'{size[0]}x{size[1]} (height x width) for {scale_label(scale)} of {name!r} by rule '
                          f'{self.size_rule!r}; if other software made it, try another size_rule or mod_crop')
        return image, lq_name

    def _augmented_patch(self, draw: Draw, patch: Size) -> np.ndarray:
        """Flips and rotation, then a random crop, shrunk and with noise where that is wanted, of one HR image."""
        rng = generator(self.seed, 'augment', draw.number)
        image = _extend(self._turned(self._read_gt(self.names[draw.image]), rng), patch)
        source = self.shrink.source_size(patch, image.shape[:2], rng) if self.shrink else patch
        top, left = (int(rng.integers(n - m + 1)) for n, m in zip(image.shape[:2], source))
        crop = image[top:top + source[0], left:left + source[1]]
        crop = self.shrink.apply(crop, patch) if self.shrink else crop
        return self.noise.apply(crop, rng) if self.noise else crop

    def _turned(self, image: np.ndarray, rng: np.random.Generator, may_transpose: bool = True) -> np.ndarray:
        flips, quarter_turn = rng.random(2) < 0.5, rng.random() < 0.5
        if self.use_hflip and flips[0]:
            image = image[:, ::-1]
        if self.use_rot:
            image = image[::-1] if flips[1] else image
            image = image.swapaxes(0, 1) if quarter_turn and may_transpose else image
        return image

    def _stored_patch(self, draw: Draw, scale: tuple[float, float]) -> Item:
        """A patch pair cut where HR and LR pixel edges coincide."""
        name = self.names[draw.image]
        gt = self._read_gt(name)
        lq, lq_name = self._read_lq(name, scale, lr_size(gt.shape[:2], scale, self.size_rule))
        rng = generator(self.seed, 'augment', draw.number)
        gt_cut, lq_cut = zip(*(self._aligned_cut(n, m, name, rng) for n, m in zip(gt.shape[:2], lq.shape[:2])))
        state = rng.bit_generator.state
        symmetric = scale[0] == scale[1]  # a quarter turn would exchange the two scales
        gt = self._turned(gt[gt_cut], rng, symmetric)
        rng.bit_generator.state = state  # the LR patch turns the same way
        lq = self._turned(lq[lq_cut], rng, symmetric)
        return self._item(to_tensor(gt), to_tensor(lq), name, lq_name, scale_label(scale))

    def _aligned_cut(self, n: int, m: int, name: str, rng: np.random.Generator) -> tuple[slice, slice]:
        ratio = Fraction(n, m)
        p, q = ratio.numerator, ratio.denominator
        if self.gt_size % p or self.gt_size > n:
            raise OptionError(f'{self.name}.gt_size: {self.gt_size} cannot be cut from {name!r} together with its LR '
                              f'image ({n} and {m} pixels along one axis, edges meet every {p} HR pixels): use a '
                              f'multiple of {p} up to {n}, images cropped to a multiple, or LR made on the fly')
        k, start = self.gt_size // p, int(rng.integers(n // p - self.gt_size // p + 1))
        return slice(start * p, (start + k) * p), slice(start * q, (start + k) * q)


def _extend(image: np.ndarray, size: Size) -> np.ndarray:
    """Extend by reflection to at least ``size`` (height, width)."""
    missing = [max(0, m - n) for n, m in zip(image.shape[:2], size)]
    if not any(missing):
        return image
    return np.pad(image, [(0, missing[0]), (0, missing[1]), (0, 0)], mode='symmetric')
