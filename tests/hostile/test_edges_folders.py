"""Folders as people have them: links, odd names, other files; shared by processes; on systems that are not POSIX."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import types
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile.inference_tools import HEIF, RGB, contents, iarn, in_time, png_chunks, refused, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iarn_basicsr.data.image_source import ImageSource
from iarn_basicsr.files import save_text
from iarn_basicsr.inference.cli.share import Process, even_shares, pixels_of

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID', 'SLURM_JOB_ID',
             'SLURM_STEP_NUM_TASKS')


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, alone."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def picture(*paths: str, size: tuple[int, int] = (31, 23)) -> None:
    """The same small picture in several files."""
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).resize(size).save(path, Image.registered_extensions().get(Path(path).suffix, 'PNG'))


def environment(monkeypatch: pytest.MonkeyPatch, **variables: object) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def planned(*arguments: object) -> list[str]:
    """The files that a dry run would make."""
    code, out, err = iarn('downscale', *arguments, '--scale', 2, '--dry-run')
    assert code == 0, err
    return [line.split(' -> ')[1].split(': ')[0] for line in out.splitlines() if ' -> ' in line]


# --------------------------------------------------------------------------------------------------- what is found


def test_links_are_followed_and_every_folder_is_entered_once() -> None:
    """By commands and by training: to a folder, twice to one outside, to what is there anyway, in circles, nowhere."""
    picture('in/z/a.png', 'outside/deep/b.png', 'out/made.png', 'in/.hidden/x.png')
    for link, target in {'in/a_link': '../in/z', 'in/first': '../outside', 'in/second': '../outside/deep/..',
                         'in/z/up': '..', 'outside/deep/round': '../../outside', 'in/self': 'self', 'in/nix': 'nowhere',
                         'in/to_output': '../out'}.items():
        os.symlink(target, link)
    found = ['first/deep/b.png', 'z/a.png']
    assert planned('in', '-o', 'out') == [f'out/{name}' for name in found]
    assert planned('in/.hidden', '-o', 'out') == ['out/x.png']  # asked for by name
    assert ImageSource('in', 'disk', None, 'key').names == ['first/deep/b.png', 'to_output/made.png', 'z/a.png']
    os.symlink('in', 'all')
    os.symlink('../../out', 'in/z/inner')
    assert planned('all', '-o', 'in/z/inner') == [f'in/z/inner/{name}' for name in found]


def test_all_kinds_that_can_be_read_are_found() -> None:
    picture('in/a.jfif', 'in/b.TGA', 'in/c.gif', 'in/d.pnm')
    assert planned('in', '-o', 'out') == [f'out/{name}.png' for name in 'abcd']
    source = ImageSource('in', 'disk', None, 'key')
    assert source.names == ['a.jfif', 'b.TGA', 'c.gif', 'd.pnm']
    assert np.array_equal(source.read('b.TGA'), RGB) and np.array_equal(source.read('d.pnm'), RGB)


@pytest.mark.parametrize(('others', 'says'), [
    (['notes.txt', 'sub/B.TXT', 'c.pdf', '.DS_Store'], '3 other files passed over (.txt 2, .pdf 1), 1 hidden'),
    (['sub/README', 'dot.', 'photo.2019.best'], '3 other files passed over (without ending 2, .best 1)'),
    (['x.t\x1bt'], r'1 other file passed over (.t\x1bt 1)'), (['.git/x', '.y.png'], '2 hidden passed over')])
def test_what_is_passed_over_is_counted(others: list[str], says: str) -> None:
    for name in others:
        Path('in', name).parent.mkdir(parents=True, exist_ok=True)
        Path('in', name).write_text('x')
    assert iarn('downscale', 'in', '-o', 'out', '--scale', 2) == (
        2, '', f'iarn downscale: in: no image in this folder: {says}\n')
    picture('in/a.png', 'b.png')
    assert iarn('downscale', 'in', 'b.png', '-o', 'out', '--scale', 2) == (0, '', f'iarn downscale: {says}\n')


def test_folders_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    picture('in/a.png', 'in/closed/b.png')
    scandir = os.scandir

    def scan(path: str) -> object:
        if str(path).endswith('closed'):
            raise PermissionError(errno.EACCES, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', scan)
    assert iarn('downscale', 'in', '-o', 'out', '--scale', 2) == (
        1, '', 'iarn downscale: in/closed: cannot be read (Permission denied)\n')
    assert list(contents(Path('out'))) == ['a.png']
    with pytest.raises(PermissionError, match='in/closed'):
        ImageSource('in', 'disk', None, 'key')


# ------------------------------------------------------------------------------------------------ names of the results


@pytest.mark.parametrize(('name', 'made'), [
    ('photo.2019.best', 'photo.2019.best.png'), ('dot.', 'dot..png'), ('v1.5.jpg', 'v1.5.png'), ('.png', '.png.png'),
    ('end .bmp', 'end .png')])
def test_only_the_ending_of_a_picture_is_replaced(name: str, made: str) -> None:
    picture(f'in/{name}')
    assert iarn('downscale', f'in/{name}', '-o', 'out', '--scale', 2) == (0, '', '')
    assert os.listdir('out') == [made]
    assert iarn('upscale', f'out/{made}', '-o', 'whole', '--format', 'ppm').code == 0


@pytest.mark.parametrize(('first', 'second'), [
    ('IMG.png', 'img.png'), ('IMG.png', 'img.jpg'), ('Straße.png', 'STRASSE.png'), ('A/x.png', 'a/x.png'),
    *((unicodedata.normalize('NFC', f'é{a}.png'), unicodedata.normalize('NFD', f'{b}{a}.png'))
      for a, b in (('', 'é'), ('x', 'É')))])
def test_names_that_are_one_on_some_systems_lose_no_file(first: str, second: str) -> None:
    picture(f'in/{first}', f'in/{second}')
    if len(contents(Path('in'))) < 2:
        pytest.skip('they are one here')
    [made] = {first, second} & {'IMG.png'} or [sorted((first, second))[0]]
    left = second if made == first else first
    assert iarn('downscale', 'in', '-o', 'out', '--scale', 2, '--overwrite') == (
        1, '', f'iarn downscale: in/{left}: another input becomes out/{made} too: rename one\n')
    assert list(contents(Path('out'))) == [made]


def test_two_files_that_are_not_there_are_two() -> None:
    picture('in/a.png')
    os.symlink('nowhere', 'in/b.png')
    os.symlink('nowhere', 'in/b.jpg')
    code, _, err = iarn('downscale', 'in', '-o', 'out', '--scale', 2)
    assert code == 1 and 'in/b.png: another input' in err and 'in/b.jpg: no such file' in err


# ---------------------------------------------------------------------------------------------------------- shares


@pytest.mark.filterwarnings('error')
def test_pixels_are_counted_by_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any size, with a plugin's help; nothing is decoded or waits for a pipe, and Pillow's limit stays."""
    Path('huge.png').write_bytes(png_chunks((30000, 30000)))
    Path('heic.jpg').write_bytes(HEIF)
    Path('text.png').write_text('hello')
    os.mkfifo('pipe.png')
    asked = list[str]()
    plugin = types.SimpleNamespace(register_heif_opener=lambda: asked.append('heif'))
    monkeypatch.setitem(sys.modules, 'pillow_heif', plugin)
    names = ('huge.png', 'heic.jpg', 'text.png', 'pipe.png', 'nix.png')
    with in_time():
        assert [pixels_of(name) for name in names] == [9 * 10**8, 1, 1, 1, 1]
    assert asked and Image.MAX_IMAGE_PIXELS is not None


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**9), max_size=40), st.integers(1, 7))
def test_shares_are_even(sizes: list[int], count: int) -> None:
    """As far as the largest file lets them, and the same wherever they are computed."""
    owners = even_shares(sizes, count)
    assert owners == even_shares(tuple(sizes), count) and len(owners) == len(sizes)
    loads = [sum(size for size, owner in zip(sizes, owners) if owner == rank) for rank in range(count)]
    assert sum(loads) == sum(sizes) and max(loads) - min(loads) <= max(sizes, default=0)


@pytest.mark.parametrize('names', [('RANK', 'WORLD_SIZE'), ('SLURM_PROCID', 'SLURM_NTASKS')])
def test_processes_share_a_folder(names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file once, the large ones apart, whatever the others have made when a process starts."""
    for k in range(6):
        picture(f'in/{k}.png', size=(150, 180) if k in (1, 2) else (20, 15))
    Path('in/text.png').write_text('hello')
    Path('in/notes.txt').write_text('hello')
    made = {}
    for rank in range(3):
        environment(monkeypatch, **{names[0]: rank, names[1]: 3})
        before = set(contents(Path('.')))
        assert planned('in/1.png', '-o', 'dry') == (['dry/1.png'] if rank == 0 else [])
        code, out, err = iarn('downscale', 'in', '-o', 'in/out', '--scale', 2)
        made[rank] = sorted(Path(name).name for name in set(contents(Path('.'))) - before)
        assert not out and f'process {rank} of 3: {len(made[rank])} done, 0 skipped, {code} failed' in err
        assert ('1 other file passed over' in err) == (rank == 0)
    assert sorted([*made[0], *made[1], *made[2]]) == [f'{k}.png' for k in range(6)]
    assert made[0] == ['1.png'] and made[1] == ['2.png'] and len(made[2]) == 4
    code, out, err = iarn('downscale', 'in', '-o', 'in/out', '--scale', 2, '--dry-run')
    assert (code, out) == (1, 'process 2 of 3: 5 of 7 files, 0.0 of 0.1 megapixels\n') and 'and 3 more: skipped' in err


def test_processes_need_inputs_that_do_not_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment(monkeypatch, RANK=1, WORLD_SIZE=2)
    picture('in/sub/a.bmp')
    for output in ('in', '.', 'in/../in/sub/..'):
        refused(tmp_path, 'downscale', 'in', '-o', output, '--scale', 2, code=2,
                says=(f'-o {output}: several processes need an output folder outside of in',))


@pytest.mark.parametrize(('variables', 'says'), [
    ({'RANK': 1}, 'RANK is set and WORLD_SIZE is not'), ({'WORLD_SIZE': 2}, 'WORLD_SIZE is set and RANK is not'),
    ({'RANK': 2, 'WORLD_SIZE': 2}, 'RANK 2 is out of range, WORLD_SIZE is 2'),
    ({'RANK': -1, 'WORLD_SIZE': 2}, "RANK is '-1'; expected an integer >= 0"),
    ({'RANK': '9' * 5000, 'WORLD_SIZE': 1}, "RANK is '999"),
    ({'RANK': 0, 'WORLD_SIZE': 1, 'LOCAL_RANK': '0.5'}, "LOCAL_RANK is '0.5'"),
    ({'SLURM_PROCID': 4, 'SLURM_NTASKS': 4}, 'SLURM_PROCID 4 is out of range, SLURM_NTASKS is 4'),
    ({'SLURM_PROCID': 0}, 'SLURM_PROCID is set and SLURM_NTASKS is not')])
def test_senseless_environments(variables: dict, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    picture('a.png')
    environment(monkeypatch, **variables)
    refused(tmp_path, 'downscale', 'a.png', '-o', 'out', '--scale', 2, says=(f'environment: {says}',), code=2)


@pytest.mark.parametrize(('variables', 'process'), [
    ({}, Process()), ({'RANK': 1, 'WORLD_SIZE': 4, 'SLURM_PROCID': 0, 'SLURM_NTASKS': 2}, Process(1, 4, 1)),
    ({'RANK': 9, 'WORLD_SIZE': 16, 'LOCAL_RANK': 1}, Process(9, 16, 1)),
    ({'SLURM_JOB_ID': 7, 'SLURM_PROCID': 9, 'SLURM_NTASKS': 16, 'SLURM_STEP_NUM_TASKS': 16, 'SLURM_LOCALID': 1},
     Process(9, 16, 1)),
    ({'SLURM_JOB_ID': 7, 'SLURM_PROCID': 0, 'SLURM_NTASKS': 16}, Process()),  # a batch script, without srun
    ({'SLURM_JOB_ID': 7, 'SLURM_PROCID': 0, 'SLURM_NTASKS': 8, 'SLURM_STEP_NUM_TASKS': 1}, Process()),  # a shell
    ({'SLURM_JOB_ID': 7, 'SLURM_NTASKS': 8}, Process())])
def test_the_process_of_an_environment(variables: dict, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, **variables)
    assert Process.of_environment() == process


def test_each_process_takes_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Process(1, 2, 1).device is None
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert [Process(k, 4, 3 - k).device for k in range(4)] == ['cuda:1', 'cuda:0'] * 2
    assert Process().device is None


# ------------------------------------------------------------------------------------------------------- other systems

# What Windows lacks is taken away after other libraries were imported, and before ours is.
WITHOUT_POSIX = """
import os, signal, sys
import basicsr, click, cv2, lmdb, PIL.Image, torch.distributed, torch.utils.data, tqdm
for name in ('fcntl', 'grp', 'pwd', 'resource', 'termios'):
    sys.modules[name] = None
for module, names in (
        (os, 'fork getuid geteuid killpg mkfifo register_at_fork sched_getaffinity setsid statvfs sysconf uname'),
        (signal, 'SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGUSR1 alarm pthread_kill pthread_sigmask setitimer')):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
sys.platform = 'win32'
"""


@pytest.mark.slow
def test_nothing_of_posix_is_needed() -> None:
    from helpers import train_options, write_yaml
    picture('hr/a.png', 'hr/b.png')
    write_yaml(train_options(Path('hr').resolve()), Path('options.yml'))
    program = WITHOUT_POSIX + f"""
from iarn_basicsr.inference.cli import main
options = ['--weights', {weights()!r}, '--device', 'cpu']
assert main(['downscale', 'hr', '-o', 'lr', '--scale', '2', *options]) == 0
assert main(['upscale', 'lr', '-o', 'whole', '--overwrite', *options]) == main(['doctor']) == 0
import iarn_basicsr.train
sys.argv = ['iarn-train', '-opt', 'options.yml']
iarn_basicsr.train.main()
"""
    done = subprocess.run([sys.executable, '-c', program], env={**os.environ, 'PYTHONPATH': str(ROOT)}, timeout=300,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path('whole/b.png').is_file() and Path('experiments/run/models/net_g_latest.pth').is_file()


def test_a_target_that_another_program_has_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows does not replace it: one line, the old file as it was, and nothing beside it."""
    def replace(source: str, target: str) -> None:
        raise PermissionError(errno.EACCES, 'Access is denied', source, 5, target)

    picture('in/a.png')
    save_text('old', 'out/a.png')
    monkeypatch.setattr(os, 'replace', replace)
    refused(Path('.'), 'downscale', 'in', '-o', 'out', '--scale', 2, '--overwrite', says=(
        'in/a.png: out/a.png: cannot be written (Access is denied; it may be open in another program, or',))


def test_names_that_a_system_does_not_take_are_told_beforehand() -> None:
    picture('in/' + 'x' * 251 + '.png', 'in/a.png')
    assert iarn('downscale', 'in', '-o', 'out', '--scale', 2, '--format', 'webp', '--dry-run').code == 1
    code, _, err = iarn('downscale', 'in', '-o', 'out', '--scale', 2, '--format', 'webp')
    assert code == 1 and err.endswith('cannot be written (File name too long)\n') and err.count('\n') == 1
    assert list(contents(Path('out'))) == ['a.webp']
