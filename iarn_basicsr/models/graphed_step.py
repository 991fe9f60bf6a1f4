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
from iarn_basicsr.ops.size import Size, parse_scale

__all__ = ['GraphedStep', 'largest_patch']

Losses = Callable[[dict[str, Tensor], Tensor, Tensor], dict[str, Tensor]]
ON_LR = ('l_guide', 'l_cycle')  # losses over LR pixels; all others are means over HR pixels


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
        self.graphs: dict[bool, torch.cuda.CUDAGraph] = {}  # without the cycle, and with it
        self.results: dict[bool, tuple[dict[str, Tensor], list[Tensor | None]]] = {}  # losses and gradients of each
        self.gt = self.lq = self.share = torch.empty(0)

    def __call__(self, gt: Tensor, lq: Tensor, cycle: bool = False) -> dict[str, Tensor]:
        """The losses; the gradients are set on the parameters. ``cycle`` as of the network."""
        size = (gt.shape[-2], gt.shape[-1])
        if self.gt.shape[:1] != gt.shape[:1] or self.lq.shape != lq.shape:
            self._allocate(gt, lq)
        self.gt.zero_()
        self.gt[..., :size[0], :size[1]] = gt
        self.lq.copy_(lq)
        self.share.fill_(self.largest[0] * self.largest[1] / (size[0] * size[1]))
        self.padded.load(size)
        if gt.is_cuda:
            if cycle not in self.graphs:
                self._record(cycle)
            self.graphs[cycle].replay()
        else:
            self.results[cycle] = self._compute(cycle)
        values, gradients = self.results[cycle]
        for parameter, gradient in zip(self.parameters, gradients):
            parameter.grad = gradient
        return dict(values)

    def _allocate(self, gt: Tensor, lq: Tensor) -> None:
        """Fixed places for what a step reads."""
        self.graphs = {}
        self.gt, self.lq, self.share = gt.new_zeros(*gt.shape[:2], *self.largest), lq.clone(), gt.new_ones(())
        self.padded = PaddedGrid(self.largest, (lq.shape[-2], lq.shape[-1]), self.net.split, self.net.order,
                                 gt.dtype, gt.device)

    def _compute(self, cycle: bool) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        """Losses and gradients of one step on the fixed places."""
        for parameter in self.parameters:
            parameter.grad = None
        with self.autocast():
            out = self.net.forward_on(self.padded.grid, self.gt, cycle=cycle)
        losses = {name: value if name in ON_LR else value * self.share
                  for name, value in self.losses(out, self.gt, self.lq).items()}
        torch.stack(list(losses.values())).sum().backward()
        return {name: value.detach() for name, value in losses.items()}, [p.grad for p in self.parameters]

    def _record(self, cycle: bool) -> None:
        """Record the step, after one outside the graph that lets the libraries set themselves up."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._compute(cycle)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode='thread_local'):  # the loader pins memory in its own thread
            self.results[cycle] = self._compute(cycle)
        self.graphs[cycle] = graph


def largest_patch(net: IARN, opt: Mapping[str, Any], train: TrainOptions) -> Size:
    """(H, W) of the largest HR patch of a run with ``train.cuda_graph``.

    Raises:
        OptionError: naming all that such a run lacks.
    """
    data = opt['datasets']['train']
    lq_size = data.get('lq_size') or 0
    largest = round(lq_size * parse_scale((data.get('scale_range') or [1, 1])[1])[0])
    missing = [text for text, fits in (
        ('network_g of type IARN with coupling: lr_grid', net.hparams.get('coupling') == 'lr_grid'),
        ('datasets.train.lq_size and scale_range', largest and data.get('scale_range')),
        ('one process (no --launcher)', not opt['dist']),
        ('grad_accumulation: 1', train.grad_accumulation == 1),
        ('no jpeg', not train.jpeg),
        ('no inv_opt or perceptual_opt', not (train.inv_opt or train.perceptual_opt)),
    ) if not fits]
    if missing:
        raise OptionError(f'train.cuda_graph: true needs {"; ".join(missing)}')
    return largest, largest
