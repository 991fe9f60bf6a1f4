"""Weights that a run has saved."""

from __future__ import annotations

import os
import re
from os import path as osp

__all__ = ['newest_weights']


def newest_weights(folder: str) -> str | None:
    """The newest ``net_g`` of a run's folder ``models``: the one at its end, or that of the last iteration."""
    names = os.listdir(folder) if osp.isdir(folder) else []
    if 'net_g_latest.pth' in names:
        return osp.join(folder, 'net_g_latest.pth')
    found = [n for n in names if re.fullmatch(r'net_g_\d+\.pth', n)]
    return osp.join(folder, max(found, key=lambda n: int(n[6:-4]))) if found else None
