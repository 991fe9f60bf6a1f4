"""Text of strangers (names of files, metadata) as it may be shown: on one line, not too long, and without effect."""

from __future__ import annotations

__all__ = ['LONGEST', 'printable', 'shortened']

LONGEST = 1000  # characters of a line; a path may have 4096


def printable(text: str) -> str:
    """Control characters, those that turn the direction of writing, and bytes that are no text, as ``\\x1b``."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode('ascii') for c in text)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Text without its middle, if it is long."""
    if len(text) <= longest:
        return text
    tail = longest // 4
    return f'{text[:longest - tail]} [...] {text[-tail:]}'
