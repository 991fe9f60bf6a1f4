"""HR images with LR images at any size: made on the fly by bicubic, or read from folders or LMDBs per scale."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from fractions import Fraction
from os import path as osp
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY

from iarn_basicsr.checks import check_keys, number
from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.image import to_tensor
from iarn_basicsr.ops.resample import bicubic_lr
from iarn_basicsr.ops.size import SIZE_RULES, Size, lr_size, parse_scale, scale_label

from .augment import Noise, Shrink
from .image_source import ImageSource, check_root
from .schedule import (
    DEFAULT_RANGE,
    CommonScales,
    Curriculum,
    Draw,
    ScaleSchedule,
    batches_per_epoch,
    epoch_draws,
    generator,
)

__all__ = ['ArbitraryScaleDataset']

_COMMON_KEYS = {'name', 'type', 'phase', 'dataroot_gt', 'dataroot_lq', 'meta_info_file', 'io_backend', 'filename_tmpl',
                'scale', 'scales', 'size_rule'}
_PHASE_KEYS = {
    'train': {
        'gt_size', 'lq_size', 'use_hflip', 'use_rot', 'scale_range', 'common_scales', 'asymmetric_prob', 'curriculum',
        'shrink', 'noise', 'seed', 'start_iter', 'batch_size_per_gpu', 'num_worker_per_gpu', 'dataset_enlarge_ratio',
        'use_shuffle', 'pin_memory', 'persistent_workers', 'prefetch_mode', 'num_prefetch_queue'
    },
    'eval': {'mod_crop', 'pin_memory', 'persistent_workers', 'prefetch_mode', 'num_prefetch_queue'},
}


@DATASET_REGISTRY.register()
class ArbitraryScaleDataset(torch.utils.data.Dataset):
    """Paired HR/LR dataset for every scale.

    An item is a dict: ``gt`` (3, H, W) and ``lq`` (3, h, w) float RGB in [0, 1], ``lq`` with 8-bit values; ``gt_path``,
    ``lq_path`` (the gt one where the LR is made on the fly); ``scale`` (2,) true ratio HR / LR, vertical first;
    ``hr_size`` (2,) = (H, W); ``scale_name`` such as ``x2.5``. Without HR images there is no ``gt``.

    Options (YAML keys):
        dataroot_gt: HR folder, sub-folders included, or ``.lmdb``; omit it to restore given LR images.
        dataroot_lq: optional; LR folder or ``.lmdb`` with ``{scale}`` (``x2.5``, ``x1.5x3``) or ``{factor}`` (``2.5``)
            in its path where there are several scales. Omitted: bicubic LR made on the fly.
        filename_tmpl: name of an LR file without ending; ``{}`` is the HR's, ``{scale}`` and ``{factor}`` as above.
        meta_info_file: text file with one HR name a line.
        io_backend: ``{type: disk}`` or ``{type: lmdb}``.
        size_rule: ``round``, ``ceil`` or ``floor`` (see :func:`iarn_basicsr.ops.lr_size`).

        train, gt_size: HR patch in pixels; smaller images are extended by reflection to the patch.
        train, lq_size: instead of ``gt_size``: LR patch in pixels, the HR patch is ``scale`` times as large, so that
            every scale trains on as many LR pixels and costs about the same (LR made on the fly only).
        train, use_hflip, use_rot: flips; rotation by 90 degrees.
        train, scale_range: [low, high]; one LR size for the whole batch is drawn from it, see :mod:`.schedule`.
        train, common_scales: ``{prob: 0.5, scales: [2, 3, 4]}``, that share of the batches takes one of these scales,
            see :class:`.schedule.CommonScales` (LR made on the fly only).
        train, asymmetric_prob: share of the other batches with independent vertical and horizontal scales.
        train, curriculum: ``{start: 2, hold: 400, widen: 1500}``, see :class:`.schedule.Curriculum`.
        train, shrink: ``{prob: 0.5, range: [1, 2]}``, that share of the patches comes from photographs reduced by a
            factor from the range, see :class:`.augment.Shrink` (LR made on the fly only).
        train, noise: ``{prob: 0.2, range: [0, 10]}``, that share of the HR patches gets Gaussian noise with a sigma
            from the range in grey levels, see :class:`.augment.Noise` (LR made on the fly only).
        train, seed: of all draws.
        train, scales: with ``dataroot_lq``, the list to draw from.

        val/test, scales: list of numbers or [vertical, horizontal] pairs; every image comes at every scale.
        val/test, mod_crop: crop HR to a multiple first (12 to compare with others).

    Raises:
        OptionError: for an unknown key, a missing or empty folder, a value out of range.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        backend = self._read_options(opt)
        meta = self.opt.get('meta_info_file')
        self.gt = ImageSource(self.opt['dataroot_gt'], backend, meta, f'{self.name}.dataroot_gt') \
            if self.opt.get('dataroot_gt') else None
        self.lq = {scale: ImageSource(root, backend, meta if self.gt is None else None, f'{self.name}.dataroot_lq')
                   for scale, root in self.lq_roots.items()}
        self.names = self.gt.names if self.gt else next(iter(self.lq.values())).names

    @classmethod
    def check_options(cls, opt: dict[str, Any], files: bool = True) -> None:
        """Raise ``OptionError`` as the constructor would, before images are looked for; ``files``: folders are."""
        dataset = cls.__new__(cls)
        backend = dataset._read_options(opt)
        if files and opt.get('dataroot_gt'):
            check_root(osp.expanduser(opt['dataroot_gt']), backend, f'{dataset.name}.dataroot_gt')
        for root in dataset.lq_roots.values() if files else ():
            check_root(osp.expanduser(root), backend, f'{dataset.name}.dataroot_lq')

    def _read_options(self, opt: dict[str, Any]) -> str:
        """Everything that does not need the images; returns the backend."""
        self.opt = opt = copy.deepcopy(dict(opt))
        self.name = f'datasets.{opt.get("name", "?")}'
        self.train = opt.get('phase', 'train') == 'train'
        check_keys(self.name, opt, _COMMON_KEYS | _PHASE_KEYS['train' if self.train else 'eval'])
        backend = (opt.get('io_backend') or {}).get('type', 'disk')
        if backend not in ('disk', 'lmdb'):
            raise OptionError(f'{self.name}.io_backend.type: {backend!r}; choose disk or lmdb')
        self.size_rule = opt.get('size_rule', 'round')
        if self.size_rule not in SIZE_RULES:
            raise OptionError(f'{self.name}.size_rule: {self.size_rule!r}; choose one of {sorted(SIZE_RULES)}')
        self.scales = self._read_scales(opt.get('scales', opt.get('scale')))
        self.lq_roots = self._read_lq_roots()
        if self.train:
            self._init_train()
        else:
            self.mod_crop = number(self.name, opt, 'mod_crop', 1, 1, 1024, int)
        return backend

    def _read_scales(self, scales: Any) -> list[tuple[float, float]]:
        """The list of scales, checked; a single scale counts as a list of one."""
        if scales is None:
            return []
        if isinstance(scales, (int, float, str)):
            scales = [scales]
        try:
            return [parse_scale(s) for s in scales]
        except ValueError as error:
            raise OptionError(f'{self.name}.scales: {error}') from None

    def _read_lq_roots(self) -> dict[str, str]:
        """Folders of LR images by scale name; empty where the LR is made on the fly."""
        self._filled('filename_tmpl', self.opt.get('filename_tmpl', '{}'), (1, 1), '')
        root = self.opt.get('dataroot_lq')
        if not root:
            if not self.opt.get('dataroot_gt'):
                raise OptionError(f'{self.name}: neither dataroot_gt nor dataroot_lq is given: name a folder of HR '
                                  'images, or of LR images to restore')
            if not self.train and not self.scales:
                raise OptionError(f'{self.name}: scales is missing: list the scales, for example [1.5, 2, [1.5, 3]]')
            return {}
        if not self.scales:
            raise OptionError(f'{self.name}: dataroot_lq needs scales, the list of HR / LR ratios it holds')
        if len(self.scales) > 1 and '{scale}' not in root and '{factor}' not in root:
            raise OptionError(f'{self.name}.dataroot_lq: {root!r} serves {len(self.scales)} scales: put {{scale}} '
                              '(x2.5) or {factor} (2.5) where the scale stands in the path')
        return {scale_label(s): self._filled('dataroot_lq', root, s) for s in self.scales}

    def _filled(self, key: str, template: str, scale: tuple[float, float], *name: str) -> str:
        """A path or name of LR images, with the scale where ``{scale}`` or ``{factor}`` stands."""
        try:
            return template.format(*name, **_fields(scale))
        except (LookupError, ValueError, AttributeError):
            raise OptionError(f'{self.name}.{key}: {template!r}; in braces only {"{}, " if name else ""}{{scale}} and '
                              '{factor} are understood') from None

    def _init_train(self) -> None:
        opt, name = self.opt, self.name
        if not opt.get('dataroot_gt'):
            raise OptionError(f'{name}: training needs dataroot_gt, a folder or LMDB of HR images')
        self.gt_size = number(name, opt, 'gt_size', 144, 8, 4096, int)
        self.lq_size = number(name, opt, 'lq_size', 0, 4, 1024, int) if opt.get('lq_size') else None
        if self.lq_size and ('gt_size' in opt or self.lq_roots):
            raise OptionError(f'{name}: lq_size takes the place of gt_size and needs LR made on the fly: leave out '
                              f'{"gt_size" if "gt_size" in opt else "lq_size or dataroot_lq"}')
        self.seed = number(name, opt, 'seed', 0, 0, 2**63 - 1, int)
        self.batch_size = number(name, opt, 'batch_size_per_gpu', 16, 1, 65536, int)
        if self.lq_roots:
            self._refuse_beside_lq()
        elif opt.get('scales'):
            raise OptionError(f'{name}.scales: serves dataroot_lq; for LR made on the fly give scale_range, and '
                              'common_scales for a list')
        default = [self.scales[0][0]] * 2 if self.scales else DEFAULT_RANGE
        limits = opt.get('scale_range', default)
        try:
            low, high = (parse_scale(s)[0] for s in limits)
        except (TypeError, ValueError):
            raise OptionError(f'{name}.scale_range: {limits!r}; expected [low, high] with 1 <= low <= high') from None
        if not low <= high:
            raise OptionError(f'{name}.scale_range: {limits!r}; expected [low, high] with 1 <= low <= high')
        probability = number(name, opt, 'asymmetric_prob', 0, 0, 1)
        self.schedule = ScaleSchedule(low, high, probability, self._curriculum(low, high), self.seed,
                                      self._common_scales(low, high))
        self.shrink = Shrink.of(f'{name}.shrink', opt['shrink']) if opt.get('shrink') else None
        self.noise = Noise.of(f'{name}.noise', opt['noise']) if opt.get('noise') else None

    def _refuse_beside_lq(self) -> None:
        """Options that draw other scales or change the HR patch: given LR images have their own."""
        for key in ('common_scales', 'asymmetric_prob', 'curriculum', 'shrink', 'noise', 'scale_range'):
            if self.opt.get(key):
                raise OptionError(f'{self.name}.{key}: needs LR made on the fly: leave out {key} or dataroot_lq, whose '
                                  'files have scales and content of their own')

    def _common_scales(self, low: float, high: float) -> CommonScales | None:
        options = self.opt.get('common_scales')
        if not options:
            return None
        name = f'{self.name}.common_scales'
        check_keys(name, options, {'prob', 'scales'})
        scales = options.get('scales')
        if not isinstance(scales, list) or not scales:
            raise OptionError(f'{name}.scales: {scales!r}; expected a list of scales such as [2, 3, 4]')
        pairs = tuple(_within(f'{name}.scales', scale, low, high) for scale in scales)
        return CommonScales(number(name, options, 'prob', 0.5, 0, 1), pairs)

    def _curriculum(self, low: float, high: float) -> Curriculum | None:
        options = self.opt.get('curriculum')
        if not options:
            return None
        name = f'{self.name}.curriculum'
        check_keys(name, options, {'start', 'hold', 'widen'})
        return Curriculum(number(name, options, 'start', 2, low, high), number(name, options, 'hold', 0, 0, 1e9, int),
                          number(name, options, 'widen', 0, 0, 1e9, int))

    def __len__(self) -> int:
        return len(self.names) * (1 if self.train else len(self.scales))

    def batches_per_epoch(self, ratio: float, world_size: int) -> int:
        """Training iterations of one epoch."""
        return batches_per_epoch(len(self), ratio, self.batch_size, world_size)

    def draws(self, epoch: int, rank: int, world_size: int, ratio: float) -> Iterator[Draw]:
        """The draws of one rank in one epoch; a resumed run (option ``start_iter``) leaves out those already used."""
        batches = self.batches_per_epoch(ratio, world_size)
        skip = min(max(int(self.opt.get('start_iter', 0)) - epoch * batches, 0), batches)
        return epoch_draws(len(self), ratio, self.batch_size, world_size, rank, self.seed, epoch, skip)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not self.train:
            return self._eval_item(index)
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """A whole batch, as PyTorch's fetcher asks for it: one LR size for all of it."""
        if not self.train:
            return [self._eval_item(i) for i in indices]
        draws = [Draw.of(i) for i in indices]
        step = draws[0].step
        if self.lq:
            scale = self.schedule.pick(step, self.scales)
            return [self._precomputed_patch(d, scale) for d in draws]
        patch, size = self._patch_sizes(step)
        gts = to_tensor(np.stack([self._augmented_patch(d, patch) for d in draws]))
        label = scale_label([p / n for p, n in zip(patch, size)])
        return [self._item(gt, lq, self.names[d], None, label)
                for gt, lq, d in zip(gts, bicubic_lr(gts, size), draws)]

    def _patch_sizes(self, step: int) -> tuple[Size, Size]:
        """HR and LR size of the patches of one training step."""
        if self.lq_size is None:
            patch = (self.gt_size, self.gt_size)
            return patch, self.schedule.size(step, patch, self.size_rule)
        s_v, s_h = self.schedule.scale(step)
        return (round(self.lq_size * s_v), round(self.lq_size * s_h)), (self.lq_size, self.lq_size)

    def _eval_item(self, index: int) -> dict[str, Any]:
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
              hr_size: tuple[int, ...] | None = None) -> dict[str, Any]:
        source = self.gt or self.lq[label]
        item: dict[str, Any] = {'lq': lq, 'scale_name': label}
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
        stem = osp.join(folder, self._filled('filename_tmpl', self.opt.get('filename_tmpl', '{}'), scale, base))
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
        image = _extend(self._turned(self._read_gt(self.names[draw]), rng), patch)
        source = self.shrink.source_size(patch, image.shape[:2], rng) if self.shrink else patch
        top, left = (int(rng.integers(n - m + 1)) for n, m in zip(image.shape[:2], source))
        crop = image[top:top + source[0], left:left + source[1]]
        crop = self.shrink.apply(crop, patch) if self.shrink else crop
        return self.noise.apply(crop, rng) if self.noise else crop

    def _turned(self, image: np.ndarray, rng: np.random.Generator, may_transpose: bool = True) -> np.ndarray:
        flips, quarter_turn = rng.random(2) < 0.5, rng.random() < 0.5
        if self.opt.get('use_hflip', True) and flips[0]:
            image = image[:, ::-1]
        if self.opt.get('use_rot', True):
            image = image[::-1] if flips[1] else image
            image = image.swapaxes(0, 1) if quarter_turn and may_transpose else image
        return image

    def _precomputed_patch(self, draw: Draw, scale: tuple[float, float]) -> dict[str, Any]:
        """A patch pair cut where HR and LR pixel edges coincide."""
        name = self.names[draw]
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


def _within(name: str, scale: Any, low: float, high: float) -> tuple[float, float]:
    """A scale of option ``name`` as a pair whose axes lie within the range."""
    try:
        pair = parse_scale(scale)
    except OptionError as error:
        raise OptionError(f'{name}: {error}') from None
    if not (low <= min(pair) and max(pair) <= high):
        raise OptionError(f'{name}: {scale_label(scale)} lies outside of scale_range, {scale_label(low)} to '
                          f'{scale_label(high)}')
    return pair


def _fields(scale: tuple[float, float]) -> dict[str, str]:
    """Values of the placeholders in LR paths and names."""
    label = scale_label(scale)
    return {'scale': label, 'factor': label[1:]}


def _extend(image: np.ndarray, size: Size) -> np.ndarray:
    """Extend by reflection to at least ``size`` (height, width)."""
    missing = [max(0, m - n) for n, m in zip(image.shape[:2], size)]
    if not any(missing):
        return image
    return np.pad(image, [(0, missing[0]), (0, missing[1]), (0, 0)], mode='symmetric')
