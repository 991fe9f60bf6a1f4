"""Coded detail in the LR: what it gains, what it costs, and what becomes of it when the LR is changed."""

import json
import zlib

import cv2
import numpy as np
import pytest
import torch
from helpers import make_image, tiny_net
from PIL import Image, PngImagePlugin, features

from iarn_basicsr.errors import OptionError
from iarn_basicsr.inference.cli import main
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.inference.tiling import bicubic_downscale_tiled, upscale_tiled
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.ops.image import to_tensor
from iarn_basicsr.payload import bits, codec

pytestmark = pytest.mark.skipif(not features.check('avif'), reason='this Pillow has no AVIF')


def psnr(a, b):
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


@pytest.fixture(scope='module')
def photo():
    """A detail of a photograph, with fine structure: (96, 120, 3)."""
    return read_picture(PHOTOGRAPH).rgb[90:186, 120:240]


def rescaler(payload=0, net=None, **options):
    return Rescaler(net or tiny_net(), 'tiny', payload=payload, **options)


# ------------------------------------------------------------------------------------------------------------- gains


@pytest.mark.parametrize(('weights', 'scale', 'gain'), [
    ('none', 2, {1: 4, 2: 7, 3: 8}), ('none', (1.5, 2.5), {2: 7}), ('iarn_light_x1-4', 2, {1: 1.5, 2: 2})])
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


def test_auto():
    assert rescaler('auto').payload == 1 and Rescaler.load('none', payload='auto').payload == 2


def test_the_prediction_does_not_see_the_payload(photo, caplog):
    """Another message in the same LR: what is restored without it stays."""
    one = Rescaler.load('none', payload=2)
    lr = one.downscale(photo, 2)
    message, kind, k = bits.read(lr)
    other = bits.write(lr, bytes(len(message)), kind, k)
    assert np.array_equal(bits.high_part(lr, k), bits.high_part(other, k)) and (lr != other).any()
    restored = one.upscale(other, photo.shape[:2])
    assert 'cannot be decoded: restored without it' in caplog.messages[0]
    cut = lr.copy()
    cut[20] ^= 1
    assert np.array_equal(one.upscale(cut, photo.shape[:2]), restored)


@pytest.mark.parametrize('net', [True, False])
def test_tiled_equals_untiled(photo, net):
    made = {}
    for tile in (None, 64):
        one = rescaler(2, tile=tile) if net else Rescaler.load('none', payload=2, tile=tile)
        lr = one.downscale(photo, 2)
        made[tile] = lr, one.upscale(lr, photo.shape[:2])
    known = [bits.high_part(lr, 2) for lr, _ in made.values()]
    assert (known[0] != known[1]).mean() < 1e-3  # the payload itself may be coded otherwise
    assert abs(psnr(made[None][1], photo) - psnr(made[64][1], photo)) < 0.05


def test_tensors_and_sixteen_bits(photo):
    one = Rescaler.load('none', payload=2)
    lr = one.downscale(photo, 2)
    assert np.array_equal(one.downscale(photo.astype(np.uint16) * 257, 2), lr)
    small = one.downscale(to_tensor(photo), 2)
    assert torch.equal(small, to_tensor(lr))
    assert torch.equal(one.upscale(small, photo.shape[:2]), to_tensor(one.upscale(lr, photo.shape[:2])))


def test_metadata_without_a_payload_rule(photo):
    """An LR of an earlier file, whose low bits happen to look like a header, is restored as it was."""
    plain, one = Rescaler.load('none'), Rescaler.load('none', payload=2)
    lr = plain.downscale(photo, 2)
    looks = lr.copy()
    header = one.downscale(photo, 2).reshape(-1)[:88]
    looks.reshape(-1)[:88] = looks.reshape(-1)[:88] & 0xFE | header & 1
    assert bits.declared(looks) == 2
    size = photo.shape[:2]
    expected = upscale_tiled(plain.net, looks, size, 4096, plain.device)
    assert np.array_equal(plain.upscale_pixels(looks, size, 0), expected)
    assert not np.array_equal(plain.upscale_pixels(looks, size), expected)


def test_scale_one_and_pictures_too_small_for_a_payload():
    one = Rescaler.load('none', payload=2)
    image = make_image(9, 8, seed=1)
    assert np.array_equal(one.downscale(image, 1), image)
    lr, restored = one.roundtrip(image, 2)  # 4 x 4 samples do not hold a header
    assert np.array_equal(lr, Rescaler.load('none').downscale(image, 2)) and restored.shape == image.shape


@pytest.mark.parametrize('wrong', [-1, 3.5, 'two', True, None, float('nan')])
def test_wrong_payload(wrong):
    with pytest.raises(OptionError, match='payload .* expected a number of bits from 0 to 3, or auto'):
        rescaler(wrong)


@pytest.mark.parametrize('wrong', [-1, 2.5, 'many', True, 10**6])
def test_wrong_effort(wrong):
    with pytest.raises(OptionError, match='effort .* expected a number of steps from 0 to 10000'):
        rescaler(effort=wrong)


def test_effort_without_network():
    with pytest.raises(OptionError, match='the weights none have none'):
        Rescaler.load('none', effort=3)


def test_without_avif(monkeypatch):
    monkeypatch.setattr(features, 'check', lambda name: False)
    with pytest.raises(codec.MissingCodecError, match=r"pip install 'pillow>=11.3'"):
        Rescaler.load('none', payload=2)  # before the work


# ------------------------------------------------------------------------------------------------------------ effort


@pytest.mark.parametrize('payload', [0, 1, 2])
def test_effort_looks_through_the_bits_that_the_payload_leaves(photo, payload):
    """What is predicted from them gains; the payload is coded last."""
    hr, predicted = photo[:64, :80], []
    for steps in (0, 15):
        one = Rescaler.load(payload=payload, effort=steps)
        lr = one.downscale(hr, 2)
        assert bits.declared(lr) == payload
        predict, _ = one._prediction(hr.shape[:2], lr.shape[:2], payload)
        predicted.append(psnr(predict(bits.high_part(lr, payload)), hr))
    assert predicted[1] > predicted[0] + {0: 0.2, 1: 0.05, 2: 0.015}[payload]


# ------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def place(tmp_path, monkeypatch, photo):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('photo.png', photo[..., ::-1])
    return tmp_path


def run(*words):
    return main([str(w) for w in words])


def test_commands(place, photo, capsys):
    assert run('downscale', 'photo.png', '-o', 'small.png', '--scale', '2', '--weights', 'none', '--payload', '2') == 0
    assert run('info', 'small.png') == 0
    assert '2 low bits of each sample hold coded detail' in capsys.readouterr().out
    assert run('upscale', 'small.png', '-o', 'whole.png') == 0
    assert psnr(read_picture('whole.png').rgb, photo) > 36
    assert run('downscale', 'photo.png', '-o', 'plain.png', '--scale', '2') == 0
    metadata = json.loads(Image.open('plain.png').text['iarn'])
    assert metadata['format'] == 1 and metadata['payload'] == 0
    metadata = json.loads(Image.open('small.png').text['iarn'])
    assert metadata['format'] == 1 and metadata['payload'] == 2 and metadata['model'] == 'none'


def test_without_metadata_the_pixels_say_it(place, photo, capsys):
    run('downscale', 'photo.png', '-o', 'small.png', '--scale', '2', '--weights', 'none', '--payload', '2')
    run('upscale', 'small.png', '-o', 'whole.png')
    Image.fromarray(read_picture('small.png').rgb).save('stripped.png')
    assert run('upscale', 'stripped.png', '-o', 'again.png', '--size', '120x96', '--weights', 'none') == 0
    assert np.array_equal(read_picture('again.png').rgb, read_picture('whole.png').rgb)
    assert run('upscale', 'stripped.png', '-o', 'wrong.png', '--size', '120x96') == 1
    assert 'stripped.png: its payload was made without a network: restore it with the weights none' in \
        capsys.readouterr().err


def test_a_copy_of_sixteen_bits_is_the_same_lr(place, capsys):
    run('downscale', 'photo.png', '-o', 'small.png', '--scale', '2', '--weights', 'none', '--payload', '2')
    run('upscale', 'small.png', '-o', 'whole.png')
    text = PngImagePlugin.PngInfo()
    text.add_text('iarn', Image.open('small.png').text['iarn'])
    cv2.imwrite('deep.png', cv2.imread('small.png').astype(np.uint16) * 257)
    raw, chunk = (place / 'deep.png').read_bytes(), text.chunks[0][1]
    crc = zlib.crc32(b'tEXt' + chunk).to_bytes(4, 'big')
    (place / 'deep.png').write_bytes(raw[:33] + len(chunk).to_bytes(4, 'big') + b'tEXt' + chunk + crc + raw[33:])
    assert run('upscale', 'deep.png', '-o', 'again.png') == 0
    assert np.array_equal(read_picture('again.png').rgb, read_picture('whole.png').rgb)
    capsys.readouterr()
    assert run('info', 'deep.png') == 0
    told = capsys.readouterr().out
    assert '16 bits' in told and 'hold coded detail\n' in told and 'edited' not in told


def test_damaged_payload(place, capsys):
    """Refused as any edited LR; with --force restored by the high bits, with a remark."""
    run('downscale', 'photo.png', '-o', 'small.png', '--scale', '2', '--payload', '2')
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
    assert 'iarn upscale: edited.png: its payload is damaged: some of its pixels were changed, or cut off: ' \
        'restored without it' in err
    assert 'Traceback' not in err


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'LA'])
def test_gray_and_alpha(place, photo, mode):
    Image.fromarray(photo).convert(mode).save('odd.png')
    run('downscale', 'odd.png', '-o', 'small.png', '--scale', '2', '--weights', 'none', '--payload', '2')
    run('upscale', 'small.png', '-o', 'whole.png')
    with Image.open('whole.png') as whole, Image.open('odd.png') as odd:
        assert whole.mode == mode and whole.size == odd.size
        assert psnr(np.asarray(whole), np.asarray(odd)) > 36


def test_verify(capsys):
    assert run('verify', 'none') == 0
    assert 'with a payload of 2 bits' in capsys.readouterr().out


@pytest.mark.parametrize('words', [('--payload', '4'), ('--payload', 'x'), ('--effort', '-1'), ('--effort', '1.5')])
def test_wrong_words(place, capsys, words):
    assert run('downscale', 'photo.png', '-o', 'small.png', '--scale', '2', *words) == 2
    assert words[0] in capsys.readouterr().err


def test_a_newer_payload_is_left_out(photo, caplog):
    one = Rescaler.load('none', payload=2)
    lr = one.downscale(photo, 2)
    newer = lr.copy()
    newer.reshape(-1)[15] ^= 1  # the last bit of the version
    known = bits.high_part(newer, 2)
    assert known.shape == lr.shape
    assert one.upscale_pixels(newer, photo.shape[:2], 2).shape == photo.shape
    assert 'version' in caplog.messages[0] and caplog.messages[0].endswith('restored without it')
