"""Position-aware maps: where each HR pixel sits relative to the LR grid, at any scale.

Two forms of the same idea. The *encoding* gives HR convolutions the position as input channels. The *pooling* moves an
HR map to the LR grid by a short cosine basis over the LR cell, so that convolutions on the LR grid see the same
geometry at every scale; at an integer scale K it is the block DCT, at K = 2 and x2 the Haar transform.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse

from iarn_basicsr.ops.resample import area_matrix

__all__ = ['cell_basis', 'pooling_matrix', 'position_offset', 'unpooling_matrix']


def position_offset(n: int, m: int) -> np.ndarray:
    """(n,) offset of each HR sample from the nearest LR sample, in LR samples: u - round(u) in [-0.5, 0.5],
    with u = (i + 0.5) m/n - 0.5.
    """
    u = (np.arange(n) + 0.5) * m / n - 0.5
    return u - np.floor(u + 0.5)


def cell_basis(v: np.ndarray, order: int) -> np.ndarray:
    """(order, ...) cosine basis over an LR cell: b_0 = 1, b_k(v) = sqrt(2) cos(pi k v), v in [0, 1].

    Its zeros are exact: with the cosine's own rounding (1e-16) in their place the gradient of a training step holds
    numbers below 1e-38, with which some CPUs are ten times slower.
    """
    basis = np.stack([np.ones_like(v)] + [math.sqrt(2) * np.cos(math.pi * k * v) for k in range(1, order)])
    basis[np.abs(basis) < 1e-12] = 0
    return basis


def pooling_matrix(n: int, m: int, order: int) -> scipy.sparse.csr_matrix:
    """(m * order, n): row p * order + k is P_k = a * b_k for LR cell p, with ``a`` the area weights."""
    return _basis_matrix(area_matrix(n, m), n, m, order)


def unpooling_matrix(n: int, m: int, order: int) -> scipy.sparse.csr_matrix:
    """(n, m * order): Q_k = a^T (rows normalised to 1) * b_k; the sum over k is the HR map."""
    a = area_matrix(n, m)
    share = a @ scipy.sparse.diags_array(1.0 / np.asarray(a.sum(0)).ravel())  # columns of a, summing to 1
    return _basis_matrix(scipy.sparse.csr_matrix(share), n, m, order).T.tocsr()


def _basis_matrix(weights: scipy.sparse.csr_matrix, n: int, m: int, order: int) -> scipy.sparse.csr_matrix:
    """(m * order, n) product of the weights (m, n) with each basis function of the position in the LR cell."""
    coo = weights.tocoo()
    v = np.clip((coo.col + 0.5) * m / n - coo.row, 0, 1)  # relative position of HR sample i in LR cell p
    basis = cell_basis(v, order)
    rows = (coo.row * order + np.arange(order)[:, None]).ravel()
    cols = np.tile(coo.col, order)
    return scipy.sparse.csr_matrix(((basis * coo.data).ravel(), (rows, cols)), shape=(m * order, n))
