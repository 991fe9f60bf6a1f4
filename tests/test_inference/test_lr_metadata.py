"""LR metadata: what they say, what shows that they or the pixels were changed, and how a damaged record is refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from iarn_basicsr.errors import DamagedMetadataError, MetadataError, OtherWeightsError, one_line
from iarn_basicsr.inference.lr_metadata import LRMetadata, checksum, thumbnail
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.verify import PHOTOGRAPH
from iarn_basicsr.ops.jpeg import jpeg_copy

PHOTO = read_picture(PHOTOGRAPH).rgb
LR = PHOTO[90:101, 120:137].copy()
METADATA = LRMetadata.of(LR, hr_size=(30, 40), model='ü "quoted"', weights='0' * 16, mode='L', alpha=True,
                         payload=2)
RECORD: dict[str, Any] = msgspec.to_builtins(METADATA)


def test_a_record_says_everything_and_comes_back() -> None:
    assert LRMetadata.from_json(METADATA.to_json()) == METADATA and METADATA.to_json().isascii()
    assert set(json.loads(METADATA.to_json())) == {
        'hr_size', 'lr_size', 'model', 'weights', 'mode', 'alpha', 'extras', 'payload', 'checksum', 'thumbnail',
        'seal', 'format'}
    assert (METADATA.lr_size, METADATA.checksum, METADATA.format) == ((11, 17), checksum(LR), 1)
    named = LRMetadata.of(LR, hr_size=(30, 40), model='w\udcfe\x1b', weights='0', mode='RGB')
    assert LRMetadata.from_json(named.to_json()) == named and named.model == r'w\udcfe\x1b'


@pytest.mark.parametrize('change', [{'hr_size': (31, 40)}, {'alpha': False}, {'payload': 1.0}, {'seal': ''}])
def test_every_part_is_sealed(change: dict[str, Any]) -> None:
    assert METADATA.change(LR) == ''
    assert 'metadata were edited' in replace(METADATA, **change).change(LR)


def test_what_happened_to_the_pixels() -> None:
    edited = LR.copy()
    edited[3, 4, 1] ^= 1
    assert 'edited or recompressed' in METADATA.change(edited)
    assert 'it is 17x10 but was made 17x11 (width x height): it was resized' in METADATA.change(LR[:10])
    METADATA.check(LR, 'any name', '0' * 16)
    with pytest.raises(OtherWeightsError, match=r"with the weights 'ü .quoted.' \(0{16}\), these are 'else' \(f{16}\)"):
        METADATA.check(LR, 'else', 'f' * 16)
    with pytest.raises(MetadataError, match='force=True tries all the same') as error:
        METADATA.check(edited, 'any name', '0' * 16)
    assert error.value.reason == METADATA.change(edited)


def test_the_thumbnail_survives_jpeg_and_shows_a_change() -> None:
    """Down to quality 5, also of the smallest pictures; another picture is far off."""
    for image in (PHOTO, PHOTO[90:122, 120:160], PHOTO[100:116, 130:146], PHOTO[100:103, 130:132]):
        metadata = LRMetadata.of(image, hr_size=(400, 500), model='m', weights='w', mode='RGB', payload=1).for_jpeg()
        assert metadata.change(image) == '' and (metadata.checksum, metadata.payload) == ('', 0)
    metadata = LRMetadata.of(PHOTO, hr_size=PHOTO.shape[:2], model='m', weights='w', mode='RGB').for_jpeg()
    assert all(metadata.change(jpeg_copy(PHOTO, quality)) == '' for quality in (5, 30, 95))
    for other in (PHOTO[::-1], PHOTO[:, ::-1], 255 - PHOTO, np.roll(PHOTO, 40, 1)):
        assert 'does not look as it did' in metadata.change(np.ascontiguousarray(other))
    gray = np.full((16, 16, 3), 100, np.uint8)
    metadata = LRMetadata.of(gray, hr_size=(32, 32), model='m', weights='w', mode='RGB').for_jpeg()
    assert metadata.change(gray + np.uint8(6)) == '' != metadata.change(gray + np.uint8(7))


def test_the_thumbnail_is_the_mean_of_cells() -> None:
    image = np.repeat(np.repeat(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8), 3, 0), 5, 1)
    assert list(bytes.fromhex(thumbnail(np.repeat(image[..., None], 3, 2)))) == list(range(0, 256, 4))


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize('change', [
    {'hr_size': [46, 5]}, {'lr_size': [0, 0]}, {'hr_size': [10**400, 62]}, {'hr_size': [10**6 + 1, 62]},
    {'hr_size': [46.5, 62]}, {'hr_size': [31, 42, 3]}, {'mode': '\x1b[2J'}, {'model': 'x' * 14000},
    {'extras': {'icc': '###'}}, {'extras': {'colour': {'gAMA': ''}}}, {'extras': {'text': [['IDAT', '']]}},
    {'format': float('nan')}, {'payload': 4}, {'thumbnail': ''}, {'thumbnail': 'z' * 128}])
def test_damaged_records(change: dict[str, Any]) -> None:
    with pytest.raises(DamagedMetadataError, match=r'^its IARN metadata are damaged \(.+\)$') as error:
        LRMetadata.from_json(json.dumps({**RECORD, **change}))
    assert len(str(error.value)) < 400 and one_line(str(error.value)) == str(error.value)


@pytest.mark.parametrize('text', ['{', '[' * 10**5, 'null', '{}', '{"format": 1}', '{"format": ' + '9' * 5000 + '}'])
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(DamagedMetadataError, match='its IARN metadata are damaged') as error:
        LRMetadata.from_json(text)
    assert len(str(error.value)) < 400


def test_another_format() -> None:
    for number in (0, 2):
        with pytest.raises(MetadataError, match=rf'^its IARN metadata have format {number}, this iarn_basicsr reads'):
            LRMetadata.from_json(f'{{"format": {number}}}')


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
                    | st.sampled_from(['L', 'RGB', '', 10**400, -1, 46, 62]),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=6)


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(st.sampled_from([*RECORD, 'more']), JSON, max_size=4))
@example(changes={'format': 10**350})
def test_any_record_reads_or_is_refused(changes: dict[str, object]) -> None:
    try:
        metadata = LRMetadata.from_json(json.dumps({**RECORD, **changes}))
    except MetadataError as error:
        assert len(str(error)) < 400 and one_line(str(error)) == str(error)
    else:
        assert all(n >= m > 0 for n, m in zip(metadata.hr_size, metadata.lr_size))
        metadata.change(LR)
