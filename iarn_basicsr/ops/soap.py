"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., arXiv:2409.11321)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ['SOAP']


class SOAP(torch.optim.Optimizer):
    r"""Adam on gradients that are rotated so that their entries hardly depend on each other.

    For a weight W (out, ...), seen as a matrix, with gradient G, and moving averages L of G G^T and R of G^T G:

        G' = Q_L^T G Q_R       Q_L, Q_R: eigenvectors of L and R
        W <- W - lr Q_L Adam(G') Q_R^T

    A convolution from 32 to 32 channels has L of 32 x 32 and R of 288 x 288. Vectors get plain Adam. The first
    ``refresh`` steps gather L and R and move nothing; from then on one step of the QR algorithm renews the bases every
    ``refresh`` steps. Rates are those of Adam.

    Args:
        params, lr, betas, eps: as of ``torch.optim.Adam``.
        refresh: steps from one renewal of the bases to the next.
        decay: of the moving averages L and R.

    Raises:
        ValueError: for ``refresh`` or ``decay`` out of range.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99),
                 eps: float = 1e-8, refresh: int = 20, decay: float = 0.99) -> None:
        if not (isinstance(refresh, int) and refresh >= 1):
            raise ValueError(f'refresh: {refresh!r}; expected a whole number of at least 1')
        if not 0 <= decay < 1:
            raise ValueError(f'decay: {decay!r}; expected 0 or more, less than 1')
        super().__init__(params, {'lr': lr, 'betas': tuple(betas), 'eps': eps, 'refresh': refresh, 'decay': decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group['params']:
                if p.grad is not None:
                    self._update(p, p.grad.flatten(1) if p.dim() > 1 else p.grad, group)
        return loss

    def _update(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[p], group['betas']
        if not state:
            sides = grad.shape if grad.dim() > 1 else ()
            state.update(step=0, mean=torch.zeros_like(grad), square=torch.zeros_like(grad), bases=[],
                         averages=[grad.new_zeros(n, n) for n in sides])
        state['step'] += 1
        if state['averages']:
            for average, now in zip(state['averages'], (grad @ grad.T, grad.T @ grad)):
                average.lerp_(now, 1 - group['decay'])
        t = state['step'] - group['refresh']
        if t <= 0:
            return
        if t == 1:
            # in float32 LAPACK can fail to converge on averages of so few steps, many of whose eigenvalues are zero
            state['bases'] = [torch.linalg.eigh(average.double()).eigenvectors.flip(1).to(average)
                              for average in state['averages']]
        elif t % group['refresh'] == 1 % group['refresh']:
            self._renew(state)
        state['mean'].lerp_(grad, 1 - beta1)
        rotated = _rotated(grad, state['bases'])
        state['square'].lerp_(rotated.square(), 1 - beta2)
        deviation = (state['square'] / (1 - beta2**t)).sqrt_().add_(group['eps'])
        move = _rotated(state['mean'], state['bases']) / (1 - beta1**t) / deviation
        p.sub_(_rotated(move, [basis.T for basis in state['bases']]).view_as(p), alpha=group['lr'])

    @staticmethod
    def _renew(state: dict[str, Any]) -> None:
        """One step of the QR algorithm for each basis, whose vectors stand in falling order of their eigenvalues."""
        for axis, average in enumerate(state['averages']):
            basis = state['bases'][axis]
            product = average @ basis
            order = (basis * product).sum(0).argsort(descending=True)
            state['square'] = state['square'].index_select(axis, order)
            state['bases'][axis] = torch.linalg.qr(product[:, order]).Q


def _rotated(x: Tensor, bases: list[Tensor]) -> Tensor:
    """Q_L^T x Q_R, or x itself where there are no bases."""
    return bases[0].T @ x @ bases[1] if bases else x
