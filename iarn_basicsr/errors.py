"""What the library raises: one line that names the value, the file or the key, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ['DamagedMetadataError', 'IARNError', 'ImageError', 'LossyFileError', 'MetadataError', 'NoMetadataError',
           'OptionError', 'OtherWeightsError', 'RegionError', 'SizeError', 'WeightsError', 'dotted',
           'one_line', 'shortened', 'suggestion']

LONGEST = 100  # characters of a value or a key in a message


class IARNError(ValueError):
    """What was asked for cannot be done; the base of all errors of this package.

    Attributes:
        reason: what is wrong, without the remedy that the message ends with where there is one.
    """

    def __init__(self, reason: str = '', remedy: str = '') -> None:
        super().__init__(f'{reason}; {remedy}' if remedy else reason)
        self.reason = reason


class OptionError(IARNError):
    """An option, or an option file, asks for something that does not exist or cannot work."""


class SizeError(IARNError):
    """A size that the network does not make.

    Attributes:
        asked: (height, width) that was asked for.
        low, high: smallest and largest size that would be accepted.
    """

    def __init__(self, reason: str, asked: tuple[int, int] = (0, 0), low: tuple[int, int] = (0, 0),
                 high: tuple[int, int] = (0, 0)) -> None:  # with defaults, for workers send errors as their message
        super().__init__(reason)
        self.asked, self.low, self.high = asked, low, high


class RegionError(IARNError):
    """A region that is empty or reaches outside the picture."""


class WeightsError(IARNError):
    """Weights that do not exist, are damaged, or are for another network."""


class ImageError(IARNError):
    """A picture file that cannot be read or written."""


class LossyFileError(OptionError):
    """An LR image would go into a file of a kind that loses what is hidden in it."""


class MetadataError(IARNError):
    """A picture is not, or no longer, what its LR metadata says; the base of the three below."""


class NoMetadataError(MetadataError):
    """A picture without LR metadata: not made by IARN, or stripped."""


class DamagedMetadataError(MetadataError):
    """LR metadata that cannot be read."""


class OtherWeightsError(MetadataError):
    """An LR image that was made with other weights than those at hand."""


def one_line(text: str, longest: int = 1000) -> str:
    """Text as a terminal may show it: control characters and bytes that are no text escaped, the middle cut out."""
    text = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode('ascii') for c in text)
    if len(text) <= longest:
        return text
    tail = longest // 4
    return f'{text[:longest - tail]} [...] {text[-tail:]}'


def shortened(value: object) -> str:
    """A value for an error message, cut short where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        text = 'a number too long to be shown'
    return text if len(text) <= LONGEST else f'{text[:LONGEST]}...'


def suggestion(name: object, known: Iterable[object]) -> str:
    """``did you mean 'x'?`` or the whole list, for the end of an error message."""
    words = sorted(word if isinstance(word, str) and word.isprintable() else shortened(word) for word in known)
    asked = name if isinstance(name, str) else shortened(name)
    close = difflib.get_close_matches(asked[:LONGEST], words, n=2, cutoff=0.6)
    return f'did you mean {" or ".join(map(repr, close))}?' if close else f'known: {", ".join(words)}'


def dotted(section: str, key: object) -> str:
    """``section.key`` for an error message, whatever the key is; the section may be empty."""
    plain = isinstance(key, str) and key.isprintable() and 0 < len(key) <= LONGEST
    return f'{section}{"." if section else ""}{key if plain else shortened(key)}'
