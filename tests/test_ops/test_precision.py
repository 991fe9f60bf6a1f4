"""The setting holds inside, in a function too, and is put back, after an error too."""

import pytest
import torch

from iarn_basicsr.ops.image import full_float32


def allowed() -> bool:
    return torch.backends.cudnn.allow_tf32


@full_float32()
def inside() -> bool:
    return allowed()


def test_full_float32() -> None:
    before = allowed()
    with full_float32():
        assert not allowed()
    assert allowed() == before
    torch.backends.cudnn.deterministic = True
    with full_float32():
        assert torch.backends.cudnn.deterministic and torch.backends.cudnn.enabled
    torch.backends.cudnn.deterministic = False
    assert [inside(), inside()] == [False, False]  # a decorator serves more than once
    with pytest.raises(ZeroDivisionError), full_float32():
        raise ZeroDivisionError
    assert allowed() == before
