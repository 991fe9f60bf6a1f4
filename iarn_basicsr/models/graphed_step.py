"""A training step recorded once and replayed for every scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from iarn_basicsr.archs.grid import PaddedGrid
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.config.schema import TrainOptions
from iarn_basicsr.errors import OptionError
from iarn_basicsr.ops.resample import DENSE_LIMIT
from iarn_basicsr.ops.size import Size, parse_scale

__all__ = ['GraphedStep', 'largest_patch']

Losses = Callable[[dict[str, Tensor], Tensor, Tensor], dict[str, Tensor]]
ON_LR = ('l_guide', )  # losses over LR pixels; all others are means over HR pixels


class GraphedStep:
    """Losses and gradient of a batch with LR patches of one size, on CUDA as one graph whatever the scale.

    Some 2000 small kernels a step, started one by one, leave a fast GPU idle. The HR patches are padded to the largest
    size, with maps to match (``PaddedGrid``), and the means over HR pixels are corrected for the padding: the numbers
    are those of the unpadded step up to rounding.

    Args:
        net: an IARN with LR-grid coupling.
        losses: (output of the network, gt, lq) -> named losses, each a mean over pixels.
        autocast: makes the context in which the network runs.
        largest: largest HR patch (H, W).
    """

    def __init__(self, net: IARN, losses: Losses, autocast: Callable[[], torch.autocast], largest: Size) -> None:
        self.net, self.losses, self.autocast, self.largest = net, losses, autocast, largest
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.gradients: list[Tensor | None] = []
        self.gt = self.lq = self.share = torch.empty(0)

    def __call__(self, gt: Tensor, lq: Tensor) -> dict[str, Tensor]:
        """The losses; the gradients are set on the parameters."""
        size = (gt.shape[-2], gt.shape[-1])
        if self.gt.shape[:1] != gt.shape[:1] or self.lq.shape != lq.shape:
            self._allocate(gt, lq)
        self.gt.zero_()
        self.gt[..., :size[0], :size[1]] = gt
        self.lq.copy_(lq)
        self.share.fill_(self.largest[0] * self.largest[1] / (size[0] * size[1]))
        self.padded.load(size)
        if gt.is_cuda:
            if self.graph is None:
                self._record()
            assert self.graph is not None
            self.graph.replay()
        else:
            self.values = self._compute()
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient
        return dict(self.values)

    def _allocate(self, gt: Tensor, lq: Tensor) -> None:
        """Fixed places for what a step reads."""
        self.graph = None
        self.gt, self.lq, self.share = gt.new_zeros(*gt.shape[:2], *self.largest), lq.clone(), gt.new_ones(())
        self.padded = PaddedGrid(self.largest, (lq.shape[-2], lq.shape[-1]), self.net.split, self.net.order,
                                 gt.dtype, gt.device)

    def _compute(self) -> dict[str, Tensor]:
        """One step on the fixed places; leaves the gradients in ``gradients``."""
        for parameter in self.parameters:
            parameter.grad = None
        with self.autocast():
            out = self.net.forward_on(self.padded.grid, self.gt)
        losses = {name: value if name in ON_LR else value * self.share
                  for name, value in self.losses(out, self.gt, self.lq).items()}
        torch.stack(list(losses.values())).sum().backward()
        self.gradients = [p.grad for p in self.parameters]
        return {name: value.detach() for name, value in losses.items()}

    def _record(self) -> None:
        """Record the step, after one outside the graph that lets the libraries set themselves up."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._compute()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode='thread_local'):  # the loader pins memory in its own thread
            self.values = self._compute()
        self.graph = graph


def largest_patch(net: IARN, opt: Mapping[str, Any], train: TrainOptions) -> Size:
    """(H, W) of the largest HR patch of a run with ``train.cuda_graph``.

    Raises:
        OptionError: naming all that such a run lacks.
    """
    data = opt['datasets']['train']
    lq_size = data.get('lq_size') or 0
    largest = round(lq_size * parse_scale((data.get('scale_range') or [1, 1])[1])[0])
    cells = lq_size * net.hparams.get('order', 1)
    missing = [text for text, fits in (
        ('network_g of type IARN with coupling: lr_grid', net.hparams.get('coupling') == 'lr_grid'),
        ('datasets.train.lq_size and scale_range', largest and data.get('scale_range')),
        (f'lq_size times the largest scale, and times order, of at most {DENSE_LIMIT} (a smaller lq_size)',
         max(largest, cells) <= DENSE_LIMIT),
        ('one process (no --launcher)', not opt['dist']),
        ('grad_accumulation: 1', train.grad_accumulation == 1),
        ('no jpeg', not train.jpeg),
        ('no inv_opt, cycle_opt or perceptual_opt', not (train.inv_opt or train.cycle_opt or train.perceptual_opt)),
    ) if not fits]
    if missing:
        raise OptionError(f'train.cuda_graph: true needs {"; ".join(missing)}')
    return largest, largest
