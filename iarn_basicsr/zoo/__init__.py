"""Released weights, in the package: ``registry.json`` names them, with training data and the numbers they reach."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from os import path as osp
from types import ModuleType
from typing import Any

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.options import near

__all__ = ['FOLDER', 'entries', 'load', 'load_file', 'name_of', 'save_pth', 'save_safetensors']

FOLDER = osp.dirname(osp.abspath(__file__))


def entries() -> dict[str, dict[str, Any]]:
    """The registry: name -> file, sha256, parameters, scales, training data, expected numbers."""
    with open(osp.join(FOLDER, 'registry.json'), encoding='utf-8') as file:
        return json.load(file)


def name_of(weights_hash: str) -> str:
    """Name of the released weights with this hash; ``default`` if there are none such."""
    return next((name for name, entry in entries().items() if entry['weights_hash'] == weights_hash), 'default')


def load(weights: str) -> tuple[IARN, str]:
    """(network, name) of a registered name, ``default`` (the first of them), or a file.

    Raises:
        ValueError: naming what was asked for, if there is none such, or its file is damaged.
    """
    known = entries()
    name = next(iter(known)) if weights == 'default' and known else weights
    if name not in known:
        if osp.isfile(weights):
            return load_file(weights), osp.splitext(osp.basename(weights))[0]
        released = near(weights, ['default', *known]) if known else 'this package holds none, name a file'
        raise ValueError(f'weights {weights!r}: no such file, and no released weights of this name; {released}')
    path = osp.join(FOLDER, known[name]['file'])
    try:
        with open(path, 'rb') as file:
            found = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise ValueError(f'{path}: cannot be read ({error.strerror}): install the package again') from None
    if found != known[name]['sha256']:
        raise ValueError(f'{path} is damaged: sha256 {found[:16]}..., expected {known[name]["sha256"][:16]}...: '
                         'install the package again')
    return load_file(path), name


def load_file(path: str) -> IARN:
    """A network from a ``.pth`` saved by ``IARNModel`` or a ``.safetensors`` made by ``iarn export``.

    Raises:
        ValueError: in one line, naming the file, if it is not such a file.
    """
    try:
        return (_from_safetensors if path.endswith('.safetensors') else IARN.from_file)(path)
    except ValueError as error:
        if isinstance(error.__cause__, pickle.UnpicklingError):  # whose message is long, and advice not to follow
            raise ValueError(f'{path} is not a PyTorch weight file, or holds more than weights') from None
        raise ValueError(' '.join(str(error).split()).rstrip(': ')) from None
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise ValueError(f'{path}: cannot be read ({error.strerror})') from None
    except Exception as error:  # what unpickling makes of bytes that are no pickle
        raise ValueError(f'{path} is not a PyTorch weight file (or it is damaged): {error!r}') from None


def _from_safetensors(path: str) -> IARN:
    safetensors = _safetensors(path)
    try:
        with safetensors.safe_open(path, 'pt') as file:
            arch = json.loads((file.metadata() or {}).get('arch', 'null'))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f'{path} is not a safetensors file (or it is damaged): {error}') from None
    if not isinstance(arch, dict) or arch.get('type') != 'IARN':
        raise ValueError(f'{path} is not for IARN: its metadata hold arch = {arch!r}')
    return IARN.from_parts(arch, state, path)


def save_safetensors(net: IARN, path: str | os.PathLike[str]) -> None:
    """Weights and architecture options as ``.safetensors``.

    Raises:
        ValueError: if the package safetensors is missing.
    """
    from iarn_basicsr.files import atomic_write
    save_file = _safetensors(os.fspath(path)).torch.save_file
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    metadata = {'arch': json.dumps({'type': 'IARN', **net.hparams})}
    atomic_write(os.fspath(path), lambda temporary: save_file(state, temporary, metadata))


def _safetensors(path: str) -> ModuleType:
    try:
        import safetensors.torch
    except ImportError:
        raise ValueError(f'{path}: needs the package safetensors (pip install safetensors), or use .pth') from None
    return safetensors


def save_pth(net: IARN, path: str | os.PathLike[str]) -> None:
    """Weights and architecture options as ``.pth``, in BasicSR's layout."""
    from iarn_basicsr.files import save_torch
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    save_torch({'params': state, 'arch': {'type': 'IARN', **net.hparams}}, os.fspath(path))
