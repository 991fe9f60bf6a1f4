"""The low bits: every size, every k, to the bit; and what is damaged is known to be."""

from __future__ import annotations

import pickle
import struct
import zlib

import numpy as np
import pytest
from helpers import few
from hypothesis import given
from hypothesis import strategies as st

from iarn_basicsr.errors import OptionError
from iarn_basicsr.payload.bits import PayloadError, capacity, declared, high_part, read, write


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@few
@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])), k=st.floats(0, 3),
       share=st.sampled_from([0.0, 0.3, 0.7, 1.0]), seed=st.integers(0, 9), codec=st.integers(0, 3))
def test_what_was_written_is_read(shape, k, share, seed, codec):
    image = noise(shape, seed)
    message = np.random.default_rng(seed).bytes(int(share * capacity(*shape, k)))
    stored = write(image, message, codec, k)
    assert stored.dtype == np.uint8 and stored.shape == shape
    assert np.array_equal(high_part(stored, k), high_part(image, k))
    assert np.array_equal(image, noise(shape, seed))  # the argument is not changed
    if message:
        found, kind, bits = read(np.asfortranarray(stored))  # whatever the order in memory
        assert (found, kind) == (message, codec) and abs(bits - k) < 0.07
        assert np.array_equal(write(image, message, codec, bits), stored)
    else:
        assert np.array_equal(stored, image)


@pytest.mark.parametrize('k', [0.125, 1, 1.585, 2.32, 2.807, 3])
def test_capacity(k):
    """k bits of each sample but the header's; what is lost where cells are not 2, 4 or 8 levels is below 0.4 %."""
    bits = k * (64 * 48 * 3 - 88) / 8
    assert 0.996 * bits - 0.07 * 64 * 48 * 3 / 8 * (k % 0.5 not in (0, )) - 16 <= capacity(64, 48, 3, k) <= bits * 1.05
    for shape in ((64, 48, 3), (29, 1, 3)):  # and 87 samples, not even the header
        with pytest.raises(OptionError, match='does not fit'):
            write(noise(shape), bytes(capacity(*shape, k) + 1), 0, k)


def test_no_room():
    assert capacity(5, 5, 3, 3) == 0 == capacity(100, 100, 3, 0)
    with pytest.raises(PayloadError, match='too small') as error:
        read(noise((5, 5, 3)))
    assert error.value.reason == 'none'
    for k in (-1, 3.125, float('nan')):
        with pytest.raises(OptionError, match='from 0 to 3'):
            capacity(50, 50, 3, k)


def test_extra_bits_are_spread_evenly():
    """In every 8 x 8 block and every channel the same number, and no row or column without."""
    changed = high_part(np.zeros((64, 64, 3), np.uint8), 0.5)[8:] > 0
    assert np.unique(changed.reshape(7, 8, 8, 8, 3).sum((1, 3))).tolist() == [32]
    assert set(changed.sum(1).ravel()) == {32} and set(changed.sum(0).ravel()) == {28}
    y, x, c = np.ogrid[8:64, :64, :3]
    assert np.array_equal(high_part(np.zeros((64, 64, 3), np.uint8), 0.125)[8:] > 0, (x + 3 * y + 5 * c) % 8 == 0)


@pytest.mark.parametrize('k', [0.5, 2, 2.9])
def test_a_short_message_leaves_the_rest(k):
    image = noise((40, 40, 3))
    stored = write(image, bytes(100), 0, k)
    assert (stored != image).sum() < 88 + 100 * 8 / min(k, 1)
    assert np.array_equal(high_part(stored, k), high_part(image, k))


@pytest.mark.parametrize(('k', 'error'), [(1, 0.5), (2, 2.5), (3, 10.5), (np.log2(3), 8 / 6), (np.log2(6), 35 / 6)])
def test_error_of_the_stored_image(k, error):
    """(r^2 - 1) / 6 for cells of r levels: two uniform numbers, one taken and one put."""
    image = noise((200, 200, 3)) % 240  # all cells are whole
    stored = write(image, np.random.default_rng(1).bytes(capacity(200, 200, 3, k)), 0, k)
    assert ((stored.astype(float) - image)**2).mean() == pytest.approx(error, rel=0.04)
    assert ((high_part(image, k) - image)**2).mean() == pytest.approx(error / 2, rel=0.04)


def with_header(version: int = 1, codec: int = 1, eighths: int = 16, length: int = 5) -> np.ndarray:
    """An image with this header, valid CRC, message ``bytes(length)`` as far as it fits."""
    head = struct.pack('>HBI', 0x1A58 | version, codec << 6 | eighths - 1, length)
    body = bytes(min(length, 50))
    bits = np.unpackbits(np.frombuffer(head + struct.pack('>I', zlib.crc32(head + body)), np.uint8))
    image = noise((20, 20, 3)) & 0xFE
    image.ravel()[:88] |= bits
    return image


@pytest.mark.parametrize(('header', 'reason'), [
    ({'version': 2}, 'version'), ({'length': 0}, 'length'), ({'length': 140}, 'length'), ({'eighths': 1}, 'length'),
    ({'eighths': 12, 'length': 100}, 'length'), ({'length': 100}, 'damaged'),
])
def test_headers_that_cannot_be(header, reason):
    assert read(with_header()) == (bytes(5), 1, 1.0)
    image = with_header(**header)
    assert (declared(image) > 0) == (header.get('length') == 100), 'the others may be pictures without a payload'
    with pytest.raises(PayloadError) as error:
        read(image)
    assert error.value.reason == pickle.loads(pickle.dumps(error.value)).reason == reason


def test_every_flipped_bit_is_found():
    image = write(noise((30, 20, 3)), np.random.default_rng(0).bytes(100), 1, 2)
    for sample in range(0, image.size, 7):
        for bit in (0, 1, 2):
            changed = image.copy()
            changed.ravel()[sample] ^= 1 << bit
            try:
                assert read(changed) == read(image)  # not one of its bits
            except PayloadError as error:
                assert error.reason in ('none', 'version', 'length', 'damaged')
                assert sample < 88 + 4 * 100
