"""Every way of reading and writing a weight file. Nothing in a file is executed.

===================== ==============================================================================================
``.pth``              ``torch.load(weights_only=True)``: ``params_ema``, ``params`` (BasicSR), ``state_dict`` or bare
``.safetensors``      the state dict; needs the package safetensors
===================== ==============================================================================================

Files of this package also hold the architecture options (``arch``), from which the network is rebuilt.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from collections.abc import Mapping
from os import path as osp
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iarn_basicsr.errors import WeightsError
from iarn_basicsr.files import save_bytes

__all__ = ['WeightFile', 'read_weights', 'save_torch', 'weights_hash', 'write_weights']

_STATE_KEYS = ('params_ema', 'params', 'state_dict', 'model_state_dict', 'params-ema', 'model', 'net')


class WeightFile(NamedTuple):
    """What a weight file holds.

    Attributes:
        state: names and tensors, without DDP's ``module.`` before the names.
        arch: ``type`` and options of the network, or None where the file does not say.
    """

    state: dict[str, Tensor]
    arch: dict[str, Any] | None


def read_weights(path: str | os.PathLike[str], *, ema: bool = True, key: str | None = None) -> WeightFile:
    """Read a weight file of any usual layout.

    Args:
        path: the file; one that ends in ``.safetensors`` is read as such.
        ema: take ``params_ema`` where the file has it.
        key: take just these.

    Raises:
        WeightsError: in one line, naming the file, if it holds no state dict, or none of this ``key``, or cannot be
            read, or a weight is not finite.
    """
    path = os.fspath(path)
    if osp.exists(path) and not osp.isfile(path) and not osp.isdir(path):  # a pipe: reading it may never end
        raise WeightsError(f'{path}: cannot be read (it is no regular file)')
    try:
        found = _read_safetensors(path) if path.endswith('.safetensors') else _read_pth(path, ema, key)
    except OSError as error:
        raise WeightsError(f'{path}: cannot be read ({error.strerror or error})') from None
    for name, value in found.state.items():
        if value.is_floating_point() and not torch.isfinite(value.float()).all():
            raise WeightsError(f'{path} is damaged: {name} holds values that are not finite (NaN or infinite)')
    return found


def write_weights(path: str | os.PathLike[str], arch: Mapping[str, Any], **states: Mapping[str, Tensor]) -> None:
    """Write a weight file, atomically; the ending says which kind.

    Args:
        path: ``.pth`` or ``.safetensors``.
        arch: ``type`` and options of the network.
        states: state dicts by their name in the file: ``params`` and, in a ``.pth``, ``params_ema``.

    Raises:
        WeightsError: if the package safetensors is needed and missing.
    """
    path = os.fspath(path)
    plain = {name: {k: v.detach().cpu().contiguous() for k, v in state.items()} for name, state in states.items()}
    if path.endswith('.safetensors'):
        save_bytes(_safetensors(path).torch.save(plain['params'], {'arch': json.dumps(dict(arch))}), path)
    else:
        save_torch({**plain, 'arch': dict(arch)}, path)


def save_torch(content: dict[str, Any], path: str) -> None:
    """``torch.save``, atomically; through the memory, for of a full disk torch says nothing that helps."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    save_bytes(buffer.getvalue(), path)


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """First 16 hexadecimal digits of the SHA-256 over names and values of all weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _read_pth(path: str, ema: bool, key: str | None) -> WeightFile:
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except pickle.UnpicklingError:  # whose message is long, and advice not to follow
        raise WeightsError(f'{path} is not a PyTorch weight file, or holds more than weights') from None
    except Exception as error:  # what unpickling makes of bytes that are no pickle
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(f'{path} is not a PyTorch weight file (or it is damaged): {reason}') from None
    arch = content.get('arch') if isinstance(content, dict) else None
    if key is not None and isinstance(content, dict) and key not in content:
        there = [repr(name) for name, value in content.items() if name != 'arch' and isinstance(value, dict)]
        raise WeightsError(f'{path} has no {key!r}; it has {", ".join(there) or "bare weights, without a key"}')
    for name in [key] if key is not None else _STATE_KEYS if ema else _STATE_KEYS[1:]:
        if isinstance(content, dict) and name in content:
            content = content[name]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f'{path} holds no state dict: expected params_ema, params, state_dict, or names and tensors')
    return WeightFile({str(k).removeprefix('module.'): v for k, v in content.items()},
                      arch if isinstance(arch, dict) else None)


def _read_safetensors(path: str) -> WeightFile:
    safetensors = _safetensors(path)
    try:
        with safetensors.safe_open(path, 'pt') as file:
            arch = json.loads((file.metadata() or {}).get('arch', 'null'))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise WeightsError(f'{path} is not a safetensors file (or it is damaged): {error}') from None
    return WeightFile(state, arch if isinstance(arch, dict) else None)


def _safetensors(path: str) -> ModuleType:
    try:
        import safetensors.torch
    except ImportError:
        raise WeightsError(f'{path}: needs the package safetensors (pip install safetensors), or use .pth') from None
    return safetensors
