"""Transparency: keep the colours of invisible pixels out of visible ones.

The network resamples straight colours, but an LR looks right over any background only if its colours are
D(alpha rgb) / D(alpha). Both agree if the colours are first blended with those around them,

    rgb' = w rgb + (1 - w) mean,   w = alpha / largest alpha around,   mean = sum(alpha rgb) / sum(alpha) around,

since w (rgb - mean) then sums to zero in every LR pixel. Opaque pixels keep their colour, as do all pixels of a picture
of constant alpha; pixels of alpha 0 take the mean.

File optimisers clear the colours of alpha 0, so an LR keeps nothing there: only its ``seen`` pixels are stored, checked
and coded, and ``whole`` derives the other colours from them.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .size import Size

__all__ = ['blended', 'seen', 'whole']

_CELL = 4  # side of a cell: where nothing around a pixel is visible, it takes the mean of cells, or of cells of cells
_STRIP = 64  # rows at a time


def blended(rgb: np.ndarray, alpha: np.ndarray, lr: Size) -> np.ndarray:
    """Colours (H, W, 3) for the network, blended with those around them; uint8 or uint16, as given.

    Args:
        rgb: straight colours, returned unchanged if all are opaque.
        alpha: (H, W) uint8.
        lr: (h, w) of the LR. "Around" reaches as far as one of its pixels.
    """
    reach = math.ceil(alpha.shape[0] / lr[0]) - 1, math.ceil(alpha.shape[1] / lr[1]) - 1
    return rgb if alpha.min() == 255 else _blended(rgb, alpha, reach)


def seen(image: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """The pixels (1, n, 3) of an image (h, w, 3) that are not of alpha 0; the image itself if none is."""
    return image if alpha is None or alpha.all() else image[alpha > 0][None]


def whole(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """The inverse of ``seen``, (h, w, 3) of any type; pixels of alpha 0 get the colours around them."""
    if alpha is None or alpha.all():
        return pixels
    image = np.zeros((*alpha.shape, 3), pixels.dtype)
    image[alpha > 0] = pixels[0]
    return _blended(image, np.where(alpha > 0, np.uint8(255), np.uint8(0)), (1, 1))


def _blended(rgb: np.ndarray, alpha: np.ndarray, reach: tuple[int, int]) -> np.ndarray:
    """The formula above; "around" is ``reach`` rows and columns on either side."""
    result, height = rgb.copy(), len(rgb)
    strips = [slice(top, min(top + _STRIP, height)) for top in range(0, height, _STRIP)]
    coarse = _colours(np.concatenate([_cells(_weighted(rgb[rows], alpha[rows])) for rows in strips]))
    for rows in strips:
        near = slice(max(0, rows.start - reach[0]), rows.stop + reach[0])
        kept = slice(rows.start - near.start, rows.stop - near.start)
        if alpha[rows].min() == 255:
            continue
        mean, largest = (part[kept] for part in _around(_weighted(rgb[near], alpha[near]), reach))
        mean = np.where(largest > 0, mean, _enlarged(coarse[rows.start // _CELL:-(-rows.stop // _CELL)], mean.shape))
        w = alpha[rows, :, None] / np.maximum(largest, 1)
        mixed = w * rgb[rows] + (1 - w) * mean
        result[rows] = np.rint(mixed) if np.issubdtype(rgb.dtype, np.integer) else mixed
    return result


def _colours(weighted: np.ndarray) -> np.ndarray:
    """(h, w, 3) mean colours around all pixels of (h, w, 4), from coarser and coarser cells; black if there are none.
    """
    mean, largest = _around(weighted, (1, 1))
    if largest.all() or not largest.any():
        return mean
    return np.where(largest > 0, mean, _enlarged(_colours(_cells(weighted)), mean.shape))


def _weighted(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(h, w, 4) float32: alpha rgb and alpha."""
    weight = alpha[..., None].astype(np.float32)
    return np.concatenate([rgb * weight, weight], 2)


def _around(weighted: np.ndarray, reach: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Mean colour (h, w, 3) and largest weight (h, w, 1) around each pixel of (h, w, 4)."""
    rows, columns = (2 * k + 1 for k in reach)
    sums = cv2.boxFilter(weighted, -1, (columns, rows), normalize=False, borderType=cv2.BORDER_CONSTANT)
    largest = cv2.dilate(np.ascontiguousarray(weighted[..., 3]), np.ones((rows, columns), np.uint8))[..., None]
    return sums[..., :3] / np.where(largest > 0, sums[..., 3:], 1), largest


def _cells(weighted: np.ndarray) -> np.ndarray:
    """Means of cells; beyond the edges there is nothing to see."""
    height, width = weighted.shape[:2]
    padded = cv2.copyMakeBorder(weighted, 0, -height % _CELL, 0, -width % _CELL, cv2.BORDER_CONSTANT)
    return cv2.resize(padded, None, fx=1 / _CELL, fy=1 / _CELL, interpolation=cv2.INTER_AREA)


def _enlarged(cells: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return cells.repeat(_CELL, 0).repeat(_CELL, 1)[:shape[0], :shape[1]]
