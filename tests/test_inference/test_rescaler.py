"""The Python interface: any kind of array or file, what is written is what is restored, and clear refusals."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, Callable

import cv2
import msgspec
import numpy as np
import pytest
import torch
from helpers import make_image, tiny_net
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iarn_basicsr import Rescaler as exported  # noqa: N813
from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import IARNError, OptionError
from iarn_basicsr.inference import SMALLEST_TILE, memory
from iarn_basicsr.inference import pixel_rescaler as module
from iarn_basicsr.inference.extras import Extras
from iarn_basicsr.inference.picture_file import Picture, read_picture, write_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.tiling import HALO
from iarn_basicsr.ops.image import quantise, to_levels, to_tensor
from iarn_basicsr.ops.resample import bicubic_downscale, bicubic_upscale
from iarn_basicsr.zoo.weights import weights_hash

IMAGE = make_image(23, 31, seed=1)[..., ::-1].copy()
TENSOR = torch.from_numpy(IMAGE.copy()).permute(2, 0, 1).float() / 255
ALPHA = make_image(23, 31, seed=5)[..., 0].copy()


@pytest.fixture(scope='module')
def rescaler() -> Rescaler:
    return Rescaler(tiny_net(), 'tiny', device='cpu')


def as_array(tensor: torch.Tensor) -> np.ndarray:
    return (tensor * 255).round().byte().permute(1, 2, 0).numpy()


def bicubic_alpha(alpha: np.ndarray, size: tuple[int, int], resize: Callable[..., torch.Tensor]) -> np.ndarray:
    x = torch.from_numpy(alpha.astype(np.float32))[None, None] / 255
    return (quantise(resize(x, size))[0, 0] * 255).round().byte().numpy()


# ---------------------------------------------------------------------------------------------------- arrays, tensors


def test_numpy_is_the_network(rescaler: Rescaler) -> None:
    with torch.no_grad():
        lr = quantise(rescaler.net.downscale(TENSOR[None], (9, 12)).lr)
        restored = quantise(rescaler.net.upscale(lr, (23, 31)))
    found = rescaler.downscale(IMAGE, scale=2.5)
    assert found.dtype == np.uint8 and np.array_equal(found, as_array(lr[0]))
    assert np.array_equal(rescaler.upscale(found, size=(23, 31)), as_array(restored[0]))
    assert np.abs(found.astype(int) - bicubic_alpha(IMAGE[..., 0], (9, 12), bicubic_downscale)[..., None]).max() > 3


def test_16_bits_are_used_and_8_come_out(rescaler: Rescaler) -> None:
    deep = IMAGE.astype(np.uint16) * 257
    assert np.array_equal(rescaler.downscale(deep, scale=2), rescaler.downscale(IMAGE, scale=2))
    finer = (deep + np.where(deep < 65000, 120, 0)).astype(np.uint16)
    found = rescaler.downscale(finer, scale=2)
    assert found.dtype == np.uint8 and (found != rescaler.downscale(IMAGE, scale=2)).any()
    assert np.array_equal(rescaler.downscale(finer, scale=1), np.round(finer / 257).astype(np.uint8))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_tensors(rescaler: Rescaler, dtype: torch.dtype) -> None:
    """Half precision too: 1.0 times 65535 would be infinite in it."""
    white = TENSOR.clone()
    white[:, :8] = 1
    lr, restored = rescaler.roundtrip(white.to(dtype), scale=2)
    assert lr.shape == (3, 12, 16) and restored.shape == TENSOR.shape
    assert lr.dtype == restored.dtype == dtype
    expected = rescaler.downscale(as_array(white), scale=2)
    assert np.abs(as_array(lr.float()).astype(int) - expected).max() <= (2 if dtype == torch.float16 else 0)
    if dtype == torch.float32:
        assert np.array_equal(as_array(restored), rescaler.upscale(expected, size=(23, 31)))


def test_bfloat16_does_not_lose_what_is_hidden(rescaler: Rescaler) -> None:
    """It holds no 8-bit values: what is made of it is float32, and so restores as the memory does."""
    given = TENSOR.bfloat16()
    lr, restored = rescaler.roundtrip(given, scale=2)
    expected_lr, expected = rescaler.roundtrip(given.float(), scale=2)
    assert lr.dtype == restored.dtype == torch.float32
    assert torch.equal(lr, expected_lr) and torch.equal(restored, expected)
    assert torch.equal(lr, (lr * 255).round() / 255) and not torch.equal(lr, lr.bfloat16().float())


def test_batches_and_gradients(rescaler: Rescaler) -> None:
    batch = torch.stack([TENSOR, TENSOR.flip(-1)]).requires_grad_()
    lr = rescaler.downscale(batch, scale=2)
    assert lr.shape == (2, 3, 12, 16) and not lr.requires_grad
    assert torch.equal(lr[1], rescaler.downscale(TENSOR.flip(-1), scale=2))
    assert rescaler.roundtrip(batch, scale=2).restored.shape == batch.shape


def test_the_input_is_not_touched(rescaler: Rescaler) -> None:
    image = IMAGE.copy()
    image.setflags(write=False)
    for scale in (1, 2):
        rescaler.downscale(image, scale=scale)
    assert not np.shares_memory(rescaler.downscale(IMAGE, scale=1), IMAGE)
    assert not np.shares_memory(rescaler.upscale(IMAGE, size=(23, 31)), IMAGE)
    assert np.array_equal(rescaler.downscale(IMAGE[::-1, ::-1], scale=2), rescaler.downscale(
        np.ascontiguousarray(IMAGE[::-1, ::-1]), scale=2))


# ------------------------------------------------------------------------------------------------------------- files


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_file_restores_as_the_memory_does(rescaler: Rescaler, tmp_path_factory: pytest.TempPathFactory,
                                              data: st.DataObject) -> None:
    """Bit for bit, for any size, mode and scale, as PNG and as WebP, and alpha by bicubic."""
    size = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    mode = data.draw(st.sampled_from(['1', 'L', 'LA', 'P', 'RGB', 'RGBA']))
    scale = data.draw(st.floats(1, 4)), data.draw(st.floats(1, 4))
    folder, ending = tmp_path_factory.getbasetemp(), data.draw(st.sampled_from(['png', 'webp']))
    rgb = make_image(*size, seed=data.draw(st.integers(0, 9)))
    image = Image.fromarray(rgb).convert('L' if mode in ('L', 'LA', '1') else 'RGB')
    if mode in ('LA', 'RGBA'):
        image.putalpha(Image.fromarray(make_image(*size, seed=11)[..., 0]))
    (image if mode in ('LA', 'RGBA') else image.convert(mode)).save(folder / 'source.png')
    source = read_picture(str(folder / 'source.png'))

    lr = rescaler.downscale_file(str(folder / 'source.png'), str(folder / f'lr.{ending}'), scale=scale)
    restored = rescaler.upscale_file(str(folder / f'lr.{ending}'), str(folder / 'restored.png'))
    memory = rescaler.roundtrip(source, scale=scale)
    found = read_picture(str(folder / f'lr.{ending}'))
    assert found.metadata == lr.metadata and lr.metadata.hr_size == size
    assert np.array_equal(found.rgb, memory.lr.rgb) and np.array_equal(restored.rgb, memory.restored.rgb)
    whole = read_picture(str(folder / 'restored.png'))
    assert whole.mode == source.mode == ('L' if mode in ('1', 'L', 'LA') else 'RGB') and whole.metadata is None
    expected = np.repeat(np.round(memory.restored.rgb.mean(2)).astype(np.uint8)[..., None], 3, 2)
    assert np.array_equal(whole.rgb, memory.restored.rgb if whole.mode == 'RGB' else expected)
    assert (whole.alpha is None) == (mode not in ('LA', 'RGBA'))
    if whole.alpha is not None:
        small = bicubic_alpha(source.alpha, lr.size, bicubic_downscale)
        assert np.array_equal(found.alpha, small)
        assert np.array_equal(whole.alpha, bicubic_alpha(small, size, bicubic_upscale))


# ----------------------------------------------------------------------------------------------- a part of the picture


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_region_is_that_of_the_whole(rescaler: Rescaler, data: st.DataObject) -> None:
    """Of any size, scale, place and kind of image, in tiles of its own."""
    size = data.draw(st.integers(1, 100)), data.draw(st.integers(1, 100))
    hr = tuple(round(n * data.draw(st.floats(1, 4))) for n in size)
    top, left = (data.draw(st.integers(0, n - 1)) for n in hr)
    height, width = data.draw(st.integers(1, hr[0] - top)), data.draw(st.integers(1, hr[1] - left))
    lr = make_image(*size, seed=data.draw(st.integers(0, 9)))
    kind = data.draw(st.sampled_from(['8 bits', '16 bits', 'batch', 'picture']))
    image = {'8 bits': lr, '16 bits': lr.astype(np.uint16) * 257, 'batch': to_tensor(np.stack([lr, lr[::-1]])),
             'picture': Picture(lr, lr[..., 0], 'L', Extras(b'icc', b'exif'))}[kind]
    tiled = Rescaler(rescaler.net, 'tiny', device='cpu', tile=data.draw(st.sampled_from([None, 64])))
    whole, part = rescaler.upscale(image, hr), tiled.upscale(image, hr, region=(top, left, height, width))
    cut = slice(top, top + height), slice(left, left + width)
    if kind == 'picture':
        assert (part.mode, part.extras, part.metadata) == ('L', image.extras, None)
        assert np.abs(part.alpha.astype(int) - whole.alpha[cut]).max() <= 1
        whole, part = whole.rgb, part.rgb
    elif kind == 'batch':
        whole, part = (np.moveaxis(to_levels(x), 0, -1) for x in (whole, part))
    assert part.shape[:2] == (height, width) and part.dtype == whole.dtype
    assert np.abs(part.astype(int) - whole[cut]).max() <= 1


def test_a_region_that_is_all_or_fills_the_same_tile_is_equal_to_the_bit(rescaler: Rescaler) -> None:
    lr = rescaler.downscale(IMAGE, scale=2)
    whole = rescaler.upscale(lr, (23, 31))
    assert np.array_equal(rescaler.upscale(lr, (23, 31), region=(0, 0, 23, 31)), whole)
    assert np.array_equal(rescaler.upscale(lr, (23, 31), region=(5, 7, 11, 3)), whole[5:16, 7:10])
    part = rescaler.upscale(IMAGE, (23, 31), region=(5, 7, 11, 31 - 7))  # scale 1
    assert np.array_equal(part, IMAGE[5:16, 7:]) and not np.shares_memory(part, IMAGE)


@pytest.mark.parametrize('payload', [0, 1])
def test_the_network_sees_only_what_a_region_needs(rescaler: Rescaler, monkeypatch: pytest.MonkeyPatch,
                                                   payload: int) -> None:
    seen, work = list[tuple[int, ...]](), IARN.upscale_on
    lr = Rescaler(rescaler.net, 'tiny', device='cpu', payload=payload).downscale(make_image(260, 320, seed=2), scale=2)
    whole = rescaler.upscale(lr, (260, 320))
    monkeypatch.setattr(IARN, 'upscale_on', lambda net, grid, x: seen.append(x.shape[-2:]) or work(net, grid, x))
    part = rescaler.upscale(lr, (260, 320), region=(110, 300, 30, 20))
    assert np.abs(part.astype(int) - whole[110:140, 300:]).max() <= 1
    assert seen == [(15 + 2 * HALO, 10 + 2 * HALO)]


@pytest.mark.parametrize(('region', 'message'), [
    ((0, 20, 23, 12), r'region \(top 0, left 20, height 23, width 12\): expected at least one pixel, and all inside '
     'the picture, whose height is 23 and width 31'),
    ((-1, 0, 5, 5), 'top -1, left 0'), ((0, -1, 5, 5), 'left -1'), ((19, 0, 5, 5), 'top 19'),
    ((3, 3, 0, 5), 'height 0'), ((3, 3, 5, -2), 'width -2'),
    ((1.5, 0, 5, 5), r'region \(1.5, 0, 5, 5\) is not \(top, left, height, width\) in whole pixels'),
    ((0, 0, 5), r'region \(0, 0, 5\) is not'), ('1234', "region '1234' is not"), (5, 'region 5 is not'),
    ((), r'region \(\) is not'), ((0, 0, 5, -10**5000), 'a number too long to be shown is not'),
])
def test_what_is_no_region(rescaler: Rescaler, tmp_path: Path, region: Any, message: str) -> None:
    """Refused before the work, of arrays and files alike, also in a dry run."""
    lr = rescaler.downscale(IMAGE, scale=2)
    with pytest.raises(IARNError, match=message):
        rescaler.upscale(lr, (23, 31), region=region)
    path = tmp_path / 'lr.png'
    write_picture(Picture(lr), str(path))
    with pytest.raises(IARNError, match=f'^{re.escape(str(path))}: .*{message}'):
        rescaler.upscale_file(path, tmp_path / 'x.png', (23, 31), region=region, dry_run=True)


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(('image', 'message'), [
    (IMAGE[..., 0], r'image \(shape \(23, 31\), type uint8\): expected RGB \(H, W, 3\), uint8 or uint16'),
    (IMAGE / 255, r'image \(shape \(23, 31, 3\), type float64\): expected RGB'),
    (None, r'image \(None\): expected RGB'),
    (TENSOR[0], r'tensor of shape \(23, 31\) and type torch.float32: expected float RGB \(3, H, W\) or'),
    ((TENSOR * 255).byte(), r'type torch.uint8: expected float RGB'),
    (TENSOR[None][:0], r'tensor of shape \(0, 3, 23, 31\)'),
    (TENSOR * float('nan'), r'tensor of shape \(3, 23, 31\) holds values that are not finite'),
])
def test_what_is_no_image(rescaler: Rescaler, image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rescaler.downscale(image, scale=2)


def test_sizes_and_scales(rescaler: Rescaler) -> None:
    sizes = [(None, 60), (float('inf'), 60), (float('nan'), 60), (60, 10**5000), (60, 60, 60), 'ab', 60,
             np.array([60.5, 80]), (0, 0), (True, 'x'), (60j, 80)]
    for size in sizes:
        for work in (lambda size=size: rescaler.downscale(IMAGE, size=size),
                     lambda size=size: rescaler.upscale(IMAGE, size=size)):
            with pytest.raises(IARNError, match='size'):
                work()
    for scale in (float('inf'), 10**400, -2, (2, float('nan')), (None, 2), '2x', (1, 2, 3), b'2', {2}, 1e300):
        with pytest.raises(IARNError, match=r'scale|size'):
            rescaler.downscale(IMAGE, scale=scale)  # type: ignore[arg-type]


@pytest.mark.parametrize('tile', [63, 64.5, float('nan'), '64', True])
def test_tiles(tile: Any) -> None:
    """A tile of one pixel would take a thousand times as long."""
    with pytest.raises(OptionError, match=r'tile .*: expected an integer number of HR pixels >= 64'):
        Rescaler(tiny_net(), 'tiny', device='cpu', tile=tile)
    assert Rescaler(tiny_net(), 'tiny', device='cpu', tile=np.int64(64)).downscale(IMAGE, scale=2).shape == (12, 16, 3)


def test_lr_of_other_weights(rescaler: Rescaler) -> None:
    lr = rescaler.downscale(Picture(IMAGE), scale=2)
    lr.metadata = msgspec.structs.replace(lr.metadata, weights='f' * 16, model='other')
    with pytest.raises(ValueError, match=r"weights 'other' \(f{16}\), these are 'tiny' .*, or try with force=True"):
        rescaler.upscale(lr)
    assert rescaler.upscale(lr, force=True).size == (23, 31)
    lr = rescaler.downscale(Picture(IMAGE), scale=2)
    renamed = Rescaler(tiny_net(), 'another name', device='cpu')  # the same weights
    assert np.array_equal(renamed.upscale(lr).rgb, rescaler.upscale(lr).rgb)


def test_lr_without_metadata(rescaler: Rescaler) -> None:
    with pytest.raises(ValueError, match=r'no IARN metadata: .*; give size=\(H, W\)'):
        rescaler.upscale(Picture(IMAGE))


def test_errors_name_the_file(rescaler: Rescaler, tmp_path: Path) -> None:
    path = tmp_path / 'a.png'
    for there, message in ((False, 'no such file'), (True, '(no IARN metadata|LR size)')):
        for call in (lambda: rescaler.upscale(path), lambda: rescaler.upscale_file(path, 'x.png'),
                     lambda: rescaler.downscale(path, scale=9)):
            with pytest.raises(ValueError, match=f'^{re.escape(str(path))}: {message}'):
                call()
        if not there:
            Image.fromarray(IMAGE).save(path)


def test_max_side(rescaler: Rescaler) -> None:
    """The longer side is met exactly, whatever the ratio; a smaller picture keeps its size."""
    for size in ((23, 31), (31, 23), (97, 64), (1000, 999)):
        for side in (max(size) // 3, max(size) - 1, 2000):
            assert max(rescaler.lr_size(size, max_side=side)) == min(side, max(size))
    for arguments, message in (({'max_side': 0}, 'max_side 0: expected an integer >= 1'),
                               ({}, 'give one of scale, size and max_side, not none'),
                               ({'scale': 2, 'size': (9, 12)}, 'give one of .* not scale and size')):
        with pytest.raises(ValueError, match=message):
            rescaler.lr_size((23, 31), **arguments)


def test_remarks_are_logged_and_carried(rescaler: Rescaler, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, IMAGE.astype(np.uint16) * 257)
    lr = rescaler.downscale_file(path, tmp_path / 'lr.png', scale=2)
    remark = 'it has 16 bits a channel; the LR, and what is restored from it, have 8'
    assert lr.remarks == (remark,) and caplog.messages == [f'{path}: {remark}']
    assert (caplog.records[0].path, caplog.records[0].remark) == (path, remark)


def test_progress_ends_at_1_and_never_falls() -> None:
    shares: list[float] = []
    busy = Rescaler(tiny_net(), 'tiny', device='cpu', tile=64, effort=2, progress=shares.append)
    busy.roundtrip(make_image(150, 60, seed=2), scale=2)
    up, down = shares[-3:], shares[:-3]
    assert down == sorted(down) and down[-1] == 1 and len(down) == 3 + 3 * 2
    assert up == pytest.approx([1 / 3, 2 / 3, 1])


# ------------------------------------------------------------------------------------------------------------ memory


def test_tile_is_used(rescaler: Rescaler, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = []
    monkeypatch.setattr(module, 'downscale_tiled', lambda net, rgb, size, tile, *_: tiles.append(tile) or rgb)
    Rescaler(rescaler.net, 'tiny', device='cpu', tile=77).downscale(IMAGE, scale=2)
    rescaler.downscale(IMAGE, scale=2)
    monkeypatch.setattr(module, 'available_memory', lambda: 1e6)
    rescaler.downscale(IMAGE, scale=2)
    assert tiles[0] == 77 and tiles[1] > 500 and tiles[2] == SMALLEST_TILE


def test_out_of_gpu_memory_halves_the_tile(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Down to the smallest one."""
    image, tiles, enough, work = make_image(150, 170, seed=2), list[int](), 64, module.downscale_tiled
    caplog.set_level(logging.INFO, 'iarn_basicsr')

    def full(net: IARN, rgb: np.ndarray, size: tuple[int, int], tile: int, *rest: Any) -> np.ndarray:
        tiles.append(tile)
        if tile > enough:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return work(net, rgb, size, tile, *rest)

    whole = Rescaler(tiny_net(), 'tiny', device='cpu', tile=10**6).downscale(image, scale=2)
    monkeypatch.setattr(module, 'downscale_tiled', full)
    rescaler = Rescaler(tiny_net(), 'tiny', device='cpu', tile=256)
    assert np.abs(rescaler.downscale(image, scale=2).astype(int) - whole).max() <= 1
    assert tiles == [256, 128, 64]
    assert [line.split(':')[0] for line in caplog.messages] == ['out of GPU memory'] * 2
    assert 'tiles of 64 pixels' in caplog.messages[1]
    enough = 63
    with pytest.raises(torch.cuda.OutOfMemoryError):
        rescaler.downscale(image, scale=2)
    assert tiles[3:] == [256, 128, 64]


def files(root: Path, contents: dict[str, str]) -> str:
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


MACHINE = {'proc/meminfo': 'MemTotal: 9 kB\nMemAvailable:   2000 kB\n'}
FREE = 2000 * 1024


def test_available_memory(tmp_path: Path) -> None:
    assert memory.available_memory(files(tmp_path, {'proc/meminfo': 'MemTotal: 9 kB\n'})) == 4e9
    assert memory.available_memory(files(tmp_path, MACHINE)) == FREE
    assert memory.available_memory(str(tmp_path / 'missing')) == 4e9
    assert 0 < memory.available_memory() < float('inf')


def group(path: str, limit: str, usage: str, stat: str = '') -> dict[str, str]:
    folder = f'sys/fs/cgroup{path}'
    return {'proc/self/cgroup': '0::/job/step\n', f'{folder}/memory.stat': stat,
            f'{folder}/memory.max': limit + '\n', f'{folder}/memory.current': usage + '\n'}


@pytest.mark.parametrize(('found', 'free'), [
    (group('/job/step', '900000', '500000', 'anon 7\ninactive_file 100000\n'), 500000),  # cache is given up
    ({**group('/job/step', 'max', '5'), **group('/job', '600000', '550000')}, 50000),
    (group('', '900000', '900100'), 0),  # a container sees its own group at the mount
    (group('/job/step', '9000000000', '5'), FREE),
])
def test_available_memory_of_a_container(tmp_path: Path, found: dict[str, str], free: int) -> None:
    assert memory.available_memory(files(tmp_path, {**MACHINE, **found})) == free


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_gpu_is_chosen_and_agrees_with_cpu(rescaler: Rescaler) -> None:
    fast = Rescaler(tiny_net(), 'tiny')
    assert fast.device.type == 'cuda' and fast.weights_hash == rescaler.weights_hash
    assert np.abs(fast.downscale(IMAGE, scale=2).astype(int) - rescaler.downscale(IMAGE, scale=2)).max() <= 1


# ----------------------------------------------------------------------------------------------------------- weights


def test_load(tmp_path: Path) -> None:
    assert exported is Rescaler
    tiny_net().save(tmp_path / 'mine.pth')
    rescaler = Rescaler.load(tmp_path / 'mine.pth', device='cpu', tile=70)
    assert (rescaler.name, rescaler.tile, str(rescaler.device)) == ('mine', 70, 'cpu')
    assert rescaler.weights_hash == weights_hash(tiny_net().state_dict())
    assert re.fullmatch('[0-9a-f]{16}', rescaler.weights_hash)
