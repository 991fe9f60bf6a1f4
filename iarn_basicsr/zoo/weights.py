"""Weight files, read and written in one place. Nothing in a file is executed.

===================== ==============================================================================================
``.pth``              ``torch.load(weights_only=True)``: ``params_ema``, ``params`` (BasicSR), ``state_dict`` or bare
``.safetensors``      one state dict; needs the package safetensors
===================== ==============================================================================================

Files of this package also hold the architecture (``arch``), from which the network is rebuilt.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
from collections.abc import Mapping
from os import path as osp
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iarn_basicsr.errors import WeightsError
from iarn_basicsr.files import save_bytes

__all__ = ['WeightFile', 'read_weights', 'save_torch', 'weights_hash', 'write_weights']

_EMA, _ONLY = 'params_ema', 'params'
_STATE_KEYS = (_EMA, _ONLY, 'state_dict', 'model_state_dict', 'params-ema', 'model', 'net')
_SAFETENSORS = '.safetensors'
_WRAPPERS = re.compile(r'^(?:module\.|_orig_mod\.)+')  # of DDP and of torch.compile


class WeightFile(NamedTuple):
    """What a weight file holds.

    Attributes:
        state: names and tensors, without the prefixes of DDP and torch.compile.
        arch: ``type`` and arguments of the network, or None where the file does not say.
    """

    state: dict[str, Tensor]
    arch: dict[str, Any] | None


def read_weights(path: str | os.PathLike[str], *, ema: bool = True, key: str | None = None) -> WeightFile:
    """Read a weight file of any usual layout.

    Args:
        path: the file.
        ema: without ``key``, prefer ``params_ema``.
        key: take exactly these weights; None: the first of the usual keys that the file has. A bare state dict is
            ``params``.

    Raises:
        WeightsError: in one line, naming the file, if it cannot be read, holds no state dict or not the one asked for,
            or holds a weight that is not finite.
    """
    path = os.fspath(path)
    if osp.exists(path) and not osp.isfile(path) and not osp.isdir(path):  # a pipe: reading it may never end
        raise WeightsError(f'{path}: cannot be read (it is no regular file)')
    try:
        content, arch = _read_safetensors(path) if path.lower().endswith(_SAFETENSORS) else _read_pth(path)
    except OSError as error:
        raise WeightsError(f'{path}: cannot be read ({error.strerror or error})') from None
    state = _choose(path, content, ema, key)
    plain = {_WRAPPERS.sub('', name): value for name, value in state.items()}
    if len(plain) < len(state):
        raise WeightsError(f'{path}: two weights have the same name once module. and _orig_mod. are removed')
    for name, value in plain.items():
        if value.is_floating_point() and not torch.isfinite(value.float()).all():
            raise WeightsError(f'{path} is damaged: {name} holds values that are not finite (NaN or infinite)')
    return WeightFile(plain, arch if isinstance(arch, dict) else None)


def _choose(path: str, content: Any, ema: bool, key: str | None) -> dict[str, Tensor]:
    """The state dict under ``key``, or under the first of the usual keys, or the content itself."""
    content = content if isinstance(content, dict) else {}
    if content and all(isinstance(value, Tensor) for value in content.values()):
        content = {_ONLY: content}
    states = {name: value for name, value in content.items() if isinstance(value, dict) and value and name != 'arch'
              and all(isinstance(weight, Tensor) for weight in value.values())}
    usual = [name for name in _STATE_KEYS if name in states and (ema or name != _EMA)]
    if key is not None and key not in states:
        raise WeightsError(f'{path} has no weights {key!r}; it has: {", ".join(map(str, states)) or "none"}')
    if key is None and not usual:
        raise WeightsError(f'{path} holds no state dict: expected params_ema, params, state_dict, or names and tensors')
    return {str(name): value for name, value in states[usual[0] if key is None else key].items()}


def _read_pth(path: str) -> tuple[Any, Any]:
    """(content, arch)."""
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except pickle.UnpicklingError:  # whose message is long, and advice not to follow
        raise WeightsError(f'{path} is not a PyTorch weight file, or holds more than weights') from None
    except Exception as error:  # what unpickling makes of bytes that are no pickle
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(f'{path} is not a PyTorch weight file (or it is damaged): {reason}') from None
    return content, content.get('arch') if isinstance(content, dict) else None


def _read_safetensors(path: str) -> tuple[dict[str, Tensor], Any]:
    """(state dict, arch)."""
    safetensors = _safetensors(path)
    try:
        with safetensors.safe_open(path, 'pt') as file:
            arch = json.loads((file.metadata() or {}).get('arch', 'null'))
            return {key: file.get_tensor(key) for key in file.keys()}, arch  # noqa: SIM118
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise WeightsError(f'{path} is not a safetensors file (or it is damaged): {error}') from None


def write_weights(path: str | os.PathLike[str], arch: Mapping[str, Any], **states: Mapping[str, Tensor]) -> None:
    """Write a weight file, atomically: a ``.safetensors``, which holds ``params`` alone, or a ``.pth``.

    ``arch`` has ``type`` and arguments of the network; ``states`` are ``params`` and ``params_ema``.

    Raises:
        WeightsError: if the package safetensors is needed and missing.
    """
    path = os.fspath(path)
    plain = {name: {k: v.detach().cpu().contiguous() for k, v in state.items()} for name, state in states.items()}
    if path.lower().endswith(_SAFETENSORS):
        save_bytes(_safetensors(path).torch.save(plain[_ONLY], {'arch': json.dumps(dict(arch))}), path)
    else:
        save_torch({**plain, 'arch': dict(arch)}, path)


def _safetensors(path: str) -> ModuleType:
    try:
        import safetensors.torch
    except ImportError:
        raise WeightsError(f'{path}: needs the package safetensors (pip install safetensors), or use .pth') from None
    return safetensors


def save_torch(content: dict[str, Any], path: str) -> None:
    """``torch.save``, atomically; serialised in memory first, as torch reports a full disk badly."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    save_bytes(buffer.getvalue(), path)


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """First 16 hexadecimal digits of the SHA-256 over names and float32 values, the same for every file format."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
