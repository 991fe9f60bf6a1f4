"""Outputs that cannot be written, and those that can but should not change more than they must."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hostile.inference_tools import RGB, contents, iarn, in_time, refused, weights
from PIL import Image

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.files import atomic_write, save_text
from iarn_basicsr.inference.cli.commands import iarn as group
from iarn_basicsr.inference.picture_file import Picture, write_picture

OPTIONS = 'train_IARN_x1-4.yml'


def command(name: str, target: object) -> tuple[object, ...]:
    """A command line that writes one file."""
    return {
        'downscale': ('downscale', 'good.png', '-o', target, '--scale', 2),
        'downscale_dry_run': ('downscale', 'good.png', '-o', target, '--scale', 2, '--dry-run'),
        'upscale': ('upscale', 'lr.png', '-o', target),
        'upscale_dry_run': ('upscale', 'lr.png', '-o', target, '--dry-run'),
        'compare': ('compare', 'good.png', '--scale', 2, '-o', target),
        'export': ('export', weights(), target),
        'export_safetensors': ('export', weights(), target),
        'options': ('options', OPTIONS, '-o', target),
    }[name]


@pytest.fixture
def idle(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where no network may run: what can be told beforehand is told before the work."""
    weights()

    def fail(*_: object, **__: object) -> None:
        raise AssertionError('worked')

    for name in ('downscale_on', 'upscale_on', 'save'):
        monkeypatch.setattr(IARN, name, fail)
    return place


def dangling(ending: str) -> str:
    os.symlink('nowhere' + ending, 'x' + ending)
    return 'x' + ending


ENDINGS = {'downscale': '.png', 'downscale_dry_run': '.png', 'upscale': '.webp', 'upscale_dry_run': '.jpg',
           'compare': '.html', 'export': '.pth', 'export_safetensors': '.safetensors', 'options': '.yml'}
WRITING = [name for name in ENDINGS if 'dry_run' not in name]


def below_below_a_file(ending: str) -> str:
    Path('file').write_text('in the way')
    return 'file/sub/x' + ending


def below_closed(ending: str) -> str:
    if os.geteuid() == 0:
        pytest.skip('root writes into every folder')
    Path('closed').mkdir(mode=0o500)
    return 'closed/x' + ending


def pipe(ending: str) -> str:
    os.mkfifo('x' + ending)
    return 'x' + ending


@pytest.mark.parametrize('make', [dangling, below_below_a_file, below_closed, pipe])
@pytest.mark.parametrize('name', ENDINGS)
def test_what_can_be_told_beforehand(idle: Path, name: str, make: object) -> None:
    target = make(ENDINGS[name])
    before = {p: (p.lstat().st_ino, p.lstat().st_mode) for p in idle.iterdir()}
    for more in ([], ['--overwrite']):
        refused(idle, *command(name, target), *more, says=(f'{target}: cannot be written (',))
    assert {p: (p.lstat().st_ino, p.lstat().st_mode) for p in idle.iterdir()} == before


@pytest.mark.parametrize('dry_run', [[], ['--dry-run']])
def test_what_the_kind_cannot_hold_told_beforehand(idle: Path, dry_run: list[str]) -> None:
    Image.new('RGBA', (31, 23), (1, 2, 3, 100)).save('clear.png')
    Image.new('RGB', (17000, 2)).save('long.png')
    refused(idle, 'downscale', 'clear.png', '-o', 'x.jpg', '--scale', 2, '--allow-lossy', *dry_run,
            says=('clear.png: x.jpg: .jpg cannot hold its transparency',))
    refused(idle, 'upscale', 'clear.png', '-o', 'x.bmp', '--size', '62x46', *dry_run,
            says=('clear.png: x.bmp: .bmp cannot hold its transparency',))
    refused(idle, 'downscale', 'long.png', '-o', 'x.webp', '--scale', 1, *dry_run,
            says=('long.png: x.webp: .webp cannot hold 17000x2 pixels, its sides have at most 16383',))


# ------------------------------------------------------------------------------------------------- what is replaced


@pytest.mark.parametrize('name', WRITING)
def test_overwriting_keeps_the_mode_and_goes_through_a_link(place: Path, name: str) -> None:
    link, real = Path('x' + ENDINGS[name]), Path('real/file')
    Path('real').mkdir()
    real.write_text('old')
    real.chmod(0o640)
    link.symlink_to(real)
    assert iarn(*command(name, link), '--overwrite').code == 0
    assert stat.S_IMODE(real.stat().st_mode) == 0o640 and real.read_bytes() != b'old'
    assert link.is_symlink() and [p.name for p in Path('real').iterdir()] == ['file']


def test_new_files_heed_the_umask_of_the_moment(place: Path) -> None:
    for umask in (0o022, 0o077):
        before = os.umask(umask)
        try:
            save_text('x', f'{umask}.txt')
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.stat(f'{umask}.txt').st_mode) == 0o666 & ~umask


def test_windows_flushes_what_is_open_for_writing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(handle: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(os, 'fsync', fsync)
    save_text('x', 'new.txt')
    write_picture(Picture(RGB), 'new.png')
    assert {p.name for p in place.iterdir()} >= {'new.txt', 'new.png'}


# --------------------------------------------------------------------------------------------------------- full disks


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file of more bytes can be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize('name', WRITING)
def test_file_too_large(place: Path, name: str) -> None:
    target = Path('x' + ENDINGS[name])
    target.write_text('old')
    with at_most(300):
        refused(place, *command(name, target), '--overwrite',
                says=(f'{target}: cannot be written (File too large, ', ' free)'))


@pytest.mark.parametrize('ending', ['png', 'jpg', 'webp', 'tif'])
def test_no_kind_is_cut_in_silence(place: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow does not see that the last block of a JPEG did not fit."""
    noise = np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: SimpleNamespace(free=12_345_678))
    words = rf'x\.{ending}: cannot be written \(File too large, 12\.3 MB free\)'
    for size in (1000, 40000):
        with at_most(size), pytest.raises(ValueError, match=words):
            write_picture(Picture(noise), f'x.{ending}')
    assert not [name for name in os.listdir() if name.startswith(('x.', '.'))]


# ------------------------------------------------------------------------------------ what killed processes left behind


def test_old_unfinished_files_are_removed(place: Path) -> None:
    out, day = Path('out'), 24 * 3600
    out.mkdir()
    left = dict.fromkeys(('.writing-0123456789abcdef.png', '.writing-0123456789abcdef'), 2 * day)
    kept = {'.writing-0123456789abcdef.jpg': 0.9 * day, **dict.fromkeys((
        '.writing-0123456789abcdef.png.old', '.writing-notes.txt', 'writing-0123456789abcdef.png',
        'picture.png'), 2 * day)}
    for name, age in {**left, **kept}.items():
        (out / name).write_text('half')
        os.utime(out / name, (time.time() - age,) * 2)
    (out / '.writing-0123456789abcdee.png').mkdir()
    os.utime(out / '.writing-0123456789abcdee.png', (0, 0))
    assert iarn('downscale', 'good.png', '-o', 'out', '--scale', 2).code == 0
    assert {p.name for p in out.iterdir()} == {*kept, '.writing-0123456789abcdee.png', 'good.png'}


def test_a_write_that_fails_leaves_nothing(place: Path) -> None:
    def fail(temporary: str) -> None:
        assert stat.S_IMODE(os.stat(temporary).st_mode) == 0o600  # until it has the mode of the old one
        Path(temporary).write_text('half')
        raise errors.pop()

    Path('x.txt').write_text('old')
    before = contents(place)
    errors = [OSError(5, 'Input/output error'), ValueError('x'), KeyboardInterrupt(), SystemExit(3)]
    while errors:
        with pytest.raises((OSError, ValueError, KeyboardInterrupt, SystemExit)), in_time():
            atomic_write('x.txt', fail)
        assert contents(place) == before


def test_commands_that_write_check_beforehand() -> None:
    """Every command that has --overwrite is in the tests above."""
    assert set(group.commands) - {'info', 'doctor', 'verify'} == {name.split('_')[0] for name in ENDINGS}
