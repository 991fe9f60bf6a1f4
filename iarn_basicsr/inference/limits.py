"""Limits of what may be asked for; light, for the command line reads them before anything heavy is imported."""

from __future__ import annotations

__all__ = ['MOST_EFFORT', 'SMALLEST_TILE']

SMALLEST_TILE = 64  # HR pixels
MOST_EFFORT = 10000  # gradient steps
