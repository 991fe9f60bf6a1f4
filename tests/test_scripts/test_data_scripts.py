"""The scripts that prepare training data: tiny real runs, interrupted runs, what the datasets make of the result."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.errors import OptionError

NAMES = ['bench/dataloader', 'data/extract_subimages', 'data/make_bsds400', 'data/make_lmdb', 'data/make_lr']
Scripts = Callable[[str], ModuleType]


def photograph(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth random image, uint8 (H, W, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 5 + 2, width // 5 + 2, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    """Images of several kinds: a sub-folder, a dot in the name, JPEG, gray, one that is small on one axis."""
    folder = tmp_path / 'set' / 'hr'
    (folder / 'sub').mkdir(parents=True)
    cv2.imwrite(str(folder / 'a.png'), photograph(40, 52, 0))
    cv2.imwrite(str(folder / 'a-b.png'), photograph(36, 48, 1))
    cv2.imwrite(str(folder / 'c.v2.png'), photograph(48, 36, 2))
    cv2.imwrite(str(folder / 'd.jpg'), photograph(48, 48, 3))
    cv2.imwrite(str(folder / 'sub' / 'a.png'), photograph(60, 20, 4)[..., 0])
    return folder


def damage(path: Path) -> bytes:
    """Cut a file in half; its former bytes."""
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])
    return content


def files(folder: Path) -> dict[str, bytes]:
    """Every visible file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob('*'))
            if p.is_file() and p.parent.name != '.made_with'}


def interrupt_after(calls: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, until Ctrl-C is pressed in the next call after ``calls``."""
    count = 0

    def wrapped(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count > calls:
            raise KeyboardInterrupt
        return function(*args)

    return wrapped


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR)


# ------------------------------------------------------------------------------------------------------- all scripts


@pytest.mark.parametrize('name', NAMES)
def test_help_and_bad_arguments(script: Scripts, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = script(name).main
    with pytest.raises(SystemExit) as stop:
        main(['--help'])
    assert stop.value.code == 0
    assert f'python scripts/{name}.py' in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(['--no-such-option'])
    assert stop.value.code == 2


@pytest.mark.parametrize(('name', 'options'), [
    ('data/extract_subimages', ['-o', 'out']),
    ('data/make_lmdb', ['-o', 'out.lmdb']),
    ('data/make_lr', ['-o', 'out', '--scales', '2']),
    ('bench/dataloader', []),
])
@pytest.mark.parametrize('exists', [True, False])
def test_empty_or_missing_folder(script: Scripts, name: str, options: list[str], exists: bool, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    if exists:
        Path('in').mkdir()
    arguments = ['--images', 'in'] if name == 'bench/dataloader' else ['in', *options]
    assert script(name).main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert ('no image in' if exists else 'does not exist') in error
    assert [p.name for p in tmp_path.iterdir()] == ['in'] * exists


# ------------------------------------------------------------------------------------------------- extract_subimages


@pytest.mark.parametrize(('length', 'min_rest', 'expected'), [
    (480, 0, [0]), (479, 0, [0]), (720, 0, [0, 240]), (721, 0, [0, 240, 241]), (721, 1, [0, 240]), (1, 0, [0]),
    (1356, 0, [0, 240, 480, 720, 876]),
])
def test_starts(script: Scripts, length: int, min_rest: int, expected: list[int]) -> None:
    assert script('data/extract_subimages').starts(length, 480, 240, min_rest) == expected


def test_extract(script: Scripts, hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = tmp_path / 'more'
    more.mkdir()
    cv2.imwrite(str(more / 'e.png'), photograph(24, 24, 9))
    out = tmp_path / 'out'
    command = [str(hr), str(more), '-o', str(out), '--crop', '24', '--step', '16']
    assert script('data/extract_subimages').main(command) == 0
    counts = {'a': 6, 'a-b': 6, 'c.v2': 6, 'd': 9, 'sub/a': 4, 'e': 1}
    assert set(files(out)) == {f'{n}_s{k:03d}.png' for n, count in counts.items() for k in range(1, count + 1)}
    image = read(hr / 'a.png')
    pieces = [image[y:y + 24, x:x + 24] for y in (0, 16) for x in (0, 16, 28)]
    for k, piece in enumerate(pieces, 1):
        assert (read(out / f'a_s{k:03d}.png') == piece).all()
    assert read(out / 'sub' / 'a_s001.png').shape == (24, 20, 3)
    assert (read(out / 'd_s001.png') == read(hr / 'd.jpg')[:24, :24]).all()
    assert '32 sub-images of 6 images written, 0 images were done before' in capsys.readouterr().out


def test_extract_goes_on(script: Scripts, hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                         capsys: pytest.CaptureFixture[str]) -> None:
    extract, out, at_once = script('data/extract_subimages'), tmp_path / 'out', tmp_path / 'at_once'
    options = ['--crop', '24', '--step', '16', '--workers', '2']
    assert extract.main([str(hr), '-o', str(at_once), *options]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(extract, 'save_bytes', interrupt_after(8, extract.save_bytes))
        assert extract.main([str(hr), '-o', str(out), *options]) == 130
    assert len(files(out)) == 8  # one image done, one in the middle
    assert 'run the same command again' in capsys.readouterr().err
    times = {p: p.stat().st_mtime_ns for p in out.glob('a_s*.png')}
    assert len(times) == 6
    assert extract.main([str(hr), '-o', str(out), *options]) == 0
    assert '1 images were done before' in capsys.readouterr().out
    assert files(out) == files(at_once)
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert extract.main([str(hr), '-o', str(out), *options]) == 0
    assert '0 sub-images of 0 images written, 5 images were done before' in capsys.readouterr().out


def test_extract_unreadable(script: Scripts, hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = damage(hr / 'a-b.png')
    (hr / 'nothing.png').touch()
    command = [str(hr), '-o', str(tmp_path / 'out'), '--crop', '24', '--step', '16']
    assert script('data/extract_subimages').main(command) == 1
    listed = [line for line in capsys.readouterr().err.splitlines() if line.startswith('extract_subimages: ')]
    assert len(listed) == 2
    assert 'a-b.png' in listed[0] and 'nothing.png' in listed[1]
    assert len(files(tmp_path / 'out')) == 25
    (hr / 'a-b.png').write_bytes(content)
    (hr / 'nothing.png').unlink()
    assert script('data/extract_subimages').main(command) == 0
    assert len(files(tmp_path / 'out')) == 31


def test_extract_refuses(script: Scripts, hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = script('data/extract_subimages').main
    assert main([str(hr), '-o', str(hr / 'out')]) == 2
    assert 'inside the input folder' in capsys.readouterr().err
    assert main([str(hr), '-o', str(tmp_path / 'out')]) == 0
    assert main([str(hr), '-o', str(tmp_path / 'out'), '--step', '16']) == 2
    assert "'step': 240" in capsys.readouterr().err
    cv2.imwrite(str(hr / 'a.bmp'), photograph(8, 8, 0))
    assert main([str(hr), '-o', str(tmp_path / 'new')]) == 2
    error = capsys.readouterr().err
    assert 'a.bmp' in error and 'a.png' in error
    with pytest.raises(SystemExit):
        main([str(hr), '-o', str(tmp_path / 'new'), '--compression', '10'])


def test_extract_full_disk(script: Scripts, hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                           capsys: pytest.CaptureFixture[str]) -> None:
    extract = script('data/extract_subimages')

    def full(content: bytes, path: str) -> None:
        raise OSError(28, 'No space left on device', path)

    monkeypatch.setattr(extract, 'save_bytes', full)
    assert extract.main([str(hr), '-o', str(tmp_path / 'out')]) == 1
    assert 'No space left on device' in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- make_lmdb


def eval_items(root: Path, **options: Any) -> dict[str, dict[str, Any]]:
    """Items of a validation set by name without ending."""
    backend = 'lmdb' if root.suffix == '.lmdb' else 'disk'
    dataset = ArbitraryScaleDataset({'name': 'val', 'phase': 'val', 'dataroot_gt': str(root), 'scales': [2, [1.5, 3]],
                                     'io_backend': {'type': backend}, **options})
    items = {}
    for k in range(len(dataset)):
        item = dataset[k]
        path = Path(item['gt_path'])
        name = path.as_posix() if backend == 'lmdb' else path.relative_to(root).with_suffix('').as_posix()
        items[f'{name} {item["scale_name"]}'] = item
    return items


def assert_same_images(first: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]]) -> None:
    assert first.keys() == second.keys()
    for name, item in first.items():
        assert torch.equal(item['gt'], second[name]['gt'])
        assert torch.equal(item['lq'], second[name]['lq'])


def test_lmdb_equals_disk(script: Scripts, hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'hr.lmdb'
    assert script('data/make_lmdb').main([str(hr), '-o', str(out)]) == 0
    assert 'BasicSR\'s datasets do not' in capsys.readouterr().out  # c.v2
    assert {p.name for p in out.iterdir()} == {'data.mdb', 'meta_info.txt'}
    assert (out / 'meta_info.txt').read_text().splitlines() == [
        'a.png (40,52,3) 1', 'a-b.png (36,48,3) 1', 'c.v2.png (48,36,3) 1', 'd.png (48,48,3) 1', 'sub/a.png (60,20,3) 1'
    ]
    assert_same_images(eval_items(hr), eval_items(out))


def test_lmdb_train_patches_equal_disk(script: Scripts, hr: Path, tmp_path: Path) -> None:
    (hr / 'a-b.png').rename(hr / 'b.png')
    out = tmp_path / 'hr.lmdb'
    assert script('data/make_lmdb').main([str(hr), '-o', str(out) + '/']) == 0
    sets = [ArbitraryScaleDataset({'name': 'train', 'phase': 'train', 'dataroot_gt': str(root), 'gt_size': 16,
                                   'batch_size_per_gpu': 2, 'io_backend': {'type': kind}})
            for root, kind in ((hr, 'disk'), (out, 'lmdb'))]
    draws = list(sets[0].draws(0, 0, 1, 4))
    for k in range(0, len(draws), 2):
        for first, second in zip(*(s.__getitems__(draws[k:k + 2]) for s in sets)):
            assert torch.equal(first['gt'], second['gt'])
            assert torch.equal(first['lq'], second['lq'])


def test_lmdb_goes_on(script: Scripts, hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                      capsys: pytest.CaptureFixture[str]) -> None:
    make, out, partial = script('data/make_lmdb'), tmp_path / 'hr.lmdb', tmp_path / 'hr.lmdb.partial'
    command = [str(hr), '-o', str(out)]
    monkeypatch.setattr(make, 'COMMIT_BYTES', 1)  # every image at once
    with monkeypatch.context() as patch:
        patch.setattr(make, '_commit', interrupt_after(3, make._commit))
        assert make.main(command) == 130
    assert not out.exists()
    assert not (partial / 'meta_info.txt').exists()
    with open(partial / 'lines.txt', 'a') as lines:
        lines.write('sub/a.png (60,2')  # what a crash may leave
    cv2.imwrite(str(hr / 'a.png'), photograph(42, 54, 7))  # stored already, repaired since
    (hr / 'a-b.png').unlink()  # stored already, removed since
    reads = []
    stock = make.ImageSource.read
    monkeypatch.setattr(make.ImageSource, 'read', lambda self, name: (reads.append(name), stock(self, name))[1])
    assert make.main(command) == 0
    assert sorted(reads) == ['a.png', 'd.jpg', 'sub/a.png']
    assert not partial.exists()
    assert (out / 'meta_info.txt').read_text().splitlines() == [
        'a.png (42,54,3) 1', 'c.v2.png (48,36,3) 1', 'd.png (48,48,3) 1', 'sub/a.png (60,20,3) 1'
    ]
    assert_same_images(eval_items(hr), eval_items(out))
    capsys.readouterr()
    assert make.main(command) == 0
    assert 'already made, 4 images' in capsys.readouterr().out
    cv2.imwrite(str(hr / 'e.png'), photograph(20, 20, 7))
    assert make.main(command) == 2
    assert '1 missing' in capsys.readouterr().err


def test_lmdb_unreadable(script: Scripts, hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, out = damage(hr / 'a.png'), tmp_path / 'hr.lmdb'
    assert script('data/make_lmdb').main([str(hr), '-o', str(out)]) == 1
    assert not out.exists()
    assert 'a.png\' cannot be decoded' in capsys.readouterr().err
    (hr / 'a.png').write_bytes(content)
    assert script('data/make_lmdb').main([str(hr), '-o', str(out)]) == 0
    assert_same_images(eval_items(hr), eval_items(out))


def test_lmdb_refuses(script: Scripts, hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                      capsys: pytest.CaptureFixture[str]) -> None:
    make = script('data/make_lmdb')
    assert make.main([str(hr), '-o', str(tmp_path / 'hr')]) == 2
    assert 'must end in .lmdb' in capsys.readouterr().err
    (tmp_path / 'hr.lmdb').mkdir()
    assert make.main([str(hr), '-o', str(tmp_path / 'hr.lmdb')]) == 2
    assert 'no meta_info.txt' in capsys.readouterr().err
    (hr / 'd.jpg').rename(hr / 'd\u00e9.jpg')
    assert make.main([str(hr), '-o', str(tmp_path / 'new.lmdb')]) == 2
    error = capsys.readouterr().err
    assert 'd\u00e9.jpg' in error and 'rename' in error
    (hr / 'd\u00e9.jpg').rename(hr / 'a.jpg')
    assert make.main([str(hr), '-o', str(tmp_path / 'new.lmdb')]) == 2
    assert 'both have the key' in capsys.readouterr().err
    (hr / 'a.jpg').unlink()

    def full(*args: Any) -> None:
        raise make.lmdb.DiskError('mdb_txn_commit: No space left on device')

    monkeypatch.setattr(make, '_commit', full)
    assert make.main([str(hr), '-o', str(tmp_path / 'new.lmdb')]) == 1
    error = capsys.readouterr().err
    assert 'No space left on device' in error and 'MiB are free' in error
    assert not (tmp_path / 'new.lmdb').exists()


# ----------------------------------------------------------------------------------------------------------- make_lr


@pytest.mark.parametrize(('rule', 'mod_crop'), [('round', 1), ('ceil', 12), ('floor', 5)])
def test_lr_equals_on_the_fly(script: Scripts, hr: Path, tmp_path: Path, rule: str, mod_crop: int) -> None:
    template = str(tmp_path / 'lr' / 'bicubic_{scale}')
    assert script('data/make_lr').main([str(hr), '-o', template, '--scales', 'x2', '1.5x3', '--mod-crop', str(mod_crop),
                                   '--size-rule', rule]) == 0
    options = {'size_rule': rule, 'mod_crop': mod_crop}
    made = eval_items(hr, dataroot_lq=template, **options)
    assert all('/lr/bicubic_x' in item['lq_path'] for item in made.values())
    assert_same_images(eval_items(hr, **options), made)


def test_lr_in_training(script: Scripts, hr: Path, tmp_path: Path) -> None:
    template = str(tmp_path / 'X{factor}')
    assert script('data/make_lr').main([str(hr), '-o', template, '--scales', '1', '2']) == 0
    dataset = ArbitraryScaleDataset({'name': 'train', 'phase': 'train', 'dataroot_gt': str(hr), 'dataroot_lq': template,
                                     'scales': [1, 2], 'gt_size': 16})
    item = dataset[0]
    assert item['lq'].shape[1] in (8, 16)


def test_lr_goes_on(script: Scripts, hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                    capsys: pytest.CaptureFixture[str]) -> None:
    make, template = script('data/make_lr'), str(tmp_path / '{scale}' / 'LR')
    command = [str(hr), '-o', template, '--scales', '2', '3']
    with monkeypatch.context() as patch:
        patch.setattr(make, 'save_bytes', interrupt_after(3, make.save_bytes))
        assert make.main(command) == 130
    assert [len(files(tmp_path / label)) for label in ('x2', 'x3')] == [2, 1]
    content = damage(hr / 'd.jpg')
    (hr / 'd.jpg').write_bytes(b'')
    assert make.main(command) == 1
    captured = capsys.readouterr()
    assert '5 LR images written at x2, x3, 3 were there, 1 HR images could not be used' in captured.out
    assert 'd.jpg' in captured.err
    (hr / 'd.jpg').write_bytes(content)
    assert make.main([*command, '--size-rule', 'ceil']) == 2
    assert "'size_rule': 'round'" in capsys.readouterr().err
    assert make.main(command) == 0
    assert '2 LR images written at x2, x3, 8 were there' in capsys.readouterr().out
    assert_same_images(eval_items(hr, scales=[2, 3]), eval_items(hr, scales=[2, 3], dataroot_lq=template))


@pytest.mark.parametrize(('output', 'scales', 'message'), [
    ('lr', ['2', '3'], 'put {scale}'),
    ('lr_{skale}', ['2'], 'the only placeholders'),
    ('lr', ['0.5'], 'not a valid scale'),
    ('lr', ['two'], 'not understood'),
    ('hr/{scale}', ['2'], 'inside the input folder'),
    ('LR/{scale}', ['2'], 'would count as HR'),
])
def test_lr_refuses(script: Scripts, hr: Path, output: str, scales: list[str], message: str,
                    capsys: pytest.CaptureFixture[str]) -> None:
    assert script('data/make_lr').main([str(hr), '-o', str(hr.parent / output), '--scales', *scales]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert list(hr.parent.iterdir()) == [hr]


@pytest.mark.parametrize(('folder', 'output', 'example'), [
    ('datasets/Set5/GTmod12', 'datasets/Set5/LR/{scale}', 'datasets/LR/Set5/{scale}'),
    ('datasets/Set5/GTmod12/', 'datasets/../datasets/Set5/{scale}', 'datasets/LR/Set5/{scale}'),
    ('photos/mine', 'photos/LR/mine/{scale}', 'LR/photos/{scale}'),
    ('datasets/Set5/GTmod12', 'datasets/LR/Set5/{scale}', None),
    ('datasets/B100', 'datasets/LR/B100/{scale}', None),  # the folder of all data sets is not one
])
def test_lr_does_not_lie_beside_hr(script: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str,
                                   output: str, example: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """What is read recursively as HR must not hold LR; the example of the message is accepted."""
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir(parents=True)
    cv2.imwrite(f'{folder}/a.png', photograph(12, 12, 0))
    main = script('data/make_lr').main
    if example is None:
        assert main([folder, '-o', output, '--scales', '2']) == 0
        return
    assert main([folder, '-o', output, '--scales', '2']) == 2
    error = capsys.readouterr().err
    assert 'for anyone who reads that folder recursively' in error and error.count('\n') == 1
    assert len(files(tmp_path)) == 1
    named = re.search("such as '(.*)'", error)[1]
    assert named == str(tmp_path / example)
    assert main([folder, '-o', named, '--scales', '2']) == 0


def test_lr_mod_crop_too_large(script: Scripts, hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script('data/make_lr').main([str(hr), '-o', str(tmp_path / 'x2'), '--scales', '2', '--mod-crop', '30']) == 1
    assert 'leaves nothing of' in capsys.readouterr().err
    assert len(files(tmp_path / 'x2')) == 4


# ------------------------------------------------------------------------------------------------------ make_bsds400

IMAGES = 'BSR/BSDS500/data/images'
COUNTS = {'train': 2, 'test': 2, 'val': 1}


def bsds(counts: dict[str, int] = COUNTS) -> dict[str, bytes]:
    """Files of an archive like that of BSDS500, with so many images."""
    images = {f'{IMAGES}/{split}/{k}{split}.jpg': f'{split} {k}'.encode() for split, n in counts.items()
              for k in range(n)}
    return {**images, f'{IMAGES}/train/Thumbs.db': b'', f'{IMAGES}/train/._0train.jpg': b'',
            'BSR/BSDS500/data/groundTruth/train/0train.mat': b'', 'BSR/bench/data/images/2018.jpg': b'another'}


def pack(path: Path, content: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """A .tgz; folders have members of their own, as in the archive."""
    with tarfile.open(path, 'w:gz') as archive:
        for folder in sorted({parent for name in content for parent in Path(name.lstrip('/')).parents if parent.name}):
            member = tarfile.TarInfo(folder.as_posix())
            member.type = tarfile.DIRTYPE
            archive.addfile(member)
        for name, value in content.items():
            member = value if isinstance(value, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b'' if isinstance(value, tarfile.TarInfo) else value
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def unpack(folder: Path, strip: str) -> Path:
    """The files of :func:`bsds` in a folder, without the beginning of their names."""
    for name, content in bsds().items():
        if name.startswith(strip):
            path = folder / name[len(strip):].lstrip('/')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def images_of(*splits: str) -> dict[str, bytes]:
    return {name[len(IMAGES) + 1:]: content for name, content in bsds().items()
            if name.startswith(tuple(f'{IMAGES}/{split}/{digit}' for split in splits for digit in '01'))}


@pytest.mark.parametrize('strip', ['archive', '', 'BSR', 'BSR/BSDS500', 'BSR/BSDS500/data', IMAGES])
def test_bsds(script: Scripts, tmp_path: Path, strip: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From the archive and from every folder that extracting it gives; val is taken only where it is asked for."""
    make, out, b100 = script('data/make_bsds400').make, tmp_path / 'BSDS400', tmp_path / 'B100'
    source = pack(tmp_path / 'a.tgz', bsds()) if strip == 'archive' else unpack(tmp_path / 'in', strip)
    assert make(str(source), str(out), None, COUNTS) == 0
    assert capsys.readouterr().out == f'{out}: 4 photographs, 4 of them written now\n'
    assert files(out) == images_of('train', 'test')
    assert make(str(source), str(out), str(b100), COUNTS) == 0
    assert capsys.readouterr().out.splitlines() == [f'{out}: 4 photographs, 0 of them written now',
                                                    f'{b100}: 1 photographs, 1 of them written now']
    assert files(out) == images_of('train', 'test')
    assert {f'val/{name}': content for name, content in files(b100).items()} == images_of('val')


@pytest.mark.slow
def test_bsds_goes_on(script: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                      capsys: pytest.CaptureFixture[str]) -> None:
    module, out = script('data/make_bsds400'), tmp_path / 'out'
    command = [str(pack(tmp_path / 'a.tgz', bsds({'train': 200, 'test': 200, 'val': 100}))), '-o', str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(module, 'save_bytes', interrupt_after(3, module.save_bytes))
        assert module.main(command) == 130
    assert len(files(out)) == 3
    assert 'run the same command again' in capsys.readouterr().err
    (out / 'train' / '0train.jpg').write_bytes(b'tra')  # damaged since
    assert module.main(command) == 0
    assert capsys.readouterr().out == f'{out}: 400 photographs, 398 of them written now\n'
    assert len(files(out)) == 400 and files(out).items() >= images_of('train', 'test').items()
    (tmp_path / 'file').touch()
    assert module.main([command[0], '-o', str(tmp_path / 'file')]) == 1  # the disk's fault, not the command's
    assert capsys.readouterr().err.count('\n') == 1


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, '/etc/passwd'
    return member


@pytest.mark.parametrize(('change', 'message'), [
    ({f'{IMAGES}/test/1test.jpg': None}, 'has 1 photographs in test, expected 2: it is not BSDS500, or a part of it'),
    ({f'{IMAGES}/train/2train.jpg': b'2'}, 'has 3 photographs in train, expected 2'),
    ({f'{IMAGES}/train/1train.jpg': link(f'{IMAGES}/train/1train.jpg', tarfile.SYMTYPE)}, 'is a link or leads outside'),
    ({f'{IMAGES}/train/1train.jpg': link(f'{IMAGES}/train/1train.jpg', tarfile.LNKTYPE)}, 'is a link or leads outside'),
    ({'../train/1train.jpg': b''}, "'../train/1train.jpg' is a link or leads outside"),
    ({'/train/1train.jpg': b''}, "'/train/1train.jpg' is a link or leads outside"),
    ({IMAGES + '/train/a\\..\\1.jpg': b''}, 'is a link or leads outside'),
])
def test_bsds_refuses_archives(script: Scripts, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    module, content = script('data/make_bsds400'), {**bsds(), **change}
    archive = pack(tmp_path / 'a.tgz', {name: value for name, value in content.items() if value is not None})
    with pytest.raises(OptionError, match=re.escape(message)) as error:
        module.make(str(archive), str(tmp_path / 'out'), None, COUNTS)
    assert '\n' not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ['a.tgz']


@pytest.mark.parametrize('damage_to', ['half', 'bytes', 'text'])
def test_bsds_damaged_archive(script: Scripts, tmp_path: Path, damage_to: str,
                              capsys: pytest.CaptureFixture[str]) -> None:
    archive = pack(tmp_path / 'a.tgz', {f'{IMAGES}/train/0.jpg': np.random.default_rng(0).bytes(30000)})
    content = damage(archive)
    if damage_to == 'bytes':
        archive.write_bytes(content[:9000] + bytes(50) + content[9050:])
    elif damage_to == 'text':
        archive.write_text('<html>not found</html>')
    assert script('data/make_bsds400').main([str(archive), '-o', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'is not a tar archive, or is damaged' in error and 'fetch it again' in error


def test_bsds_refuses_folders(script: Scripts, tmp_path: Path) -> None:
    make, out = script('data/make_bsds400').make, tmp_path / 'out'
    source = str(unpack(tmp_path / 'in', IMAGES))

    def refusal(*arguments: str | None) -> str:
        with pytest.raises(OptionError) as error:
            make(*arguments, COUNTS)
        assert '\n' not in str(error.value)
        return str(error.value)

    assert 'does not exist: name BSR_bsds500.tgz' in refusal(str(tmp_path / 'nix'), str(out), None)
    assert 'holds no folders train and test' in refusal(str(tmp_path / 'in' / 'train'), str(out), None)
    assert 'must lie apart' in refusal(source, str(out), str(out / 'B100'))
    assert 'must lie apart' in refusal(source, str(out / 'BSDS400'), str(out))
    (out / 'more').mkdir(parents=True)
    (out / 'more' / 'val.jpg').touch()
    assert f"holds other images, such as '{out}/more/val.jpg'" in refusal(source, str(out), None)
    assert [*files(out)] == ['more/val.jpg']
    assert 'holds other images' in refusal(source, source, None)  # val lies there too


# ---------------------------------------------------------------------------------------------- all of them, together


def test_stock_dataset_reads_the_lmdb(script: Scripts, hr: Path, tmp_path: Path) -> None:
    from basicsr.data import build_dataset
    (hr / 'c.v2.png').unlink()  # BasicSR cuts keys at the first dot
    sub, lr = tmp_path / 'parts' / 'sub', tmp_path / 'X2'
    assert script('data/extract_subimages').main([str(hr), '-o', str(sub), '--crop', '20', '--step', '20']) == 0
    assert script('data/make_lr').main([str(sub), '-o', str(lr), '--scales', '2']) == 0
    for folder in (sub, lr):
        assert script('data/make_lmdb').main([str(folder), '-o', f'{folder}.lmdb']) == 0
    dataset = build_dataset({
        'name': 'stock', 'type': 'PairedImageDataset', 'phase': 'train', 'dataroot_gt': f'{sub}.lmdb',
        'dataroot_lq': f'{lr}.lmdb', 'io_backend': {'type': 'lmdb'}, 'scale': 2, 'gt_size': 20, 'use_hflip': False,
        'use_rot': False,
    })
    assert len(dataset) == len(files(sub))
    for k in range(len(dataset)):
        item = dataset[k]
        for kind, folder in (('gt', sub), ('lq', lr)):
            expected = read(folder / f'{item[f"{kind}_path"]}.png')[..., ::-1]
            assert np.array_equal((item[kind] * 255).round().byte().permute(1, 2, 0).numpy(), expected)


def test_bench(script: Scripts, hr: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script('bench/dataloader').main(['--images', str(hr), '--patch', '16', '--batch', '2', '--batches', '3',
                                            '--repeats', '1', '--count', '3']) == 0
    table = capsys.readouterr().out
    assert '| ratio | ' in table
    assert f'torch {torch.__version__}' in table
    assert script('bench/dataloader').main(['--images', str(hr), '--patch', '512']) == 2
    assert 'extract_subimages.py' in capsys.readouterr().err


@pytest.mark.slow
def test_commands_of_the_readme(script: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run in their order, on small data where the README's would be."""
    text = (Path(__file__).resolve().parents[2] / 'scripts' / 'README.md').read_text(encoding='utf-8')
    lines = [line.split('#')[0].strip() for block in re.findall(r'```bash\n(.*?)```', text, re.S)
             for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith('python scripts/data/')]
    assert [Path(words[0]).stem for words in commands] == [
        'make_bsds400', 'extract_subimages', 'make_lmdb', 'make_lr', 'prepare_quick_data']
    monkeypatch.chdir(tmp_path)
    pack(Path('BSR_bsds500.tgz'), bsds({'train': 200, 'test': 200, 'val': 100}))
    for folder in ('datasets/DIV2K/DIV2K_train_HR', 'datasets/Set5/GTmod12'):
        Path(folder).mkdir(parents=True)
        cv2.imwrite(f'{folder}/a.png', photograph(48, 36, 0))
    for name, *arguments in commands:
        assert script(name.removeprefix('scripts/').removesuffix('.py')).main(arguments) == 0
    assert {name: len(files(Path('datasets', name))) for name in (
        'BSDS400', 'B100', 'DIV2K/DIV2K_train_HR_sub', 'LR/Set5/x1.5', 'Set5', 'quick')} == {
            'BSDS400': 400, 'B100': 100, 'DIV2K/DIV2K_train_HR_sub': 1, 'LR/Set5/x1.5': 1, 'Set5': 1, 'quick': 11}
