"""Image files for rescaling: any common mode in, and LR files that know how to be restored.

An LR file is a PNG or a lossless WebP whose metadata say what is needed to restore it (:class:`Recipe`): in a PNG a
text chunk named ``iarn``, in a WebP the XMP packet. Orientation is applied on reading; EXIF and ICC are kept.
"""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import asdict, dataclass
from os import path as osp
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from iarn_basicsr.files import atomic_write

__all__ = ['FORMAT_VERSION', 'IMAGE_ENDINGS', 'LOSSLESS_ENDINGS', 'Picture', 'Recipe', 'read_picture', 'write_picture']

FORMAT_VERSION = 1
IMAGE_ENDINGS = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff', '.ppm', '.gif')
LOSSLESS_ENDINGS = ('.png', '.webp')
_KEY = 'iarn'
_XMP_START, _XMP_STOP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!--iarn ', b' iarn--></x:xmpmeta>'
Image.MAX_IMAGE_PIXELS = None  # 100 megapixels and more are meant


class ImageError(ValueError):
    """A file that cannot be used; the message is one line and names it."""


@dataclass(frozen=True)
class Recipe:
    """How an LR image was made, and so how it is restored.

    Attributes:
        hr_size: (H, W) of the original.
        lr_size: (h, w); a file that was resized since no longer fits it.
        model: name of the weights.
        weights: hash of the weights, see ``Rescaler.weights_hash``.
        mode: ``L`` where the original was gray, else ``RGB``.
        format: version of this record.
    """

    hr_size: tuple[int, int]
    lr_size: tuple[int, int]
    model: str
    weights: str
    mode: str
    format: int = FORMAT_VERSION

    @classmethod
    def from_json(cls, text: str, path: str) -> Recipe:
        """Parse the metadata of a file.

        Raises:
            ImageError: naming the file, for another format version or damaged metadata.
        """
        try:
            record = json.loads(text)
            if record['format'] > FORMAT_VERSION:
                raise ImageError(f'{path}: made by a newer iarn_basicsr (metadata format {record["format"]}, this '
                                 f'version reads {FORMAT_VERSION}): upgrade')
            return cls((int(record['hr_size'][0]), int(record['hr_size'][1])),
                       (int(record['lr_size'][0]), int(record['lr_size'][1])), str(record['model']),
                       str(record['weights']), str(record['mode']), int(record['format']))
        except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
            raise ImageError(f'{path}: its IARN metadata are damaged ({error!r}): pass --size and --force') from None


@dataclass
class Picture:
    """Pixels and what goes with them.

    Attributes:
        rgb: (H, W, 3) uint8 or uint16.
        alpha: (H, W) uint8, or None.
        mode: ``L`` or ``RGB``: what the file is without its alpha.
        icc, exif: raw profiles, or None; the orientation is already applied and taken out of ``exif``.
        recipe: of an LR image made by IARN.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    mode: str = 'RGB'
    icc: bytes | None = None
    exif: bytes | None = None
    recipe: Recipe | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.rgb.shape[0], self.rgb.shape[1]


def read_picture(path: str) -> Picture:
    """Read a file of any common mode: gray, RGB, palette, with or without alpha, 8 or 16 bits.

    Raises:
        ImageError: naming the file, if it is missing, damaged or not an image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow's remarks on odd but readable files
            with Image.open(path) as file:
                file.load()
                exif = file.getexif()
                text = _recipe_text(file)
                icc = file.info.get('icc_profile')
                deep = _read_16_bit(path) if _is_deep(file, path) else None
                image = ImageOps.exif_transpose(file) or file
    except FileNotFoundError:
        raise ImageError(f'{path}: no such file') from None
    except UnidentifiedImageError:
        raise ImageError(f'{path}: not an image, or of a kind that cannot be read') from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f'{path}: damaged ({error})') from None
    exif.pop(ExifTags.Base.Orientation, None)
    picture = _from_16_bit(deep) if deep is not None else _from_8_bit(image)
    picture.icc, picture.exif = icc, (exif.tobytes() if len(exif) else None)
    picture.recipe = Recipe.from_json(text, path) if text else None
    return picture


def write_picture(picture: Picture, path: str) -> None:
    """Write 8-bit pixels and metadata, atomically; PNG and WebP losslessly, JPEG at quality 95."""
    mode = picture.mode if picture.recipe is None else 'RGB'  # the LR of a gray image hides detail in colour
    pixels = picture.rgb if mode == 'RGB' else _luma(picture.rgb)[..., None]
    if picture.alpha is not None:
        pixels = np.concatenate([pixels, picture.alpha[..., None]], 2)
    image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels))
    options: dict[str, Any] = {k: v for k, v in (('icc_profile', picture.icc), ('exif', picture.exif)) if v}
    ending = osp.splitext(path)[1].lower()
    if ending == '.png' and picture.recipe:
        options['pnginfo'] = PngImagePlugin.PngInfo()
        options['pnginfo'].add_text(_KEY, json.dumps(asdict(picture.recipe)))
    if ending == '.webp':
        options.update(lossless=True, exact=True, quality=80)
        if picture.recipe:
            options['xmp'] = _XMP_START + json.dumps(asdict(picture.recipe)).encode() + _XMP_STOP
    if ending in ('.jpg', '.jpeg'):
        image, options['quality'], options['subsampling'] = image.convert(mode), 95, 0
    atomic_write(path, lambda temporary: image.save(temporary, **options))


def png_bytes(rgb: np.ndarray) -> bytes:
    """The pixels (H, W, 3) uint8 as a PNG file, without metadata: for comparing sizes and for pages."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, 'PNG')
    return buffer.getvalue()


def _recipe_text(file: Image.Image) -> str | None:
    if isinstance(getattr(file, 'text', None), dict) and _KEY in file.text:  # type: ignore[attr-defined]
        return str(file.text[_KEY])  # type: ignore[attr-defined]
    xmp = file.info.get('xmp', b'')
    if isinstance(xmp, bytes) and _XMP_START in xmp:
        return xmp.split(_XMP_START, 1)[1].split(_XMP_STOP, 1)[0].decode()
    return None


def _is_deep(file: Image.Image, path: str) -> bool:
    """Whether a file holds 16 bits a channel; Pillow would cut RGB ones to 8."""
    if file.mode.startswith('I'):
        return True
    if file.format == 'PNG':
        return _png_depth(path) == 16
    return file.format == 'TIFF' and 16 in (file.tag_v2.get(258) or ())  # type: ignore[attr-defined]


def _png_depth(path: str) -> int:
    with open(path, 'rb') as raw:
        return raw.read(25)[24]


def _read_16_bit(path: str) -> np.ndarray:
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError('16-bit pixels cannot be decoded')
    return image


def _from_16_bit(image: np.ndarray) -> Picture:
    """From OpenCV's (H, W), BGR or BGRA; alpha is kept in 8 bits."""
    if image.ndim == 2:
        return Picture(np.repeat(image[..., None], 3, 2), mode='L')
    alpha = (image[..., 3] >> 8).astype(np.uint8) if image.shape[2] == 4 and image.dtype == np.uint16 else None
    return Picture(np.ascontiguousarray(image[..., 2::-1]), alpha)


def _from_8_bit(image: Image.Image) -> Picture:
    gray = image.mode in ('1', 'L', 'LA', 'La')
    if image.mode in ('LA', 'La', 'RGBA', 'RGBa', 'PA') or 'transparency' in image.info:
        rgba = np.asarray(image.convert('RGBA'))
        return Picture(np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3]), 'L' if gray else 'RGB')
    return Picture(np.asarray(image.convert('RGB')), mode='L' if gray else 'RGB')


def _luma(rgb: np.ndarray) -> np.ndarray:
    """Mean of the channels, rounded: the gray image (H, W) of a restored gray original."""
    return np.round(rgb.mean(2)).astype(np.uint8)
