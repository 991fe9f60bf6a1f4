"""An LR image as a JPEG: its metadata, what becomes of it, and which weights may."""

import json

import numpy as np
import pytest
from helpers import tiny_net
from PIL import Image

from iarn_basicsr import zoo
from iarn_basicsr.errors import OptionError
from iarn_basicsr.inference.cli import main
from iarn_basicsr.inference.extras import Extras
from iarn_basicsr.inference.picture_file import Picture, read_picture, write_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.verify import PHOTOGRAPH

WIDTH, HEIGHT = 120, 96


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current directory, with a photograph and weights whose LR may become a JPEG."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(read_picture(PHOTOGRAPH).rgb[90:90 + HEIGHT, 120:120 + WIDTH]).save('photo.png')
    tiny_net().save('tiny.pth')
    made_for_it = Rescaler.load('tiny.pth', device='cpu').weights_hash
    monkeypatch.setattr(zoo, 'JPEG', 'tiny.pth')
    monkeypatch.setattr(zoo, 'survives_jpeg', lambda weights_hash: weights_hash == made_for_it)
    return tmp_path


@pytest.fixture
def iarn(place, capsys):
    """Runs a command line in this process: (exit code, stdout, stderr)."""
    def run(*arguments):
        code = main([*map(str, arguments), *(['--device', 'cpu'] if arguments[0] != 'info' else [])])
        return code, *capsys.readouterr()

    return run


def metadata_of(path):
    with Image.open(path) as file:
        return json.loads(file.info['comment'][len(b'iarn '):])


def again(source, target, keep=True, change=lambda image: image, quality=50, **options):
    """What another program makes of a JPEG."""
    with Image.open(source) as file:
        image = change(file.convert('RGB'))
        image.info.pop('comment', None)  # which Pillow would write
        comment = {'comment': file.info['comment']} if keep else {}
        image.save(target, **{'quality': quality, **comment, **options})


def test_down_and_up_again(iarn):
    """The weights are taken by themselves; what is written is what is restored."""
    name = 'lr.JPEG'
    assert iarn('downscale', 'photo.png', '-o', name, '--scale', '2') == (0, '', '')
    with Image.open(name) as file:
        assert file.format == 'JPEG' and file.layer[0][1:3] == (2, 2)  # chroma is halved
    metadata = metadata_of(name)
    assert metadata['checksum'] == '' and metadata['model'] == 'tiny' and metadata['hr_size'] == [HEIGHT, WIDTH]
    code, out, _ = iarn('info', name)
    assert code == 0 and f'LR image of {WIDTH}x{HEIGHT}, x2, original mode RGB' in out and 'edited' not in out
    assert iarn('upscale', name, '-o', 'whole.png', '--weights', 'tiny.pth') == (0, '', '')
    expected = Rescaler.load('tiny.pth', device='cpu').upscale(read_picture(name).rgb, (HEIGHT, WIDTH))
    assert np.array_equal(read_picture('whole.png').rgb, expected)


@pytest.mark.parametrize(('arguments', 'words'), [
    (['-o', 'lr.png', '--quality', '90'], 'quality 90: lr.png is not a JPEG'),
    (['-o', 'lr.jpg', '--payload', '2'], 'lr.jpg: payload 2 is lost in a JPEG: leave it out, or write .png or .webp'),
    (['-o', 'lr.jpg', '--effort', '3'], 'lr.jpg: effort 3 is lost in a JPEG'),
    (['-o', 'lr.jpg', '--weights', 'none'], "what the weights 'none' hide in an LR image does not survive a JPEG"),
])
def test_what_does_not_go_together(iarn, place, arguments, words):
    code, _, err = iarn('downscale', 'photo.png', '--scale', '2', *arguments)
    assert code == 2 and words in err and not list(place.glob('lr.*'))


@pytest.mark.parametrize('options', [
    {'quality': 20, 'progressive': True, 'subsampling': '4:4:4'}, {'change': lambda image: image.convert('L')}])
def test_made_again_by_another_program(iarn, place, options):
    """With the comment it is restored like that, without it by size and weights; the same pixels give the same."""
    iarn('downscale', 'photo.png', '-o', 'lr.jpg', '--scale', '2')
    again('lr.jpg', 'with.jpg', **options)
    again('lr.jpg', 'without.jpg', keep=False, **options)
    assert iarn('upscale', 'with.jpg', '-o', 'a.png', '--weights', 'tiny.pth') == (0, '', '')
    code, _, err = iarn('upscale', 'without.jpg', '-o', 'b.png', '--weights', 'tiny.pth')
    assert code == 1 and 'no IARN metadata' in err and '--size WxH' in err
    code, _, err = iarn('upscale', 'without.jpg', '-o', 'b.png', '--size', f'{WIDTH}x{HEIGHT}')
    assert code == 0 and 'restored if it was made with the weights tiny from a picture of that size' in err
    expected = Rescaler.load('tiny.pth', device='cpu').upscale(read_picture('without.jpg').rgb, (HEIGHT, WIDTH))
    assert np.array_equal(read_picture('a.png').rgb, expected)
    if 'L' not in read_picture('without.jpg').mode:
        assert np.array_equal(read_picture('b.png').rgb, expected)


@pytest.mark.parametrize(('change', 'words'), [
    (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 'it does not look as it did when it was made'),
    (lambda image: image.crop((0, 0, 50, 48)), 'it is 50x48 but was made 60x48 (width x height): it was resized, turn'),
])
def test_changed_since(iarn, place, change, words):
    iarn('downscale', 'photo.png', '-o', 'lr.jpg', '--scale', '2')
    again('lr.jpg', 'changed.jpg', change=change)
    code, _, err = iarn('upscale', 'changed.jpg', '-o', 'x.png', '--weights', 'tiny.pth')
    assert code == 1 and words in err and err.endswith('; pass --force to try\n') and not (place / 'x.png').exists()
    code, _, err = iarn('upscale', 'changed.jpg', '-o', 'x.png', '--weights', 'tiny.pth', '--force')
    assert code == 0 and err.endswith(': not restored as it was\n')


def test_comments_of_others(iarn):
    Image.new('RGB', (60, 48), (40, 80, 120)).save('foreign.jpg', comment=b'made by a camera')
    code, _, err = iarn('upscale', 'foreign.jpg', '-o', 'x.png', '--weights', 'tiny.pth')
    assert code == 1 and 'no IARN metadata' in err
    Image.new('RGB', (60, 48)).save('damaged.jpg', comment=b'iarn \xff\xfe')
    code, _, err = iarn('upscale', 'damaged.jpg', '-o', 'x.png', '--weights', 'tiny.pth')
    assert code == 1 and 'its IARN metadata are damaged' in err and err.count('\n') == 1


def test_gray_and_alpha(iarn, place):
    """A gray original is restored gray; an opaque alpha is not lost; a profile too large for a comment is told."""
    Image.open('photo.png').convert('L').save('gray.png')
    Image.open('photo.png').convert('RGBA').save('opaque.png')
    for name, mode in (('gray', 'L'), ('opaque', 'RGBA')):
        assert iarn('downscale', f'{name}.png', '-o', f'{name}.jpg', '--scale', '1.5') == (0, '', '')
        assert iarn('upscale', f'{name}.jpg', '-o', f'{name}_whole.png', '--weights', 'tiny.pth') == (0, '', '')
        with Image.open(f'{name}_whole.png') as file:
            assert file.mode == mode
    profile = (b'\0' * 16 + b'GRAY').ljust(70_000, b'\0')
    picture = Picture(read_picture('gray.png').rgb, mode='L', extras=Extras(profile))
    lr = Rescaler.load('tiny.pth', device='cpu').downscale(picture, scale=2)
    assert write_picture(lr, 'profile.jpg', 90) == ('its colour profile cannot go into a .jpg file: left out',)
    assert not read_picture('profile.jpg').extras.icc


def test_from_python(place):
    rescaler = Rescaler.load('tiny.pth', device='cpu')
    rescaler.downscale_file('photo.png', 'lr.jpg', scale=2, quality=60)
    with Image.open('lr.jpg') as file:
        assert file.quantization[0][0] == (16 * 80 + 50) // 100  # of libjpeg's table
    assert rescaler.upscale_file('lr.jpg', 'whole.png').size == (HEIGHT, WIDTH)
    assert Rescaler.load('none').downscale_file('photo.png', 'x.jpg', scale=2, allow_lossy=True).size == (48, 60)
    for quality in (0, 101, 50.5, True):
        with pytest.raises(OptionError, match='quality .*: expected an integer from 1 to 100'):
            rescaler.downscale_file('photo.png', 'x.jpg', scale=2, quality=quality)
