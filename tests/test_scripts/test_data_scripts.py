"""The scripts that prepare training data: tiny real runs, interrupted runs, what the datasets make of the result."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers import make_image
from PIL import Image

from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset


@pytest.fixture
def hr(tmp_path):
    """Images of several kinds: a sub-folder, a dot in the name, JPEG, gray, one that is small on one axis."""
    folder = tmp_path / 'set' / 'hr'
    (folder / 'sub').mkdir(parents=True)
    cv2.imwrite(str(folder / 'a.png'), make_image(40, 52, 0))
    cv2.imwrite(str(folder / 'a-b.png'), make_image(36, 48, 1))
    cv2.imwrite(str(folder / 'c.v2.png'), make_image(48, 36, 2))
    cv2.imwrite(str(folder / 'd.jpg'), make_image(48, 48, 3))
    cv2.imwrite(str(folder / 'sub' / 'a.png'), make_image(60, 20, 4)[..., 0])
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Every visible file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob('*'))
            if p.is_file() and p.parent.name != '.made_with'}


def interrupt_after(calls: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, until Ctrl-C is pressed in the next call after ``calls``."""
    left = iter(range(calls))

    def wrapped(*args: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return function(*args)

    return wrapped


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR)


@pytest.mark.parametrize(('name', 'options'), [
    ('data/make_lmdb', ['-o', 'out.lmdb']), ('data/make_lr', ['-o', 'out', '--scales', '2'])])
def test_empty_or_missing_folder(script, name, options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for message in ('does not exist', 'no image in'):
        assert script(name).main(['in', *options]) == 2
        error = capsys.readouterr().err
        assert error.count('\n') == 1 and message in error
        assert [p.name for p in tmp_path.iterdir() if p.name != 'in'] == []
        Path('in').mkdir(exist_ok=True)


def test_extract(script, hr, tmp_path, capsys):
    starts = script('data/extract_subimages').starts
    assert [starts(n, 480, 240, rest) for n, rest in ((480, 0), (721, 0), (721, 1), (1, 0))] == [
        [0], [0, 240, 241], [0, 240], [0]]
    more, out = tmp_path / 'more', tmp_path / 'out'
    more.mkdir()
    cv2.imwrite(str(more / 'e.png'), make_image(24, 24, 9))
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
    assert '32 sub-images of 6 images written, 0 images done before' in capsys.readouterr().out


def test_extract_goes_on(script, hr, tmp_path, monkeypatch, capsys):
    extract, out, at_once = script('data/extract_subimages'), tmp_path / 'out', tmp_path / 'at_once'
    options = ['--crop', '24', '--step', '16', '--workers', '2']
    assert extract.main([str(hr), '-o', str(at_once), *options]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(extract, 'save_bytes', interrupt_after(8, extract.save_bytes))
        assert extract.main([str(hr), '-o', str(out), *options]) == 130
    assert len(files(out)) == 8  # one image done, one in the middle
    assert 'run the same command again' in capsys.readouterr().err
    times = {p: p.stat().st_mtime_ns for p in out.glob('a_s*.png')}
    assert extract.main([str(hr), '-o', str(out), *options]) == 0
    assert '1 images done before' in capsys.readouterr().out
    assert files(out) == files(at_once)
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert extract.main([str(hr), '-o', str(out), *options]) == 0
    assert '0 sub-images of 0 images written, 5 images done before' in capsys.readouterr().out


def test_extract_refuses(script, hr, tmp_path, capsys):
    main = script('data/extract_subimages').main
    assert main([str(hr), '-o', str(hr / 'out')]) == 2
    assert 'inside the input folder' in capsys.readouterr().err
    assert main([str(hr), '-o', str(tmp_path / 'out')]) == 0
    assert main([str(hr), '-o', str(tmp_path / 'out'), '--step', '16']) == 2
    assert "'step': 240" in capsys.readouterr().err
    cv2.imwrite(str(hr / 'a.bmp'), make_image(8, 8, 0))
    assert main([str(hr), '-o', str(tmp_path / 'new')]) == 2
    error = capsys.readouterr().err
    assert 'a.bmp' in error and 'a.png' in error
    with pytest.raises(SystemExit):
        main([str(hr), '-o', str(tmp_path / 'new'), '--compression', '10'])


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


def test_lmdb_equals_disk(script, hr, tmp_path, capsys):
    out = tmp_path / 'hr.lmdb'
    assert script('data/make_lmdb').main([str(hr), '-o', str(out)]) == 0
    assert 'BasicSR\'s datasets do not' in capsys.readouterr().out  # c.v2
    assert {p.name for p in out.iterdir()} == {'data.mdb', 'meta_info.txt'}
    assert (out / 'meta_info.txt').read_text().splitlines() == [
        'a.png (40,52,3) 1', 'a-b.png (36,48,3) 1', 'c.v2.png (48,36,3) 1', 'd.png (48,48,3) 1', 'sub/a.png (60,20,3) 1'
    ]
    assert_same_images(eval_items(hr), eval_items(out))


def test_lmdb_starts_again(script, hr, tmp_path, monkeypatch, capsys):
    make, out = script('data/make_lmdb'), tmp_path / 'hr.lmdb'
    command = [str(hr), '-o', str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(make.ImageSource, 'read', interrupt_after(3, make.ImageSource.read))
        assert make.main(command) == 130
    content = (hr / 'd.jpg').read_bytes()
    (hr / 'd.jpg').write_bytes(b'')
    assert make.main(command) == 1
    assert 'repair or remove them' in capsys.readouterr().err and not out.exists()
    (hr / 'd.jpg').write_bytes(content)
    (hr / 'a-b.png').unlink()
    assert make.main(command) == 0
    assert not (tmp_path / 'hr.lmdb.partial').exists()
    assert_same_images(eval_items(hr), eval_items(out))
    capsys.readouterr()
    assert make.main(command) == 0
    assert 'already made, 4 images' in capsys.readouterr().out
    cv2.imwrite(str(hr / 'e.png'), make_image(20, 20, 7))
    assert make.main(command) == 2
    assert '1 missing' in capsys.readouterr().err


def test_lmdb_refuses(script, hr, tmp_path, monkeypatch, capsys):
    make = script('data/make_lmdb')

    def refused(code: int, name: str = 'new.lmdb') -> str:
        assert make.main([str(hr), '-o', str(tmp_path / name)]) == code
        return capsys.readouterr().err

    assert 'must end in .lmdb' in refused(2, 'hr')
    (tmp_path / 'hr.lmdb').mkdir()
    assert 'no meta_info.txt' in refused(2, 'hr.lmdb')
    image = hr / 'd.jpg'
    image = image.rename(hr / 'd\u00e9.jpg')
    assert 'd\u00e9.jpg' in refused(2)
    image = image.rename(hr / 'a.jpg')
    assert "would both become 'a'" in refused(2)
    Image.open(image).save(hr / 'e.tga')
    image.unlink()
    assert 'e.tga\': OpenCV' in refused(1)
    (hr / 'e.tga').unlink()

    def full(*args: Any, **more: Any) -> None:
        raise make.lmdb.DiskError('mdb_txn_commit: No space left on device')

    monkeypatch.setattr(make.lmdb, 'open', full)
    assert re.search(r'No space left on device .* MiB are free', refused(1))
    assert not (tmp_path / 'new.lmdb').exists()


@pytest.mark.parametrize(('rule', 'mod_crop'), [('round', 1), ('ceil', 12)])
def test_lr_equals_on_the_fly(script, hr, tmp_path, rule, mod_crop):
    template = str(tmp_path / 'lr' / 'bicubic_{scale}')
    assert script('data/make_lr').main([str(hr), '-o', template, '--scales', 'x2', '1.5x3', '--mod-crop', str(mod_crop),
                                        '--size-rule', rule]) == 0
    options = {'size_rule': rule, 'mod_crop': mod_crop}
    made = eval_items(hr, dataroot_lq=template, **options)
    assert all('/lr/bicubic_x' in item['lq_path'] for item in made.values())
    assert_same_images(eval_items(hr, **options), made)


def test_lr_goes_on(script, hr, tmp_path, monkeypatch, capsys):
    make, template = script('data/make_lr'), str(tmp_path / '{scale}' / 'LR')
    command = [str(hr), '-o', template, '--scales', '2', '3']
    with monkeypatch.context() as patch:
        patch.setattr(make, 'save_bytes', interrupt_after(3, make.save_bytes))
        assert make.main(command) == 130
    assert [len(files(tmp_path / label)) for label in ('x2', 'x3')] == [2, 1]
    content = (hr / 'd.jpg').read_bytes()
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
    assert make.main([str(hr), '-o', str(tmp_path / 'none'), '--scales', '2', '--mod-crop', '1024']) == 1
    assert capsys.readouterr().err.count('mod_crop: 1024 leaves nothing') == 5


@pytest.mark.parametrize(('output', 'scales', 'message'), [
    ('lr', ['2', '3'], 'put {scale}'),
    ('lr_{skale}', ['2'], 'the only placeholders'),
    ('lr', ['two'], "scales: ['two']; expected"),
    ('hr/{scale}', ['2'], 'inside the input folder'),
])
def test_lr_refuses(script, hr, output, scales, message, capsys):
    assert script('data/make_lr').main([str(hr), '-o', str(hr.parent / output), '--scales', *scales]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert list(hr.parent.iterdir()) == [hr]


IMAGES = 'BSR/BSDS500/data/images'
COUNTS = {'Set5': 1, 'Set14': 2, 'B100': 2, 'Urban100': 1, 'BSDS400/train': 2, 'BSDS400/test': 1}
BSDS = {f'{IMAGES}/{name}': name.encode() for name in ('train/0.jpg', 'train/1.jpg', 'test/2.jpg', 'val/3.jpg',
                                                       'val/4.jpg')}
SELFEXSR = {f'SelfExSR-master/data/{name}_SRF_2_HR.png': name.encode() for name in (
    'Set5/image_SRF_2/img_001', 'Set14/image_SRF_2/img_001', 'Set14/image_SRF_2/img_002', 'BSD100/image_SRF_2/img_001',
    'BSD100/image_SRF_2/img_002', 'Urban100/image_SRF_2/img_001')}
OTHERS = {f'{IMAGES}/train/Thumbs.db': b'', f'{IMAGES}/train/._0.jpg': b'', 'BSR/bench/data/images/2018.jpg': b'x',
          'SelfExSR-master/data/Set5/image_SRF_4/img_001_SRF_4_HR.png': b'',
          'SelfExSR-master/data/Set5/image_SRF_2/img_001_SRF_2_LR.png': b''}


@pytest.fixture
def benchmarks(script, monkeypatch, tmp_path):
    """The script, for sets of few images, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    module = script('data/make_benchmarks')
    monkeypatch.setattr(module, 'COUNTS', COUNTS)
    return module


def pack(name: str, content: dict[str, bytes]) -> str:
    """A source of that name: a .tgz, a .zip or a folder."""
    folder, _, ending = name.partition('.')
    for path, data in content.items():
        Path(folder, path).parent.mkdir(parents=True, exist_ok=True)
        Path(folder, path).write_bytes(data)
    if ending:
        os.rename(shutil.make_archive(folder, {'tgz': 'gztar', 'zip': 'zip'}[ending], folder), name)
        shutil.rmtree(folder)
    return name


@pytest.mark.parametrize('kind', ['a.tgz', 'a.zip', 'folder'])
def test_benchmarks(benchmarks, kind, capsys):
    """From BSDS500, then from SelfExSR: a set that exists is kept; val never goes into BSDS400."""
    assert benchmarks.main([pack(kind, {**BSDS, **OTHERS})]) == 0
    assert files(Path('datasets')) == {'BSDS400/train/0.jpg': b'train/0.jpg', 'BSDS400/train/1.jpg': b'train/1.jpg',
                                       'BSDS400/test/2.jpg': b'test/2.jpg', 'B100/3.jpg': b'val/3.jpg',
                                       'B100/4.jpg': b'val/4.jpg'}
    capsys.readouterr()
    assert benchmarks.main([pack(f'self_{kind}', {**SELFEXSR, **OTHERS})]) == 0
    assert 'datasets/B100: kept, it was made from another source' in capsys.readouterr().out
    assert {name for name in files(Path('datasets')) if not name.startswith('B')} == {
        'Set5/img_001.png', 'Set14/img_001.png', 'Set14/img_002.png', 'Urban100/img_001.png'}
    assert {p.name for p in Path('datasets/B100').iterdir()} == {'3.jpg', '4.jpg'}


def test_benchmarks_resume(benchmarks, monkeypatch, capsys):
    source = pack('a.tgz', BSDS)
    with monkeypatch.context() as patch:
        patch.setattr(benchmarks, 'save_bytes', interrupt_after(2, benchmarks.save_bytes))
        assert benchmarks.main([source]) == 130
    assert 'run the same command again' in capsys.readouterr().err
    Path('datasets/BSDS400/train/0.jpg').write_bytes(b'tra')  # damaged since
    assert benchmarks.main([source]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ['datasets/BSDS400/test: 1 images, 0 of them written now',
                                                        'datasets/BSDS400/train: 2 images, 2 of them written now']
    Path('file').touch()
    assert benchmarks.main([source, '-o', 'file']) == 1  # the disk's fault, not the command's
    assert capsys.readouterr().err.count('\n') == 1


def test_benchmarks_refuse(benchmarks, capsys):
    """One line, and nothing is written."""
    Path('datasets/B100').mkdir(parents=True)
    Path('datasets/B100/mine.png').touch()
    half = Path(pack('half.tgz', {f'{IMAGES}/train/0.jpg': np.random.default_rng(0).bytes(30000)}))
    half.write_bytes(half.read_bytes()[:15000])
    Path('text.zip').write_text('<html>not found</html>')
    few = dict(list(BSDS.items())[1:])
    for source, message in (('nowhere', 'does not exist'), ('text.zip', 'is not a zip or tar archive, or is damaged'),
                            (str(half), 'or is damaged'), (pack('empty', {'a/b.png': b''}), 'holds neither'),
                            (pack('few.zip', few), 'holds 1 images of BSDS400/train, expected 2')):
        assert benchmarks.main([source]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count('\n') == 1
    assert benchmarks.main([pack('a.zip', {k: v for k, v in BSDS.items() if 'val' in k})]) == 2
    assert "'datasets/B100' holds other images, such as 'mine.png'" in capsys.readouterr().err
    assert {*files(Path('datasets'))} == {'B100/mine.png'}


def test_stock_dataset_reads_the_lmdb(script, hr, tmp_path):
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
