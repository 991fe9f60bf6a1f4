"""The ``iarn`` command end to end: what it makes, what it says, its exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pytest
import torch
from helpers import make_image, tiny_net
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from iarn_basicsr import zoo
from iarn_basicsr.inference import doctor
from iarn_basicsr.inference.cli import commands, main
from iarn_basicsr.inference.cli.arguments import make_parser
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler

ROOT = Path(__file__).resolve().parents[2]
WH = {'a.png': (31, 23), 'b.png': (17, 29)}  # width x height


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'tiny.pth'
    tiny_net().save(path)
    return path


@pytest.fixture
def iarn(weights: Path, capsys: pytest.CaptureFixture) -> Callable[..., Result]:
    """Runs a command line in this process: iarn('upscale', 'x.png', '-o', 'out', tty=True)."""

    def run(command: str, *arguments: object, tty: bool = False) -> Result:
        line = [command, *map(str, arguments)]
        for option, value in (('--weights', weights), ('--device', 'cpu')):
            if command in ('downscale', 'upscale', 'compare') and option not in line:
                line += [option, str(value)]
        with pytest.MonkeyPatch.context() as patch:
            if tty:
                patch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
            try:
                code = main(line)
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with pictures in ``in`` and ``in/sub``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'in' / 'sub').mkdir(parents=True)
    for k, (name, (width, height)) in enumerate(WH.items()):
        Image.fromarray(make_image(height, width, seed=k)).save(tmp_path / 'in' / ('sub' if k else '.') / name)
    return tmp_path


def names(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob('*') if p.is_file())


def pixels(path: Path) -> np.ndarray:
    return read_picture(str(path)).rgb


def edit_recipe(path: Path, **changes: Any) -> None:
    """Change metadata of an LR file, pixels as they are."""
    with Image.open(path) as file:
        file.load()
        info = PngImagePlugin.PngInfo()
        info.add_text('iarn', json.dumps({**json.loads(file.text['iarn']), **changes}))
        file.save(path, pnginfo=info)


# -------------------------------------------------------------------------------------------------- down and up again


def test_folder_down_and_up(iarn: Callable[..., Result], folder: Path, weights: Path) -> None:
    """Sub-folders are kept, the LR needs nothing else, the round trip is the in-memory one to the bit, in silence."""
    assert iarn('downscale', 'in', '-o', 'lr', '--scale', '1.5x2') == (0, '', '')
    assert iarn('upscale', 'lr', '-o', 'whole') == (0, '', '')
    assert names(folder / 'lr') == names(folder / 'whole') == ['a.png', 'sub/b.png']
    rescaler = Rescaler.load(weights, device='cpu')
    for name in ('a.png', 'sub/b.png'):
        memory = rescaler.roundtrip(pixels(folder / 'in' / name), scale=(1.5, 2))
        assert np.array_equal(pixels(folder / 'lr' / name), memory.lr)
        assert np.array_equal(pixels(folder / 'whole' / name), memory.restored)


def test_upscale_finds_the_released_weights_that_made_each_file(folder: Path) -> None:
    """One folder, files of two models, no --weights."""
    released = list(zoo.entries())[:2]
    source = str(folder / 'in' / 'a.png')
    for name in released:
        assert main(['downscale', source, '-o', f'lr/{name}.png', '--scale', '2', '--weights', name]) == 0
    assert main(['upscale', 'lr', '-o', 'whole']) == 0
    for name in released:
        memory = Rescaler.load(name).roundtrip(pixels(Path(source)), scale=2)
        assert np.array_equal(pixels(folder / 'whole' / f'{name}.png'), memory.restored), name
    assert not np.array_equal(*(pixels(folder / 'whole' / f'{name}.png') for name in released))
    assert main(['upscale', f'lr/{released[0]}.png', '-o', 'other.png', '--weights', released[1]]) == 1  # as asked


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_picture(weights: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    place = tmp_path_factory.getbasetemp() / 'any'
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    mode = data.draw(st.sampled_from(['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16']))
    image = Image.fromarray(make_image(height, width, seed=1))
    image = Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 200) if mode == 'I;16' else image.convert(
        'L' if mode == 'LA' else mode).convert(mode)
    source = place / ('x.jpg' if mode == 'CMYK' else 'x.png')
    image.save(source)
    scale = f'{data.draw(st.floats(1, 4)):g}x{data.draw(st.floats(1, 4)):g}'
    ending, own = data.draw(st.sampled_from(['png', 'webp'])), ['--weights', str(weights), '--device', 'cpu']
    assert main(['downscale', str(source), '-o', str(place / 'lr'), '--scale', scale, '--format', ending, *own]) == 0
    assert main(['upscale', str(place / 'lr'), '-o', str(place / 'up'), *own]) == 0
    restored, original = read_picture(str(place / 'up' / 'x.png')), read_picture(str(source))
    assert restored.size == (height, width) and restored.mode == original.mode
    assert (restored.alpha is None) == (original.alpha is None)


@pytest.mark.parametrize(('option', 'value', 'size'), [
    ('--scale', '2', (16, 12)), ('--scale', '1', (31, 23)), ('--scale', '1.5x3', (10, 15)),
    ('--size', '20x12', (20, 12)), ('--max-side', '20', (20, 15)), ('--max-side', '500', (31, 23)),
    ('--max-side', '8', (8, 6)),
])
def test_sizes(iarn: Callable[..., Result], folder: Path, option: str, value: str, size: tuple[int, int]) -> None:
    assert iarn('downscale', 'in/a.png', '-o', 'lr.webp', option, value).code == 0
    with Image.open('lr.webp') as file:
        assert file.size == size
    assert iarn('upscale', 'lr.webp', '-o', 'whole.jpg').code == 0
    with Image.open('whole.jpg') as file:
        assert file.size == WH['a.png'] and file.format == 'JPEG'


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20000), st.integers(1, 20000), st.integers(1, 20000))
def test_max_side_is_met(height: int, width: int, side: int) -> None:
    args = make_parser().parse_args(['downscale', 'x', '-o', 'y', '--max-side', str(side)])
    assert max(commands._lr_size(args, (height, width), 1e9)) == min(side, max(height, width))


def test_exif_orientation_and_icc_survive(iarn: Callable[..., Result], folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010f] = 6, 'Maker'
    Image.open('in/a.png').save('turned.jpg', exif=exif.tobytes(), icc_profile=b'\0' * 16 + b'RGB ' + b'\0' * 200)
    for lr, whole in (('lr.png', 'whole.jpg'), ('lr.webp', 'whole.png')):
        assert iarn('downscale', 'turned.jpg', '-o', lr, '--scale', '2').code == 0
        assert iarn('upscale', lr, '-o', whole).code == 0
        for name, size in ((lr, (12, 16)), (whole, (23, 31))):
            with Image.open(name) as file:
                assert file.size == size and file.getexif().get(0x0112, 1) == 1
                assert file.getexif()[0x010f] == 'Maker' and len(file.info['icc_profile']) == 220


def test_unicode_spaces_and_bytes(iarn: Callable[..., Result], folder: Path) -> None:
    odd = [Path('in/ü b/ö 日本 .png'), Path(os.fsdecode(b'in/\xff.png'))]
    odd[0].parent.mkdir()
    for path in odd:
        shutil.copy('in/a.png', path)
    assert iarn('downscale', *odd, '-o', 'l r', '--scale', '2') == (0, '', '')
    assert iarn('upscale', 'l r', '-o', 'w ö').code == 0
    assert len(names(folder / 'w ö')) == 2
    assert 'ö 日本 .png' in iarn('downscale', *odd, '-o', 'x', '--scale', '2', '--dry-run').out


# ------------------------------------------------------------------------------------------------------- bad files


def test_bad_files_never_stop_the_rest(iarn: Callable[..., Result], folder: Path) -> None:
    whole = Path('in/a.png').read_bytes()
    for name, content in {'a_text.png': b'hello', 'a_empty.jpg': b'', 'c_half.png': whole[:len(whole) // 2]}.items():
        Path('in', name).write_bytes(content)
    Path('in/notes.txt').write_text('passed over')
    Path('in/.hidden.png').write_text('passed over')
    os.symlink('nowhere', 'in/link.png')
    Path('in/dir.png').mkdir()
    shutil.copy('in/a.png', 'in/dir.png/inner.png')
    code, out, err = iarn('downscale', 'in', '-o', 'lr', '--scale', '2')
    assert code == 1 and not out
    assert names(folder / 'lr') == ['a.png', 'dir.png/inner.png', 'sub/b.png']
    assert [line.split(' (')[0] for line in err.splitlines()] == [
        'iarn downscale: in/a_empty.jpg: not an image, or of a kind that cannot be read',
        'iarn downscale: in/a_text.png: not an image, or of a kind that cannot be read',
        'iarn downscale: in/c_half.png: damaged', 'iarn downscale: in/link.png: no such file']


@pytest.mark.parametrize(('error', 'text'), [
    (RuntimeError('DefaultCPUAllocator:\n not enough'), 'DefaultCPUAllocator: not enough'),
    (MemoryError(), 'not enough memory'), (OSError(5, 'Input/output error'), '[Errno 5] Input/output error'),
])
def test_neither_do_errors_of_other_kinds(iarn: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch,
                                          error: Exception, text: str) -> None:
    work = Rescaler.downscale

    def fail(self: Rescaler, picture: Any, *args: Any, **options: Any) -> Any:
        if picture.size == (23, 31):
            raise error
        return work(self, picture, *args, **options)

    monkeypatch.setattr(Rescaler, 'downscale', fail)
    assert iarn('downscale', 'in', '-o', 'lr', '--scale', '2') == (1, '', f'iarn downscale: in/a.png: {text}\n')
    assert names(folder / 'lr') == ['sub/b.png']


def test_same_stem(iarn: Callable[..., Result], folder: Path) -> None:
    shutil.copy('in/a.png', 'in/a.bmp')
    code, _, err = iarn('downscale', 'in', '-o', 'lr', '--scale', '2')
    assert code == 1 and err == 'iarn downscale: in/a.png: another input becomes lr/a.png too: rename one\n'
    assert names(folder / 'lr') == ['a.png', 'sub/b.png']


def test_remarks_name_the_first_and_count_the_rest(iarn: Callable[..., Result], folder: Path) -> None:
    for k in range(3):
        Image.fromarray(np.full((4, 5), 300 + k, np.uint16)).save(f'in/deep{k}.png')
    frames = [Image.new('RGB', (4, 5), (k, 0, 0)) for k in (9, 90)]
    frames[0].save('in/film.gif', save_all=True, append_images=frames[1:])
    code, _, err = iarn('downscale', 'in', '-o', 'lr', '--scale', '2')
    assert code == 0 and err.splitlines() == [
        'iarn downscale: in/deep0.png and 2 more: it has 16 bits a channel; the LR, and what is restored from it, have '
        '8',
        'iarn downscale: in/film.gif: only its first frame or page is used']


def test_sizes_out_of_range(iarn: Callable[..., Result], folder: Path) -> None:
    for option, value, lr in (('--size', '40x20', '40x20'), ('--size', '5x5', '5x5'), ('--scale', '9', '3x3'),
                              ('--scale', '1x5.5', '6x23'), ('--max-side', '4', '4x3')):
        code, _, err = iarn('downscale', 'in/a.png', '-o', 'lr', option, value)
        asked = f'{option} {value}' + ('' if value == lr else f': {lr}')
        text = f'{asked} is out of range: 31x23 can become 7x5 to 31x23'
        assert (code, err) == (1, f'iarn downscale: in/a.png: {text}\n')
    assert iarn('compare', 'in/a.png', '--scale', '2', '--scale', '9') == (
        2, '', 'iarn compare: in/a.png: --scale 9: 3x3 is out of range: 31x23 can become 7x5 to 31x23\n')
    iarn('downscale', 'in/a.png', '-o', 'lr.png', '--scale', '2')
    assert iarn('upscale', 'lr.png', '-o', 'x.png', '--size', '200x20') == (
        1, '', 'iarn upscale: lr.png: --size 200x20 is out of range: 16x12 can become 16x12 to 67x51\n')
    assert not Path('x.png').exists() and not Path('lr').exists()


# ---------------------------------------------------------------------------------------------------- LR that changed


@pytest.mark.parametrize(('changes', 'message'), [
    ({'weights': 'f' * 16, 'model': 'other'}, "it was made with the weights 'other' (ffffffffffffffff), these are 'ti"),
    ({'lr_size': [5, 5]}, 'it is 16x12 but was made 5x5 (width x height): it was resized, turned or cropped since'),
    ({'pixels': '0'}, 'it was edited or recompressed since it was made'),
])
def test_lr_that_does_not_fit(iarn: Callable[..., Result], folder: Path, changes: dict, message: str) -> None:
    iarn('downscale', 'in/a.png', '-o', 'lr.png', '--scale', '2')
    edit_recipe(folder / 'lr.png', **changes)
    for more in ([], ['--dry-run']):
        code, _, err = iarn('upscale', 'lr.png', '-o', 'x.png', *more)
        assert code == 1 and err.startswith(f'iarn upscale: lr.png: {message}') and err.count('\n') == 1
        assert not Path('x.png').exists()
    code, out, err = iarn('upscale', 'lr.png', '-o', 'x.png', '--force')
    assert code == 0 and not out and message in err and err.endswith(': not restored as it was\n')


@pytest.mark.parametrize(('changes', 'message'), [
    ({'format': 99}, 'it was made by a newer iarn_basicsr (metadata format 99, this one reads 3): upgrade'),
    ({'mode': 'XYZ'}, "its IARN metadata are damaged (ValueError: mode 'XYZ')"),
])
def test_metadata_that_cannot_be_used(iarn: Callable[..., Result], folder: Path, changes: dict, message: str) -> None:
    iarn('downscale', 'in/a.png', '-o', 'lr.png', '--scale', '2')
    edit_recipe(folder / 'lr.png', **changes)
    for more in ([], ['--force'], ['--size', '31x23']):
        assert iarn('upscale', 'lr.png', '-o', 'x.png', *more) == (
            1, '', f'iarn upscale: lr.png: {message}; to enlarge rather than restore it, pass --size WxH and --force\n')
    assert message in iarn('info', 'lr.png').out
    assert iarn('upscale', 'lr.png', '-o', 'x.png', '--force', '--size', '31x23') == (
        0, '', 'iarn upscale: lr.png: enlarged, not restored\n')
    assert iarn('downscale', 'lr.png', '-o', 'y.png', '--scale', '2').code == 0


def test_lr_that_is_made_smaller_again(iarn: Callable[..., Result], folder: Path) -> None:
    iarn('downscale', 'in/a.png', '-o', 'lr.png', '--scale', '2')
    assert iarn('downscale', 'lr.png', '-o', 'lr2.png', '--scale', '2') == (
        0, '', 'iarn downscale: lr.png: it is an LR image already: restoring both steps loses more than restoring one; '
        'downscale its original instead\n')


def test_foreign_lr(iarn: Callable[..., Result], folder: Path) -> None:
    for more in ([], ['--dry-run']):
        code, _, err = iarn('upscale', 'in/a.png', '-o', 'x.png', *more)
        assert code == 1 and err == ('iarn upscale: in/a.png: its metadata hold no metadata of IARN: it was made '
                                     'otherwise, or they were removed: name the size to make (--size WxH)\n')
    assert iarn('upscale', 'in/a.png', '-o', 'x.png', '--size', '40x50') == (
        0, '', 'iarn upscale: in/a.png: its metadata hold no metadata of IARN: restored if it was made with the '
        'weights tiny from a picture of that size, else enlarged\n')
    with Image.open('x.png') as file:
        assert file.size == (40, 50)


# ----------------------------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize(('arguments', 'reason'), [
    (['-o', 'lr.jpg'], "does not survive a JPEG: write .png or .webp, or use the weights 'iarn_jpeg_x1-4'; "),
    (['-o', 'lr', '--format', 'jpg'], 'does not survive a JPEG'),
    (['-o', 'lr.tif'], 'only PNG, WebP and JPEG carry the metadata'),
])
def test_lossy_lr_is_refused(iarn: Callable[..., Result], folder: Path, arguments: list[str], reason: str) -> None:
    arguments += ['--weights', 'iarn_light_x1-4']
    code, _, err = iarn('downscale', 'in/a.png', '--scale', '2', *arguments)
    assert code == 2 and reason in err and err.endswith('or pass --allow-lossy\n')
    assert iarn('downscale', 'in/a.png', '--scale', '2', '--allow-lossy', *arguments).code == 0
    assert names(folder)[-1].startswith('lr')


def test_alpha_does_not_go_into_a_jpeg(iarn: Callable[..., Result], folder: Path) -> None:
    Image.new('RGBA', (9, 8), (1, 2, 3, 100)).save('clear.png')
    iarn('downscale', 'clear.png', '-o', 'lr.png', '--scale', '2')
    code, _, err = iarn('upscale', 'lr.png', '-o', 'x.jpg')
    assert code == 1 and err == ('iarn upscale: lr.png: x.jpg: .jpg cannot hold its transparency, choose one of .png, '
                                 '.webp, .tif, .tiff\n')


def test_metadata_that_the_output_cannot_hold(iarn: Callable[..., Result], folder: Path) -> None:
    """One line, however many files."""
    exif = Image.Exif()
    exif[0x010f] = 'Maker'
    for k in range(2):
        Image.open('in/a.png').save(f'in/e{k}.jpg', exif=exif.tobytes())
    assert iarn('downscale', 'in', '-o', 'lr', '--scale', '2') == (0, '', '')
    assert iarn('upscale', 'lr', '-o', 'whole', '--format', 'bmp') == (
        0, '', 'iarn upscale: lr/e0.png and 1 more: its EXIF cannot go into a .bmp file: left out\n')


def test_existing_files_are_kept(iarn: Callable[..., Result], folder: Path) -> None:
    iarn('downscale', 'in', '-o', 'lr', '--scale', '2')
    before = Path('lr/a.png').read_bytes()
    code, _, err = iarn('downscale', 'in', '-o', 'lr', '--scale', '3')
    assert code == 0 and Path('lr/a.png').read_bytes() == before
    assert err == 'iarn downscale: in/a.png and 1 more: skipped, the output exists (--overwrite replaces it)\n'
    assert iarn('downscale', 'in', '-o', 'lr', '--scale', '3', '--overwrite') == (0, '', '')
    assert Path('lr/a.png').read_bytes() != before


@pytest.mark.parametrize('overwrite', [[], ['--overwrite']])
def test_inputs_are_never_replaced(iarn: Callable[..., Result], folder: Path, overwrite: list[str]) -> None:
    before = Path('in/a.png').read_bytes()
    os.link('in/a.png', 'hard.png')
    for out in ('in/a.png', 'in', 'in/../in', 'hard.png'):
        code, _, err = iarn('downscale', 'in/a.png', '-o', out, '--scale', '2', *overwrite)
        assert code == 1 and 'the output would replace the input' in err and 'choose another -o' in err
    shutil.copy('in/a.png', 'in/a.bmp')  # its output would replace a.png, before that is read
    code, _, err = iarn('downscale', 'in/a.bmp', 'in/a.png', '-o', 'in', '--scale', '2', *overwrite)
    assert code == 1 and 'in/a.bmp: the output would replace the input in/a.png' in err
    assert Path('in/a.png').read_bytes() == before


def test_output_within_the_input_is_not_taken_again(iarn: Callable[..., Result], folder: Path) -> None:
    for _ in range(2):
        assert iarn('downscale', 'in', '-o', 'in/small', '--scale', '2', '--overwrite').code == 0
    assert names(folder / 'in' / 'small') == ['a.png', 'sub/b.png']


def test_output_that_cannot_be_written(iarn: Callable[..., Result], folder: Path) -> None:
    Path('file').write_text('in the way')
    Path('lr/a.png').mkdir(parents=True)
    code, _, err = iarn('downscale', 'in', '-o', 'lr', '--scale', '2')
    assert code == 1 and err == 'iarn downscale: in/a.png: lr/a.png is a folder: choose another -o\n'
    code, _, err = iarn('downscale', 'in/a.png', '-o', 'file/x/lr.png', '--scale', '2')
    assert code == 1
    assert err == 'iarn downscale: in/a.png: file/x/lr.png: cannot be written (file is no folder)\n'
    code, _, err = iarn('downscale', 'in/a.png', '-o', 'in/a.png/x.png', '--scale', '2')
    assert code == 1
    assert err == 'iarn downscale: in/a.png: in/a.png/x.png: cannot be written (in/a.png is no folder)\n'
    assert names(folder / 'lr') == ['sub/b.png']


def test_dry_run_makes_nothing(iarn: Callable[..., Result], folder: Path) -> None:
    Path('in/text.png').write_text('hello')
    code, out, err = iarn('downscale', 'in', '-o', 'lr', '--scale', '2', '--dry-run')
    assert code == 1 and 'in/text.png: not an image' in err and not Path('lr').exists()
    assert out.splitlines() == ['in/a.png -> lr/a.png: 31x23 -> 16x12', 'in/sub/b.png -> lr/sub/b.png: 17x29 -> 9x15']
    iarn('downscale', 'in/a.png', '-o', 'lr.png', '--scale', '2')
    assert iarn('upscale', 'lr.png', '-o', 'x.png', '--dry-run') == (0, 'lr.png -> x.png: 16x12 -> 31x23\n', '')
    assert not Path('x.png').exists()


def test_on_a_terminal_it_talks(iarn: Callable[..., Result], folder: Path) -> None:
    err = iarn('downscale', 'in', '-o', 'lr', '--scale', '2', tty=True).err
    assert 'in/a.png -> lr/a.png: 31x23 -> 16x12' in err and '2 done, 0 skipped, 0 failed' in err and '100%' in err
    err = iarn('downscale', 'in/a.png', '-o', 'lr2.png', '--scale', '2', tty=True).err
    assert err == 'in/a.png -> lr2.png: 31x23 -> 16x12\n'


def test_interruption_leaves_whole_files(iarn: Callable[..., Result], folder: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save

    def interrupt(self: Image.Image, file: BinaryIO, kind: str, **options: Any) -> None:
        if self.size == (9, 15):
            file.write(b'half')
            raise KeyboardInterrupt
        save(self, file, kind, **options)

    monkeypatch.setattr(Image.Image, 'save', interrupt)
    code, _, err = iarn('downscale', 'in', '-o', 'lr', '--scale', '2')
    assert code == 130 and err == 'iarn downscale: interrupted; every file that was written is complete\n'
    assert names(folder / 'lr') == ['a.png'] and pixels(folder / 'lr' / 'a.png').shape == (12, 16, 3)


def test_out_of_gpu_memory_is_said(iarn: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from iarn_basicsr.inference import rescaler
    work, calls = rescaler.downscale_tiled, []

    def full(*args: Any) -> Any:
        calls.append(args[3])
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError
        return work(*args)

    monkeypatch.setattr(rescaler, 'downscale_tiled', full)
    assert iarn('downscale', 'in/a.png', '-o', 'lr.png', '--scale', '2', '--tile', '200') == (
        0, '', 'iarn downscale: out of GPU memory: going on with 1 tiles of 100 pixels\n')
    assert calls == [200, 100]


# ------------------------------------------------------------------------------------------------- wrong command lines


@pytest.mark.parametrize(('arguments', 'message'), [
    (['in/a.png', 'nix.png', '-o', 'lr', '--scale', '2'], 'nix.png: no such file or folder (current directory /'),
    (['in', '-o', 'x.png', '--scale', '2'], '-o x.png: several inputs need a folder to write to'),
    (['in/a.png', 'in/a.png', '-o', 'x.png', '--scale', '2'], '-o x.png: several inputs need a folder to write to'),
    (['void', '-o', 'lr', '--scale', '2'], 'void: no image in this folder (looked for .png, .jpg'),
    (['in', '-o', 'lr', '--scale', '2', '--format', 'gif'], '--format gif: choose one of png, jpg, jpeg, webp'),
    (['in/a.png', '-o', 'x.jxl', '--scale', '2'], '-o x.jxl: .jxl cannot be written, choose one of .png'),
    (['in/a.png', '-o', 'x.gif', '--scale', '2'], '-o x.gif: .gif cannot be written, choose one of .png'),
    (['in/a.png', '-o', '-', '--scale', '2'], '-o -: nothing is written to standard output, name a file or folder'),
    (['in/a.png', '-o', 'notes.txt', '--scale', '2'], '-o notes.txt: exists and is neither a folder nor an image'),
    (['in', '-o', 'lr', '--scale', '2', '--weights', 'nope'], "weights 'nope': no such file, and no released weig"),
    (['in', '-o', 'lr', '--scale', '2', '--weights', 'notes.txt'], 'notes.txt is not a PyTorch weight file'),
    (['in', '-o', 'lr', '--scale', '2', '--device', 'warp'], "device 'warp' cannot be used ("),
    (['in', '-o', 'lr', '--scale', '0.5'], "argument --scale: scale '0.5' is not a valid scale: write a number >= 1"),
    (['in', '-o', 'lr', '--scale', 'two'], "argument --scale: scale 'two' is not understood"),
    (['in', '-o', 'lr', '--size', '30'], "argument --size: '30': write WIDTHxHEIGHT, for example 1920x1080"),
    (['in', '-o', 'lr', '--size', '0x9'], "argument --size: '0x9': a side has at least one pixel"),
    (['in', '-o', 'lr', '--max-side', '0'], "argument --max-side: '0': expected a whole number of at least 1"),
    (['in', '-o', 'lr', '--tile', '-3', '--scale', '2'], "argument --tile: '-3': expected a whole number"),
    (['in', '-o', 'lr'], 'one of the arguments --scale --size --max-side is required'),
    (['in', '-o', 'lr', '--scale', '2', '--size', '9x9'], 'argument --size: not allowed with argument --scale'),
    (['in', '--scale', '2'], 'the following arguments are required: -o/--output'),
])
def test_wrong_command_lines(iarn: Callable[..., Result], folder: Path, arguments: list[str], message: str) -> None:
    """Exit code 2, one line that names the value and says what is right, and nothing is written."""
    (folder / 'void').mkdir()
    (folder / 'notes.txt').write_text('hello')
    before = names(folder)
    code, out, err = iarn('downscale', *arguments)
    assert code == 2 and not out
    assert err.splitlines()[-1].startswith('iarn downscale: ') and message in err.splitlines()[-1]
    assert err.startswith('usage: ') or err.count('\n') == 1
    assert names(folder) == before


def test_folder_names_that_look_like_endings(iarn: Callable[..., Result], folder: Path) -> None:
    """``x2.5`` is a folder, and so is a folder named like a file."""
    (folder / 'odd.png').mkdir()
    for out in ('lr_x2.5', 'odd.png', 'new.png/'):
        assert iarn('downscale', 'in/a.png', '-o', out, '--scale', '2.5', '--format', '.PNG').code == 0
        assert Path(out, 'a.png').is_file()


# ------------------------------------------------------------------------------------------------- the other commands


def test_info(iarn: Callable[..., Result], folder: Path) -> None:
    iarn('downscale', 'in/a.png', '-o', 'lr.png', '--scale', '2x3')
    shutil.copy('lr.png', 'edited.png')
    edit_recipe(folder / 'edited.png', pixels='0')
    shutil.copy('lr.png', 'resized.png')
    edit_recipe(folder / 'resized.png', lr_size=[7, 9])
    Image.new('LA', (3, 2)).save('gray.png')
    code, out, err = iarn('info', 'lr.png', 'nix.png', 'edited.png', 'resized.png', 'gray.png')
    assert code == 1 and err == 'iarn info: nix.png: no such file\n'
    assert (f'lr.png: 10x12, RGB, 8 bits, {Path("lr.png").stat().st_size} bytes\n'
            '  LR image of 31x23, x1.917x3.1, original mode RGB\n  made with weights tiny (') in out
    assert '  it was edited or recompressed since it was made, and what it hid is damaged\n' in out
    assert '  was 9x7 when made: resized or cropped since, what it hid is lost\n' in out
    assert out.endswith(f'gray.png: 3x2, L with alpha, 8 bits, {Path("gray.png").stat().st_size} bytes\n'
                        '  no metadata of IARN in its metadata: made otherwise, or they were removed; '
                        'iarn upscale needs --size, and mostly enlarges rather than restores\n')


def test_compare(iarn: Callable[..., Result], folder: Path) -> None:
    code, out, err = iarn('compare', 'in/a.png', '--scale', '2')
    assert code == 0 and not err and out.endswith('page: a_compare.html\n')
    assert Path('a_compare.html').stat().st_size > 1000
    assert iarn('compare', 'in/a.png') == (
        2, '', 'iarn compare: a_compare.html exists: pass --overwrite to replace it\n')
    code, _, err = iarn('compare', 'in/a.png', '-o', 'in/a.png', '--overwrite')
    assert code == 2 and 'choose a name that ends in .html' in err
    assert iarn('compare', 'in') == (1, '', 'iarn compare: in: is a folder, name an image file\n')
    Path('in/x.html').mkdir()
    code, _, err = iarn('compare', 'in/a.png', '-o', 'in/x.html', '--overwrite')
    assert (code, err) == (2, 'iarn compare: in/x.html is a folder: choose another name\n')
    assert iarn('compare', 'nix.png') == (1, '', 'iarn compare: nix.png: no such file\n')
    code, _, err = iarn('compare', 'in/a.png', '--scale', '2', '-o', 'a_compare.html/x.html')
    assert code == 1 and err.startswith('iarn compare: a_compare.html/x.html: cannot be written (')


def test_doctor(iarn: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = iarn('doctor')
    lines = {line[6:].split(':')[0]: line[:4] for line in out.splitlines()}
    assert {'python', 'torch', 'basicsr', 'LMDB', 'distributed', 'write here', 'CUDA', 'registration'} <= set(lines)
    assert code == int('FAIL' in lines.values())
    assert {v for k, v in lines.items() if k != 'python'} == {'ok  '}

    def broken() -> str:
        raise PermissionError('not\nhere')

    monkeypatch.setattr(doctor, '_write', broken)
    monkeypatch.setattr(doctor, 'PACKAGES', ('torch', 'no-such-package', 'safetensors'))
    code, out, _ = iarn('doctor')
    assert code == 1 and 'FAIL  write here: PermissionError: not here\n' in out
    assert 'FAIL  no-such-package: not installed\n' in out


@pytest.mark.parametrize('command', ['downscale', 'upscale', 'compare', 'info', 'doctor', 'verify', 'export'])
def test_help(iarn: Callable[..., Result], command: str) -> None:
    code, out, _ = iarn(command, '--help')
    assert code == 0 and out.startswith(f'usage: iarn {command}')
    assert ('examples:' in out) == (command in ('downscale', 'upscale', 'compare', 'info', 'export'))


def test_no_command(capsys: pytest.CaptureFixture) -> None:
    for arguments in ([], ['nonsense']):
        with pytest.raises(SystemExit, match='2'):
            main(arguments)
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- processes


def start(folder: Path, *arguments: object) -> subprocess.Popen:
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', 'iarn_basicsr.inference.cli', *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # shells ignore it below &


@pytest.mark.slow
def test_processes(folder: Path, weights: Path) -> None:
    """As a user types it: Ctrl-C in the middle of a folder leaves whole files, which can be restored; quiet when piped;
    the reader of a pipe may leave."""
    for k in range(40):
        Image.fromarray(make_image(400, 500, seed=1)).save(f'in/many{k:02d}.png')
    own = ['--weights', weights, '--device', 'cpu']
    down = start(folder, 'downscale', 'in', '-o', 'lr', '--scale', '2', *own)
    end = time.monotonic() + 120
    while not list(folder.glob('lr/many*.png')) and time.monotonic() < end:
        time.sleep(0.02)
    down.send_signal(signal.SIGINT)
    message = 'iarn downscale: interrupted; every file that was written is complete\n'
    assert down.communicate(timeout=120) == ('', message)
    assert down.returncode == 130
    made = names(folder / 'lr')
    assert 2 <= len(made) < 40 and not [name for name in made if 'writing' in name]

    up, info = start(folder, 'upscale', 'lr', '-o', 'whole', *own), start(folder, 'info', *['lr/a.png'] * 3)
    info.stdout.close()
    assert info.stderr.read() == '' and info.wait(timeout=120) == 1
    assert up.communicate(timeout=120) == ('', '') and up.returncode == 0
    assert names(folder / 'whole') == made
    memory = Rescaler.load(weights, device='cpu').roundtrip(pixels(folder / 'in' / 'a.png'), scale=2)
    assert np.array_equal(pixels(folder / 'whole' / 'a.png'), memory.restored)
