"""The residual's codec: never above the budget, better with more bytes, and nothing but its own errors."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_image
from PIL import Image, features

from iarn_basicsr.errors import IARNError
from iarn_basicsr.payload import codec
from iarn_basicsr.payload.bits import PayloadError
from iarn_basicsr.payload.codec import MissingCodecError, decode, encode

pytestmark = pytest.mark.skipif(not features.check('avif'), reason='this Pillow has no AVIF')


def make_residual(height: int, width: int, seed: int = 0) -> np.ndarray:
    """What averaging over 4 x 4 pixels takes from an image, int16 (H, W, 3)."""
    image = make_image(height, width, seed).astype(np.int16)
    small = Image.fromarray(image.astype(np.uint8)).reduce(4)
    blurred = np.array(small.resize((width, height), Image.Resampling.BILINEAR))
    noise = np.random.default_rng(seed).normal(0, 3, image.shape)
    return (image - blurred + noise).astype(np.int16)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt((x.astype(np.float64)**2).mean()))


@pytest.mark.parametrize('size', [(61, 37), (1, 90)])
def test_more_bytes_less_error(size):
    residual, errors = make_residual(*size), []
    for budget in (300, 1200, 5000):
        message = encode(residual, budget)
        assert 0 < len(message) <= budget
        decoded = decode(message, size)
        assert decoded.shape == (*size, 3) and decoded.dtype == np.float32
        errors.append(rms(decoded - residual))
    assert rms(residual) > errors[0] >= errors[1] >= errors[2]
    assert len(encode(residual, 100)) <= 100 and encode(residual, 17) == b'' and not decode(b'', size).any()


def test_the_budget_is_used_with_few_encodes(monkeypatch):
    speeds, write = [], codec._write_picture
    monkeypatch.setattr(codec, '_write_picture', lambda *args: (speeds.append(args[2]), write(*args))[1])
    for budget in (2000, 4000, 20000):
        speeds.clear()
        assert len(encode(make_residual(160, 200), budget)) > 0.93 * budget
        assert 1 <= speeds.count(codec.SPEED) <= 4


def test_large_residual(monkeypatch):
    """The quality is found on a part of the rows; the whole is coded twice at most."""
    monkeypatch.setattr(codec, '_PART_SAMPLES', 2**14)
    whole, write = [], codec._write_picture
    monkeypatch.setattr(codec, '_write_picture', lambda *args: (whole.append(args[0].shape[0] == 900), write(*args))[1])
    message = encode(make_residual(300, 100), 5000)
    assert 0.8 * 5000 < len(message) <= 5000
    assert 1 <= sum(whole) <= 2 < len(whole)
    assert decode(message, (300, 100)).shape == (300, 100, 3)


def test_error_of_the_extreme_and_of_each_colour():
    """The planes are orthonormal, so no colour is dearer than another."""
    full = np.full((40, 40, 3), 255, np.int16)
    assert rms(decode(encode(full, 2000), (40, 40)) - full) < 5
    residual = np.random.default_rng(0).normal(0, 20, (64, 64, 3))
    error = decode(encode(residual, 6000), (64, 64)) - residual
    per_colour = [rms(error[..., c]) for c in range(3)]
    assert max(per_colour) < 1.15 * min(per_colour)


def test_pull():
    """A share of what brings the image back to what the LR says: here the mean of each 4 x 4 block is known."""
    residual = make_residual(64, 64).astype(np.float32)
    residual -= mean_of_blocks(residual)
    plain = encode(residual, 600)
    pulled = encode(residual, 600, lambda decoded: -mean_of_blocks(decoded))
    assert pulled[2:] == plain[2:] and plain[1] == 0 < pulled[1]
    error = rms(decode(pulled, (64, 64), lambda decoded: -mean_of_blocks(decoded)) - residual)
    assert error < 0.995 * rms(decode(plain, (64, 64)) - residual)
    with pytest.raises(IARNError, match='made without a network: restore it with the weights none'):
        decode(pulled, (64, 64))
    assert encode(residual, 600, lambda decoded: decoded - residual)[1] == 0, 'it would do harm'


def mean_of_blocks(x: np.ndarray) -> np.ndarray:
    means = x.reshape(x.shape[0] // 4, 4, x.shape[1] // 4, 4, 3).mean((1, 3))
    return means.repeat(4, 0).repeat(4, 1)


def test_tiles(monkeypatch):
    """Of a part only its own tiles are decoded."""
    residual, read, work = make_residual(100, 90), [], codec._read_picture
    whole = rms(decode(encode(residual, 8000), (100, 90)) - residual)
    monkeypatch.setattr(codec, '_TILE_SIDE', 40)
    monkeypatch.setattr(codec, '_read_picture', lambda units, size: read.append(size) or work(units, size))
    message = encode(residual, 8000)
    assert 7000 < len(message) <= 8000
    decoded = decode(message, (100, 90))
    assert rms(decoded - residual) < 1.1 * whole and len(read) == 3 * 3
    for part, tiles in (((slice(40, 80), slice(79, 81)), 2), ((slice(0, 100), slice(89, 90)), 3)):
        read.clear()
        assert np.array_equal(decode(message, (100, 90), part=part), decoded[part]) and len(read) == tiles
    monkeypatch.undo()
    with pytest.raises(PayloadError):  # tiles of another size
        decode(message, (100, 90))


def test_a_picture_of_another_size_is_never_opened(monkeypatch):
    """Least of all one that declares 60,000 pixels a side."""
    message = encode(make_residual(48, 64), 1000)
    header = '00011' + '00101' + '1111' * 2 + f'{59999:016b}' * 2 + '0' * 30
    unit = int(header, 2).to_bytes(len(header) // 8, 'big')
    large = bytes([128, 0, 0x0A, len(unit)]) + unit + bytes([0x32, 4]) + bytes(4)
    monkeypatch.setattr(codec.Image, 'open', lambda *args, **kwargs: pytest.fail('was opened'))
    for content, size in ((large, (48, 64)), (message, (64, 48)), (message, (48, 65)), (message, (480, 640))):
        with pytest.raises(PayloadError) as error:
            decode(content, size)
        assert error.value.reason == 'damaged'


def test_fuzzed_messages():
    """Random bytes, flipped bits, cuts: the codec's own exceptions never come through."""
    rng, size = np.random.default_rng(0), (24, 40)
    good = encode(make_residual(*size), 500)
    with pytest.raises(PayloadError):
        decode(good + b'\0', size)
    for trial in range(400):
        message = bytearray(good)
        if trial % 4 == 0:
            message = bytearray(rng.bytes(int(rng.integers(1, 300))))
        elif trial % 4 == 1:
            del message[int(rng.integers(1, len(message))):]
        elif trial % 4 == 2:
            message[int(rng.integers(2, 24))] = int(rng.integers(256))  # headers
        else:
            for _ in range(int(rng.integers(1, 9))):
                message[int(rng.integers(len(message)))] ^= 1 << int(rng.integers(8))
        try:
            decoded = decode(bytes(message), size, np.zeros_like)
        except PayloadError as error:
            assert error.reason == 'damaged'
        else:
            assert decoded.shape == (*size, 3) and np.isfinite(decoded).all()


@pytest.mark.parametrize('call', [lambda: encode(make_residual(24, 24), 500), lambda: decode(b'', (24, 24))])
def test_pillow_without_avif(call, monkeypatch):
    monkeypatch.setattr(codec.features, 'check', lambda name: False)
    with pytest.raises(MissingCodecError, match=r"pip install 'pillow>=11.3'"):
        call()
