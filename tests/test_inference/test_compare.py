"""IARN beside bicubic: the numbers against a direct computation, the page against what it must show."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers import make_image, tiny_net
from PIL import Image

from iarn_basicsr import files
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import OptionError, SizeError
from iarn_basicsr.inference import compare as module
from iarn_basicsr.inference.cli import main
from iarn_basicsr.inference.compare import (
    Result,
    Window,
    bicubic_roundtrip,
    colour_map,
    compare,
    error_map,
    page,
    table,
    worst_windows,
)
from iarn_basicsr.inference.picture_file import Picture, eight_bit, png_bytes
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, PROTOCOL, evaluate
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.jpeg import jpeg_bytes, jpeg_copy
from iarn_basicsr.ops.resample import bicubic_downscale, bicubic_upscale
from iarn_basicsr.ops.size import Scale, Size

pytestmark = pytest.mark.filterwarnings('error:The given NumPy array is not writable')
SCALES: list[Scale] = [2, (1.5, 3.0), '2.5']


@pytest.fixture(scope='module')
def rescaler() -> Rescaler:
    torch.manual_seed(0)
    net = IARN(num_block=1, width=4, max_scale=4)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return Rescaler(net, 'tiny', device='cpu')


@pytest.fixture(scope='module')
def picture() -> Picture:
    rgb = make_image(66, 90, seed=3)
    rgb.setflags(write=False)  # as Pillow's pixels are
    return Picture(rgb)


@pytest.fixture(scope='module')
def results(rescaler: Rescaler, picture: Picture) -> list[Result]:
    return compare(rescaler, picture, SCALES)


class Page(HTMLParser):
    """The images of a page by their alternative text, its text, its ids, and every address in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: dict[str, np.ndarray] = {}
        self.words: list[str] = []
        self.ids: set[str | None] = set()
        self.addresses: list[str] = []
        self.source = path.read_text(encoding='utf-8')
        self.feed(self.source)
        self.text = ' '.join(' '.join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or '' for key, value in attrs}
        self.ids.add(found.get('id'))
        self.addresses += [found[k] for k in ('src', 'href', 'srcset', 'action', 'poster') if k in found]
        if tag == 'img':
            source = re.fullmatch(r'data:image/(\w+);base64,(.*)', found['src'])
            assert source
            image = Image.open(io.BytesIO(base64.b64decode(source[2])))
            assert image.format == source[1].upper()
            assert (found['width'], found['height']) == tuple(str(n) for n in image.size)
            assert found['alt'] not in self.images, 'alternative texts tell images apart'
            self.images[found['alt']] = np.asarray(image.convert('RGB'))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _bgr(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def make_page(tmp_path: Path, picture: Picture, results: Sequence[Result], name: str = 'picture.png') -> Page:
    page(name, picture, results, str(tmp_path / 'page.html'))
    assert [p.name for p in tmp_path.iterdir()] == ['page.html']
    return Page(tmp_path / 'page.html')


# ------------------------------------------------------------------------------------------------------ measuring


def test_values_equal_a_direct_computation(rescaler: Rescaler, picture: Picture, results: list[Result]) -> None:
    assert [r.scale for r in results] == [(2, 2), (1.5, 3), (2.5, 2.5)]
    assert [r.lr_size for r in results] == [(33, 45), (44, 30), (26, 36)]
    hr = picture.rgb
    x = torch.tensor(hr).permute(2, 0, 1)[None] / 255
    for r in results:
        small = quantise(bicubic_downscale(x, r.lr_size))
        for ours, theirs in ((r.lr_bicubic, small), (r.restored_bicubic, quantise(bicubic_upscale(small, (66, 90))))):
            np.testing.assert_array_equal(ours, (theirs[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8))
        np.testing.assert_array_equal(r.lr, rescaler.downscale(hr, size=r.lr_size))
        np.testing.assert_array_equal(r.restored, rescaler.upscale(r.lr, size=(66, 90)))
        hr_bgr, lr_bgr = cv2.cvtColor(hr, cv2.COLOR_RGB2BGR), cv2.cvtColor(r.lr_bicubic, cv2.COLOR_RGB2BGR)
        restored, lr = cv2.cvtColor(r.restored, cv2.COLOR_RGB2BGR), cv2.cvtColor(r.lr, cv2.COLOR_RGB2BGR)
        assert r.metrics == evaluate((restored, hr_bgr), (lr, lr_bgr), DEFAULT_METRICS)
        cubic = cv2.cvtColor(r.restored_bicubic, cv2.COLOR_RGB2BGR)
        assert r.metrics_bicubic == evaluate((cubic, hr_bgr), (lr_bgr, lr_bgr), DEFAULT_METRICS)
        assert r.metrics != r.metrics_bicubic
        assert (r.lr_bytes, r.lr_bicubic_bytes) == (len(png_bytes(r.lr)), len(png_bytes(r.lr_bicubic)))
        assert (r.model, r.weights_hash) == ('tiny', rescaler.weights_hash)


def test_a_scale_out_of_range_is_refused_before_the_work(picture: Picture) -> None:
    class Lazy(Rescaler):
        def _down(self, rgb: np.ndarray, size: Size) -> np.ndarray:
            raise AssertionError('worked')

    with pytest.raises(SizeError, match='out of range'):
        compare(Lazy(IARN(num_block=1, width=4, max_scale=4), 'tiny'), picture, [2, 9])


def test_16_bits_are_rounded_to_8(rescaler: Rescaler, picture: Picture, results: list[Result]) -> None:
    deep = picture.rgb.astype(np.uint16) * 257
    noisy = Picture(np.clip(deep.astype(int) + np.random.default_rng(0).integers(-128, 129, deep.shape), 0,
                            65535).astype(np.uint16))
    np.testing.assert_array_equal(eight_bit(noisy.rgb), picture.rgb)
    result, = compare(rescaler, noisy, [2])
    np.testing.assert_array_equal(result.restored, results[0].restored)
    assert result.metrics == results[0].metrics
    assert eight_bit(picture.rgb) is picture.rgb


def test_a_gray_picture_is_restored_gray(rescaler: Rescaler) -> None:
    gray = Picture(np.repeat(make_image(48, 40, seed=1)[..., :1], 3, 2), mode='L')
    result, = compare(rescaler, gray, [2])
    colours = rescaler.upscale(result.lr, size=(48, 40))
    assert np.ptp(colours, axis=2).any()
    np.testing.assert_array_equal(result.restored, np.round(colours.mean(2, keepdims=True)).repeat(3, 2))
    assert not np.ptp(result.restored_bicubic, axis=2).any()


def test_bicubic_roundtrip_of_a_constant() -> None:
    hr = np.full((20, 30, 3), (3, 250, 77), np.uint8)
    lr, restored = bicubic_roundtrip(hr, (7, 11))
    np.testing.assert_array_equal(restored, hr)
    np.testing.assert_array_equal(lr, hr[:7, :11])


def test_error_map_is_the_mean_difference_of_the_channels() -> None:
    hr = np.full((4, 5, 3), 100, np.uint8)
    image = hr.copy()
    image[1, 2] = (97, 100, 109)
    expected = np.zeros((4, 5))
    expected[1, 2] = 4
    np.testing.assert_array_equal(error_map(image, hr), expected)


def test_worst_windows_are_where_the_error_is() -> None:
    hr = np.zeros((400, 500, 3), np.uint8)
    image = hr.copy()
    image[300:348, 100:148] = 60
    image[10:58, 400:448] = 90
    assert worst_windows(hr, [image], 2) == [Window(10, 400, 48), Window(300, 100, 48)]
    other = hr.copy()
    other[300:348, 100:148] = 200  # errors of all images count
    windows = worst_windows(hr, [image, other])
    assert windows[:2] == [Window(300, 100, 48), Window(10, 400, 48)]
    assert len(windows) == 3
    for k, a in enumerate(windows):
        assert all(max(abs(a.top - b.top), abs(a.left - b.left)) >= 72 for b in windows[:k])
        assert a.cut(hr).shape == (48, 48, 3)


def test_errors_are_squared_where_the_worst_are_chosen() -> None:
    hr = np.zeros((200, 300, 3), np.uint8)
    image = hr.copy()
    image[10:58, 10:58] = 10  # 48 * 48 * 10 = 23040, squared 230400
    image[100:108, 200:208] = 100  # 8 * 8 * 100 = 6400, squared 640000
    window = worst_windows(hr, [image], 1)[0]
    assert window.top <= 100 <= window.top + 40
    assert window.left <= 200 <= window.left + 40


@pytest.mark.parametrize(('size', 'side', 'count'), [((9, 12), 8, 1), ((5, 40), 5, 3), ((100, 100), 25, 3),
                                                     ((1, 1), 1, 1), ((192, 300), 48, 3)])
def test_windows_fit_small_pictures(size: Size, side: int, count: int) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    windows = worst_windows(hr, [255 - hr])
    assert len(windows) == count
    assert all(w.side == side and w.cut(hr).shape == (side, side, 3) for w in windows)


# ---------------------------------------------------------------------------------------------------------- table


def test_table_shows_the_numbers(results: list[Result]) -> None:
    lines = table(results).splitlines()
    assert lines[-1] == PROTOCOL
    assert len({len(line) for line in lines[:-1]}) == 1, 'aligned'
    assert lines[1].split() == ['scale', 'LR', 'size', 'bicubic', 'IARN', 'gain', 'bicubic', 'IARN', 'PSNR-Y', 'bytes',
                                'ratio']
    for r, line in zip(results, lines[2:]):
        ours, cubic = r.metrics, r.metrics_bicubic
        label = {(2, 2): 'x2', (1.5, 3): 'x1.5x3', (2.5, 2.5): 'x2.5'}[r.scale]
        assert line.split() == [
            label, f'{r.lr_size[1]}x{r.lr_size[0]}', f'{cubic["psnr_y"]:.2f}', f'{ours["psnr_y"]:.2f}',
            f'{ours["psnr_y"] - cubic["psnr_y"]:+.2f}', f'{cubic["ssim_y"]:.4f}', f'{ours["ssim_y"]:.4f}',
            f'{ours["lr_psnr_y"]:.2f}', f'{r.lr_bytes:,}', f'{r.lr_bytes / r.lr_bicubic_bytes:.2f}']


# ----------------------------------------------------------------------------------------------------------- page


def test_page_needs_nothing_from_outside(tmp_path: Path, picture: Picture, results: list[Result]) -> None:
    shown = make_page(tmp_path, picture, results)
    assert all(address.startswith(('data:', '#')) for address in shown.addresses)
    links = {address for address in shown.addresses if address.startswith('#')}
    assert links == {'#scale0', '#scale1', '#scale2'} == {f'#{i}' for i in shown.ids if i}
    rest = re.sub(r'data:image/\w+;base64,[\w+/=]+', '', shown.source)
    assert not re.search(r'https?:|//\w+\.|@import|url\(|<link[^>]+stylesheet|<script[^>]+src', rest)
    assert not re.search(r'\{\{|\{%|\{#|\$', rest), 'every placeholder is filled'


def test_page_holds_the_right_pixels(tmp_path: Path, picture: Picture, results: list[Result]) -> None:
    shown = make_page(tmp_path, picture, results)
    windows = worst_windows(picture.rgb, [r.restored_bicubic for r in results])
    assert len(windows) == 3
    expected = {}
    for label, r in zip(('x2', 'x1.5x3', 'x2.5'), results):
        images = {'original': picture.rgb, 'bicubic': r.restored_bicubic, 'IARN': r.restored}
        for name, image in images.items():
            expected[f'{name}, {label}'] = image
            expected.update({f'{name}, detail {n + 1}, {label}': w.cut(image) for n, w in enumerate(windows)})
        expected.update({f'LR by bicubic, {label}': r.lr_bicubic, f'LR by IARN, {label}': r.lr})
    maps = {alt: image for alt, image in shown.images.items() if alt.startswith('error of')}
    assert set(expected) | set(maps) == set(shown.images)
    assert len(maps) == 2 * (1 + 3) * 3
    for alt, image in expected.items():
        np.testing.assert_array_equal(shown.images[alt], image, alt)


def test_error_maps_share_one_scale_of_colours(tmp_path: Path, picture: Picture, results: list[Result]) -> None:
    shown = make_page(tmp_path, picture, results)
    errors = {(kind, label): error_map(image, picture.rgb) for label, r in zip(('x2', 'x1.5x3', 'x2.5'), results)
              for kind, image in (('bicubic', r.restored_bicubic), ('IARN', r.restored))}
    top = int(np.ceil(max(np.percentile(e, 99.5) for (kind, _), e in errors.items() if kind == 'bicubic')))
    assert f'{top} levels of 255 and more' in shown.text
    palette = colour_map()
    assert palette.shape == (256, 3)
    assert palette[0].tolist() == [0, 0, 4]
    assert palette[255].tolist() == [252, 253, 191]
    assert re.search(r'linear-gradient\(90deg, #000004, (#\w{6}, )+#fcfdbf\)', shown.source)
    for (kind, label), error in errors.items():
        index = np.clip(np.round(error * 255 / top), 0, 255).astype(int)
        np.testing.assert_array_equal(shown.images[f'error of {kind}, {label}'], palette[index])
        for n, window in enumerate(worst_windows(picture.rgb, [r.restored_bicubic for r in results])):
            part = shown.images[f'error of {kind}, detail {n + 1}, {label}']
            np.testing.assert_array_equal(part, palette[window.cut(index)])


def test_page_shows_numbers_and_names(tmp_path: Path, picture: Picture, results: list[Result]) -> None:
    shown = make_page(tmp_path, picture, results, '<b>&"x.png')
    assert '<title>&lt;b&gt;&amp;&#34;x.png · IARN tiny</title>' in shown.source
    assert '<b>&"x.png' in shown.text
    assert '<b>&"x' not in shown.source
    assert shown.source.count('type="range"') == 3
    assert PROTOCOL in shown.text
    assert results[0].weights_hash in shown.text
    for r in results:
        assert ' '.join(module._cells(r)) in shown.text
        for name in DEFAULT_METRICS:
            row = f'{name} {module._number(r.metrics_bicubic, name)} {module._number(r.metrics, name)}'
            assert row in re.sub(r'\s+', ' ', re.sub(r'<[^>]+>', ' ', shown.source))


def test_names_of_weights_are_escaped(tmp_path: Path, picture: Picture, results: list[Result]) -> None:
    shown = make_page(tmp_path, picture, [replace(results[0], model='<i>{{ name }}')], '{{ model }}.png')
    assert '<title>{{ model }}.png · IARN &lt;i&gt;{{ name }}</title>' in shown.source


def test_a_hostile_file_name_is_only_text(tmp_path: Path, picture: Picture, results: list[Result]) -> None:
    name = '<img src=x onerror=alert(1)>.png'
    shown = make_page(tmp_path, picture, results, name)
    assert shown.source.count('&lt;img src=x onerror=alert(1)&gt;.png') == 2, 'title and heading'
    assert name not in shown.source
    assert shown.text.count(name) == 2


def test_gray_and_16_bits_and_alpha_are_told(tmp_path: Path, rescaler: Rescaler) -> None:
    rgb = np.repeat(make_image(40, 48, seed=1)[..., :1], 3, 2).astype(np.uint16) * 257
    gray = Picture(rgb, np.zeros((40, 48), np.uint8), 'L', icc=b'profile', remarks=('only a <part>',))
    shown = make_page(tmp_path, gray, compare(rescaler, gray, [2]))
    for words in ('The original is gray', '16 bits', 'Transparency', 'colour profile', 'only a <part>'):
        assert words in shown.text
    np.testing.assert_array_equal(shown.images['original, x2'], (rgb // 257).astype(np.uint8))
    assert not np.ptp(shown.images['IARN, x2'], axis=2).any()


def test_a_picture_too_small_for_ssim(tmp_path: Path, rescaler: Rescaler) -> None:
    small = Picture(make_image(9, 12, seed=0))
    results = compare(rescaler, small, [2, 4])
    assert not any('ssim' in name for r in results for name in r.metrics)
    assert table(results).splitlines()[2].split()[5:7] == ['-', '-']
    shown = make_page(tmp_path, small, results)
    window, = worst_windows(small.rgb, [r.restored_bicubic for r in results])
    np.testing.assert_array_equal(shown.images['IARN, detail 1, x4'], window.cut(results[1].restored))


def test_a_large_picture_is_reduced_but_its_details_are_exact(tmp_path: Path, rescaler: Rescaler, picture: Picture,
                                                              results: list[Result],
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (('VIEW_SIDE', 40), ('MAP_SIDE', 30), ('EXACT_PIXELS', 100), ('LR_PIXELS', 900),
                        ('LR_PART', (20, 16)), ('JPEG_QUALITY', 100)):
        monkeypatch.setattr(module, name, value)
    shown = make_page(tmp_path, picture, results[:1])
    assert 'Reduced: 3 × 3 pixels averaged to one, JPEG of quality 100' in shown.text
    assert 'image/jpeg' in shown.source
    mean = picture.rgb.reshape(22, 3, 30, 3, 3).mean((1, 3))
    assert np.abs(shown.images['original, x2'] - mean).mean() < 1
    assert shown.images['error of IARN, x2'].shape == (22, 30, 3)
    result, window = results[0], worst_windows(picture.rgb, [results[0].restored_bicubic])[0]
    for name, image in (('original', picture.rgb), ('bicubic', result.restored_bicubic), ('IARN', result.restored)):
        np.testing.assert_array_equal(shown.images[f'{name}, detail 1, x2'], window.cut(image))
    places = {name: [(y, x) for y in range(33 - 19) for x in range(45 - 15)
                     if np.array_equal(shown.images[f'LR by {name}, x2'], lr[y:y + 20, x:x + 16])]
              for name, lr in (('IARN', result.lr), ('bicubic', result.lr_bicubic))}
    assert places['IARN'] == places['bicubic']
    (y, x), = places['IARN']
    assert abs(y - np.clip((window.top + window.side / 2) / 2 - 10, 0, 13)) <= 1
    assert abs(x - np.clip((window.left + window.side / 2) / 2 - 8, 0, 29)) <= 1
    assert 'a part of 16 × 20 pixels around detail 1; the full one has 45 × 33' in shown.text


# --------------------------------------------------------------------------------------------- a one-way network


class Enlarge(torch.nn.Module):
    """A network of known result: replication, then a value that may leave [0, 1]."""

    def __init__(self, scale: int, name: str = 'Net <b>') -> None:
        super().__init__()
        self.scale, self.architecture, self.file = scale, name, 'net & co.pth'
        self.gain = torch.nn.Parameter(torch.tensor(1.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


@pytest.fixture(scope='module')
def beside(rescaler: Rescaler, picture: Picture) -> list[Result]:
    return compare(rescaler, picture, SCALES, Enlarge(2))


def test_a_network_restores_the_bicubic_lr(picture: Picture, results: list[Result], beside: list[Result]) -> None:
    """At its scale as it is, below it resized (1.5 x 3 and 2.5 are beyond it)."""
    first = beside[0]
    x = torch.tensor(first.lr_bicubic).permute(2, 0, 1)[None] / 255 * 1.1
    expected = (quantise(x.repeat_interleave(2, -1).repeat_interleave(2, -2))[0] * 255).round().byte()
    assert first.one_way is not None and first.one_way.name == 'Net <b> x2'
    np.testing.assert_array_equal(first.one_way.restored, expected.permute(1, 2, 0).numpy())
    lr, hr = (cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) for rgb in (first.lr_bicubic, picture.rgb))
    restored = cv2.cvtColor(first.one_way.restored, cv2.COLOR_RGB2BGR)
    assert first.one_way.metrics == evaluate((restored, hr), (lr, lr), DEFAULT_METRICS)
    assert [r.one_way.restored is None and r.one_way.metrics == {} for r in beside if r.one_way] == [False, True, True]
    assert [r.metrics for r in beside] == [r.metrics for r in results], 'the others stay'


def test_below_its_scale_the_result_of_a_network_is_resized(rescaler: Rescaler, picture: Picture) -> None:
    result, = compare(rescaler, picture, [1.5], Enlarge(2))
    x = torch.tensor(result.lr_bicubic).permute(2, 0, 1)[None] / 255 * 1.1
    resized = bicubic_downscale(x.repeat_interleave(2, -1).repeat_interleave(2, -2), (66, 90))
    assert result.one_way is not None and result.one_way.restored is not None
    difference = result.one_way.restored - (quantise(resized)[0] * 255).permute(1, 2, 0).numpy()
    assert np.abs(difference).max() < 1e-3


def test_a_network_restores_gray_as_gray(rescaler: Rescaler) -> None:
    class Coloured(Enlarge):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * torch.tensor([0.8, 0.9, 1])[:, None, None]

    gray = Picture(np.repeat(make_image(48, 40, seed=1)[..., :1], 3, 2), mode='L')
    result, = compare(rescaler, gray, [2], Coloured(2))
    assert result.one_way is not None and result.one_way.restored is not None
    assert not np.ptp(result.one_way.restored, axis=2).any()


def test_a_network_without_memory_is_one_line(rescaler: Rescaler, picture: Picture) -> None:
    class Large(Enlarge):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError('not enough memory:\nyou tried to allocate')

    with pytest.raises(OptionError, match='net & co.pth cannot restore an LR of 45x33: not enough memory: you tried'):
        compare(rescaler, picture, [2], Large(2))


def test_table_with_a_network(beside: list[Result]) -> None:
    lines = table(beside).splitlines()
    assert len({len(line) for line in lines[:-1]}) == 1, 'aligned'
    names = ['bicubic', 'Net', '<b>', 'x2', 'IARN']
    assert lines[1].split() == ['scale', 'LR', 'size', *names, 'gain', *names, 'PSNR-Y', 'bytes', 'ratio']
    for r, line in zip(beside, lines[2:]):
        assert r.one_way is not None
        values = r.one_way.metrics
        psnr, ssim = (f'{values["psnr_y"]:.2f}', f'{values["ssim_y"]:.4f}') if values else ('-', '-')
        cells = line.split()
        assert (cells[3], cells[7]) == (psnr, ssim)
        assert (cells[2], cells[4]) == (f'{r.metrics_bicubic["psnr_y"]:.2f}', f'{r.metrics["psnr_y"]:.2f}')


def test_page_with_a_network(tmp_path: Path, picture: Picture, results: list[Result], beside: list[Result]) -> None:
    shown = make_page(tmp_path, picture, beside)
    name, first = 'Net <b> x2', beside[0].one_way
    assert first is not None and first.restored is not None
    mine = {alt: image for alt, image in shown.images.items() if name in alt}
    windows = worst_windows(picture.rgb, [r.restored_bicubic for r in results])
    np.testing.assert_array_equal(mine.pop(f'{name}, x2'), first.restored)
    for n, window in enumerate(windows):
        np.testing.assert_array_equal(mine.pop(f'{name}, detail {n + 1}, x2'), window.cut(first.restored))
    assert set(mine) == {f'error of {name}, x2', *(f'error of {name}, detail {n + 1}, x2' for n in range(3))}
    assert 'Net <b>' not in shown.source and shown.source.count('class="detail more"') == 3
    assert shown.source.count('value="network iarn"') == shown.source.count('value="hr network"') == 1
    assert 'data-left="Net &lt;b&gt; x2" data-right="IARN"' in shown.source
    for words in (f'one-way network {name} (net & co.pth)', f'{name} and IARN', 'restores the LR of bicubic'):
        assert words in re.sub(r'\s+', ' ', shown.text)
    text = re.sub(r'\s+', ' ', re.sub(r'<[^>]+>', ' ', shown.source))
    for r in beside:
        assert ' '.join(module._cells(r)) in shown.text
        metrics = [r.metrics_bicubic, r.one_way.metrics if r.one_way else {}, r.metrics]
        assert all(' '.join([m, *(module._number(v, m) for v in metrics)]) in text for m in DEFAULT_METRICS)


def test_page_without_a_network_does_not_speak_of_one(tmp_path: Path, picture: Picture, results: list[Result]) -> None:
    shown = make_page(tmp_path, picture, results)
    assert 'one-way' not in shown.text and 'value="network' not in shown.source
    assert 'class="detail more"' not in shown.source


def test_the_command_with_a_network(tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture) -> None:
    compact = pytest.importorskip('spandrel.architectures.Compact').Compact
    monkeypatch.chdir(tmp_path)
    tiny_net().save('tiny.pth')
    torch.save(compact(num_feat=4, num_conv=1, upscale=2).state_dict(), 'net.pth')
    Image.fromarray(picture.rgb).save('a.png')
    arguments = ['compare', 'a.png', '--weights', 'tiny.pth', '--device', 'cpu', '--scale', '2', '--network']
    assert main([*arguments, 'net.pth']) == 0
    assert 'RealESRGAN Compact x2' in capsys.readouterr().out
    assert 'RealESRGAN Compact x2, detail 1, x2' in Page(tmp_path / 'a_compare.html').images
    for name, message in (('nope.pth', 'nope.pth: cannot be read (No such file or directory)'),
                          ('tiny.pth', r'tiny.pth: spandrel \S+ knows no network with these weights')):
        assert main([*arguments, name, '--overwrite']) == 2
        assert re.fullmatch(f'iarn compare: {message}\n'.replace('(', '\\(').replace(')', '\\)'),
                            capsys.readouterr().err)


# ---------------------------------------------------------------------------------------------------- LR as a JPEG


@pytest.fixture(scope='module')
def as_jpeg(rescaler: Rescaler, picture: Picture) -> list[Result]:
    return compare(rescaler, picture, [2, '1.5x3'], Enlarge(2), jpeg=(90, 20))


def test_a_jpeg_row_is_what_one_gets_by_hand(rescaler: Rescaler, picture: Picture, results: list[Result],
                                             as_jpeg: list[Result]) -> None:
    assert [r.label for r in as_jpeg] == [f'{scale}{more}' for scale in ('x2', 'x1.5x3')
                                          for more in ('', ' jpeg 90', ' jpeg 20')]
    assert [r.quality for r in as_jpeg] == [None, 90, 20] * 2
    for plain, before in zip(as_jpeg[::3], results):
        assert plain.metrics == before.metrics and plain.lr_bytes == before.lr_bytes, 'as without JPEG'
    hr = _bgr(picture.rgb)
    for r, plain in ((as_jpeg[1], results[0]), (as_jpeg[2], results[0]), (as_jpeg[4], results[1])):
        assert r.quality
        ours, cubic = (jpeg_copy(lr, r.quality, '4:2:0') for lr in (plain.lr, plain.lr_bicubic))
        np.testing.assert_array_equal(r.lr, ours)
        np.testing.assert_array_equal(r.lr_bicubic, cubic)
        assert (r.lr_bytes, r.lr_bicubic_bytes) == tuple(len(jpeg_bytes(lr, r.quality)) for lr in (plain.lr,
                                                                                                  plain.lr_bicubic))
        restored = rescaler.upscale(ours, size=(66, 90))
        np.testing.assert_array_equal(r.restored, restored)
        x = torch.tensor(cubic).permute(2, 0, 1)[None] / 255
        enlarged = (quantise(bicubic_upscale(x, (66, 90)))[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
        np.testing.assert_array_equal(r.restored_bicubic, enlarged)
        low = _bgr(plain.lr_bicubic)  # before JPEG
        assert r.metrics == evaluate((_bgr(restored), hr), (_bgr(ours), low), DEFAULT_METRICS)
        assert r.metrics_bicubic == evaluate((_bgr(enlarged), hr), (_bgr(cubic), low), DEFAULT_METRICS)
    assert as_jpeg[2].lr_bytes < as_jpeg[1].lr_bytes < as_jpeg[0].lr_bytes


def test_a_network_restores_the_jpeg_of_the_bicubic_lr(picture: Picture, as_jpeg: list[Result]) -> None:
    r = as_jpeg[1]
    x = torch.tensor(jpeg_copy(as_jpeg[0].lr_bicubic, 90)).permute(2, 0, 1)[None] / 255 * 1.1
    expected = (quantise(x.repeat_interleave(2, -1).repeat_interleave(2, -2))[0] * 255).round().byte()
    assert r.one_way is not None
    np.testing.assert_array_equal(r.one_way.restored, expected.permute(1, 2, 0).numpy())
    assert r.one_way.metrics['lr_psnr_y'] == r.metrics_bicubic['lr_psnr_y'] < 100
    assert as_jpeg[4].one_way is not None and as_jpeg[4].one_way.restored is None


def test_table_and_page_with_jpeg(tmp_path: Path, picture: Picture, results: list[Result],
                                  as_jpeg: list[Result]) -> None:
    text = table(as_jpeg)
    assert text.splitlines()[-1] == module.JPEG_NOTE and module.JPEG_NOTE not in table(results)
    assert [line[:14].strip() for line in text.splitlines()[2:8]] == [r.label for r in as_jpeg]
    shown = make_page(tmp_path, picture, as_jpeg)
    for r in as_jpeg:
        assert ' '.join(module._cells(r)) in shown.text
        np.testing.assert_array_equal(shown.images[f'IARN, {r.label}'], r.restored)
        np.testing.assert_array_equal(shown.images[f'LR by bicubic, {r.label}'], r.lr_bicubic)
    assert module.JPEG_NOTE in shown.text and shown.text.count('as JPEG of quality 20') == 2
    psnr = f'of IARN against the bicubic LR before JPEG: {as_jpeg[1].metrics["lr_psnr_y"]:.2f} dB'
    assert shown.text.count(psnr) == 1 and shown.text.count('PSNR-Y of one against the other') == 2
    without = make_page(tmp_path, picture, results)
    assert 'before JPEG' not in without.text and 'as JPEG' not in without.text


def test_gray_stays_gray_after_jpeg(rescaler: Rescaler) -> None:
    gray = Picture(np.repeat(make_image(48, 40, seed=1)[..., :1], 3, 2), mode='L')
    assert not any(np.ptp(r.restored, axis=2).any() for r in compare(rescaler, gray, [2], jpeg=[60]))


@pytest.mark.parametrize('quality', [0, 101, -1, 90.0, True, '90'])
def test_no_quality_of_a_jpeg(rescaler: Rescaler, picture: Picture, quality: Any) -> None:
    with pytest.raises(OptionError, match=f'jpeg {quality!r}: expected a whole number from 1 to 100'):
        compare(rescaler, picture, [2], jpeg=[90, quality])


def test_a_payload_does_not_go_with_jpeg(picture: Picture) -> None:
    coded = Rescaler.load('none', device='cpu', payload=2)
    with pytest.raises(OptionError, match='jpeg with payload 2: low bits do not survive JPEG'):
        compare(coded, picture, [2], jpeg=[90])


def test_the_command_with_jpeg(tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture.rgb).save('a.png')
    arguments = ['compare', 'a.png', '--weights', 'none', '--device', 'cpu', '--scale', '2', '--jpeg']
    assert main([*arguments, '75', '--jpeg', '90']) == 0
    assert re.findall('^ *(x2.*?)  ', capsys.readouterr().out, re.M) == ['x2', 'x2 jpeg 75', 'x2 jpeg 90']
    assert 'LR by IARN, x2 jpeg 75' in Page(tmp_path / 'a_compare.html').images
    assert main([*arguments, '75', '--payload', '2', '--overwrite']) == 2
    assert capsys.readouterr().err == ('iarn compare: jpeg with payload 2: low bits do not survive JPEG; leave one '
                                       'out\n')
    for wrong in ('0', '101', 'high', '7.5', ''):
        assert main([*arguments, wrong]) == 2
        assert capsys.readouterr().err.startswith("iarn compare: Invalid value for '--jpeg': ")


def test_an_interrupted_page_leaves_the_old_one(tmp_path: Path, picture: Picture, results: list[Result],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / 'page.html'
    target.write_text('old', encoding='utf-8')

    def interrupted(temporary: str) -> None:
        Path(temporary).write_text('<!DOCTYPE', encoding='utf-8')
        raise KeyboardInterrupt

    atomic_write = files.atomic_write
    monkeypatch.setattr(files, 'atomic_write', lambda path, write: atomic_write(path, interrupted))
    with pytest.raises(KeyboardInterrupt):
        page('x.png', picture, results, str(target))
    assert [p.name for p in tmp_path.iterdir()] == ['page.html']
    assert target.read_text(encoding='utf-8') == 'old'
