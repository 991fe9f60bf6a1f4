"""How much memory there is."""

from __future__ import annotations

__all__ = ['available_memory']


def available_memory() -> float:
    """Free bytes of this machine; 4 GB where it does not say."""
    try:
        with open('/proc/meminfo', encoding='ascii') as file:
            return next(float(line.split()[1]) * 1024 for line in file if line.startswith('MemAvailable'))
    except (OSError, StopIteration):
        return 4e9
