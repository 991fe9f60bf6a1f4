"""IARN beside bicubic: the numbers against a direct computation, the page against what it must show."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers import Enlarge, make_image, tiny_net
from PIL import Image

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import OptionError, SizeError
from iarn_basicsr.inference import compare as module
from iarn_basicsr.inference.cli import main
from iarn_basicsr.inference.compare import (
    Result,
    Way,
    Window,
    bicubic_roundtrip,
    colour_map,
    compare,
    error_map,
    page,
    table,
    worst_windows,
)
from iarn_basicsr.inference.extras import Extras
from iarn_basicsr.inference.picture_file import Picture, png_bytes
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, PROTOCOL, evaluate
from iarn_basicsr.ops.image import quantise
from iarn_basicsr.ops.jpeg import jpeg_bytes, jpeg_copy
from iarn_basicsr.ops.resample import bicubic_downscale, bicubic_upscale
from iarn_basicsr.ops.size import Scale, Size

pytestmark = pytest.mark.filterwarnings('error:The given NumPy array is not writable')
SCALES: list[Scale] = [2, (1.5, 3.0), '2.5']
LABELS = ('x2', 'x1.5x3', 'x2.5')


@pytest.fixture(scope='module')
def rescaler() -> Rescaler:
    return Rescaler(tiny_net(), 'tiny', device='cpu')


@pytest.fixture(scope='module')
def picture() -> Picture:
    rgb = make_image(66, 90, seed=3)
    rgb.setflags(write=False)  # as Pillow's pixels are
    return Picture(rgb)


@pytest.fixture(scope='module')
def results(rescaler: Rescaler, picture: Picture) -> list[Result]:
    return compare(rescaler, picture, SCALES)


@pytest.fixture(scope='module')
def all_ways(rescaler: Rescaler, picture: Picture) -> list[Result]:
    """Beside a network, and with JPEG in between."""
    return compare(rescaler, picture, [2, '1.5x3'], Enlarge(2), jpeg=(90, 20))


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


def make_page(tmp_path: Path, picture: Picture, results: Sequence[Result], name: str = 'picture.png') -> Page:
    page(name, picture, results, str(tmp_path / 'page.html'))
    assert [p.name for p in tmp_path.iterdir()] == ['page.html']
    return Page(tmp_path / 'page.html')


def tensor_of(rgb: np.ndarray) -> torch.Tensor:
    return torch.tensor(rgb).permute(2, 0, 1)[None] / 255


def pixels_of(x: torch.Tensor) -> np.ndarray:
    return (quantise(x)[0] * 255).round().byte().permute(1, 2, 0).numpy()


def check_way(way: Way, lr: np.ndarray, restored: np.ndarray, hr: np.ndarray, reference: np.ndarray) -> None:
    np.testing.assert_array_equal(way.lr, lr)
    np.testing.assert_array_equal(way.restored, restored)
    bgr = [cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) for rgb in (restored, hr, lr, reference)]
    assert way.metrics == evaluate((bgr[0], bgr[1]), (bgr[2], bgr[3]), DEFAULT_METRICS)


# ------------------------------------------------------------------------------------------------------ measuring


def test_values_equal_a_direct_computation(rescaler: Rescaler, picture: Picture, results: list[Result]) -> None:
    assert [(r.scale, r.lr_size, r.quality) for r in results] == [
        ((2, 2), (33, 45), None), ((1.5, 3), (44, 30), None), ((2.5, 2.5), (26, 36), None)]
    hr = picture.rgb
    for r in results:
        assert [*r.ways] == ['bicubic', 'iarn'] and (r.model, r.weights_hash) == ('tiny', rescaler.weights_hash)
        small = pixels_of(bicubic_downscale(tensor_of(hr), r.lr_size))
        check_way(r.ways['bicubic'], small, pixels_of(bicubic_upscale(tensor_of(small), (66, 90))), hr, small)
        lr = rescaler.downscale(hr, size=r.lr_size)
        check_way(r.ways['iarn'], lr, rescaler.upscale(lr, size=(66, 90)), hr, small)
        assert [w.lr_bytes for w in r.ways.values()] == [len(png_bytes(small)), len(png_bytes(lr))]
    assert bicubic_roundtrip(hr, (33, 45)).restored.tolist() == results[0].ways['bicubic'].restored.tolist()


def test_a_jpeg_row_is_what_one_gets_by_hand(rescaler: Rescaler, picture: Picture, results: list[Result],
                                             all_ways: list[Result]) -> None:
    """The network restores the JPEG of the bicubic LR; x1.5x3 is beyond it."""
    assert [r.label for r in all_ways] == [f'{scale}{more}' for scale in LABELS[:2]
                                           for more in ('', ' jpeg 90', ' jpeg 20')]
    for n, r in enumerate(all_ways):
        plain, net = results[n // 3], r.ways['network']
        reference = plain.ways['bicubic'].lr  # before JPEG
        lr, cubic = (w.lr if r.quality is None else jpeg_copy(w.lr, r.quality)
                     for w in (plain.ways['iarn'], plain.ways['bicubic']))
        check_way(r.ways['iarn'], lr, rescaler.upscale(lr, size=(66, 90)), picture.rgb, reference)
        check_way(r.ways['bicubic'], cubic, pixels_of(bicubic_upscale(tensor_of(cubic), (66, 90))), picture.rgb,
                  reference)
        if n < 3:
            check_way(net, cubic, pixels_of(Enlarge(2)(tensor_of(cubic))), picture.rgb, reference)
        else:
            assert net.restored is None and net.metrics == {}
        if r.quality:
            assert r.ways['iarn'].lr_bytes == len(jpeg_bytes(plain.ways['iarn'].lr, r.quality))


def test_below_its_scale_the_result_of_a_network_is_resized(rescaler: Rescaler, picture: Picture) -> None:
    result, = compare(rescaler, picture, [1.5], Enlarge(2))
    way = result.ways['network']
    np.testing.assert_array_equal(
        way.restored, pixels_of(bicubic_downscale(Enlarge(2)(tensor_of(way.lr)), (66, 90)).detach()))


def test_what_is_refused_before_the_work(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(*args: Any, **kwargs: Any) -> None:
        raise AssertionError('worked')

    monkeypatch.setattr(Rescaler, 'downscale', worked)
    rescaler = Rescaler(IARN(num_block=1, width=4, max_scale=4), 'tiny', device='cpu')
    with pytest.raises(SizeError, match='out of range'):
        compare(rescaler, picture, [2, 9])
    for quality in (0, 101, 90.0):
        with pytest.raises(OptionError, match=f'jpeg {quality!r}: expected an integer from 1 to 100'):
            compare(rescaler, picture, [2], jpeg=[90, quality])
    with pytest.raises(OptionError, match='jpeg with payload 2: low bits do not survive JPEG'):
        compare(Rescaler.load('none', device='cpu', payload=2), picture, [2], jpeg=[90])


def test_a_network_without_memory_is_one_line(rescaler: Rescaler, picture: Picture) -> None:
    class Large(Enlarge):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError('not enough memory:\nyou tried to allocate')

    with pytest.raises(OptionError, match='net & co.pth cannot restore an LR of 45x33: not enough memory: you tried'):
        compare(rescaler, picture, [2], Large(2))


def test_16_bits_are_rounded_to_8(rescaler: Rescaler, picture: Picture, results: list[Result]) -> None:
    deep = picture.rgb.astype(int) * 257 + np.random.default_rng(0).integers(-128, 129, picture.rgb.shape)
    result, = compare(rescaler, Picture(np.clip(deep, 0, 65535).astype(np.uint16)), [2])
    assert result.ways['iarn'].metrics == results[0].ways['iarn'].metrics


def test_a_gray_picture_is_restored_gray(rescaler: Rescaler) -> None:
    gray = Picture(np.repeat(make_image(48, 40, seed=1)[..., :1], 3, 2), mode='L')
    for result in compare(rescaler, gray, [2], Enlarge(2), jpeg=[60]):
        colours = rescaler.upscale(result.ways['iarn'].lr, size=(48, 40))
        assert np.ptp(colours, axis=2).any()
        expected = np.round(colours.mean(2, keepdims=True)).repeat(3, 2)
        np.testing.assert_array_equal(result.ways['iarn'].restored, expected)
        assert not any(np.ptp(way.restored, axis=2).any() for way in result.ways.values())


def test_error_map_is_the_mean_difference_of_the_channels() -> None:
    hr = np.full((4, 5, 3), 100, np.uint8)
    image = hr.copy()
    image[1, 2] = (97, 100, 109)
    expected = np.zeros((4, 5))
    expected[1, 2] = 4
    np.testing.assert_array_equal(error_map(image, hr), expected)


def test_worst_windows_are_where_the_squared_error_is() -> None:
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
    band = hr.copy()
    band[100:148, 100:300] = 60
    assert [w.left for w in worst_windows(hr, [band])] == [100, 172, 244]
    few = hr.copy()
    few[10:58, 10:58] = 10  # 48 * 48 * 10 = 23040, squared 230400
    few[100:108, 200:208] = 100  # 8 * 8 * 100 = 6400, squared 640000
    window = worst_windows(hr, [few], 1)[0]
    assert window.top <= 100 <= window.top + 40 and window.left <= 200 <= window.left + 40


@pytest.mark.parametrize(('size', 'side', 'count'), [((5, 40), 5, 3), ((100, 100), 25, 3), ((1, 1), 1, 1)])
def test_windows_fit_small_pictures(size: Size, side: int, count: int) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    windows = worst_windows(hr, [255 - hr])
    assert len(windows) == count
    assert all(w.side == side and w.cut(hr).shape == (side, side, 3) for w in windows)


# ---------------------------------------------------------------------------------------------------------- table


def test_table_shows_the_numbers(results: list[Result], all_ways: list[Result]) -> None:
    lines = table(results).splitlines()
    assert lines[-1] == PROTOCOL
    assert len({len(line) for line in lines[:-1]}) == 1, 'aligned'
    assert lines[1].split() == ['scale', 'LR', 'size', 'bicubic', 'IARN', 'gain', 'bicubic', 'IARN', 'PSNR-RGB/Y',
                                'bytes', 'ratio']
    for label, r, line in zip(LABELS, results, lines[2:]):
        ours, cubic = r.ways['iarn'].metrics, r.ways['bicubic'].metrics
        assert line.split() == [
            label, f'{r.lr_size[1]}x{r.lr_size[0]}', f'{cubic["psnr_rgb"]:.2f}/{cubic["psnr_y"]:.2f}',
            f'{ours["psnr_rgb"]:.2f}/{ours["psnr_y"]:.2f}',
            f'{ours["psnr_rgb"] - cubic["psnr_rgb"]:+.2f}/{ours["psnr_y"] - cubic["psnr_y"]:+.2f}',
            f'{cubic["ssim_y"]:.4f}', f'{ours["ssim_y"]:.4f}', f'{ours["lr_psnr_rgb"]:.2f}/{ours["lr_psnr_y"]:.2f}',
            f'{r.ways["iarn"].lr_bytes:,}', f'{r.ways["iarn"].lr_bytes / r.ways["bicubic"].lr_bytes:.2f}']

    lines = table(all_ways).splitlines()
    assert lines[-1] == module.JPEG_NOTE and len({len(line) for line in lines[:-2]}) == 1
    names = ['bicubic', 'Net', '<b>', 'x2', 'IARN']
    assert lines[1].split() == ['scale', 'LR', 'size', *names, 'gain', *names, 'PSNR-RGB/Y', 'bytes', 'ratio']
    values = all_ways[0].ways['network'].metrics
    assert lines[2].split()[3] == f'{values["psnr_rgb"]:.2f}/{values["psnr_y"]:.2f}'
    assert lines[5].split()[3] == lines[5].split()[7] == '-', 'beyond the network'


def test_a_picture_too_small_for_ssim(tmp_path: Path, rescaler: Rescaler) -> None:
    small = Picture(make_image(9, 12, seed=0))
    results = compare(rescaler, small, [2, 4])
    assert table(results).splitlines()[2].split()[5:7] == ['-', '-']
    shown = make_page(tmp_path, small, results)
    window, = worst_windows(small.rgb, [r.ways['bicubic'].restored for r in results])
    np.testing.assert_array_equal(shown.images['IARN, detail 1, x4'], window.cut(results[1].ways['iarn'].restored))


# ----------------------------------------------------------------------------------------------------------- page


def test_page_needs_nothing_from_outside(tmp_path: Path, picture: Picture, results: list[Result]) -> None:
    shown = make_page(tmp_path, picture, results)
    assert all(address.startswith(('data:', '#')) for address in shown.addresses)
    links = {address for address in shown.addresses if address.startswith('#')}
    assert links == {'#scale0', '#scale1', '#scale2'} == {f'#{i}' for i in shown.ids if i}
    rest = re.sub(r'data:image/\w+;base64,[\w+/=]+', '', shown.source)
    assert not re.search(r'https?:|//\w+\.|@import|url\(|<link[^>]+stylesheet|<script[^>]+src', rest)
    assert not re.search(r'\{\{|\{%|\{#|\$', rest), 'every placeholder is filled'
    for word in ('one-way', 'value="network', 'class="detail more"', 'before JPEG'):
        assert word not in shown.source, 'there is no network and no JPEG'


def test_page_holds_the_right_pixels_and_numbers(tmp_path: Path, picture: Picture, results: list[Result],
                                                 all_ways: list[Result]) -> None:
    for given, name in ((results, 'a.png'), (all_ways, '<b>&"x.png')):
        shown = make_page(tmp_path, picture, given, name)
        windows = worst_windows(picture.rgb, [r.ways['bicubic'].restored for r in given])
        expected = {}
        for r in given:
            views = {'original': picture.rgb, **{w.name: w.restored for w in r.ways.values() if w.restored is not None}}
            for kind, image in views.items():
                expected[f'{kind}, {r.label}'] = image
                expected.update({f'{kind}, detail {n + 1}, {r.label}': w.cut(image) for n, w in enumerate(windows)})
            expected.update({f'LR by {r.ways[k].name}, {r.label}': r.ways[k].lr for k in ('bicubic', 'iarn')})
        maps = {alt for alt in shown.images if alt.startswith('error of')}
        assert {*expected} | maps == {*shown.images}
        assert maps == {f'error of {alt}' for alt in expected if not alt.startswith(('original', 'LR by'))}
        for alt, image in expected.items():
            np.testing.assert_array_equal(shown.images[alt], image, alt)
        text = re.sub(r'\s+', ' ', re.sub(r'<[^>]+>', ' ', shown.source)).replace('&lt;', '<').replace('&gt;', '>')
        assert shown.source.count('type="range"') == len(given)
        assert PROTOCOL in shown.text and given[0].weights_hash in shown.text
        for r in given:
            assert ' '.join(module._cells(r)) in shown.text
            for metric in DEFAULT_METRICS:
                numbers = (module._number(way.metrics, metric) for way in r.ways.values())
                assert ' '.join([metric, *numbers]) in text
    assert '<title>&lt;b&gt;&amp;&#34;x.png · IARN tiny</title>' in shown.source and '<b>&"x' not in shown.source
    assert shown.source.count('value="network iarn"') == shown.source.count('value="hr network"') == 3
    for words in ('one-way network Net <b> x2 (net & co.pth)', module.JPEG_NOTE):
        assert words in shown.text
    assert shown.text.count('as JPEG of quality 20') == 2 and 'Net <b>' not in shown.source
    assert shown.text.count('against the bicubic LR before JPEG: ') == 4


def test_error_maps_share_one_scale_of_colours(tmp_path: Path, picture: Picture, results: list[Result]) -> None:
    shown = make_page(tmp_path, picture, results)
    errors = {(way.name, r.label): error_map(way.restored, picture.rgb) for r in results for way in r.ways.values()}
    top = int(np.ceil(max(np.percentile(e, 99.5) for (kind, _), e in errors.items() if kind == 'bicubic')))
    assert f'{top} levels of 255 and more' in shown.text
    palette = colour_map()
    assert palette.shape == (256, 3) and palette[[0, 255]].tolist() == [[0, 0, 4], [252, 253, 191]]
    assert re.search(r'linear-gradient\(90deg, #000004, (#\w{6}, )+#fcfdbf\)', shown.source)
    for (kind, label), error in errors.items():
        index = np.clip(np.round(error * 255 / top), 0, 255).astype(int)
        np.testing.assert_array_equal(shown.images[f'error of {kind}, {label}'], palette[index])
        for n, window in enumerate(worst_windows(picture.rgb, [r.ways['bicubic'].restored for r in results])):
            part = shown.images[f'error of {kind}, detail {n + 1}, {label}']
            np.testing.assert_array_equal(part, palette[window.cut(index)])


def test_gray_and_16_bits_and_alpha_are_told(tmp_path: Path, rescaler: Rescaler) -> None:
    rgb = np.repeat(make_image(40, 48, seed=1)[..., :1], 3, 2).astype(np.uint16) * 257
    gray = Picture(rgb, np.zeros((40, 48), np.uint8), 'L', extras=Extras(b'profile'), remarks=('only a <part>',))
    shown = make_page(tmp_path, gray, compare(rescaler, gray, [2]))
    for words in ('The original is gray', '16 bits', 'Transparency', 'colour profile', 'only a <part>'):
        assert words in shown.text
    np.testing.assert_array_equal(shown.images['original, x2'], (rgb // 257).astype(np.uint8))


def test_a_large_picture_is_reduced_but_its_details_are_exact(tmp_path: Path, picture: Picture, results: list[Result],
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
    ways = results[0].ways
    window = worst_windows(picture.rgb, [ways['bicubic'].restored])[0]
    for way in ways.values():
        np.testing.assert_array_equal(shown.images[f'{way.name}, detail 1, x2'], window.cut(way.restored))
    places = [[(y, x) for y in range(33 - 19) for x in range(45 - 15)
               if np.array_equal(shown.images[f'LR by {way.name}, x2'], way.lr[y:y + 20, x:x + 16])]
              for way in ways.values()]
    assert places[0] == places[1]
    (y, x), = places[0]
    assert abs(y - np.clip((window.top + window.side / 2) / 2 - 10, 0, 13)) <= 1
    assert abs(x - np.clip((window.left + window.side / 2) / 2 - 8, 0, 29)) <= 1
    assert 'a part of 16 × 20 pixels around detail 1; the full one has 45 × 33' in shown.text


def test_the_command(tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch,
                     capsys: pytest.CaptureFixture) -> None:
    compact = pytest.importorskip('spandrel.architectures.Compact').Compact
    monkeypatch.chdir(tmp_path)
    torch.save(compact(num_feat=4, num_conv=1, upscale=2).state_dict(), 'net.pth')
    Image.fromarray(picture.rgb).save('a.png')
    assert main(['compare', 'a.png', '--weights', 'none', '--device', 'cpu', '--scale', '2', '--network', 'net.pth',
                 '--jpeg', '75']) == 0
    assert re.findall('^ *(x2.*?)  ', capsys.readouterr().out, re.M) == ['x2', 'x2 jpeg 75']
    assert 'RealESRGAN Compact x2, detail 1, x2 jpeg 75' in Page(tmp_path / 'a_compare.html').images
