"""A model that trains on tiny patches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from basicsr.models import build_model
from basicsr.utils.options import dict2str
from helpers import train_options


@pytest.fixture
def make_options(tmp_path: Path, image_folder: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """make_options(train={...}, network_g={...}): options of training, or of a test, with changes to sections.

    A ``Whole`` (see ``batches``) takes the place of a section.
    """

    def make(is_train: bool = True, **sections: Any) -> dict[str, Any]:
        opt = train_options(image_folder('hr', [(32, 40), (24, 26)]))
        if not is_train:
            del opt['train']
        for name, changes in sections.items():
            opt[name] = {**opt.get(name, {}), **changes} if type(changes) is dict else changes
        opt.update(is_train=is_train, dist=False, rank=0, world_size=1)
        opt['path'].update(models=str(tmp_path / 'models'), training_states=str(tmp_path / 'states'),
                           visualization=str(tmp_path / 'visualization'), log=str(tmp_path))
        dict2str(opt)
        return opt

    return make


@pytest.fixture
def make_model(make_options: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """The model of such options."""
    return lambda is_train=True, **sections: build_model(make_options(is_train, **sections))
