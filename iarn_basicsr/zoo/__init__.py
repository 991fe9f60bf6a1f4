"""Released weights, part of the package; ``registry.json`` says of each how it was made and what it reaches."""

from __future__ import annotations

import hashlib
import json
from os import path as osp
from typing import Any

from iarn_basicsr.errors import WeightsError, suggestion

__all__ = ['DEFAULT', 'FOLDER', 'JPEG', 'NONE', 'entries', 'list_models', 'name_of', 'resolve',
           'survives_jpeg']

FOLDER = osp.dirname(osp.abspath(__file__))
DEFAULT = 'default'  # the first name of the registry
JPEG = 'iarn_jpeg_x1-4'  # the LR of these survives JPEG
NONE = 'none'  # no weights: the bicubic LR and its right inverse, to carry a payload
NONE_HASH = hashlib.sha256().hexdigest()[:16]  # ``weights.weights_hash`` of an empty state dict


def entries() -> dict[str, dict[str, Any]]:
    """The registry: name -> file, sha256, parameters, scales, training, training data, expected numbers."""
    with open(osp.join(FOLDER, 'registry.json'), encoding='utf-8') as file:
        return json.load(file)


def list_models() -> list[str]:
    """Names of the released weights; the first is what ``default`` means."""
    return list(entries())


def name_of(weights_hash: str) -> str | None:
    """Name of the released weights with this hash (``weights.weights_hash``), ``none`` for no weights, else None."""
    if weights_hash == NONE_HASH:
        return NONE
    return next((name for name, entry in entries().items() if entry['weights_hash'] == weights_hash), None)


def survives_jpeg(weights_hash: str) -> bool:
    """Whether an LR made with the weights of this hash may be stored as a JPEG."""
    return any(entry['weights_hash'] == weights_hash and entry.get('jpeg', False) for entry in entries().values())


def resolve(weights: str) -> tuple[str, str]:
    """(file, name) of released weights (``default`` or a name), compared with their hash, or of a file, not opened.

    Raises:
        WeightsError: naming what was asked for, if there is no such file or name, or the released file is damaged.
    """
    known = entries()
    name = next(iter(known)) if weights == DEFAULT else weights
    if name not in known:
        if osp.isfile(weights):
            return weights, osp.splitext(osp.basename(weights))[0]
        raise WeightsError(f'weights {weights!r}: no such file, and no released weights of this name; '
                           f'{suggestion(weights, [DEFAULT, *known])}')
    path, expected = osp.join(FOLDER, known[name]['file']), known[name]['sha256']
    try:
        with open(path, 'rb') as file:
            found = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise WeightsError(f'{path}: cannot be read ({error.strerror}): install the package again') from None
    if found != expected:
        raise WeightsError(f'{path} is damaged: sha256 {found[:16]}..., expected {expected[:16]}...: install the '
                           'package again')
    return path, name
