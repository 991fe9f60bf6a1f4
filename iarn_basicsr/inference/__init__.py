"""Pictures: what people with photographs use. Nothing here trains, and nothing imports the training side."""

from __future__ import annotations

import logging

__all__ = ['MOST_EFFORT', 'SMALLEST_TILE', 'log_remarks']

SMALLEST_TILE = 64  # HR pixels
MOST_EFFORT = 10000  # gradient steps on an LR


def log_remarks(path: str, *remarks: str) -> tuple[str, ...]:
    """Log remarks on a file to ``iarn_basicsr``, and return them; a handler finds ``path`` and ``remark`` in a record.
    """
    for remark in remarks:
        logging.getLogger('iarn_basicsr').warning('%s: %s', path or 'picture', remark,
                                                  extra={'path': path, 'remark': remark})
    return remarks
