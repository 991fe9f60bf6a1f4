"""The ``iarn`` command end to end: what it makes, what it says, its exit codes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_image
from hostile.inference_tools import iarn, weights
from PIL import Image, PngImagePlugin

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import one_line
from iarn_basicsr.inference import doctor
from iarn_basicsr.inference.cli import main
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler

ROOT = Path(__file__).resolve().parents[2]
WH = {'a.png': (31, 23), 'b.png': (17, 29)}  # width x height
ESCAPE, HARMLESS = '\x1b]0;owned\x07\x1b[2J', r'\x1b]0;owned\x07\x1b[2J'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with pictures in ``in`` and ``in/sub``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'in' / 'sub').mkdir(parents=True)
    for k, (name, (width, height)) in enumerate(WH.items()):
        Image.fromarray(make_image(height, width, seed=k)).save(tmp_path / 'in' / ('sub' if k else '.') / name)
    return tmp_path


@pytest.fixture
def lr(folder: Path) -> Path:
    """The same with the LR ``lr.png`` of ``in/a.png``."""
    assert iarn('downscale', 'in/a.png', '-o', 'lr.png', '--scale', 2) == (0, '', '')
    return folder


def names(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob('*') if p.is_file())


def pixels(path: Path | str) -> np.ndarray:
    return read_picture(str(path)).rgb


def edit_metadata(path: Path, **changes: Any) -> None:
    """Change the metadata of an LR file, pixels as they are."""
    with Image.open(path) as file:
        file.load()
        info = PngImagePlugin.PngInfo()
        info.add_text('iarn', json.dumps({**json.loads(file.text['iarn']), **changes}))
        file.save(path, pnginfo=info)


# -------------------------------------------------------------------------------------------------- down and up again


def test_folder_down_and_up(folder: Path) -> None:
    """Sub-folders are kept, the LR needs nothing else, the round trip is the in-memory one to the bit, in silence."""
    assert iarn('downscale', 'in', '-o', 'lr', '--scale', '1.5x2') == (0, '', '')
    assert iarn('upscale', 'lr', '-o', 'whole') == (0, '', '')
    assert names(folder / 'lr') == names(folder / 'whole') == ['a.png', 'sub/b.png']
    rescaler = Rescaler.load(weights(), device='cpu')
    for name in ('a.png', 'sub/b.png'):
        memory = rescaler.roundtrip(pixels(folder / 'in' / name), scale=(1.5, 2))
        assert np.array_equal(pixels(folder / 'lr' / name), memory.lr)
        assert np.array_equal(pixels(folder / 'whole' / name), memory.restored)


def test_upscale_finds_the_released_weights_that_made_each_file(folder: Path) -> None:
    """One folder, files of two models, no --weights."""
    released = ['iarn_light_x1-4', 'iarn_jpeg_x1-4']
    for name in released:
        assert main(['downscale', 'in/a.png', '-o', f'lr/{name}.png', '--scale', '2', '--weights', name]) == 0
    assert main(['upscale', 'lr', '-o', 'whole']) == 0
    for name in released:
        memory = Rescaler.load(name).roundtrip(pixels('in/a.png'), scale=2)
        assert np.array_equal(pixels(f'whole/{name}.png'), memory.restored), name
    assert main(['upscale', f'lr/{released[0]}.png', '-o', 'other.png', '--weights', released[1]]) == 1  # as asked


def test_few_frames_from_main_to_the_network(lr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a picture is short: at most eight functions of this package, the network's among them."""
    frames: dict[str, list[str]] = {}

    def fake(name: str) -> Any:
        work = getattr(IARN, name)

        def record(self: IARN, *arguments: Any) -> Any:
            frames[name] = [frame.name for frame in traceback.extract_stack()
                            if frame.filename.startswith(str(ROOT / 'iarn_basicsr'))]
            return work(self, *arguments)

        return record

    for name in ('downscale_on', 'upscale_on'):
        monkeypatch.setattr(IARN, name, fake(name))
    assert iarn('downscale', 'in/a.png', '-o', 'x.png', '--scale', 2).code == 0
    assert iarn('upscale', 'lr.png', '-o', 'y.png').code == 0
    for stack in frames.values():
        assert stack[0] == 'main' and stack[-1] in ('downscale_tiled', 'upscale_tiled') and len(stack) + 1 <= 8, stack


@pytest.mark.parametrize(('option', 'value', 'size'), [
    ('--scale', '1.5x3', (10, 15)), ('--size', '20x12', (20, 12)), ('--max-side', '20', (20, 15))])
def test_sizes(folder: Path, option: str, value: str, size: tuple[int, int]) -> None:
    assert iarn('downscale', 'in/a.png', '-o', 'lr.webp', option, value).code == 0
    with Image.open('lr.webp') as file:
        assert file.size == size
    assert iarn('upscale', 'lr.webp', '-o', 'whole.jpg').code == 0
    with Image.open('whole.jpg') as file:
        assert file.size == WH['a.png'] and file.format == 'JPEG'


def test_region(lr: Path) -> None:
    """Of every file; one that is too small for it fails, the others go on."""
    assert iarn('downscale', 'in/sub/b.png', '-o', 'small.png', '--scale', 2).code == 0
    assert iarn('upscale', 'small.png', 'lr.png', '-o', 'parts', '--region', '9x6+20+15') == (
        1, '', 'iarn upscale: small.png: region (top 15, left 20, height 6, width 9): expected at least one pixel, and '
        'all inside the picture, whose height is 29 and width 17\n')
    assert iarn('upscale', 'lr.png', '-o', 'whole.png').code == 0
    assert np.array_equal(pixels('parts/lr.png'), pixels('whole.png')[15:21, 20:29])
    assert read_picture('parts/lr.png').metadata is None
    assert iarn('upscale', 'lr.png', '-o', 'x.png', '--region', '9x6+20+15', '--dry-run').out == (
        'lr.png -> x.png: 16x12 -> 9x6\n')
    for text in ('9x6', '0x6+20+15', '9x6+20', '9x6-20+15', '9x6+2_0+15', '9,6,20,15', '9x6+20+1.5'):
        assert iarn('upscale', 'lr.png', '-o', 'x.png', '--region', text) == (
            2, '', f"iarn upscale: Invalid value for '--region': '{text}': write WIDTHxHEIGHT+X+Y, for example "
            '512x512+1024+768\n')


# ------------------------------------------------------------------------------------------------------- bad files


def test_bad_files_never_stop_the_rest(folder: Path) -> None:
    whole = Path('in/a.png').read_bytes()
    for name, content in {'a_text.png': b'hello', 'a_empty.jpg': b'', 'c_half.png': whole[:len(whole) // 2]}.items():
        Path('in', name).write_bytes(content)
    Path('in/notes.txt').write_text('passed over')
    Path('in/.hidden.png').write_text('passed over')
    os.symlink('nowhere', 'in/link.png')
    os.mkfifo('in/pipe.png')
    Path('in/dir.png').mkdir()
    shutil.copy('in/a.png', 'in/dir.png/inner.png')
    code, out, err = iarn('downscale', 'in', '-o', 'lr', '--scale', 2)
    assert code == 1 and not out
    assert names(folder / 'lr') == ['a.png', 'dir.png/inner.png', 'sub/b.png']
    assert [line.split(' (')[0] for line in err.splitlines()] == [
        'iarn downscale: in/a_empty.jpg: not an image, or of a kind that cannot be read',
        'iarn downscale: in/a_text.png: not an image, or of a kind that cannot be read',
        'iarn downscale: in/c_half.png: damaged', 'iarn downscale: in/link.png: no such file',
        'iarn downscale: in/pipe.png: is not a regular file', 'iarn downscale: 1 other file passed over']


@pytest.mark.parametrize(('error', 'text'), [
    (RuntimeError('DefaultCPUAllocator:\n not enough'), 'DefaultCPUAllocator: not enough'),
    (MemoryError(), 'not enough memory')])
def test_neither_do_errors_of_other_kinds(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception,
                                          text: str) -> None:
    work = Rescaler.downscale_pixels

    def fail(self: Rescaler, rgb: np.ndarray, size: tuple[int, int], alpha: None) -> np.ndarray:
        if rgb.shape[:2] == (23, 31):
            raise error
        return work(self, rgb, size, alpha)

    monkeypatch.setattr(Rescaler, 'downscale_pixels', fail)
    assert iarn('downscale', 'in', '-o', 'lr', '--scale', 2) == (1, '', f'iarn downscale: in/a.png: {text}\n')
    assert names(folder / 'lr') == ['sub/b.png']


def test_remarks_name_the_first_and_count_the_rest(folder: Path) -> None:
    for k in range(3):
        Image.fromarray(np.full((4, 5), 300 + k, np.uint16)).save(f'in/deep{k}.png')
    frames = [Image.new('RGB', (4, 5), (k, 0, 0)) for k in (9, 90)]
    frames[0].save('in/film.gif', save_all=True, append_images=frames[1:])
    code, _, err = iarn('downscale', 'in', '-o', 'lr', '--scale', 2)
    assert code == 0 and err.splitlines() == [
        'iarn downscale: in/deep0.png and 2 more: it has 16 bits a channel; the LR, and what is restored from it, have '
        '8',
        'iarn downscale: in/film.gif: only its first frame or page is used']
    logger = logging.getLogger('iarn_basicsr')
    assert logger.propagate and logger.level == logging.NOTSET  # as before


def test_sizes_out_of_range(lr: Path) -> None:
    assert iarn('downscale', 'in/a.png', '-o', 'x', '--scale', '1x5.5') == (
        1, '', 'iarn downscale: in/a.png: 6x23 is out of range: the picture can become 7x5 to 31x23\n')
    assert iarn('compare', 'in/a.png', '--scale', 2, '--scale', 9) == (
        2, '', 'iarn compare: 3x3 is out of range: the picture can become 7x5 to 31x23\n')
    assert iarn('upscale', 'lr.png', '-o', 'x.png', '--size', '200x20') == (
        1, '', 'iarn upscale: lr.png: 200x20 is out of range: the picture can become 16x12 to 67x51\n')
    assert not Path('x.png').exists() and not Path('x').exists()


# ---------------------------------------------------------------------------------------------------- LR that changed


@pytest.mark.parametrize(('changes', 'message', 'remedy'), [
    ({'weights': 'f' * 16, 'model': ESCAPE}, 'it was made with the weights ', ' (--weights), or'),
    ({'checksum': '0'}, 'it was edited or recompressed since it was made', ';')])
def test_lr_that_does_not_fit(lr: Path, changes: dict, message: str, remedy: str) -> None:
    edit_metadata(lr / 'lr.png', **changes)
    for more in ([], ['--dry-run']):
        code, _, err = iarn('upscale', 'lr.png', '-o', 'x.png', *more)
        assert code == 1 and err.startswith(f'iarn upscale: lr.png: {message}') and err.count('\n') == 1
        assert f'{remedy} pass --force' in err and not Path('x.png').exists()
    code, out, err = iarn('upscale', 'lr.png', '-o', 'x.png', '--force')
    assert code == 0 and not out and message in err and err.endswith(': not restored as it was\n')
    shown = iarn('info', 'lr.png').out
    assert (HARMLESS if 'weights' in changes else message) in shown
    assert '\x1b' not in shown + err


def test_metadata_that_cannot_be_used(lr: Path) -> None:
    edit_metadata(lr / 'lr.png', format=99)
    message = 'its IARN metadata have format 99, this iarn_basicsr reads 1'
    for more in ([], ['--force'], ['--size', '31x23']):
        assert iarn('upscale', 'lr.png', '-o', 'x.png', *more) == (
            1, '', f'iarn upscale: lr.png: {message}; to enlarge rather than restore it, pass --size WxH and --force\n')
    assert message in iarn('info', 'lr.png').out
    assert iarn('upscale', 'lr.png', '-o', 'x.png', '--force', '--size', '31x23') == (
        0, '', 'iarn upscale: lr.png: enlarged, not restored\n')
    assert iarn('downscale', 'lr.png', '-o', 'y.png', '--scale', 2).code == 0


def test_remarks_on_odd_wishes(lr: Path) -> None:
    assert iarn('downscale', 'lr.png', '-o', 'lr2.png', '--scale', 2) == (
        0, '', 'iarn downscale: lr.png: it is an LR image already: restoring both steps loses more than restoring one; '
        'downscale its original instead\n')
    assert iarn('upscale', 'lr.png', '-o', 'x.png', '--size', '40x30') == (
        0, '', 'iarn upscale: lr.png: the size is not that of its original: not restored as it was\n')
    assert iarn('upscale', 'lr.png', '-o', 'y.png', '--size', '31x23') == (0, '', '')


def test_stripped_lr(lr: Path) -> None:
    """It restores to the bit where the size is named."""
    Image.fromarray(pixels('lr.png')).save('bare.png')
    for more in ([], ['--dry-run']):
        assert iarn('upscale', 'bare.png', '-o', 'x.png', *more) == (
            1, '', 'iarn upscale: bare.png: no IARN metadata: not made by IARN, or stripped; pass --size WxH, the size '
            'to make\n')
    assert iarn('upscale', 'bare.png', '-o', 'x.png', '--size', '31x23') == (
        0, '', 'iarn upscale: bare.png: no IARN metadata: restored if it was made with the weights tiny from a picture '
        'of that size, else enlarged\n')
    assert iarn('upscale', 'lr.png', '-o', 'y.png').code == 0
    assert np.array_equal(pixels('x.png'), pixels('y.png'))


# ----------------------------------------------------------------------------------------------------- what is written


def test_existing_files_are_kept(folder: Path) -> None:
    iarn('downscale', 'in', '-o', 'lr', '--scale', 2)
    before = Path('lr/a.png').read_bytes()
    assert iarn('downscale', 'in', '-o', 'lr', '--scale', 3) == (
        0, '', 'iarn downscale: in/a.png and 1 more: skipped, the output exists (--overwrite replaces it)\n')
    Path('lr/sub/b.png').unlink()
    assert iarn('downscale', 'in', '-o', 'lr', '--scale', 3, '--skip-existing') == (0, '', '')
    assert Path('lr/a.png').read_bytes() == before and Path('lr/sub/b.png').is_file()
    assert iarn('downscale', 'in', '-o', 'lr', '--scale', 3, '--overwrite') == (0, '', '')
    assert Path('lr/a.png').read_bytes() != before


def test_inputs_are_never_replaced(folder: Path) -> None:
    before = Path('in/a.png').read_bytes()
    os.link('in/a.png', 'hard.png')
    os.symlink('in/a.png', 'link.png')
    for out in ('in', 'in/../in', 'hard.png', 'link.png'):
        code, _, err = iarn('downscale', 'in/a.png', '-o', out, '--scale', 2, '--overwrite')
        assert code == 1 and 'the output would replace the input' in err and 'choose another -o' in err
    shutil.copy('in/a.png', 'in/a.bmp')  # its output would replace a.png, before that is read
    code, _, err = iarn('downscale', 'in/a.bmp', 'in/a.png', '-o', 'in', '--scale', 2, '--overwrite')
    assert code == 1 and 'in/a.bmp: the output would replace the input in/a.png' in err
    assert Path('in/a.png').read_bytes() == before


def test_clashes_and_repetitions(folder: Path) -> None:
    """Two inputs of one name, one input twice, and an output folder inside the input."""
    shutil.copy('in/a.png', 'in/a.bmp')
    code, _, err = iarn('downscale', 'in', '-o', 'lr', '--scale', 2)
    assert code == 1 and err == 'iarn downscale: in/a.png: another input becomes lr/a.png too: rename one\n'
    assert names(folder / 'lr') == ['a.png', 'sub/b.png']
    assert iarn('downscale', 'in/a.png', './in/a.png', folder / 'in/a.png', '-o', 'lr2', '--scale', 2) == (0, '', '')
    for _ in range(2):
        assert iarn('downscale', 'in/sub', '-o', 'in/sub/small', '--scale', 2, '--overwrite').code == 0
    assert names(folder / 'in' / 'sub' / 'small') == ['b.png']


def test_dry_run_makes_nothing(lr: Path) -> None:
    Path('in/text.png').write_text('hello')
    code, out, err = iarn('downscale', 'in', '-o', 'lr', '--scale', 2, '--dry-run')
    assert code == 1 and 'in/text.png: not an image' in err and not Path('lr').exists()
    assert out.splitlines() == ['in/a.png -> lr/a.png: 31x23 -> 16x12', 'in/sub/b.png -> lr/sub/b.png: 17x29 -> 9x15']
    assert iarn('upscale', 'lr.png', '-o', 'x.png', '--dry-run') == (0, 'lr.png -> x.png: 16x12 -> 31x23\n', '')
    assert not Path('x.png').exists()


def test_on_a_terminal_it_talks(folder: Path) -> None:
    err = iarn('downscale', 'in', '-o', 'lr', '--scale', 2, tty=True).err
    assert 'in/a.png -> lr/a.png: 31x23 -> 16x12' in err and '2 done, 0 skipped, 0 failed' in err and '100%' in err
    err = iarn('downscale', 'in/a.png', '-o', 'lr2.png', '--scale', 2, tty=True).err
    assert err == 'in/a.png -> lr2.png: 31x23 -> 16x12\n'


# ------------------------------------------------------------------------------------------------- wrong command lines


@pytest.mark.parametrize(('arguments', 'message'), [
    (['in/a.png', 'nix.png', '-o', 'lr', '--scale', '2'], 'nix.png: no such file or folder (current directory /'),
    (['void', '-o', 'lr', '--scale', '2'], 'void: no image in this folder: it is empty'),
    (['in/a.png', '-o', 'x.pfm', '--scale', '2'], '-o x.pfm: name a folder, or a file that ends in .png, '),
    (['in/a.png', '-o', '-', '--scale', '2'], '-o -: name a folder, or a file'),
    (['in/a.png', '-o', 'notes.txt', '--scale', '2'], '-o notes.txt: name a folder, or a file'),
    (['in', '-o', 'lr', '--scale', '2', '--weights', 'nope'], "weights 'nope': no such file, and no released weig"),
    (['in/a.png', '-o', 'lr.tif', '--scale', '2'], 'name one of those; or pass --allow-lossy'),
    (['in', '-o', 'lr', '--scale', '0.5'], "'--scale': scale '0.5' is not a valid scale: write a number >= 1"),
    (['in', '-o', 'lr', '--size', '30'], "'--size': '30': write WIDTHxHEIGHT, for example 1920x1080"),
    (['in', '-o', 'lr', '--size', '0x9'], "'--size': '0x9': write WIDTHxHEIGHT"),
    (['in', '-o', 'lr', '--payload', '4', '--scale', '2'], "'--payload': 4.0 is not in the range 0<=x<=3"),
    (['in', '-o', 'lr'], 'Pass one of --scale, --size, --max-side, not none.'),
    (['in', '-o', 'lr', '--scale', '2', '--size', '9x9'], 'Pass one of --scale, --size, --max-side, not --scale and'),
    (['in', '-o', 'lr', '--scael', '2'], "No such option"),
    (['in', '-o', 'lr', '--scale', '2', '--overwrite', '--skip-existing'], 'Pass one of --overwrite and --skip-exist'),
])
def test_wrong_command_lines(folder: Path, arguments: list[str], message: str) -> None:
    """Exit code 2, one line that names the value and says what is right, and nothing is written."""
    (folder / 'void').mkdir()
    (folder / 'notes.txt').write_text('hello')
    before = names(folder)
    code, out, err = iarn('downscale', *arguments)
    assert code == 2 and not out
    assert err.startswith('iarn downscale: ') and message in err and err.count('\n') == 1
    assert names(folder) == before


def test_folder_names_that_look_like_endings(folder: Path) -> None:
    """``x2.5`` is a folder, and so is a folder named like a file."""
    (folder / 'odd.png').mkdir()
    for out in ('lr_x2.5', 'odd.png', 'new.png/'):
        assert iarn('downscale', 'in/a.png', '-o', out, '--scale', '2.5', '--format', 'PNG').code == 0
        assert Path(out, 'a.png').is_file()


# --------------------------------------------------------------------------------------------------- names of strangers


@pytest.mark.parametrize('name', [f'a{ESCAPE}.png', os.fsdecode(b'a\n\xff.png')])
def test_names_do_nothing_to_the_terminal(folder: Path, name: str) -> None:
    shutil.copy('in/a.png', name)
    Path('text' + name).write_text('hello')
    results = [iarn('info', name, 'text' + name), iarn('downscale', name, 'text' + name, '-o', 'lr', '--scale', 2),
               iarn('downscale', name, '-o', 'dry', '--scale', 2, '--dry-run'), iarn('upscale', name, '-o', 'x.png'),
               iarn('compare', name, '--scale', 2), iarn('info', '--' + name), iarn('options', name),
               iarn('downscale', 'no' + name, '-o', 'x', '--scale', 2), iarn('downscale', name, '--scale', name)]
    assert [r.code for r in results] == [1, 1, 0, 1, 0, 2, 2, 2, 2]
    for result in results:
        text = (result.out + result.err).replace('\n', '')
        assert text and one_line(text, 10**6) == text, result
    assert all(len(r.err.splitlines()) == 1 for r in results if r.code)


def test_odd_names_work(folder: Path) -> None:
    odd = [Path('in/ü b/ö 日本 .png'), Path(os.fsdecode(b'in/\xff.png'))]
    odd[0].parent.mkdir()
    for path in odd:
        shutil.copy('in/a.png', path)
    own = os.fsdecode(b'w\xfe.pth')
    shutil.copy(weights(), own)
    assert iarn('downscale', *odd, '-o', 'l r', '--scale', 2, '--weights', own) == (0, '', '')
    assert iarn('upscale', 'l r', '-o', 'w ö', '--weights', own).code == 0
    assert len(names(folder / 'w ö')) == 2
    assert 'made with weights w\\udcfe (' in iarn('info', 'l r/ö 日本 .png').out


def test_long_lines_are_cut(folder: Path) -> None:
    long = '/'.join(['x' * 200] * 15)
    for result in (iarn('info', long), iarn('downscale', long, '-o', 'x', '--scale', 2), iarn('info', '--' + long)):
        assert result.code in (1, 2) and max(map(len, (result.out + result.err).splitlines())) < 1200
    assert one_line('x' * 1000) == 'x' * 1000 and one_line('a' * 900 + 'b' * 900) == f'{"a" * 750} [...] {"b" * 250}'
    assert one_line('ö 日本 a-b\'"\\\x00\x1b\u2028\u202e\udcff') == r'''ö 日本 a-b'"\\x00\x1b\u2028\u202e\udcff'''


# ------------------------------------------------------------------------------------------------- the other commands


def test_info(lr: Path) -> None:
    Image.new('LA', (3, 2)).save('gray.png')
    code, out, err = iarn('info', 'lr.png', 'nix.png', 'gray.png')
    assert code == 1 and err == 'iarn info: nix.png: no such file\n'
    assert (f'lr.png: 16x12, RGB, 8 bits, {Path("lr.png").stat().st_size} bytes\n'
            '  LR image of 31x23, x1.917x1.938, original mode RGB\n  made with weights tiny (') in out
    assert out.endswith(f'gray.png: 3x2, L with alpha, 8 bits, {Path("gray.png").stat().st_size} bytes\n'
                        '  no IARN metadata: not made by IARN, or stripped; iarn upscale needs --size, and mostly '
                        'enlarges rather than restores\n')


def test_compare(folder: Path) -> None:
    code, out, err = iarn('compare', 'in/a.png', '--scale', 2)
    assert code == 0 and not err and out.endswith('page: a_compare.html\n')
    assert Path('a_compare.html').stat().st_size > 1000
    assert iarn('compare', 'in/a.png') == (
        2, '', 'iarn compare: a_compare.html exists: pass --overwrite to replace it\n')
    code, _, err = iarn('compare', 'in/a.png', '-o', 'in/a.png', '--overwrite')
    assert code == 2 and 'choose a name that ends in .html' in err
    os.symlink('in/a.png', 'link.html')
    code, _, err = iarn('compare', 'in/a.png', '-o', 'link.html', '--overwrite')
    assert code == 2 and 'the output would replace the input' in err


def test_doctor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = iarn('doctor')
    lines = {line[6:].split(':')[0]: line[:4] for line in out.splitlines()}
    assert {'python', 'torch', 'basicsr', 'LMDB', 'distributed', 'write here', 'CUDA', 'registration'} <= set(lines)
    assert code == int('FAIL' in lines.values())

    def broken() -> str:
        raise PermissionError('not\nhere')

    monkeypatch.setattr(doctor, '_write', broken)
    code, out, _ = iarn('doctor')
    assert code == 1 and 'FAIL  write here: PermissionError: not here\n' in out


def test_help() -> None:
    for command in ('downscale', 'upscale', 'compare', 'info', 'doctor', 'export', 'options'):
        code, out, _ = iarn(command, '--help')
        assert code == 0 and out.startswith(f'Usage: iarn {command}')
        assert ('Examples:' in out) == (command != 'doctor')


def test_no_command(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == main(['nonsense']) == 2
    assert capsys.readouterr().err == "iarn: Missing command.\niarn nonsense: No such command 'nonsense'.\n"
    assert main(['--version']) == 0 and capsys.readouterr().out.startswith('iarn_basicsr ')
