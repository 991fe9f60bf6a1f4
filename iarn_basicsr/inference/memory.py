"""How much memory there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ['available_memory']

UNKNOWN = 4e9  # bytes, where nothing is said


def available_memory(root: str = '/') -> float:
    """Free bytes: of this machine, or of the control group (a container, a batch job) that allows less.

    ``root`` is where ``proc`` and ``sys`` are found.
    """
    fields = _fields(Path(root) / 'proc/meminfo')
    machine = fields['MemAvailable:'] * 1024 if 'MemAvailable:' in fields else UNKNOWN
    return min([machine, *_free_of_groups(Path(root))])


def _free_of_groups(root: Path) -> Iterator[float]:
    """What each control group (version 2) above this process still allows."""
    mount = root / 'sys/fs/cgroup'
    for path in (line[3:] for line in _lines(root / 'proc/self/cgroup') if line.startswith('0::')):
        group = mount / path.lstrip('/')  # seen from inside a container, only ``mount`` may be there
        for folder in (group, *group.parents):
            allowed, used = ((_lines(folder / name) or [''])[0] for name in ('memory.max', 'memory.current'))
            if allowed.isdigit() and used.isdigit():  # and not ``max``
                reusable = _fields(folder / 'memory.stat').get('inactive_file', 0)  # pages of files that were read
                yield max(0, int(allowed) - int(used) + reusable)
            if folder == mount:
                break


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding='ascii', errors='replace').splitlines()
    except OSError:  # another system, or an interface that is not there
        return []


def _fields(path: Path) -> dict[str, float]:
    """Lines of a name and a number."""
    words = (line.split() for line in _lines(path))
    return {w[0]: float(w[1]) for w in words if len(w) > 1 and w[1].isdigit()}
