"""Images of a folder or an LMDB by name."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from os import path as osp

import cv2
import lmdb
import numpy as np

from iarn_basicsr.compat.basicsr import lmdb_environment
from iarn_basicsr.config.schema import DatasetOptions
from iarn_basicsr.errors import ImageError, OptionError
from iarn_basicsr.files import pictures_below
from iarn_basicsr.inference.picture_file import eight_bit, read_picture

__all__ = ['ImageSource', 'image_sources', 'jpeg_is_whole']

_SIZE = re.compile(r'\s+\(\d+(, ?\d+)+\).*$')  # what BasicSR's meta files say of an image after its name
_MARKER = re.compile(rb'\xff[^\x00\xff\xd0-\xd8]', re.DOTALL)  # not stuffing, filling, a restart, nor the beginning


class ImageSource:
    """The images below a root, sorted by name: sub-folders included, links followed, other files passed over.

    Args:
        root: folder, or ``*.lmdb``.
        backend: ``disk`` or ``lmdb``.
        meta_info_file: text file whose lines start with a file name relative to the root; None takes all images.
        key: the option that named the root, for messages.

    Raises:
        OptionError: if the root does not exist, does not fit the backend, holds no image, or is an LMDB without one of
            the images that are listed.
        OSError: if an LMDB is damaged, or a folder cannot be listed.
    """

    def __init__(self, root: str, backend: str, meta_info_file: str | None, key: str) -> None:
        self.root, self.backend, self.key = str(root), backend, key
        if not osp.isdir(self.root):
            raise OptionError(f'{key}: {self.root!r} does not exist or is not a folder (current directory '
                              f'{os.getcwd()}): write the path of a folder of images or of an .lmdb')
        if (backend == 'lmdb') != self.root.rstrip('/\\').endswith('.lmdb'):
            raise OptionError(f'{key}: {self.root!r} does not fit io_backend.type {backend!r}: a path that ends in '
                              '.lmdb goes with lmdb, any other folder with disk')
        listing = meta_info_file or (osp.join(self.root, 'meta_info.txt') if backend == 'lmdb' else '')
        if listing and not meta_info_file and not osp.isfile(listing):
            raise OptionError(f'{key}: {self.root!r} has no meta_info.txt: make the LMDB with '
                              "scripts/data/make_lmdb.py or BasicSR's create_lmdb.py")
        if listing:
            self.names = self._listed(listing) if meta_info_file else sorted(self._listed(listing))
        else:
            found = pictures_below(self.root)
            for error in found.unreadable:
                raise error
            self.names = sorted(found.pictures, key=osp.splitext)  # the order of an LMDB of the same images
        if not self.names:
            raise OptionError(f'{key}: no image in {self.root!r}')
        missing = self._missing() if listing else []
        if missing:
            raise OptionError(f'{key}: {len(missing)} of {len(self.names)} images that {listing!r} lists are not in '
                              f'{self.root!r}, the first is {missing[0]!r}')

    def _listed(self, listing: str) -> list[str]:
        """Names from a text file in UTF-8, with or without a byte-order mark."""
        try:
            with open(listing, encoding='utf-8-sig') as file:
                names = [_SIZE.sub('', line.strip()) for line in file if line.strip()]
        except OSError as error:
            raise OptionError(f'{self.key}: meta_info_file {listing!r} cannot be read ({error.strerror})') from None
        except UnicodeDecodeError:
            raise OptionError(f'{self.key}: meta_info_file {listing!r} is not text in UTF-8') from None
        return [osp.splitext(name)[0] for name in names] if self.backend == 'lmdb' else names

    def _missing(self) -> list[str]:
        """The names that are not there."""
        if self.backend == 'disk':
            return [name for name in self.names if not osp.exists(self.path(name))]
        with lmdb_environment(self.root).begin() as transaction, transaction.cursor() as cursor:
            return [name for name in self.names if not cursor.set_key(name.encode())]

    def path(self, name: str) -> str:
        """Full path of an image on disk; the key of one in an LMDB."""
        return name if self.backend == 'lmdb' else osp.join(self.root, name)

    def read(self, name: str) -> np.ndarray:
        """RGB uint8 (H, W, 3).

        Raises:
            OSError: naming the file, or the LMDB and key, if it is missing, cut short or cannot be decoded.
        """
        where = f'key {name!r} of {self.root!r}' if self.backend == 'lmdb' else repr(self.path(name))
        try:
            if self.backend == 'lmdb':
                with lmdb_environment(self.root).begin() as transaction:
                    content = transaction.get(name.encode())
            elif osp.exists(self.path(name)) and not osp.isfile(self.path(name)):  # reading a pipe may never end
                raise OSError(f'{self.key}: image {where} is no regular file')
            else:
                with open(self.path(name), 'rb') as file:
                    content = file.read()
        except FileNotFoundError:
            content = None
        except lmdb.Error as error:
            raise OSError(f'{self.key}: image {where} cannot be read: {error}') from None
        if content is None:
            raise OSError(f'{self.key}: image {where} does not exist')
        if not jpeg_is_whole(content):  # which OpenCV 4 decodes without a word, gray where the data ends
            raise OSError(f'{self.key}: image {where} is cut short ({len(content)} bytes): a JPEG without its end')
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if len(content) else None
        if image is not None:
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        if self.backend == 'disk':
            with suppress(ImageError):  # of a kind that Pillow alone knows
                return eight_bit(read_picture(self.path(name)).rgb)
        raise OSError(f'{self.key}: image {where} cannot be decoded ({len(content)} bytes): '
                      'the file is damaged or not an image')


def image_sources(options: DatasetOptions, section: str) -> tuple[ImageSource | None, dict[str, ImageSource]]:
    """HR images, if there are some, and the LR images by the name of their scale; raises as ``ImageSource`` does."""
    gt, kind, meta = options.dataroot_gt, options.io_backend.type, options.meta_info_file
    return (ImageSource(gt, kind, meta, f'{section}.dataroot_gt') if gt else None,
            {scale: ImageSource(root, kind, None if gt else meta, f'{section}.dataroot_lq')
             for scale, root in options.lq_roots().items()})


def jpeg_is_whole(content: bytes) -> bool:
    """Whether a JPEG has its end-of-image marker, whatever follows it; true for all that is not a JPEG."""
    if content[:2] != b'\xff\xd8' or content[-2:] == b'\xff\xd9':  # data holds that only as a marker
        return True
    place = 2
    while marker := _MARKER.search(content, place):
        kind, place = content[marker.end() - 1], marker.end()
        if kind == 0xd9:
            return True
        place += int.from_bytes(content[place:place + 2], 'big')  # a segment, which may hold a whole JPEG
    return False
