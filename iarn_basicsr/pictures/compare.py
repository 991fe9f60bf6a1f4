"""IARN beside bicubic for one picture: measured, as a table for a terminal, and as a page that needs no network.

``compare`` measures, ``table`` and ``page`` show. The page is one HTML file made from ``compare_page.html``; its images
are data URIs. Details and LR images are exact pixels, and so are whole views unless the picture is large.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from iarn_basicsr.files import save_text
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, PROTOCOL, evaluate
from iarn_basicsr.ops.pixels import to_pixels, to_tensor
from iarn_basicsr.ops.resample import bicubic_lr, bicubic_upscale
from iarn_basicsr.ops.size import Scale, Size, parse_scale, scale_label
from iarn_basicsr.pictures.files import Picture, channel_mean, eight_bit, png_bytes
from iarn_basicsr.pictures.rescaler import Rescaler, RoundTrip
from iarn_basicsr.version import __version__

__all__ = ['Result', 'Window', 'bicubic_roundtrip', 'compare', 'error_map', 'page', 'table',
           'worst_windows']

VIEW_SIDE = 1280  # pixels; longer whole views are reduced by a whole factor
MAP_SIDE = 800  # the same for error maps of the whole picture
EXACT_PIXELS = 4e6  # of all whole views together: up to here PNG, JPEG beyond
JPEG_QUALITY = 92
LR_PIXELS, LR_PART = 5e5, (432, 560)  # an LR image of more pixels is shown in part, (height, width)
DETAIL, DETAILS = 48, 3  # side in pixels and number
COLOURS = ('000004', '1d1147', '51127c', '832681', 'b73779', 'e75263', 'fc8961', 'fec488', 'fcfdbf')  # none to large
GROUPS = (('', 2), ('PSNR-Y (dB)', 3), ('SSIM-Y', 2), ('LR against bicubic LR', 3))
HEADINGS = ('scale', 'LR size', 'bicubic', 'IARN', 'gain', 'bicubic', 'IARN', 'PSNR-Y', 'bytes', 'ratio')


@dataclass(frozen=True, eq=False)
class Result:
    """One scale: what IARN and bicubic make of a picture, and how good it is.

    Attributes:
        scale: (vertical, horizontal) as asked for; the true ratio follows from the sizes.
        lr_size: (h, w).
        lr, lr_bicubic: (h, w, 3) uint8 RGB.
        restored, restored_bicubic: (H, W, 3) uint8 RGB.
        metrics, metrics_bicubic: name -> value, see ``metrics.DEFAULT_METRICS``; a picture too small has no SSIM.
        lr_bytes, lr_bicubic_bytes: of the LR image as a PNG without metadata.
        model, weights_hash: name and hash of the weights.
    """

    scale: tuple[float, float]
    lr_size: Size
    lr: np.ndarray
    lr_bicubic: np.ndarray
    restored: np.ndarray
    restored_bicubic: np.ndarray
    metrics: dict[str, float]
    metrics_bicubic: dict[str, float]
    lr_bytes: int
    lr_bicubic_bytes: int
    model: str
    weights_hash: str


class Window(NamedTuple):
    """A square of an HR image."""

    top: int
    left: int
    side: int

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Its pixels."""
        return image[self.top:self.top + self.side, self.left:self.left + self.side]


# ------------------------------------------------------------------------------------------------------ measuring


def compare(rescaler: Rescaler, picture: Picture, scales: Sequence[Scale]) -> list[Result]:
    """Down and up at every scale, by IARN and by bicubic, from the 8-bit pixels of a picture.

    A picture that is gray is restored gray, as :func:`iarn_basicsr.pictures.files.write_picture` does.

    Raises:
        ValueError: before anything is computed, if a scale is out of the model's range.
    """
    hr = eight_bit(picture.rgb)
    sizes = [rescaler.lr_size((hr.shape[0], hr.shape[1]), scale=scale) for scale in scales]
    return [_compare_one(rescaler, hr, picture.mode == 'L', parse_scale(scale), size)
            for scale, size in zip(scales, sizes)]


def _compare_one(rescaler: Rescaler, hr: np.ndarray, gray: bool, scale: tuple[float, float], size: Size) -> Result:
    cubic = bicubic_roundtrip(hr, size)
    lr, restored = rescaler.roundtrip(hr, size=size)
    if gray:
        restored = np.repeat(channel_mean(restored)[..., None], 3, 2)

    def measure(lr: np.ndarray, restored: np.ndarray) -> dict[str, float]:
        bgr = [np.ascontiguousarray(rgb[..., ::-1]) for rgb in (restored, hr, lr, cubic.lr)]
        return evaluate((bgr[0], bgr[1]), (bgr[2], bgr[3]), DEFAULT_METRICS)

    return Result(scale, size, lr, cubic.lr, restored, cubic.restored, measure(lr, restored), measure(*cubic),
                  len(png_bytes(lr)), len(png_bytes(cubic.lr)), rescaler.name, rescaler.weights_hash)


def bicubic_roundtrip(hr: np.ndarray, size: Size) -> RoundTrip:
    """LR and restored image without IARN: antialiased bicubic down to ``size`` (h, w), 8 bits, bicubic up, 8 bits.

    Args:
        hr: (H, W, 3) uint8 RGB.
    """
    lr = bicubic_lr(to_tensor(hr)[None], size)
    restored = bicubic_upscale(lr, (hr.shape[0], hr.shape[1]))
    return RoundTrip(to_pixels(lr[0]), to_pixels(restored[0]))


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
        near = side + side // 2
        sums[max(0, top - near + 1):top + near, max(0, left - near + 1):left + near] = -2
    return windows


# ---------------------------------------------------------------------------------------------------------- table


def table(results: Sequence[Result]) -> str:
    """Aligned text for a terminal, about 80 columns wide, and the protocol in the last line."""
    rows = [list(HEADINGS), *(_cells(result) for result in results)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADINGS))]
    above, first = [], 0
    for title, span in GROUPS:
        title = f' {title} ' if title else ''
        width = sum(widths[first:first + span]) + 2 * (span - 1)
        widths[first + 1] += max(0, len(title) - width)
        above.append(title.center(max(width, len(title)), '-' if title else ' '))
        first += span
    lines = ['  '.join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    return '\n'.join(['  '.join(above), *lines, PROTOCOL])


def _cells(result: Result) -> list[str]:
    """One row of the table, below :data:`HEADINGS`."""
    ours, cubic = result.metrics, result.metrics_bicubic
    return [scale_label(result.scale), f'{result.lr_size[1]}x{result.lr_size[0]}',
            _number(cubic, 'psnr_y'), _number(ours, 'psnr_y'), f'{_gain(result):+.2f}',
            _number(cubic, 'ssim_y'), _number(ours, 'ssim_y'), _number(ours, 'lr_psnr_y'),
            f'{result.lr_bytes:,}', f'{result.lr_bytes / result.lr_bicubic_bytes:.2f}']


def _gain(result: Result) -> float:
    return result.metrics['psnr_y'] - result.metrics_bicubic['psnr_y']


def _trend(result: Result) -> str:
    """Class of a gain, for its colour; none if it shows as zero."""
    return '' if abs(_gain(result)) < 0.005 else 'up' if _gain(result) > 0 else 'down'


def _number(values: dict[str, float], name: str) -> str:
    """PSNR with two digits, SSIM with four; a dash where the picture was too small to measure it."""
    return f'{values[name]:.{2 if "psnr" in name else 4}f}' if name in values else '-'


# ----------------------------------------------------------------------------------------------------------- page


@dataclass(frozen=True)
class _View:
    """What the sections of a page have in common.

    Attributes:
        hr: (H, W, 3) uint8 RGB.
        windows: the details.
        top: error of the last colour, in levels of 255.
        factor, map_factor: pixels of the picture to one of a whole view and of a whole error map, along each side.
        exact: whole views as PNG, else JPEG.
    """

    hr: np.ndarray
    windows: list[Window]
    top: int
    factor: int
    map_factor: int
    exact: bool

    @classmethod
    def of(cls, hr: np.ndarray, results: Sequence[Result]) -> _View:
        """Windows from the bicubic errors of all scales, and the colours too: 99.5 % of them lie below ``top``."""
        cubic = [result.restored_bicubic for result in results]
        top = max(float(np.percentile(error_map(image, hr), 99.5)) for image in cubic)
        factor, map_factor = (math.ceil(max(hr.shape) / side) for side in (VIEW_SIDE, MAP_SIDE))
        exact = 3 * len(results) * hr.shape[0] * hr.shape[1] / factor**2 <= EXACT_PIXELS
        return cls(hr, worst_windows(hr, cubic), max(4, math.ceil(top)), factor, map_factor, exact)


def page(name: str, picture: Picture, results: Sequence[Result], path: str) -> None:
    """One HTML file that shows and measures IARN beside bicubic at every scale; written atomically.

    Args:
        name: file name of the picture, for the title.
        picture: what :func:`compare` was given.
        results: what it returned, at least one.
        path: of the page.
    """
    view, blocks = _View.of(eight_bit(picture.rgb), results), _blocks()
    height, width = picture.size
    text = blocks['page'].substitute(
        name=html.escape(name), model=html.escape(results[0].model), weights_hash=html.escape(results[0].weights_hash),
        size=f'{width} × {height}', version=__version__, protocol=html.escape(PROTOCOL),
        groups=''.join(f'<th colspan="{span}">{title}</th>' for title, span in GROUPS),
        headings=''.join(f'<th>{heading}</th>' for heading in HEADINGS),
        rows='\n'.join(_html_row(k, result) for k, result in enumerate(results)),
        notes='\n'.join(f'<li>{note}</li>' for note in _notes(picture, view)),
        colours=', '.join(f'#{c}' for c in COLOURS),
        sections=''.join(_section(k, result, view, blocks) for k, result in enumerate(results)))
    save_text(text, path)


def _blocks() -> dict[str, Template]:
    """The parts of ``compare_page.html``, by name."""
    text = Path(__file__).with_name('compare_page.html').read_text(encoding='utf-8')
    parts = re.split(r'<!-- block (\w+) -->\n', text)[1:]
    return {name: Template(part) for name, part in zip(parts[::2], parts[1::2])}


def _html_row(k: int, result: Result) -> str:
    cells = _cells(result)
    rest = ''.join(f'<td class="{_trend(result)}">{cell}</td>' if heading == 'gain' else f'<td>{cell}</td>'
                   for heading, cell in zip(HEADINGS[1:], cells[1:]))
    return f'<tr><th scope="row"><a href="#scale{k}">{cells[0]}</a></th>{rest}</tr>'


def _notes(picture: Picture, view: _View) -> Iterator[str]:
    """What a reader must know to judge what is shown."""
    side = view.windows[0].side
    yield (f'Details are {side} × {side} pixels, exact (PNG), enlarged without smoothing. They are the squares where '
           'bicubic has the largest sum of squared errors over all scales of this page, half a side or more apart.')
    yield (f'Error maps: absolute difference to the original, mean of R, G and B, in levels of 255. One scale of '
           f'colours for the whole page, up to {view.top}: at least 99.5 % of the pixels of bicubic lie below. '
           + (f'Maps of the whole picture average {view.map_factor} × {view.map_factor} pixels.'
              if view.map_factor > 1 else 'Maps of the whole picture have every pixel.'))
    if picture.rgb.dtype == np.uint16:
        yield 'The original has 16 bits; it was rounded to 8 for this comparison.'
    if picture.mode == 'L':
        yield ('The original is gray. What IARN restores is the mean of three channels; its LR image has colours, in '
               'which it hides detail.')
    if picture.alpha is not None:
        yield 'Transparency is left out of this comparison.'
    if picture.icc is not None:
        yield 'Colours are shown without the colour profile of the file.'
    for remark in picture.remarks:
        yield html.escape(f'The file: {remark}.')


def _form(view: _View) -> str:
    """How faithful the whole views are."""
    form = 'PNG' if view.exact else f'JPEG of quality {JPEG_QUALITY}'
    if view.factor > 1:
        return (f'Reduced: {view.factor} × {view.factor} pixels averaged to one, {form}. This hides fine errors; the '
                'details below do not.')
    return 'Every pixel, exact (PNG).' if view.exact else f'Every pixel, {form}: colours are off by a few levels.'


def _style(view: _View, factor: int, room: tuple[int, int]) -> str:
    """CSS of a view of the whole picture: small ones are enlarged, by a whole factor, towards ``room`` (w, h)."""
    height, width = (-(-n // factor) for n in view.hr.shape[:2])
    zoom = max(1, min(room[0] // width, room[1] // height))
    return f'--width:{zoom * width}px;--ratio:{width / height:.4f}' + (';image-rendering:pixelated' if zoom > 1 else '')


def _section(k: int, result: Result, view: _View, blocks: dict[str, Template]) -> str:
    label = scale_label(result.scale)
    lr, lr_cubic, part = _lr_images(result, view)
    maps = [error_map(image, view.hr) for image in (result.restored_bicubic, result.restored)]
    return blocks['scale'].substitute(
        k=k, label=label, top=view.top, lr_size=f'{result.lr_size[1]} × {result.lr_size[0]}',
        gain=f'{_gain(result):+.2f} dB',
        trend=_trend(result), ratio=f'{result.lr_bytes / result.lr_bicubic_bytes:.2f}',
        form=_form(view), style=_style(view, view.factor, (1000, 800)),
        hr=_whole(view.hr, view, f'original, {label}', 'hr'),
        bicubic=_whole(result.restored_bicubic, view, f'bicubic, {label}', 'bicubic'),
        iarn=_whole(result.restored, view, f'IARN, {label}', 'iarn'),
        map_bicubic=_map(maps[0], view.top, f'error of bicubic, {label}', view.map_factor),
        map_iarn=_map(maps[1], view.top, f'error of IARN, {label}', view.map_factor),
        mean_bicubic=f'{maps[0].mean():.2f}', mean_iarn=f'{maps[1].mean():.2f}',
        map_style=_style(view, view.map_factor, (576, 576)),
        boxes=''.join(_box(n, w, view) for n, w in enumerate(view.windows)),
        details=''.join(_detail(n, w, result, view, blocks) for n, w in enumerate(view.windows)),
        lr=_png(lr, f'LR by IARN, {label}'), lr_bicubic=_png(lr_cubic, f'LR by bicubic, {label}'), part=part,
        lr_bytes=f'{result.lr_bytes:,}', lr_bicubic_bytes=f'{result.lr_bicubic_bytes:,}',
        lr_psnr=_number(result.metrics, 'lr_psnr_y'), metrics='\n'.join(_metric_rows(result)))


def _detail(n: int, window: Window, result: Result, view: _View, blocks: dict[str, Template]) -> str:
    label = f'detail {n + 1}, {scale_label(result.scale)}'
    cuts = [window.cut(image) for image in (view.hr, result.restored_bicubic, result.restored)]
    maps = [error_map(cut, cuts[0]) for cut in cuts[1:]]
    return blocks['detail'].substitute(
        n=n + 1, left=window.left, top=window.top, side=window.side,
        hr=_png(cuts[0], f'original, {label}'), bicubic=_png(cuts[1], f'bicubic, {label}'),
        iarn=_png(cuts[2], f'IARN, {label}'), map_bicubic=_map(maps[0], view.top, f'error of bicubic, {label}'),
        map_iarn=_map(maps[1], view.top, f'error of IARN, {label}'),
        mean_bicubic=f'{maps[0].mean():.1f}', mean_iarn=f'{maps[1].mean():.1f}')


def _lr_images(result: Result, view: _View) -> tuple[np.ndarray, np.ndarray, str]:
    """Both LR images, or of large ones the same part around the first detail, and a remark on it."""
    h, w = result.lr_size
    if h * w <= LR_PIXELS:
        return result.lr, result.lr_bicubic, ''
    window = view.windows[0]
    cut = []
    for n, whole, shown, start in zip((h, w), view.hr.shape, LR_PART, window):
        centre = (start + window.side / 2) * n / whole
        first = round(min(max(0, centre - shown / 2), max(0, n - shown)))
        cut.append(slice(first, min(n, first + shown)))
    rows, columns = cut
    part = (f'Shown is a part of {columns.stop - columns.start} × {rows.stop - rows.start} pixels around detail 1; '
            f'the whole has {w} × {h}.')
    return result.lr[rows, columns], result.lr_bicubic[rows, columns], part


def _box(n: int, window: Window, view: _View) -> str:
    """Outline of a detail over a map of the whole picture."""
    height, width = view.hr.shape[:2]
    sides = {'left': window.left / width, 'top': window.top / height, 'width': window.side / width,
             'height': window.side / height}
    style = ';'.join(f'{side}:{100 * share:.3f}%' for side, share in sides.items())
    return f'<span class="box" style="{style}"><b>{n + 1}</b></span>'


def _metric_rows(result: Result) -> Iterator[str]:
    for name in DEFAULT_METRICS:
        cubic, ours = _number(result.metrics_bicubic, name), _number(result.metrics, name)
        yield f'<tr><th scope="row">{name}</th><td>{cubic}</td><td>{ours}</td></tr>'


# --------------------------------------------------------------------------------------------------------- images


def _whole(image: np.ndarray, view: _View, alt: str, kind: str) -> str:
    """The whole picture as PNG or JPEG, reduced if the view says so."""
    shown = Image.fromarray(image).reduce(view.factor)
    if view.exact:
        return _png(np.asarray(shown), alt, kind)
    buffer = io.BytesIO()
    shown.save(buffer, 'JPEG', quality=JPEG_QUALITY, subsampling=0)
    return _img(buffer.getvalue(), 'jpeg', shown.size, alt, kind)


def _map(error: np.ndarray, top: int, alt: str, factor: int = 1) -> str:
    """An error map in colours: a PNG with a palette, of which ``top`` is the last colour."""
    reduced = np.asarray(Image.fromarray(error).reduce(factor))
    image = Image.fromarray(np.clip(np.round(reduced * (255 / top)), 0, 255).astype(np.uint8))
    image.putpalette(_palette())
    buffer = io.BytesIO()
    image.save(buffer, 'PNG')
    return _img(buffer.getvalue(), 'png', image.size, alt, 'map')


def _palette() -> list[int]:
    """256 colours, R, G, B one after the other, linear between :data:`COLOURS`."""
    anchors = np.array([list(bytes.fromhex(c)) for c in COLOURS], float)
    at = np.linspace(0, len(COLOURS) - 1, 256)
    colours = np.stack([np.interp(at, range(len(COLOURS)), anchors[:, c]) for c in range(3)], 1)
    return [int(value) for value in colours.round().ravel()]


def _png(rgb: np.ndarray, alt: str, kind: str = 'exact') -> str:
    return _img(png_bytes(rgb), 'png', (rgb.shape[1], rgb.shape[0]), alt, kind)


def _img(data: bytes, form: str, size: tuple[int, int], alt: str, kind: str) -> str:
    """An ``<img>`` that carries its file; ``size`` is (width, height)."""
    source = f'data:image/{form};base64,{base64.b64encode(data).decode()}'
    return f'<img class="{kind}" alt="{alt}" width="{size[0]}" height="{size[1]}" src="{source}">'
