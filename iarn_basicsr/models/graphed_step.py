"""A training step recorded once and replayed for every scale."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from iarn_basicsr.archs.grid import PaddedGrid
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.ops.size import Size

__all__ = ['GraphedStep']

Losses = Callable[[dict[str, Tensor], Tensor, Tensor], dict[str, Tensor]]
ON_LR = ('l_guide', )  # losses over LR pixels; all others are means over HR pixels


class GraphedStep:
    """Losses and gradient of a batch with LR patches of one size, on CUDA as one graph whatever the scale.

    The network launches some 2000 small kernels a step; started one by one they leave a fast GPU idle for most of the
    time. The HR patches are padded to the largest size, with maps to match (:class:`PaddedGrid`), and the means over
    HR pixels are corrected for the padding: the numbers are those of the unpadded step up to rounding.

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
        """One step on the fixed places; leaves the gradients in ``self.gradients``."""
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
