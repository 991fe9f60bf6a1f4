"""Validation: every image at every scale down and up again, with tables, JSON, TensorBoard and images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from os import path as osp
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from tqdm import tqdm

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.config.schema import ValOptions
from iarn_basicsr.files import is_image, save_bytes, save_json
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.metrics.rescaling import PROTOCOL, evaluate
from iarn_basicsr.ops.image import full_float32, to_pixels, to_tensor
from iarn_basicsr.ops.jpeg import jpeg_copy
from iarn_basicsr.ops.size import Size, scale_label

__all__ = ['Validation']


class Validation(SRModel):
    """The part of ``IARNModel`` that measures, with the averaged weights where there are some."""

    val: ValOptions
    metrics: Mapping[str, Mapping[str, Any]]
    last_iter: int | None

    def nondist_validation(self, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool) -> None:
        """Measure a data set, whose items have ``lq`` and ``gt`` (C, H, W) in [0, 1], or ``lq`` and ``hr_size`` alone.

        ``current_iter`` is the iteration, or the name of a test.
        """
        if self.last_iter is not None:  # at the end of a run BasicSR counts on beyond it
            current_iter = min(current_iter, self.last_iter)
        dataset, rank, world_size = dataloader.dataset, self.opt['rank'], self.opt['world_size']
        # of images that differ in their ending alone, x.jpg and x.png, saved ones keep it in their name
        stems = Counter(osp.splitext(name)[0] for name in getattr(dataset, 'names', ()) if is_image(name))
        net = self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)
        rescaler: Any = _Direct(net, self.device)
        if isinstance(net, IARN):
            rescaler = Rescaler(net, self.opt['name'], str(self.device))
        tasks = [(index, quality) for index in range(rank, len(dataset), world_size)
                 for quality in (0, *(self.val.jpeg or ()))]
        results = []
        for index, quality in tqdm(tasks, unit='image', disable=not self.val.pbar or rank > 0):
            item = dataset[index]
            images = self._rescale(rescaler, item, quality)
            ratios = [n / m for n, m in zip(images['sr'].shape, images['lr'].shape)][:2]
            scale = item.get('scale_name') or scale_label([max(1.0, round(r, 3)) for r in ratios])
            path = item.get('gt_path', item['lq_path'])
            name, ending = osp.splitext(item.get('name', osp.basename(path)))
            name += ending if stems[name] > 1 or not is_image(f'x{ending}') else ''
            scale += f'_jpeg{quality}' if quality else ''
            if save_img:
                self._save_images(images, dataset.opt['name'], scale, name, current_iter)
            values = evaluate((images['sr'], images['gt']), (images['lr'], images['lq']),
                              self.metrics) if 'gt' in images else {}
            results.append({'index': index, 'image': path, 'scale': scale, **values})
        self.net_g.train(self.is_train)
        if self.opt['dist']:
            gathered: list[Any] = [None] * world_size
            torch.distributed.all_gather_object(gathered, results)
            results = sorted((r for part in gathered for r in part), key=lambda r: r['index'])
        self._report(results, dataset.opt['name'], current_iter, tb_logger)

    dist_validation = nondist_validation  # the ranks share the images

    def _rescale(self, rescaler: Any, item: dict[str, Any], quality: int) -> dict[str, np.ndarray]:
        """8-bit BGR images ``lr``, ``sr``, ``lq`` (bicubic LR or the given LR) and, where there is one, ``gt``."""
        images: dict[str, Any] = {key: to_pixels(item[key]) for key in ('lq', 'gt') if key in item}
        size = tuple(int(n) for n in (images['gt'].shape[:2] if 'gt' in images else item['hr_size']))
        lr = images['lq']
        if 'gt' in images:
            lr = rescaler.downscale(images['gt'], size=lr.shape[:2])
        if quality:
            lr = jpeg_copy(lr, quality)
        images.update(lr=lr, sr=rescaler.upscale(lr, size))
        return {name: np.ascontiguousarray(image[..., ::-1]) for name, image in images.items()}

    def _save_images(self, images: dict[str, np.ndarray], dataset: str, scale: str, name: str,
                     current_iter: Any) -> None:
        """visualization/DATASET/SCALE/{lr,sr}/NAME.png, with the iteration in the name during training."""
        name += f'_{current_iter}' if self.is_train else ''
        name += f'_{self.val.suffix}' if self.val.suffix else ''
        for kind in ('lr', 'sr'):
            folder = osp.join(self.opt['path']['visualization'], dataset, scale, kind)
            save_bytes(cv2.imencode('.png', images[kind])[1].tobytes(), osp.join(folder, f'{name}.png'))

    @master_only
    def _report(self, results: list[dict[str, Any]], dataset: str, current_iter: Any, tb_logger: Any) -> None:
        """Log the table, feed TensorBoard and write JSON."""
        metrics = list(self.metrics)
        counts = Counter(r['scale'] for r in results)
        rows = {scale: [r for r in results if r['scale'] == scale] for scale in counts}
        table = {s: {m: sum(v) / len(v) for m in metrics if (v := [r[m] for r in rs if m in r])}
                 for s, rs in rows.items()}
        weights = 'EMA weights' if hasattr(self, 'net_g_ema') else 'weights'
        logger = get_root_logger()
        if not any(table.values()):
            logger.info(f'{dataset}: {len(results)} LR images restored; without HR images nothing is measured.')
            return
        logger.info(f'Validation {dataset} @ {current_iter} ({weights}; {PROTOCOL})\n' +
                    '\n'.join(_table_lines(table, counts, metrics)))
        if tb_logger:
            for scale, row in table.items():
                for metric, value in row.items():
                    tb_logger.add_scalar(f'metrics/{dataset}/{scale}/{metric}', value, current_iter)
        save_json({'dataset': dataset, 'iter': current_iter, 'protocol': PROTOCOL, 'weights': weights, 'mean': table,
                   'images': results}, osp.join(self.opt['path']['log'], 'metrics', f'{dataset}_{current_iter}.json'))


class _Direct:
    """In place of a ``Rescaler`` for IRN, for which no tiles can be cut: arrays in and out, the whole image at once."""

    def __init__(self, net: Any, device: torch.device) -> None:
        self.net, self.device = net.eval(), device

    @torch.no_grad()
    @full_float32()
    def downscale(self, image: np.ndarray, size: Size) -> np.ndarray:
        return to_pixels(self.net.downscale(to_tensor(image)[None].to(self.device), size).lr)[0]

    @torch.no_grad()
    @full_float32()
    def upscale(self, lr: np.ndarray, size: Size) -> np.ndarray:
        return to_pixels(self.net.upscale(to_tensor(lr)[None].to(self.device), size))[0]


def _table_lines(table: dict[str, dict[str, float]], counts: Counter[str], metrics: list[str]) -> Iterator[str]:
    """Rows of a text table: one scale a line."""
    width = max(7, *(len(s) for s in table))
    columns = [max(8, len(m)) for m in metrics]
    yield '  '.join([f'{"scale":{width}}', 'images', *(f'{m:>{c}}' for m, c in zip(metrics, columns))])
    for scale, row in table.items():
        cells = [f'{row[m]:{c}.{4 if "ssim" in m else 2}f}' if m in row else f'{"-":>{c}}'
                 for m, c in zip(metrics, columns)]
        yield '  '.join([f'{scale:{width}}', f'{counts[scale]:6d}', *cells])
