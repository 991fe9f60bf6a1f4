"""``Extras``, the information beside the pixels of a picture file: reading it, and which formats hold which of it.

Rescaling changes none of it. Even the resolution stays, as in other programs: it is right again once the original is
restored.
"""

from __future__ import annotations

import math
import struct
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import asdict
from PIL import Image, PngImagePlugin

from iarn_basicsr.ops.jpeg import is_jpeg

from .exif import exif_for_tiff, upright_exif
from .png import COLOUR_CHUNKS, LARGEST

__all__ = ['Extras', 'is_gray_profile', 'read_extras', 'save_options']

_WORDS = {'icc': 'colour profile', 'exif': 'EXIF', 'xmp': 'XMP', 'iptc': 'IPTC', 'dpi': 'resolution',
          'comment': 'comment', 'text': 'text'}
_OPTIONS = {'icc': 'icc_profile', 'exif': 'exif', 'xmp': 'xmp', 'dpi': 'dpi', 'comment': 'comment'}  # of Pillow
_PNG, _WEBP, _JPEG, _TIFF = (
    {'icc', 'exif', 'xmp', 'dpi', 'colour', 'comment', 'text'}, {'icc', 'exif', 'xmp'},
    {'icc', 'exif', 'xmp', 'iptc', 'dpi', 'comment'}, {'icc', 'exif', 'xmp', 'iptc', 'dpi'})
_HELD: dict[str, set[str]] = {'.png': _PNG, '.webp': _WEBP, '.jpg': _JPEG, '.jpeg': _JPEG, '.tif': _TIFF,
                              '.tiff': _TIFF, '.bmp': {'dpi'}, '.ppm': set()}

_TIFF_XMP, _TIFF_IPTC = 700, 33723  # tags
_IPTC = 0x0404  # a resource of Photoshop
_JPEG_XMP, _JPEG_MORE_XMP = b'http://ns.adobe.com/xap/1.0/\0', b'http://ns.adobe.com/xmp/extension/\0'
_JPEG_IPTC = b'Photoshop 3.0\x008BIM' + struct.pack('>HH', _IPTC, 0)
_SEGMENT = 65533  # bytes of a JPEG
_MOST_OF_JPEG = {'icc': 255 * (_SEGMENT - 14), 'exif': _SEGMENT, 'xmp': _SEGMENT - len(_JPEG_XMP),
                 'iptc': _SEGMENT - len(_JPEG_IPTC) - 5, 'comment': _SEGMENT, 'dpi': 2}
_SRGB = {'cICP': bytes((1, 13, 0, 1)), 'gAMA': struct.pack('>I', 45455),
         'cHRM': struct.pack('>8I', 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)}

_MOST_DPI = 65535  # in a JPEG
Dots = Annotated[float, Meta(ge=1, le=_MOST_DPI)]


class Extras(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a file says beside its pixels, as it stands there; empty where it says nothing.

    Attributes:
        icc: colour profile.
        exif: begins with ``Exif`` and two zeros; the orientation is taken out, as it is applied to the pixels.
        xmp: packet.
        iptc: records of IPTC-IIM.
        dpi: (horizontal, vertical) dots per inch.
        colour: chunks of a PNG that say how its values are displayed.
        comment: of a JPEG, GIF or PNG.
        text: other texts of a PNG, (name of the chunk, its data).
    """

    icc: bytes = b''
    exif: bytes = b''
    xmp: bytes = b''
    iptc: bytes = b''
    dpi: tuple[Dots, ...] = ()
    colour: dict[Literal['cICP', 'gAMA', 'cHRM', 'sRGB'], bytes] = {}
    comment: bytes = b''
    text: tuple[tuple[Literal['tEXt', 'zTXt', 'iTXt'], bytes], ...] = ()

    def __post_init__(self) -> None:
        if len(self.dpi) not in (0, 2) or any(len(data) != COLOUR_CHUNKS[name] for name, data in self.colour.items()):
            raise ValueError('a wrong number of values')

    def given(self) -> dict[str, Any]:
        """What is not empty, by name."""
        return {name: value for name, value in asdict(self).items() if value}

    def held_by(self, ending: str, gray: bool) -> set[str]:
        """Names of the extras that a file of this kind can hold; ``gray``: whether its pixels are gray."""
        held = self.given().keys() & _HELD[ending]
        if is_jpeg(ending):
            held = {name for name in held if len(getattr(self, name)) <= _MOST_OF_JPEG[name]}
        if is_gray_profile(self.icc) and (not gray or ending == '.webp'):  # which holds gray as RGB
            held -= {'icc'}
        if self.exif and _HELD[ending] is _TIFF and exif_for_tiff(self.exif) is None:
            held -= {'exif'}
        return held

    def in_words(self, names: set[str], seen: bool = False) -> str:
        """The extras of these names, without colours that change nothing where lost: of sRGB, and overridden ones.

        ``seen``: only what changes how the pixels are displayed.
        """
        words = [word for name, word in _WORDS.items() if name in names and (name == 'icc' or not seen)]
        if 'colour' in names:
            overridden = {'cICP', 'sRGB'} & self.colour.keys() or (self.icc and 'icc' not in names)
            words += [name for name, data in self.colour.items()
                      if data != _SRGB.get(name) and (name == 'cICP' or not overridden)]
        return ' and '.join(filter(None, (', '.join(words[:-1]), *words[-1:])))


def is_gray_profile(icc: bytes) -> bool:
    """Whether a colour profile is for gray pixels only."""
    return icc[16:20] == b'GRAY'


def read_extras(file: Image.Image, icc: bytes | None, sideways: bool) -> tuple[Extras, list[str]]:
    """The extras of a loaded file, and remarks on those left out.

    ``info`` of a PNG holds what is ``said_by`` its chunks. ``icc`` is the profile of the pixels, and ``sideways`` says
    whether the orientation makes columns of rows.
    """
    info, remarks = file.info, []
    iptc = info.get('photoshop', {}).get(_IPTC)
    if file.format == 'TIFF':  # raw: its bytes are often declared to be numbers, of which Pillow gives the first
        iptc = file.tag_v2._tagdata.get(_TIFF_IPTC)  # type: ignore[attr-defined]
    found: dict[str, Any] = {'icc': icc, 'xmp': info.get('xmp'), 'iptc': iptc, 'comment': info.get('comment')}
    try:
        found['exif'] = upright_exif(file)
    except Exception:  # struct.error, SyntaxError and more, which say nothing about the pixels
        remarks.append('its EXIF is damaged and left out')
    found = {name: value for name, value in found.items() if isinstance(value, bytes)}
    if file.format == 'PNG':
        found.update(colour=info['colour'], text=tuple(info['text']))
    guessed = file.format in ('JPEG', 'MPO') and info.get('jfif_unit') not in (1, 2)  # by Pillow, from the EXIF
    dpi = () if guessed else _pair(info.get('dpi'))
    if all(1 <= n <= _MOST_DPI for n in dpi):  # others are no more than fillers
        found['dpi'] = tuple(round(n, 2) for n in (dpi[::-1] if sideways else dpi))  # a PNG has dots per metre
    ratio = () if dpi else _pair(info.get('aspect') or info.get('resolution') or info.get('jfif_density'))
    if ratio and ratio[0] != ratio[1]:
        remarks.append('its pixels are not square: left out')
    if any(data.startswith(_JPEG_MORE_XMP) for _, data in getattr(file, 'applist', ())):
        remarks.append('the extension of its XMP is left out')
    sizes = {name: sum(len(data) for _, data in value) if name == 'text' else len(value)
             for name, value in found.items()}
    for name in sizes:
        if sizes[name] > LARGEST:
            del found[name]
            remarks.append(f'its {_WORDS[name]} is larger than {LARGEST >> 20} MB and left out')
    return Extras(**found), remarks


def _pair(value: Any) -> tuple[float, ...]:
    """Two positive numbers; none of anything else."""
    try:
        x, y = pair = tuple(float(n) for n in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return ()
    return pair if 0 < x < math.inf and 0 < y < math.inf else ()


def save_options(extras: Extras, held: set[str], ending: str) -> dict[str, Any]:
    """Options of Pillow's ``save`` that write the extras ``held_by`` a file of this kind."""
    given = {name: value for name, value in extras.given().items() if name in held}
    options = {option: given[name] for name, option in _OPTIONS.items() if name in given}
    if _HELD[ending] is _PNG:
        options['pnginfo'] = info = PngImagePlugin.PngInfo()
        for name, data in (*given.get('colour', {}).items(), *given.get('text', ())):
            info.add(name.encode(), data)
        if 'xmp' in given:
            info.add_itxt('XML:com.adobe.xmp', options.pop('xmp'))
        if 'comment' in given:
            info.add_text('Comment', options.pop('comment'))
    elif _HELD[ending] is _JPEG:
        segments = []
        if 'xmp' in given:
            segments.append((b'\xff\xe1', _JPEG_XMP + options.pop('xmp')))
        if 'iptc' in given:
            size, padding = struct.pack('>I', len(extras.iptc)), bytes(len(extras.iptc) % 2)
            segments.append((b'\xff\xed', _JPEG_IPTC + size + extras.iptc + padding))
        options['extra'] = b''.join(marker + struct.pack('>H', len(data) + 2) + data for marker, data in segments)
    elif _HELD[ending] is _TIFF:
        options['exif'] = tags = exif_for_tiff(given.get('exif', b'')) or Image.Exif()
        tags.update({tag: given[name] for name, tag in (('xmp', _TIFF_XMP), ('iptc', _TIFF_IPTC)) if name in given})
        options.pop('xmp', None)
    return options
