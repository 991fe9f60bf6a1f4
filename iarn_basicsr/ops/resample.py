"""Separable linear resampling between an HR axis of n pixels and an LR axis of m <= n pixels.

Every downscaling is D(x) = D_v x D_h^T with rows summing to 1, and U goes back. The target size alone fixes the
geometry: LR sample i covers HR samples [i n/m, (i+1) n/m), and its centre sits at HR coordinate (i + 0.5) n/m - 0.5.

=============== =============================================== ==============================================
pair            D                                               U
=============== =============================================== ==============================================
``area``        mean over the HR interval of the LR sample      right inverse D^+ = D^T (D D^T)^-1
``cubic``       antialiased bicubic, MATLAB's imresize(x, [m])  right inverse
``cubic_interp`` the same                                       plain bicubic interpolation (D U != I)
=============== =============================================== ==============================================

``area`` at x2 is the Haar low-pass and its inverse. The matrices are made in float64 and are banded, so those of an 8K
axis take kilobytes: (D D^T)^-1 decays exponentially. It is found by banded Cholesky, never by an SVD.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse
import torch

from iarn_basicsr.errors import OptionError

from .image import quantise

__all__ = ['PAIRS', 'AxisMap', 'area_matrix', 'axis_map', 'bicubic_downscale', 'bicubic_lr', 'bicubic_upscale',
           'cubic_matrix', 'pair_matrices', 'right_inverse']

PAIRS = ('area', 'cubic', 'cubic_interp')
CUBIC_A = -0.5  # Keys' kernel as in MATLAB's imresize
DENSE_LIMIT = 256  # up to this HR length one dense product is faster than gathering bands
BLOCK_ROWS = 64  # rows of one dense block of a banded map


def area_matrix(n: int, m: int) -> scipy.sparse.csr_matrix:
    """(m, n) mean over the HR interval that each LR sample covers; partial pixels by their overlap."""
    step = n / m
    taps = int(np.ceil(step)) + 1
    left = np.arange(m) * step
    cols = np.floor(left + 1e-9).astype(np.int64)[:, None] + np.arange(taps)
    weights = np.minimum(left[:, None] + step, cols + 1) - np.maximum(left[:, None], cols)
    weights = np.where(weights > 1e-9, weights, 0.0)
    return _from_taps(np.clip(cols, 0, n - 1), weights, n)


def cubic_matrix(n: int, m: int) -> scipy.sparse.csr_matrix:
    """(m, n) bicubic from n to m samples, MATLAB's ``imresize``: symmetric edges, antialiased where it gets smaller."""
    stretch = max(1.0, n / m)
    centre = (np.arange(m) + 0.5) * (n / m) - 0.5
    taps = int(np.ceil(4 * stretch)) + 2
    cols = np.floor(centre - 2 * stretch).astype(np.int64)[:, None] + np.arange(taps)
    folded = np.mod(cols, 2 * n)  # symmetric extension: ... 1 0 | 0 1 ... n-1 | n-1 n-2 ...
    folded = np.where(folded < n, folded, 2 * n - 1 - folded)
    return _from_taps(folded, _keys_kernel((centre[:, None] - cols) / stretch), n)


def right_inverse(d: scipy.sparse.csr_matrix, tolerance: float) -> scipy.sparse.csr_matrix:
    """(n, m) right inverse D^+ = D^T (D D^T)^-1 of a banded (m, n) D by banded Cholesky, so that D D^+ = I.

    Args:
        d: (m, n), of full row rank.
        tolerance: entries below this share of the largest are dropped; they decay exponentially with distance.
    """
    gram = (d @ d.T).tocsr()
    m = gram.shape[0]
    coo = gram.tocoo()
    band = int(np.max(coo.col - coo.row))
    bands = np.zeros((band + 1, m))
    bands[:] = [np.pad(gram.diagonal(-k), (0, k)) for k in range(band + 1)]  # scipy's lower form
    factor = scipy.linalg.cholesky_banded(bands, lower=True)
    chunks = []
    for start in range(0, m, 128):  # 128 columns of the inverse at a time: the whole would be m^2 numbers
        eye = np.eye(m, min(128, m - start), -start)
        u = d.T @ scipy.linalg.cho_solve_banded((factor, True), eye)
        chunks.append(scipy.sparse.csr_matrix(np.where(np.abs(u) > tolerance * np.abs(u).max(), u, 0.0)))
    return scipy.sparse.hstack(chunks, format='csr')


def pair_matrices(pair: str, n: int, m: int,
                  tolerance: float) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
    """(D, U) of a pair in float64: D is (m, n), U is (n, m); ``tolerance`` as of ``right_inverse``.

    Raises:
        OptionError: if the pair is unknown or not 1 <= m <= n.
    """
    if pair not in PAIRS:
        raise OptionError(f'split {pair!r} is unknown: choose one of {[*PAIRS]}')
    if not 1 <= m <= n:
        raise OptionError(f'cannot resample {n} HR pixels to {m}: an LR axis has 1 to {n} pixels')
    d = area_matrix(n, m) if pair == 'area' else cubic_matrix(n, m)
    return d, cubic_matrix(m, n) if pair == 'cubic_interp' else right_inverse(d, tolerance)


def drop_tolerance(dtype: torch.dtype) -> float:
    """Share of the largest entry of U below which an entry makes no difference in ``dtype``."""
    return torch.finfo(dtype).eps / 16


@dataclass(frozen=True, eq=False)
class AxisMap:
    """The matrix of one axis, kept as dense blocks of rows so that it runs as matrix products.

    Block b maps the inputs from ``starts[b]`` on to the outputs from b * rows on. Short axes are one block.

    Attributes:
        n_in, n_out: samples on either side.
        taps: mean number of non-zero weights in a row, which is the cost of one output sample.
        blocks: (B, rows, window).
        starts: first input of each block; None where one block sees the whole axis.
        window_index: (B * window,) inputs of all blocks; None likewise.
    """

    n_in: int
    n_out: int
    taps: float
    blocks: torch.Tensor
    starts: list[int] | None = None
    window_index: torch.Tensor | None = None

    @classmethod
    @torch.inference_mode(False)  # maps are kept, and the next use may be in training
    def from_matrix(cls, matrix: scipy.sparse.csr_matrix, dtype: torch.dtype, device: torch.device,
                    dense: bool = False) -> AxisMap:
        """From a scipy matrix (n_out, n_in), rounded once to ``dtype``; with ``dense`` in one block, however long."""
        matrix = matrix.tocsr()
        matrix.eliminate_zeros()
        n_out, n_in = matrix.shape
        taps = matrix.nnz / n_out
        if dense or max(n_in, n_out) <= DENSE_LIMIT:
            return cls(n_in, n_out, taps, torch.from_numpy(matrix.toarray())[None].to(device, dtype))
        count = -(-n_out // BLOCK_ROWS)
        rows = [matrix[b * BLOCK_ROWS:(b + 1) * BLOCK_ROWS] for b in range(count)]
        spans = [(r.indices.min(initial=n_in), r.indices.max(initial=-1) + 1) for r in rows]  # rows may all be zero
        window = max(stop - start for start, stop in spans)
        blocks = np.zeros((count, BLOCK_ROWS, window))
        starts = np.array([min(start, n_in - window) for start, _ in spans])
        for b, part in enumerate(rows):
            coo = part.tocoo()
            blocks[b, coo.row, coo.col - starts[b]] = coo.data
        index = (starts[:, None] + np.arange(window)).ravel()
        return cls(n_in, n_out, taps, torch.from_numpy(blocks).to(device, dtype), starts.tolist(),
                   torch.from_numpy(index).to(device))

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """Apply along the vertical axis: (..., n_in, W) -> (..., n_out, W)."""
        count, _, window = self.blocks.shape
        if self.window_index is None:
            return self.blocks[0] @ x
        windows = x.index_select(-2, self.window_index).unflatten(-2, (count, window))
        return (self.blocks @ windows).flatten(-3, -2).narrow(-2, 0, self.n_out)

    def columns(self, x: torch.Tensor) -> torch.Tensor:
        """Apply along the horizontal axis: (..., H, n_in) -> (..., H, n_out).

        Block by block: on a CPU, gathering columns costs many times what the products cost.
        """
        if self.starts is None:
            return x @ self.blocks[0].mT
        window = self.blocks.shape[-1]
        parts = [x.narrow(-1, start, window) @ block.mT for start, block in zip(self.starts, self.blocks)]
        return torch.cat(parts, -1).narrow(-1, 0, self.n_out)


def apply_separable(vertical: AxisMap, horizontal: AxisMap, x: torch.Tensor) -> torch.Tensor:
    """M_v x M_h^T on (N, C, H, W) in the precision of the matrices, whatever autocast says; the cheaper axis first."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(vertical.blocks.dtype)
        if vertical.n_out * horizontal.n_in <= vertical.n_in * horizontal.n_out:
            return horizontal.columns(vertical.rows(x))
        return vertical.rows(horizontal.columns(x))


@functools.lru_cache(maxsize=512)
def axis_map(kind: str, n: int, m: int, dtype: torch.dtype, device: torch.device) -> AxisMap:
    """Cached matrix of one axis: ``down:PAIR`` (n -> m) or ``up:PAIR`` (m -> n), with PAIR one of ``PAIRS``."""
    direction, pair = kind.split(':')
    d, u = pair_matrices(pair, n, m, drop_tolerance(dtype))
    return AxisMap.from_matrix(d if direction == 'down' else u, dtype, device)


def bicubic_downscale(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Antialiased bicubic (N, C, H, W) -> (N, C, h, w), not rounded."""
    maps = [axis_map('down:cubic_interp', n, m, x.dtype, x.device) for n, m in zip(x.shape[-2:], size)]
    return apply_separable(maps[0], maps[1], x)


def bicubic_lr(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The reference LR of guidance and of LR fidelity: ``bicubic_downscale``, rounded to 8 bits as it is stored."""
    return quantise(bicubic_downscale(x, size))


def bicubic_upscale(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Plain bicubic interpolation (N, C, h, w) -> (N, C, H, W): what a user has without IARN; not rounded."""
    maps = [axis_map('up:cubic_interp', n, m, x.dtype, x.device) for n, m in zip(size, x.shape[-2:])]
    return apply_separable(maps[0], maps[1], x)


def _keys_kernel(t: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel, support [-2, 2] (IEEE ASSP 1981)."""
    t, a = np.abs(t), CUBIC_A
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _from_taps(cols: np.ndarray, weights: np.ndarray, n: int) -> scipy.sparse.csr_matrix:
    """Sparse (rows, n) from column indices and weights (rows, taps); duplicates add, rows are normalised to 1."""
    weights = weights / weights.sum(1, keepdims=True)
    rows = np.repeat(np.arange(len(cols)), cols.shape[1])
    matrix = scipy.sparse.csr_matrix((weights.ravel(), (rows, cols.ravel())), shape=(len(cols), n))
    matrix.eliminate_zeros()
    return matrix
