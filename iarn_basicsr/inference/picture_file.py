"""Picture files: any common mode in, and LR files that carry what is needed to restore them.

An LR file is a PNG or a lossless WebP, or a JPEG where the weights were made for it, with ``LRMetadata`` in it.
Orientation is applied on reading; other information in a file is kept, see ``Extras``.
"""

from __future__ import annotations

import io
import os
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import path as osp
from typing import Any, BinaryIO

import numpy as np
from msgspec.structs import replace
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from iarn_basicsr.errors import ImageError, MetadataError, one_line
from iarn_basicsr.files import IMAGE_ENDINGS, NO_PICTURES, atomic_write, check_writable
from iarn_basicsr.ops.jpeg import is_jpeg, jpeg_options

from .deep import by_opencv, deep_pixels, refuse_kind
from .exif import orientation_of, turned
from .extras import Extras, is_gray_profile, read_extras, save_options
from .lr_metadata import LRMetadata, put_metadata, take_metadata
from .memory import available_memory
from .png import Chunks, open_pixels, said_by

__all__ = ['LOSSLESS_ENDINGS', 'Picture', 'channel_mean', 'eight_bit', 'open_header', 'png_bytes',
           'read_picture', 'refuse_unwritable', 'write_picture']

LOSSLESS_ENDINGS = ('.png', '.webp')
_ALPHA_ENDINGS = ('.png', '.webp', '.tif', '.tiff')
_STRIP = 64  # rows that are converted at a time: what that makes in between stays small
_MOST_PIXELS, _LONGEST_SIDE = 10**9, 10**6
_READING = 10  # bytes a pixel of 8 bits: Pillow's, ours, and one copy
_SIDES = {'.jpg': 65500, '.jpeg': 65500, '.webp': 16383}  # the longest
_OPENING = threading.Lock()
_HEIF = re.compile(rb'.{4}ftyp.{,30}(hei|hev)', re.DOTALL)


@dataclass
class Picture:
    """Pixels and what goes with them.

    Attributes:
        rgb: (H, W, 3) uint8 or uint16.
        alpha: (H, W) uint8, or None.
        mode: ``L`` or ``RGB``: what the file is without its alpha.
        extras: what the file says beside its pixels.
        metadata: of an LR image made by IARN.
        no_metadata: why the LR metadata in the file cannot be used.
        remarks: what the user should know: what the file holds and these pixels do not, and what restoring them met.
        path: of the file that it was read from.
        made_from: (H, W) of the picture that it was made from by rescaling.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    mode: str = 'RGB'
    extras: Extras = field(default_factory=Extras)
    metadata: LRMetadata | None = None
    no_metadata: str = ''
    remarks: tuple[str, ...] = ()
    path: str = ''
    made_from: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.rgb.shape[0], self.rgb.shape[1]

    @property
    def visible(self) -> np.ndarray:
        """(H, W, 3) uint8, black where alpha is 0."""
        rgb = eight_bit(self.rgb)
        return rgb if self.alpha is None or self.alpha.all() else rgb * (self.alpha > 0)[..., None]


def read_picture(path: str) -> Picture:
    """Read a file of any common mode: gray, RGB, CMYK, palette, with or without alpha, 8 or 16 bits.

    Raises:
        ImageError: naming the file, if it is missing, damaged or not an image.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f'{path}: is a folder, name an image file')
        if not stat.S_ISREG(mode):  # a pipe or a device: reading it may never end
            raise ImageError(f'{path}: is not a regular file')
        with open_pixels(path) as (raw, chunks), open_header(raw, path) as file:
            _refuse_large(file, path)
            refuse_kind(file, path)
            return _read(file, raw, chunks, path)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f'{path}: no such file') from None
    except UnidentifiedImageError:
        raise ImageError(f'{path}: not an image, or of a kind that cannot be read') from None
    except Image.DecompressionBombError as error:  # of one tile or icon
        raise ImageError(f'{path}: too large ({error})') from None
    except MemoryError:
        raise ImageError(f'{path}: not enough memory to read it') from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        if isinstance(error, OSError) and error.strerror:  # of the system, not of a decoder
            raise ImageError(f'{path}: cannot be read ({error.strerror})') from None
        reason = one_line(' '.join(str(error).split()), 200) or type(error).__name__
        raise ImageError(f'{path}: damaged ({reason})') from None


def write_picture(picture: Picture, path: str, quality: int | None = None) -> tuple[str, ...]:
    """Write 8-bit pixels and metadata, atomically; all but JPEG losslessly.

    Args:
        picture: with uint8 pixels.
        path: the file; its ending says of what kind it is.
        quality: of a JPEG, with halved chroma as usual; None stands for 95 with whole chroma.

    Returns:
        remarks: what the picture holds and a file of this kind does not.

    Raises:
        ImageError: naming the file, if its kind cannot hold the picture or it cannot be written.
    """
    ending = osp.splitext(path)[1].lower()
    refuse_unwritable(picture, picture.size, path)
    gray = picture.mode == 'L' and picture.metadata is None  # the LR of a gray image hides detail in colour
    image = Image.fromarray(channel_mean(picture.rgb) if gray else picture.rgb)
    if picture.alpha is not None and ending in _ALPHA_ENDINGS:
        image.putalpha(Image.fromarray(picture.alpha))
    options, remarks = _options(picture, ending, gray, quality)

    def write(temporary: str) -> None:
        with _Unnumbered(io.FileIO(temporary, 'w+')) as file:
            image.save(file, Image.registered_extensions()[ending], **options)

    try:
        atomic_write(path, write)
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise ImageError(f'{path}: cannot be written ({reason})') from None
    return remarks


def refuse_unwritable(picture: Picture, size: tuple[int, int], path: str) -> None:
    """Raise the errors of ``write_picture`` that are known before the work, for a picture that becomes ``size``."""
    ending = osp.splitext(path)[1].lower()
    if ending not in IMAGE_ENDINGS:
        raise ImageError(f'{path}: cannot be written, choose one of {", ".join(IMAGE_ENDINGS)}')
    if picture.alpha is not None and ending not in _ALPHA_ENDINGS and picture.alpha.min() < 255:
        raise ImageError(f'{path}: {ending} cannot hold its transparency, choose one of {", ".join(_ALPHA_ENDINGS)}')
    if max(size) > _SIDES.get(ending, max(size)):
        raise ImageError(f'{path}: {ending} cannot hold {size[1]}x{size[0]} pixels, its sides have at most '
                         f'{_SIDES[ending]}')
    try:
        check_writable(path)
    except OSError as error:
        raise ImageError(f'{path}: cannot be written ({error.strerror})') from None


class _Unnumbered(io.BufferedRandom):
    """A file that hides its descriptor: given one, Pillow's C code does not notice that a full disk cuts a JPEG."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation('fileno')


def _options(picture: Picture, ending: str, gray: bool, quality: int | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options of Pillow's ``save``, and remarks on extras that a file of this kind cannot hold."""
    extras, lr = picture.extras, picture.metadata is not None
    held = extras.held_by(ending, gray) - ({'comment'} if lr and is_jpeg(ending) else set())  # its metadata's place
    options = save_options(extras, held, ending)
    lost, kept = extras.given().keys() - held, set[str]()
    if picture.metadata:
        kept = put_metadata(picture.metadata, {name: getattr(extras, name) for name in lost}, options, ending)
    if ending == '.webp':
        options.update(lossless=True, exact=True, quality=80)
    elif is_jpeg(ending):
        options.update({'quality': 95, 'subsampling': 0} if quality is None else jpeg_options(quality))
    left_out, unseen = extras.in_words(lost - kept), extras.in_words(kept, seen=True)
    return options, tuple(text for names, text in (
        (left_out, f'its {left_out} cannot go into a {ending} file: left out'),
        (unseen, f'its {unseen} cannot go into its LR: that is displayed without, restoring brings it back'),
    ) if names)


def png_bytes(rgb: np.ndarray) -> bytes:
    """The pixels (H, W, 3) uint8 as a PNG file, without metadata: for comparing sizes and for pages."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, 'PNG')
    return buffer.getvalue()


def open_header(raw: BinaryIO, path: str) -> Image.Image:
    """A file as Pillow opens it, of any size and its pixels not read yet; a decoder may raise anything."""
    if _HEIF.match(raw.read(50)):  # whatever its name is
        try:
            import pillow_heif
        except ImportError:
            raise ImageError(f'{path}: Pillow reads HEIF with a plugin only: pip install pillow-heif') from None
        pillow_heif.register_heif_opener()
    raw.seek(0)
    with _OPENING:  # without Pillow's limit of pixels, which holds for the whole process
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            file = Image.open(raw)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if file.format in NO_PICTURES:  # or Pillow would run Ghostscript, or call its absence damage
        raise UnidentifiedImageError
    return file


def _refuse_large(file: Image.Image, path: str) -> None:
    """Raise ``ImageError`` for a picture that is too large for an LR file to name, or for the memory."""
    pixels = file.width * file.height
    needed, free = _READING * pixels, available_memory()
    too_large = f'{path}: {file.width}x{file.height} is too large'
    if max(file.size) > _LONGEST_SIDE:
        raise ImageError(f'{too_large}, its sides have at most {_LONGEST_SIDE} pixels')
    if pixels > _MOST_PIXELS:
        raise ImageError(f'{too_large}, at most {_MOST_PIXELS / 1e6:.0f} megapixels are read')
    if needed > free:
        raise ImageError(f'{too_large}, reading it takes {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are '
                         'free')


def _read(file: Image.Image, raw: BinaryIO, chunks: Chunks | None, path: str) -> Picture:
    several = getattr(file, 'is_animated', False) and file.format != 'MPO'  # whose other frames are previews
    remarks = ['only its first frame or page is used'] if several else []
    tags = getattr(file, 'tag_v2', {})  # of a TIFF, which Pillow turns on loading and then says nothing of it
    orientation = tags.get(ExifTags.Base.Orientation, 1)
    file.load()
    if chunks is not None:
        said, more = said_by(chunks)
        file.info.update(said)
        remarks += more
    orientation = orientation if file.format == 'TIFF' else orientation_of(file)
    icc = file.info.get('icc_profile')
    deep = deep_pixels(file, raw, orientation)
    if chunks is not None:
        raw.close()  # the copy of a PNG in memory
    if deep:
        picture = Picture(*deep)
    else:
        image, icc = _without_cmyk(file, icc)
        picture = _from_8_bit(image)
    sideways = orientation in (5, 6, 7, 8)
    if file.format == 'TIFF' and not (deep and by_opencv(file)):
        orientation = 1  # Pillow has turned what it decoded
    picture.path, picture.rgb = path, turned(picture.rgb, orientation)
    picture.alpha = None if picture.alpha is None else turned(picture.alpha, orientation)
    if icc and icc[16:20] != b'RGB ' and not (picture.mode == 'L' and is_gray_profile(icc)):
        icc = None
    if 'icc_profile' in file.info and not icc:
        why = 'does not fit its pixels' if file.info['icc_profile'] else 'is damaged'
        remarks.append(f'its colour profile {why} and is left out')
    try:
        picture.metadata = take_metadata(file.info)
    except MetadataError as error:
        picture.no_metadata = str(error)
    picture.extras, more = read_extras(file, icc, sideways)
    if picture.metadata:
        picture.extras = replace(picture.extras, **picture.metadata.extras.given())
        picture.metadata = replace(picture.metadata, extras=Extras())
    picture.remarks = (*remarks, *more)
    return picture


def _without_cmyk(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None]:
    """CMYK converted to RGB by its colour profile, if any, and the profile of the result."""
    if image.mode != 'CMYK' or not icc:
        return image, icc
    rgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB'))
    try:
        converted = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(icc)), rgb, outputMode='RGB')
    except (ImageCms.PyCMSError, OSError):
        return image, None
    return (converted, rgb.tobytes()) if converted else (image, None)


def _from_8_bit(image: Image.Image) -> Picture:
    gray = image.mode in ('1', 'L', 'LA', 'La')
    clear = image.mode in ('LA', 'La', 'RGBA', 'RGBa', 'PA') or 'transparency' in image.info
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty(rgb.shape[:2], np.uint8) if clear else None
    for rows in _strips(image.height):
        strip = image.crop((0, rows.start, image.width, rows.stop))
        pixels = np.asarray(strip.convert('RGBA' if clear else 'RGB'))
        rgb[rows] = pixels[..., :3]
        if alpha is not None:
            alpha[rows] = pixels[..., 3]
    return Picture(rgb, alpha, 'L' if gray else 'RGB')


def eight_bit(rgb: np.ndarray) -> np.ndarray:
    """uint8 pixels as they are, uint16 ones rounded to the nearest of 8 bits."""
    if rgb.dtype == np.uint8:
        return rgb
    rounded = np.empty(rgb.shape, np.uint8)
    for rows in _strips(len(rgb)):
        rounded[rows] = np.round(rgb[rows] / np.float32(257))
    return rounded


def channel_mean(rgb: np.ndarray) -> np.ndarray:
    """Mean of the channels, rounded: the gray image (H, W) of a restored gray original."""
    gray = np.empty(rgb.shape[:2], np.uint8)
    for rows in _strips(len(rgb)):
        gray[rows] = np.round(rgb[rows].mean(2))
    return gray


def _strips(height: int) -> Iterator[slice]:
    """Rows, some at a time."""
    for top in range(0, height, _STRIP):
        yield slice(top, min(top + _STRIP, height))
