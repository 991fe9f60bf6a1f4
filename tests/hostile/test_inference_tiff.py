"""TIFFs of every layout: read rightly, or refused in one line. Never noise, never a negative."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hostile.inference_tools import DEEP, RGB, iarn, in_time, refused, tiff
from PIL import Image

from iarn_basicsr.inference.picture_file import read_picture

SIZE = RGB.shape[1], RGB.shape[0]
GRAY, DEEP_GRAY = RGB[..., 1].copy(), DEEP[..., 1].copy()
ALPHA = (255 - RGB[..., 0]).copy()
DEEP_ALPHA = ALPHA.astype(np.uint16) * 257
PLANES, EXTRA, FORMAT, COLOURS = 't284', 't338', 't339', 't320'
MULTIPLIED = np.round(DEEP * (DEEP_ALPHA / 65535)[..., None]).astype(np.uint16)


def raw(pixels: np.ndarray, order: str = '<') -> list[bytes]:
    """One strip."""
    return [pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()]


def planes(pixels: np.ndarray) -> list[bytes]:
    return [pixels[..., k].tobytes() for k in range(pixels.shape[2])]


def packed(values: np.ndarray, bits: int) -> list[bytes]:
    """Values of a few bits, every row filled up to whole bytes."""
    rows = np.unpackbits(values.astype('>u2').view(np.uint8).reshape(*values.shape, 2), axis=2)[..., 16 - bits:]
    return [np.packbits(rows.reshape(len(values), -1), axis=1).tobytes()]


def three(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, 2)


def cmyk(rgb: np.ndarray) -> np.ndarray:
    top = np.iinfo(rgb.dtype).max
    return np.dstack([top - rgb, np.zeros_like(rgb[..., 0])])


RIGHT = {
    'deep_rgb_motorola': (tiff(SIZE, raw(DEEP, '>'), bits=(16,) * 3, photometric=2, order='>'), DEEP),
    'deep_rgb_big': (tiff(SIZE, raw(DEEP), bits=(16,) * 3, photometric=2, big=True), DEEP),
    'deep_gray': (tiff(SIZE, raw(DEEP_GRAY), bits=(16,)), three(DEEP_GRAY)),
    'deep_white_is_zero': (tiff(SIZE, raw(65535 - DEEP_GRAY), bits=(16,), photometric=0), three(DEEP_GRAY)),
    'twelve_bits': (tiff(SIZE, packed(DEEP_GRAY >> 4, 12), bits=(12,)), three((DEEP_GRAY >> 4) * 16)),
    'deep_rgba': (tiff(SIZE, raw(np.dstack([DEEP, DEEP_ALPHA])), bits=(16,) * 4, photometric=2, **{EXTRA: (2,)}), DEEP),
    'rgba_planes': (tiff(SIZE, planes(np.dstack([RGB, ALPHA])), bits=(8,) * 4, photometric=2,
                         **{PLANES: (2,), EXTRA: (2,)}), RGB),
    'white_is_zero': (tiff(SIZE, raw(255 - GRAY), photometric=0), three(GRAY)),
    'four_bits_white_is_zero': (tiff(SIZE, packed(15 - (GRAY >> 4), 4), bits=(4,), photometric=0),
                                three((GRAY >> 4) * 17)),
    'palette_of_four_bits': (tiff(SIZE, packed(GRAY >> 4, 4), bits=(4,), photometric=3,
                                  **{COLOURS: tuple(range(0, 65536, 4096)) * 3}), three((GRAY >> 4) * 16)),
    'cmyk_planes': (tiff(SIZE, planes(cmyk(RGB)), bits=(8,) * 4, photometric=5, **{PLANES: (2,)}), RGB),
    'deep_cmyk': (tiff(SIZE, raw(cmyk(DEEP)), bits=(16,) * 4, photometric=5), (DEEP >> 8).astype(np.uint8)),
    'ycbcr': (tiff(SIZE, raw(RGB), bits=(8,) * 3, photometric=6, t530=(1, 1)),
              np.asarray(Image.fromarray(RGB, 'YCbCr').convert('RGB'))),
}


@pytest.mark.parametrize('kind', RIGHT)
def test_read_rightly(tmp_path: Path, kind: str) -> None:
    data, expected = RIGHT[kind]
    (tmp_path / 'x.tif').write_bytes(data)
    with in_time():
        found = read_picture(str(tmp_path / 'x.tif'))
    assert found.rgb.dtype == expected.dtype
    tolerance = {'twelve_bits': 16, 'deep_cmyk': 1}.get(kind, 0)
    assert np.abs(found.rgb.astype(int) - expected).max() <= tolerance
    if 'rgba' in kind:
        assert np.array_equal(found.alpha, ALPHA)
    else:
        assert found.alpha is None
    assert iarn('info', tmp_path / 'x.tif').code == 0


def test_multiplied_alpha_is_divided_out(tmp_path: Path) -> None:
    (tmp_path / 'x.tif').write_bytes(tiff(SIZE, raw(np.dstack([MULTIPLIED, DEEP_ALPHA])), bits=(16,) * 4, photometric=2,
                                          **{EXTRA: (1,)}))
    found = read_picture(str(tmp_path / 'x.tif'))
    visible = ALPHA > 20
    assert np.array_equal(found.alpha, ALPHA) and visible.mean() > 0.5
    assert np.abs(found.rgb.astype(int) - DEEP)[visible].max() <= 16


REFUSED = {
    'deep_planes': (tiff(SIZE, planes(DEEP), bits=(16,) * 3, photometric=2, **{PLANES: (2,)}), 'in separate planes'),
    'signed_16': (tiff(SIZE, raw(DEEP_GRAY), bits=(16,), **{FORMAT: (2,)}), '16 bits a channel with a sign'),
    'float_32': (tiff(SIZE, raw(GRAY.astype(np.float32)), bits=(32,), **{FORMAT: (3,)}), 'of floating point'),
    'whole_32': (tiff(SIZE, raw(GRAY.astype(np.uint32)), bits=(32,)), '32 bits a channel cannot be used'),
    'float_rgb': (tiff(SIZE, raw(RGB.astype(np.float32)), bits=(32,) * 3, photometric=2, **{FORMAT: (3,) * 3}),
                  'cannot be read'),
    'deep_lab': (tiff(SIZE, raw(DEEP), bits=(16,) * 3, photometric=8), 'cannot be read'),
    'unknown_compression': (tiff(SIZE, raw(RGB), bits=(8,) * 3, photometric=2, t259=(999,)), 'x.tif: '),
    'six_channels': (tiff(SIZE, raw(np.dstack([RGB, RGB])), bits=(8,) * 6, photometric=1), 'cannot be read'),
    'cut_deep': (tiff(SIZE, raw(DEEP), bits=(16,) * 3, photometric=2)[:-500], 'damaged'),
    'zero_wide': (tiff((0, 5), [b''], bits=(8,) * 3, photometric=2), 'x.tif: '),
}


@pytest.mark.parametrize('kind', REFUSED)
def test_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    data, text = REFUSED[kind]
    (tmp_path / 'x.tif').write_bytes(data)
    refused(tmp_path, 'info', tmp_path / 'x.tif', says=('x.tif: ', text))
