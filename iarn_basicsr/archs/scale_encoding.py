r"""Position-aware scale encoding: the networks know the scale, and where each HR pixel sits relative to the LR grid.

The idea is the paper's (Pan et al., "Effective Invertible Arbitrary Image Rescaling", WACV 2023, arXiv:2209.13055).
Both of its forms here are this project's. For HR sample i of n and an LR axis of m samples:

    u_i = (i + 0.5) m/n - 0.5            coordinate of the HR sample on the LR axis
    offset_i = u_i - round(u_i)          in [-0.5, 0.5]; LR sample p is centred at u = p

    v_pi = (i + 0.5) m/n - p             position within LR cell p, in [0, 1]
    b_0(v) = 1, b_k(v) = sqrt(2) cos(pi k v), k < K
    P_k[p, i] = a[p, i] b_k(v_pi)        pooling HR -> LR; a: area weights, each row sums to 1
    Q_k[i, p] = a'[i, p] b_k(v_pi)       unpooling LR -> HR; a': transpose of a, each row scaled to sum to 1

``ScaleEncoding`` gives the ratios m/n, and on the HR grid the offsets, to convolutions as input channels. Pooling takes
an HR map to the LR grid, so that convolutions there see the same geometry at every scale: at the integer scale K it is
the block DCT, at K = 2 and x2 the Haar transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch

from iarn_basicsr.ops.resample import area_matrix

__all__ = ['ScaleEncoding', 'cell_basis', 'pooling_matrix', 'position_offset', 'unpooling_matrix']


@dataclass(frozen=True, eq=False)
class ScaleEncoding:
    """The planes that tell a network scale and position.

    Attributes:
        vertical, horizontal: (H,) and (W,) offsets of the HR rows and columns.
        ratios: (2,) h/H and w/W, of the whole image also where the grid is a window of it.
    """

    vertical: torch.Tensor
    horizontal: torch.Tensor
    ratios: torch.Tensor

    def scale(self, x: torch.Tensor) -> torch.Tensor:
        """The constants h/H and w/W (N, 2, h, w), for x (N, C, h, w) on the LR grid."""
        return self.ratios.view(1, 2, 1, 1).expand(len(x), 2, *x.shape[-2:])

    def scale_and_position(self, x: torch.Tensor) -> torch.Tensor:
        """Vertical offset, horizontal offset, h/H and w/W (N, 4, H, W), for x (N, C, H, W) on the HR grid."""
        height, width = x.shape[-2:]
        offsets = [self.vertical[:, None].expand(height, width), self.horizontal[None].expand(height, width)]
        planes = torch.cat([torch.stack(offsets), self.ratios.view(2, 1, 1).expand(2, height, width)])
        return planes.expand(len(x), -1, -1, -1)


def position_offset(n: int, m: int) -> np.ndarray:
    """(n,) offset of each HR sample from the nearest LR sample, in LR samples, in [-0.5, 0.5]."""
    u = (np.arange(n) + 0.5) * m / n - 0.5
    return u - np.floor(u + 0.5)


def cell_basis(v: np.ndarray, order: int) -> np.ndarray:
    """(order, ...) cosine basis b_k over an LR cell, v in [0, 1].

    The zeros are exact. The cosine alone gives 1e-16 there, and the gradients of a training step then hold numbers
    below 1e-38, which make some CPUs ten times slower.
    """
    basis = np.stack([np.ones_like(v)] + [math.sqrt(2) * np.cos(math.pi * k * v) for k in range(1, order)])
    basis[np.abs(basis) < 1e-12] = 0
    return basis


def pooling_matrix(n: int, m: int, order: int) -> scipy.sparse.csr_matrix:
    """(m * order, n): row p * order + k is P_k of LR cell p."""
    return _times_basis(area_matrix(n, m), n, m, order)


def unpooling_matrix(n: int, m: int, order: int) -> scipy.sparse.csr_matrix:
    """(n, m * order): column p * order + k is Q_k of LR cell p."""
    a = area_matrix(n, m)
    share = a @ scipy.sparse.diags_array(1.0 / np.asarray(a.sum(0)).ravel())  # columns of a, summing to 1
    return _times_basis(scipy.sparse.csr_matrix(share), n, m, order).T.tocsr()


def _times_basis(weights: scipy.sparse.csr_matrix, n: int, m: int, order: int) -> scipy.sparse.csr_matrix:
    """(m * order, n) product of the weights (m, n) with every basis function of the position in the LR cell."""
    coo = weights.tocoo()
    v = np.clip((coo.col + 0.5) * m / n - coo.row, 0, 1)
    basis = cell_basis(v, order)
    rows = (coo.row * order + np.arange(order)[:, None]).ravel()
    cols = np.tile(coo.col, order)
    return scipy.sparse.csr_matrix(((basis * coo.data).ravel(), (rows, cols)), shape=(m * order, n))
