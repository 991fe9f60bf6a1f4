"""How much memory there is."""

from __future__ import annotations

from pathlib import Path

__all__ = ['available_memory']

UNKNOWN = 4e9  # bytes, where nothing is said


def available_memory(root: str = '/') -> float:
    """Free bytes: of this machine, or of the control group (a container, a batch job) that allows less.

    ``root`` is where ``proc`` and ``sys`` are found.
    """
    fields, mount = _fields(Path(root, 'proc/meminfo')), Path(root, 'sys/fs/cgroup')
    free = [fields['MemAvailable:'] * 1024 if 'MemAvailable:' in fields else UNKNOWN]
    for path in (line[3:] for line in _lines(Path(root, 'proc/self/cgroup')) if line.startswith('0::')):  # version 2
        group = mount / path.lstrip('/')  # seen from inside a container, only ``mount`` may be there
        for folder in (group, *group.parents):
            allowed, used = ((_lines(folder / name) or [''])[0] for name in ('memory.max', 'memory.current'))
            if allowed.isdigit() and used.isdigit():  # and not ``max``
                reusable = _fields(folder / 'memory.stat').get('inactive_file', 0)  # pages of files that were read
                free.append(max(0, int(allowed) - int(used) + reusable))
            if folder == mount:
                break
    return min(free)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding='ascii', errors='replace').splitlines()
    except OSError:  # another system, or an interface that is not there
        return []


def _fields(path: Path) -> dict[str, float]:
    """Lines of a name and a number."""
    words = (line.split() for line in _lines(path))
    return {w[0]: float(w[1]) for w in words if len(w) > 1 and w[1].isdigit()}
