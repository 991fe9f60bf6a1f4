"""Released weights, in the package: ``registry.json`` names them, with training data and the numbers they reach."""

from __future__ import annotations

import hashlib
import json
import os
from os import path as osp
from typing import Any

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.options import near

__all__ = ['FOLDER', 'entries', 'load', 'load_file', 'save_pth', 'save_safetensors']

FOLDER = osp.dirname(osp.abspath(__file__))


def entries() -> dict[str, dict[str, Any]]:
    """The registry: name -> file, sha256, parameters, scales, training data, expected numbers."""
    with open(osp.join(FOLDER, 'registry.json'), encoding='utf-8') as file:
        return json.load(file)


def load(weights: str) -> tuple[IARN, str]:
    """(network, name) of a registered name, ``default`` (the first of them) or a file.

    Raises:
        ValueError: naming what was asked for, if there is none such, or its file is damaged.
    """
    if osp.isfile(weights):
        return load_file(weights), osp.splitext(osp.basename(weights))[0]
    known = entries()
    name = next(iter(known)) if weights == 'default' and known else weights
    if name not in known:
        raise ValueError(f'weights {weights!r}: no such file, and no released weights of this name; '
                         f'{near(weights, ["default", *known])}')
    path = osp.join(FOLDER, known[name]['file'])
    with open(path, 'rb') as file:
        found = hashlib.sha256(file.read()).hexdigest()
    if found != known[name]['sha256']:
        raise ValueError(f'{path} is damaged: sha256 {found[:16]}..., expected {known[name]["sha256"][:16]}...: '
                         'install the package again')
    return load_file(path), name


def load_file(path: str) -> IARN:
    """A network from a ``.pth`` saved by ``IARNModel`` or a ``.safetensors`` made by ``iarn export``."""
    if not path.endswith('.safetensors'):
        return IARN.from_file(path)
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, 'pt') as file:
            arch = json.loads((file.metadata() or {}).get('arch', 'null'))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f'{path} is not a safetensors file (or it is damaged): {error}') from None
    if not isinstance(arch, dict) or arch.get('type') != 'IARN':
        raise ValueError(f'{path} is not for IARN: its metadata hold arch = {arch!r}')
    return IARN.from_parts(arch, state, path)


def save_safetensors(net: IARN, path: str | os.PathLike[str]) -> None:
    """Weights and architecture options as ``.safetensors``."""
    from safetensors.torch import save_file

    from iarn_basicsr.files import atomic_write
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    metadata = {'arch': json.dumps({'type': 'IARN', **net.hparams})}
    atomic_write(os.fspath(path), lambda temporary: save_file(state, temporary, metadata))


def save_pth(net: IARN, path: str | os.PathLike[str]) -> None:
    """Weights and architecture options as ``.pth``, in BasicSR's layout."""
    from iarn_basicsr.files import save_torch
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    save_torch({'params': state, 'arch': {'type': 'IARN', **net.hparams}}, os.fspath(path))


