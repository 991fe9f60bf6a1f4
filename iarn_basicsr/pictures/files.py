"""Picture files for rescaling: any common mode in, and LR files that carry what is needed to restore them.

An LR file is a PNG or a lossless WebP with a :class:`.recipe.Recipe` in its metadata. Orientation is applied on
reading; EXIF and ICC are kept.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import path as osp
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from iarn_basicsr.errors import ImageError, RecipeError
from iarn_basicsr.files import IMAGE_ENDINGS, atomic_write

from .exif import exif_for_tiff, orientation_of, set_upright, turned, upright_exif
from .recipe import Recipe, read_recipe, recipe_options

__all__ = ['INPUT_ENDINGS', 'LOSSLESS_ENDINGS', 'OUTPUT_ENDINGS', 'Picture', 'channel_mean', 'eight_bit',
           'is_gray_profile', 'png_bytes', 'read_picture', 'write_picture']

INPUT_ENDINGS = (*IMAGE_ENDINGS, '.gif')
OUTPUT_ENDINGS = IMAGE_ENDINGS  # the 256 colours of a GIF would restore little
LOSSLESS_ENDINGS = ('.png', '.webp')
_ALPHA_ENDINGS = ('.png', '.webp', '.tif', '.tiff')
_BARE_ENDINGS = ('.bmp', '.ppm')  # which hold pixels only
_STRIP = 64  # rows that are converted at a time: what that makes in between stays small
Image.MAX_IMAGE_PIXELS = None  # 100 megapixels and more are meant


@dataclass
class Picture:
    """Pixels and what goes with them.

    Attributes:
        rgb: (H, W, 3) uint8 or uint16.
        alpha: (H, W) uint8, or None.
        mode: ``L`` or ``RGB``: what the file is without its alpha.
        icc, exif: raw profiles, or None; the orientation is already applied and taken out of ``exif``.
        recipe: of an LR image made by IARN.
        no_recipe: why the recipe that the file has cannot be used.
        remarks: what the file holds and these pixels do not.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    mode: str = 'RGB'
    icc: bytes | None = None
    exif: bytes | None = None
    recipe: Recipe | None = None
    no_recipe: str = ''
    remarks: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.rgb.shape[0], self.rgb.shape[1]


def read_picture(path: str) -> Picture:
    """Read a file of any common mode: gray, RGB, CMYK, palette, with or without alpha, 8 or 16 bits.

    Raises:
        ImageError: naming the file, if it is missing, damaged or not an image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow's remarks on odd but readable files
            with Image.open(path) as file:
                return _read(file, path)
    except (ImageError, MemoryError):
        raise
    except FileNotFoundError:
        raise ImageError(f'{path}: no such file') from None
    except UnidentifiedImageError:
        raise ImageError(f'{path}: not an image, or of a kind that cannot be read') from None
    except IsADirectoryError:
        raise ImageError(f'{path}: is a folder, name an image file') from None
    except PermissionError as error:
        raise ImageError(f'{path}: cannot be read ({error.strerror})') from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise ImageError(f'{path}: damaged ({" ".join(str(error).split()) or type(error).__name__})') from None


def write_picture(picture: Picture, path: str) -> tuple[str, ...]:
    """Write 8-bit pixels and metadata, atomically; JPEG at quality 95, all others losslessly.

    Returns:
        remarks: what the picture holds and a file of this kind does not.

    Raises:
        ImageError: naming the file, if its kind cannot hold the picture or it cannot be written.
    """
    ending = osp.splitext(path)[1].lower()
    if ending not in OUTPUT_ENDINGS:
        raise ImageError(f'{path}: cannot be written, choose one of {", ".join(OUTPUT_ENDINGS)}')
    gray = picture.mode == 'L' and picture.recipe is None  # the LR of a gray image hides detail in colour
    image = Image.fromarray(channel_mean(picture.rgb) if gray else picture.rgb)
    if picture.alpha is not None and ending in _ALPHA_ENDINGS:
        image.putalpha(Image.fromarray(picture.alpha))
    elif picture.alpha is not None and picture.alpha.min() < 255:
        raise ImageError(f'{path}: {ending} cannot hold its transparency, choose one of {", ".join(_ALPHA_ENDINGS)}')
    unfit = is_gray_profile(picture.icc) and (not gray or ending == '.webp')  # which holds gray as RGB
    held = replace(picture, icc=None) if unfit else picture
    try:
        atomic_write(path, lambda temporary: image.save(temporary, **_options(held, ending)))
    except (FileExistsError, NotADirectoryError):
        raise ImageError(f'{path}: cannot be written, for {_file_on_the_way(path)} is no folder') from None
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise ImageError(f'{path}: cannot be written ({reason})') from None
    lost = [name for name, data in (('EXIF', picture.exif), ('colour profile', picture.icc))
            if data and (ending in _BARE_ENDINGS or (unfit and data is picture.icc))]
    return (f'its {" and ".join(lost)} cannot go into a {ending} file: left out',) if lost else ()


def _file_on_the_way(path: str) -> str:
    """The part of a path that is there and no folder."""
    while not osp.exists(path):
        path = osp.dirname(path)
    return path


def is_gray_profile(icc: bytes | None) -> bool:
    """Whether a colour profile is for gray pixels only."""
    return icc is not None and icc[16:20] == b'GRAY'


def _options(picture: Picture, ending: str) -> dict[str, Any]:
    """For Pillow's ``save``."""
    options: dict[str, Any] = {k: v for k, v in (('icc_profile', picture.icc), ('exif', picture.exif)) if v}
    options.update(recipe_options(picture.recipe, ending))
    if ending == '.webp':
        options.update(lossless=True, exact=True, quality=80)
    elif ending in ('.jpg', '.jpeg'):
        options.update(quality=95, subsampling=0)
    elif ending in ('.tif', '.tiff') and picture.exif:
        options['exif'] = exif_for_tiff(picture.exif)
    return options


def png_bytes(rgb: np.ndarray) -> bytes:
    """The pixels (H, W, 3) uint8 as a PNG file, without metadata: for comparing sizes and for pages."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, 'PNG')
    return buffer.getvalue()


def _read(file: Image.Image, path: str) -> Picture:
    several = getattr(file, 'is_animated', False) and file.format != 'MPO'  # whose other frames are previews
    tags = getattr(file, 'tag_v2', {})  # of a TIFF, which Pillow turns on loading and then says nothing of it
    orientation = tags.get(ExifTags.Base.Orientation, 1)
    file.load()
    orientation = orientation if file.format == 'TIFF' else orientation_of(file)
    icc = file.info.get('icc_profile')
    picture = _from_deep(file, path, orientation)
    if picture is None:
        image, icc = _without_cmyk(file, icc)
        picture = _from_8_bit(image)
        orientation = 1 if file.format == 'TIFF' else orientation
    picture.rgb = turned(picture.rgb, orientation)
    picture.alpha = None if picture.alpha is None else turned(picture.alpha, orientation)
    picture.icc = icc if icc and (icc[16:20] == b'RGB ' or (picture.mode == 'L' and is_gray_profile(icc))) else None
    picture.remarks = ('only its first frame or page is used',) if several else ()
    if file.info.get('icc_profile') and not picture.icc:
        picture.remarks += ('its colour profile does not fit its pixels and is left out',)
    try:
        picture.exif = upright_exif(file)
    except Exception:  # struct.error, SyntaxError and more, which say nothing about the pixels
        picture.remarks += ('its EXIF is damaged and left out',)
    try:
        picture.recipe = read_recipe(file)
    except RecipeError as error:
        picture.no_recipe = str(error)
    return picture


def _from_deep(file: Image.Image, path: str, orientation: int) -> Picture | None:
    """Picture of a file with more than 8 bits a channel, of which Pillow would keep 8 in colour; else None."""
    if file.mode == 'F' or (file.mode == 'I' and file.format not in ('PNG', 'PPM')):
        raise ImageError(f'{path}: 32 bits a channel cannot be used, convert it to 16 or 8')
    if file.mode.startswith('I'):
        gray = np.asarray(file).astype(np.uint16)
        clear = file.info.get('transparency')
        alpha = np.where(gray == clear, 0, 255).astype(np.uint8) if isinstance(clear, int) else None
        return Picture(np.repeat(gray[..., None], 3, 2), alpha, 'L')
    depth, color = _png_header(path) if file.format == 'PNG' else (0, 0)
    tiff = file.format == 'TIFF' and 16 in (file.tag_v2.get(258) or ())  # type: ignore[attr-defined]
    if file.mode not in ('RGB', 'RGBA', 'RGBX', 'LA') or not (depth == 16 or tiff):
        return None
    image = _by_opencv(path, tiff and orientation != 1)
    alpha = (image[..., 3] >> 8).astype(np.uint8) if image.shape[2] == 4 else None
    return Picture(np.ascontiguousarray(image[..., 2::-1]), alpha, 'L' if color == 4 else 'RGB')


def _png_header(path: str) -> tuple[int, int]:
    """(bits a channel, colour type)."""
    with open(path, 'rb') as raw:
        header = raw.read(26)
    return header[24], header[25]


def _by_opencv(path: str, turned_tiff: bool) -> np.ndarray:
    """BGR or BGRA in 16 bits, not turned: of a TIFF, OpenCV turns some orientations and fails on the others."""
    log = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)  # or it talks of harmless tags
    try:
        if turned_tiff:
            with open(path, 'rb') as raw:
                tiff = bytearray(raw.read())
            set_upright(tiff)
            image = cv2.imdecode(np.frombuffer(tiff, np.uint8), cv2.IMREAD_UNCHANGED)
        else:
            image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    finally:
        log.setLogLevel(level)
    if image is None or image.dtype != np.uint16 or image.ndim != 3:
        raise ValueError('16-bit pixels cannot be decoded')
    return image


def _without_cmyk(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None]:
    """RGB in place of CMYK, by its colour profile if it has one, and the profile that goes with the result."""
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
