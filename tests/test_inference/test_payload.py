"""Coded detail in the LR: what it gains, what it costs, and what becomes of it when the LR is changed."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from helpers import make_image, tiny_net
from PIL import Image, PngImagePlugin, features

from iarn_basicsr.errors import OptionError
from iarn_basicsr.inference.cli import main
from iarn_basicsr.inference.picture_file import Picture, read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.tiling import bicubic_downscale_tiled, up_tiled
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.ops.image import to_pixels, to_tensor
from iarn_basicsr.ops.size import part_of
from iarn_basicsr.payload import bits, codec
from iarn_basicsr.payload.detail import read_detail

pytestmark = pytest.mark.skipif(not features.check('avif'), reason='this Pillow has no AVIF')


def psnr(a, b):
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


@pytest.fixture(scope='module')
def photo():
    """A detail of a photograph, with fine structure: (96, 120, 3)."""
    return read_picture(PHOTOGRAPH).rgb[90:186, 120:240]


def damaged(lr):
    """The LR with another message in the same low bits."""
    message, kind, k = bits.read(lr)
    other = bits.write(lr, bytes(len(message)), kind, k)
    assert np.array_equal(bits.high_part(lr, k), bits.high_part(other, k)) and (lr != other).any()
    return other


# ------------------------------------------------------------------------------------------------------------- gains


@pytest.mark.parametrize(('weights', 'scale', 'gain'), [
    ('none', 2, {1: 4, 2: 7, 3: 8}), ('iarn_light_x1-4', (1.5, 2.5), {1: 1})])
def test_more_bits_restore_more_and_cost_the_lr(photo, weights, scale, gain):
    plain = Rescaler.load(weights).roundtrip(photo, scale)
    bicubic = bicubic_downscale_tiled(photo, plain.lr.shape[:2])
    floors = {0: 35, 1: 36, 2: 34, 3: 33}  # of the LR against bicubic: 3 bits alone cost 38 dB
    for k, least in gain.items():
        lr, restored = Rescaler.load(weights, payload=k).roundtrip(photo, scale)
        assert psnr(restored, photo) > psnr(plain.restored, photo) + least
        assert psnr(lr, bicubic) > floors[k]
        assert bits.declared(lr) == k


def test_without_network_or_payload():
    """The LR is the bicubic one, the restored image its right inverse."""
    image = make_image(40, 60, seed=1)
    lr, restored = Rescaler.load('none').roundtrip(image, 2)
    assert np.array_equal(lr, bicubic_downscale_tiled(image, (20, 30)))
    again = bicubic_downscale_tiled(restored, (20, 30)).astype(int)
    assert np.abs(again - lr)[2:-2, 2:-2].mean() < 1


def test_the_prediction_does_not_see_the_payload(photo):
    """Whatever is wrong with the payload, what is restored without it stays."""
    one = Rescaler.load('none', payload=2)
    lr = one.downscale(photo, 2)
    size, (message, _, _) = photo.shape[:2], bits.read(lr)
    restored, changed, newer = one.upscale(damaged(lr), size), lr.copy(), lr.copy()
    interpolated = up_tiled(bits.high_part(lr, 2), size, 'cubic_interp')  # more than log2(2) bits a sample
    assert np.array_equal(restored, np.clip(np.rint(interpolated), 0, 255))
    changed[20] ^= 1
    newer.reshape(-1)[15] ^= 1  # the last bit of the version
    for other, reason in ((changed, 'damaged'), (newer, 'version')):
        with pytest.raises(bits.PayloadError) as error:
            bits.read(other)
        assert error.value.reason == reason
    for other in (changed, bits.write(lr, message, codec.CODEC + 1, 2)):
        assert np.array_equal(one.upscale(other, size), restored)
    assert psnr(restored, photo) < psnr(one.upscale(lr, size), photo) - 3
    residual = codec.decode(message, size, np.zeros_like)
    made = read_detail(lr, None, size, part_of(size), 2, lambda known: 100.6 - residual, lambda *_: np.zeros_like,
                       pytest.fail)
    assert (made == 101).all(), 'rounded'


def test_a_region_with_a_payload_without_a_network(photo):
    one = Rescaler.load('none', payload=2)
    lr = one.downscale(photo, 2)
    whole = one.upscale(lr, photo.shape[:2])
    assert np.array_equal(one.upscale(lr, photo.shape[:2], region=(10, 20, 30, 40)), whole[10:40, 20:60])


@torch.no_grad()
def test_metadata_without_a_payload_rule(photo):
    """An LR whose low bits happen to look like a header is restored as it was made."""
    plain = Rescaler.load('none')
    lr = plain.downscale(Picture(photo), 2)
    looks, header = lr.rgb.copy(), Rescaler.load('none', payload=2).downscale(photo, 2).reshape(-1)[:88]
    looks.reshape(-1)[:88] = looks.reshape(-1)[:88] & 0xFE | header & 1
    assert bits.declared(looks) == 2
    expected = to_pixels(plain.net.upscale(to_tensor(looks)[None], photo.shape[:2]))[0].astype(int)
    assert np.abs(plain.upscale(replace(lr, rgb=looks), force=True).rgb - expected).max() <= 1
    assert np.abs(plain.upscale(looks, photo.shape[:2]) - expected).max() > 1


def test_scale_one_and_pictures_too_small_for_a_payload():
    one = Rescaler.load('none', payload=2)
    image = make_image(9, 8, seed=1)
    assert np.array_equal(one.downscale(image, 1), image)
    lr, restored = one.roundtrip(image, 2)  # 4 x 4 samples do not hold a header
    assert np.array_equal(lr, Rescaler.load('none').downscale(image, 2)) and restored.shape == image.shape


def test_payload_and_effort_in_words(monkeypatch):
    assert Rescaler(tiny_net(), 'tiny', payload='auto').payload == 1
    assert Rescaler.load('none', payload='auto').payload == 2
    for wrong in (-1, 3.5, 'two', True, float('nan')):
        with pytest.raises(OptionError, match='payload .* expected a number of bits from 0 to 3, or auto'):
            Rescaler.load('none', payload=wrong)
    for wrong in (-1, 2.5, True, 10**6):
        with pytest.raises(OptionError, match='effort .* expected a number of steps from 0 to 10000'):
            Rescaler(tiny_net(), 'tiny', effort=wrong)
    with pytest.raises(OptionError, match='the weights none have none'):
        Rescaler.load('none', effort=3)
    monkeypatch.setattr(features, 'check', lambda name: False)
    with pytest.raises(codec.MissingCodecError, match=r"pip install 'pillow>=11.3'"):
        Rescaler.load('none', payload=2)  # before the work


# ------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def place(tmp_path, monkeypatch, photo):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('photo.png', photo[..., ::-1])
    return tmp_path


def run(*words):
    return main([str(w) for w in words])


DOWN = ('downscale', 'photo.png', '-o', 'small.png', '--scale', '2', '--weights', 'none', '--payload', '2')


def test_commands(place, photo, capsys):
    """The pixels say that there is a payload, also where the metadata are lost."""
    assert run(*DOWN) == 0
    assert run('info', 'small.png') == 0
    assert '2 low bits of each sample hold coded detail' in capsys.readouterr().out
    metadata = json.loads(Image.open('small.png').text['iarn'])
    assert metadata['payload'] == 2 and metadata['model'] == 'none'
    assert run('upscale', 'small.png', '-o', 'whole.png') == 0
    whole = read_picture('whole.png').rgb
    assert psnr(whole, photo) > 36

    Image.fromarray(read_picture('small.png').rgb).save('stripped.png')
    assert run('upscale', 'stripped.png', '-o', 'again.png', '--size', '120x96', '--weights', 'none') == 0
    assert np.array_equal(read_picture('again.png').rgb, whole)
    capsys.readouterr()
    assert run('upscale', 'stripped.png', '-o', 'wrong.png', '--size', '120x96') == 1
    assert ('iarn upscale: stripped.png: its payload was made without a network: restore it with the weights none\n'
            in capsys.readouterr().err)


def test_damaged_payload(place, capsys):
    """Refused as any edited LR; with --force restored by the high bits, with a remark."""
    run(*DOWN)
    with Image.open('small.png') as file:
        pixels, text = np.asarray(file).copy(), file.text['iarn']
    pixels[20:24] ^= 1
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text('iarn', text)
    Image.fromarray(pixels).save('edited.png', pnginfo=chunks)
    capsys.readouterr()
    assert run('upscale', 'edited.png', '-o', 'whole.png') == 1
    assert 'edited' in capsys.readouterr().err
    run('info', 'edited.png')
    assert '2 low bits of each sample hold coded detail, but its payload is damaged' in capsys.readouterr().out
    assert run('upscale', 'edited.png', '-o', 'whole.png', '--force') == 0
    err = capsys.readouterr().err
    assert 'edited.png: its payload is damaged' in err and 'restored without it' in err and 'Traceback' not in err
