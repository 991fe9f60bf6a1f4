"""IARN beside bicubic for one picture: measured, as a table for a terminal, and as a page that loads nothing.

A one-way network can be put beside both: it restores the LR of bicubic. The LR of all can become JPEG files in between.

``compare`` measures, ``table`` and ``page`` show. The page is one HTML file, made from ``compare.html.jinja``; its
images are data URIs. Details and LR images are exact pixels, and so are full views unless the picture is large.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from iarn_basicsr.archs.one_way import SpandrelNet, reaches, resized
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_bytes
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, PROTOCOL, evaluate
from iarn_basicsr.ops.image import full_float32, to_pixels, to_tensor
from iarn_basicsr.ops.jpeg import QUALITIES, decoded, jpeg_bytes
from iarn_basicsr.ops.size import Scale, Size, parse_scale, scale_label
from iarn_basicsr.version import __version__

from .picture_file import Picture, channel_mean, eight_bit, png_bytes
from .rescaler import Rescaler, RoundTrip
from .tiling import bicubic_downscale_tiled, bicubic_upscale_tiled

__all__ = ['Result', 'Way', 'Window', 'bicubic_roundtrip', 'colour_map', 'compare', 'error_map', 'page', 'table',
           'worst_windows']

VIEW_SIDE = 1280  # pixels; longer full views are reduced by an integer factor
MAP_SIDE = 800  # the same for error maps of the full picture
EXACT_PIXELS = 4e6  # of all full views together: up to here PNG, JPEG beyond
JPEG_QUALITY = 92
LR_PIXELS, LR_PART = 5e5, (432, 560)  # an LR image of more pixels is shown in part, (height, width)
DETAIL, DETAILS = 48, 3  # side in pixels and number
JPEG_NOTE = ('jpeg: every LR became a JPEG (4:2:0) of that quality, whose bytes are counted, before it was restored; '
             'lr_*: against the bicubic LR before JPEG')
TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)


@dataclass(frozen=True, eq=False)
class Way:
    """What one way down and up makes of a picture, and how good it is.

    Attributes:
        name: ``bicubic``, ``IARN``, or architecture and scale of a one-way network.
        lr: (h, w, 3) uint8 RGB, from which the picture was restored: after JPEG, if that is in between.
        lr_bytes: of the LR image as a PNG, or as that JPEG, without metadata.
        restored: (H, W, 3) uint8 RGB; None where the scale is beyond that of a one-way network.
        metrics: of ``evaluate``, empty without a restored picture. The LR is measured against the bicubic LR before
            JPEG.
    """

    name: str
    lr: np.ndarray
    lr_bytes: int
    restored: np.ndarray | None
    metrics: dict[str, float]


@dataclass(frozen=True, eq=False)
class Result:
    """One scale, with one JPEG or without.

    Attributes:
        scale: (vertical, horizontal) as asked for; the true ratio follows from the sizes.
        quality: of the JPEG files that the LR images became before they were restored; None for no JPEG.
        ways: ``bicubic``, ``network`` if a one-way network was given, and ``iarn``.
        model, weights_hash: name and hash of the weights of IARN.
        network_file: of the one-way network.
    """

    scale: tuple[float, float]
    quality: int | None
    ways: dict[str, Way]
    model: str
    weights_hash: str
    network_file: str | None = None

    @property
    def lr_size(self) -> Size:
        return self.ways['iarn'].lr.shape[0], self.ways['iarn'].lr.shape[1]

    @property
    def label(self) -> str:
        return scale_label(self.scale) + ('' if self.quality is None else f' jpeg {self.quality}')

    def gain(self, metric: str) -> float:
        """IARN minus bicubic."""
        return self.ways['iarn'].metrics[metric] - self.ways['bicubic'].metrics[metric]

    @property
    def bytes_ratio(self) -> float:
        """Bytes of the LR file over bytes of bicubic's."""
        return self.ways['iarn'].lr_bytes / self.ways['bicubic'].lr_bytes


class Window(NamedTuple):
    """A square of an HR image."""

    top: int
    left: int
    side: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        return image[self.top:self.top + self.side, self.left:self.left + self.side]


# ------------------------------------------------------------------------------------------------------ measuring


def compare(rescaler: Rescaler, picture: Picture, scales: Sequence[Scale], network: SpandrelNet | None = None,
            jpeg: Sequence[int] = ()) -> list[Result]:
    """Down and up at every scale, by IARN and by bicubic, from the 8-bit pixels of a picture.

    A picture that is gray is restored gray, as ``picture_file.write_picture`` does. A one-way ``network`` restores the
    bicubic LR too; below its own scale its result is resized to the size of the picture. ``jpeg``: qualities, 1 to 100.
    For each of them every scale has one more result, where the LR images became JPEG files (4:2:0) of that quality
    before they were restored.

    Raises:
        OptionError, SizeError: before anything is computed, if a scale is none or out of the network's range, or a
            quality is none, or the rescaler writes a payload, which does not survive JPEG.
        OptionError: if there is not enough memory for the one-way network, which takes the picture as a whole.
    """
    for quality in jpeg:
        if type(quality) is not int or not QUALITIES[0] <= quality <= QUALITIES[1]:
            raise OptionError(f'jpeg {quality!r}: expected an integer from {QUALITIES[0]} to {QUALITIES[1]}')
    if jpeg and rescaler.payload:
        raise OptionError(f'jpeg with payload {rescaler.payload:g}: low bits do not survive JPEG; leave one out')
    sizes = [rescaler.lr_size(picture.size, scale=scale) for scale in scales]
    if network:
        network.to(rescaler.device)
    hr, results = eight_bit(picture.rgb), []

    def way(name: str, lr: np.ndarray, lr_bytes: int, restored: np.ndarray | None) -> Way:
        if restored is None:
            return Way(name, lr, lr_bytes, None, {})
        if picture.mode == 'L':
            restored = np.repeat(channel_mean(restored)[..., None], 3, 2)
        bgr = [cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) for rgb in (restored, hr, lr, reference)]
        return Way(name, lr, lr_bytes, restored, evaluate((bgr[0], bgr[1]), (bgr[2], bgr[3]), DEFAULT_METRICS))

    for scale, size in zip(scales, sizes):
        made, reference = rescaler.downscale(hr, size=size), bicubic_downscale_tiled(hr, size)
        for stored_as in (None, *jpeg):
            lr, cubic = _stored(made, stored_as), _stored(reference, stored_as)
            ways = {'bicubic': way('bicubic', *cubic, bicubic_upscale_tiled(cubic[0], picture.size))}
            if network:
                ways['network'] = way(f'{network.architecture} x{network.scale}', *cubic,
                                      _restored_by(network, cubic[0], picture.size))
            ways['iarn'] = way('IARN', *lr, rescaler.upscale(lr[0], size=picture.size))
            results.append(Result(parse_scale(scale), stored_as, ways, rescaler.name, rescaler.weights_hash,
                                  network.file if network else None))
    return results


def _stored(lr: np.ndarray, quality: int | None) -> tuple[np.ndarray, int]:
    """(pixels, bytes) of an LR image as a PNG, or as a JPEG of that quality."""
    if quality is None:
        return lr, len(png_bytes(lr))
    data = jpeg_bytes(lr, quality)
    return decoded(data), len(data)


@torch.no_grad()
@full_float32()
def _restored_by(network: SpandrelNet, lr: np.ndarray, size: Size) -> np.ndarray | None:
    """What a one-way network makes of an LR image, if it reaches ``size`` (H, W)."""
    if not reaches(network.scale, size, (lr.shape[0], lr.shape[1])):
        return None
    try:
        x = to_tensor(lr)[None].to(next(network.parameters()).device)
        return to_pixels(resized(network(x), size)[0])
    except RuntimeError as error:  # of torch, on every device
        raise OptionError(f'{network.file} cannot restore an LR of {lr.shape[1]}x{lr.shape[0]}: '
                          f'{" ".join(str(error).split())[:200]}') from None


def bicubic_roundtrip(hr: np.ndarray, size: Size) -> RoundTrip:
    """LR and restored image without IARN, uint8 RGB: antialiased bicubic down to ``size`` (h, w), and bicubic up."""
    lr = bicubic_downscale_tiled(hr, size)
    return RoundTrip(lr, bicubic_upscale_tiled(lr, (hr.shape[0], hr.shape[1])))


def error_map(image: np.ndarray, hr: np.ndarray) -> np.ndarray:
    """(H, W) float32: absolute difference, mean of the three channels, in levels of 255."""
    return cv2.absdiff(image, hr).mean(2, dtype=np.float32)


def worst_windows(hr: np.ndarray, images: Sequence[np.ndarray], count: int = DETAILS) -> list[Window]:
    """The squares with the largest sum of squared errors of all ``images``, worst first, half a side or more apart.

    The side is 48 pixels, less in a picture whose shorter side is below 192: a quarter of it, but at least 8. There are
    fewer than ``count`` where the picture has no room for more.
    """
    height, width = hr.shape[:2]
    side = min(DETAIL, max(8, min(height, width) // 4), height, width)
    squared = sum((cv2.absdiff(image, hr).astype(np.float32)**2).sum(2) for image in images)
    total = cv2.integral(np.asarray(squared, np.float32), sdepth=cv2.CV_64F)
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    windows: list[Window] = []
    while len(windows) < count and sums.max() > -1:
        top, left = (int(n) for n in np.unravel_index(sums.argmax(), sums.shape))
        windows.append(Window(top, left, side))
        reach = side + side // 2
        sums[max(0, top - reach + 1):top + reach, max(0, left - reach + 1):left + reach] = -2
    return windows


# ---------------------------------------------------------------------------------------------------------- table


def table(results: Sequence[Result]) -> str:
    """Aligned text for a terminal, and the protocol below."""
    groups, headings = _headings(results[0])
    rows = [headings, *(_cells(result) for result in results)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(headings))]
    above, first = [], 0
    for title, span in groups:
        width = sum(widths[first:first + span]) + 2 * (span - 1)
        above.append(f' {title} '.center(width, '-') if title else ' ' * width)
        first += span
    lines = ['  '.join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    return '\n'.join(['  '.join(above), *lines, PROTOCOL, *_notes(results)])


def _notes(results: Sequence[Result]) -> list[str]:
    """What the protocol leaves open."""
    return [JPEG_NOTE] if any(result.quality is not None for result in results) else []


def _headings(result: Result) -> tuple[list[tuple[str, int]], list[str]]:
    """(title and width in columns of every group, heading of every column) of the table."""
    names = [way.name for way in result.ways.values()]
    groups = [('', 2), ('PSNR-RGB/Y (dB)', len(names) + 1), ('SSIM-Y', len(names)), ('LR against bicubic LR', 3)]
    return groups, ['scale', 'LR size', *names, 'gain', *names, 'PSNR-RGB/Y', 'bytes', 'ratio']


def _cells(result: Result) -> list[str]:
    """One row of the table, below ``_headings``."""
    metrics = [way.metrics for way in result.ways.values()]
    return [result.label, f'{result.lr_size[1]}x{result.lr_size[0]}', *map(_pair, metrics), _gain(result),
            *(_number(values, 'ssim_y') for values in metrics), _pair(metrics[-1], 'lr_'),
            f'{result.ways["iarn"].lr_bytes:,}', f'{result.bytes_ratio:.2f}']


def _gain(result: Result) -> str:
    return f'{result.gain("psnr_rgb"):+.2f}/{result.gain("psnr_y"):+.2f}'


def _pair(values: Mapping[str, float], of: str = '') -> str:
    """PSNR in RGB and on Y; a dash without a restored picture."""
    return f'{values[f"{of}psnr_rgb"]:.2f}/{values[f"{of}psnr_y"]:.2f}' if values else '-'


def _number(values: Mapping[str, float], name: str) -> str:
    """PSNR with two digits, SSIM with four; a dash where the picture was too small to measure it."""
    return f'{values[name]:.{2 if "psnr" in name else 4}f}' if name in values else '-'


# ----------------------------------------------------------------------------------------------------------- page


class _Image(NamedTuple):
    """What an ``<img>`` needs: its file as a data URI, and its size."""

    source: str
    width: int
    height: int


def page(name: str, picture: Picture, results: Sequence[Result], path: str) -> None:
    """Write one HTML file, atomically, that shows the ``results`` of ``compare``; ``name`` of the file is its title.

    Colours of the error maps end where 99.5 % of the errors of bicubic lie below, at all scales.
    """
    hr, first = eight_bit(picture.rgb), results[0]
    views = [{'hr': hr, **{key: way.restored for key, way in result.ways.items() if way.restored is not None}}
             for result in results]
    cubic = [images['bicubic'] for images in views]
    windows = worst_windows(hr, cubic)
    top = max(4, math.ceil(max(np.percentile(error_map(image, hr), 99.5) for image in cubic)))
    factor, map_factor = (math.ceil(max(hr.shape) / side) for side in (VIEW_SIDE, MAP_SIDE))
    exact = sum(map(len, views)) * hr.shape[0] * hr.shape[1] / factor**2 <= EXACT_PIXELS
    scales = []
    for result, images in zip(results, views):
        part = _lr_part(result.lr_size, hr, windows[0])
        scales.append({
            'result': result, 'cells': _cells(result), 'gain': _gain(result),
            'lr_psnr': _pair(result.ways['iarn'].metrics, 'lr_'),
            'measurements': [(metric, *(_number(way.metrics, metric) for way in result.ways.values()))
                             for metric in DEFAULT_METRICS],
            'full': _panel(images, top, factor, map_factor, exact),
            'details': [_panel({key: window.cut(image) for key, image in images.items()}, top) for window in windows],
            'lr': {key: _encoded(Image.fromarray(result.ways[key].lr[part])) for key in ('bicubic', 'iarn')},
        })
    groups, headings = _headings(first)
    text = TEMPLATES.get_template('compare.html.jinja').render(
        name=name, picture=picture, width=hr.shape[1], height=hr.shape[0], deep=picture.rgb.dtype == np.uint16,
        model=first.model, weights_hash=first.weights_hash, version=__version__, protocol=PROTOCOL,
        jpeg_notes=_notes(results), groups=groups, headings=headings, quality=JPEG_QUALITY, windows=windows, top=top,
        factor=factor, map_factor=map_factor, exact=exact,
        names={'hr': 'original', **{key: way.name for key, way in first.ways.items()}}, network_file=first.network_file,
        colours=[f'#{bytes(colour).hex()}' for colour in colour_map()[::15]], scales=scales)
    save_bytes(text.encode('utf-8', 'backslashreplace'), path)  # the name of a file may be no text


def _panel(images: Mapping[str, np.ndarray], top: int, factor: int = 1, map_factor: int = 1,
           exact: bool = True) -> dict[str, Any]:
    """The original (``hr``) and what is made of it, and the error map and mean error of the latter.

    Args:
        top: error of the last colour, in levels of 255.
        factor, map_factor: pixels of the picture to one of a view and of an error map, along each side.
        exact: views as PNG, else JPEG.
    """
    errors = {name: error_map(image, images['hr']) for name, image in images.items() if name != 'hr'}
    maps = {}
    for name, error in errors.items():
        reduced = np.asarray(Image.fromarray(error).reduce(map_factor))
        index = Image.fromarray(np.clip(np.round(reduced * (255 / top)), 0, 255).astype(np.uint8))
        index.putpalette(colour_map().tobytes())
        maps[name] = _encoded(index)
    return {'views': {name: _encoded(Image.fromarray(image).reduce(factor), exact) for name, image in images.items()},
            'maps': maps, 'means': {name: float(error.mean()) for name, error in errors.items()}}


def _lr_part(size: Size, hr: np.ndarray, window: Window) -> tuple[slice, ...]:
    """What is shown of an LR image: all, or of a large one a part around a detail."""
    if size[0] * size[1] <= LR_PIXELS:
        return slice(None), slice(None)
    parts = []
    for n, hr_n, part, start in zip(size, hr.shape, LR_PART, (window.top, window.left)):
        centre = (start + window.side / 2) * n / hr_n
        first = round(min(max(0, centre - part / 2), max(0, n - part)))
        parts.append(slice(first, min(n, first + part)))
    return tuple(parts)


def colour_map() -> np.ndarray:
    """(256, 3) uint8 RGB: from no error, dark, to a large one."""
    return cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_MAGMA)[:, 0, ::-1]


def _encoded(image: Image.Image, exact: bool = True) -> _Image:
    """As PNG, or as JPEG."""
    buffer, form = io.BytesIO(), 'png' if exact else 'jpeg'
    image.save(buffer, form, **({} if exact else {'quality': JPEG_QUALITY, 'subsampling': 0}))
    return _Image(f'data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}', *image.size)
