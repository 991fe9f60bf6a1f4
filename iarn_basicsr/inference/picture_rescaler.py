"""Pictures down and up: sizes in range, LR metadata, alpha and colour profiles around the pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np

from iarn_basicsr.archs.iarn import IARN
from iarn_basicsr.errors import DamagedMetadataError, MetadataError, NoMetadataError, OptionError
from iarn_basicsr.ops.size import Scale, Size, check_hr_size, check_lr_size, lr_size
from iarn_basicsr.payload import bits
from iarn_basicsr.zoo.weights import weights_hash

from .lr_metadata import LRMetadata
from .picture_file import Picture, eight_bit, is_gray_profile
from .pixel_rescaler import PixelRescaler
from .tiling import Progress, bicubic_downscale_tiled, bicubic_upscale_tiled

__all__ = ['PictureRescaler', 'remarks_on_original']


class PictureRescaler(PixelRescaler):
    """The base of ``Rescaler``: pictures, and the sizes that they can become. See there for the arguments."""

    def __init__(self, net: IARN, name: str, device: str | None = None, tile: int | None = None,
                 payload: float | str = 0, effort: int = 0, progress: Progress | None = None) -> None:
        super().__init__(net, device=device, tile=tile, payload=payload, effort=effort, progress=progress)
        self.name, self.weights_hash = name, weights_hash(net.state_dict())

    def lr_size(self, hr: Size, scale: Scale | None = None, size: Size | None = None,
                max_side: int | None = None) -> Size:
        """The LR size (h, w) of an HR size (H, W).

        Args:
            hr: (H, W).
            scale: HR / LR.
            size: the LR size itself.
            max_side: of the longer side; a smaller picture keeps its size.

        Raises:
            OptionError: if not just one of the three is given.
            SizeError: if the LR is out of the network's range.
        """
        options = {'scale': scale, 'size': size, 'max_side': max_side}
        given = [name for name, value in options.items() if value is not None]
        if len(given) != 1:
            raise OptionError(f'give one of scale, size and max_side, not {" and ".join(given) or "none"}')
        if max_side is not None:
            if type(max_side) is not int or max_side < 1:
                raise OptionError(f'max_side {max_side!r}: expected an integer >= 1')
            scale = max(1.0, max(hr) / max_side)
        made = size if size is not None else lr_size(hr, scale)  # type: ignore[arg-type]  # one of them is given
        return check_lr_size(hr, made, self.net.max_scale)

    def restored_size(self, picture: Picture, size: Size | None = None, force: bool = False) -> Size:
        """(H, W) that ``upscale`` would make of a picture.

        Raises:
            NoMetadataError: without metadata or size.
            DamagedMetadataError: unless there are both ``size`` and ``force``.
            OtherWeightsError: if the LR was made with other weights, unless ``force``.
            MetadataError: if the LR was changed since it was made, unless ``force``.
            SizeError: if the size is out of the network's range.
        """
        if picture.no_metadata and not (force and size is not None):
            raise DamagedMetadataError(picture.no_metadata,
                                       'to enlarge rather than restore it, give size=(H, W) and force=True')
        if picture.metadata and not force:
            picture.metadata.check(eight_bit(picture.rgb), self.name, self.weights_hash)
        if size is None and picture.metadata is None:
            raise NoMetadataError('no IARN metadata: not made by IARN, or stripped', 'give size=(H, W), what to make')
        wanted = picture.metadata.hr_size if size is None and picture.metadata else size
        return check_hr_size(picture.size, wanted, self.net.max_scale)  # type: ignore[arg-type]

    def downscale_picture(self, picture: Picture, size: Size) -> Picture:
        """LR picture of a size in range, with the metadata to restore it; alpha goes by bicubic."""
        lr = self.downscale_pixels(picture.rgb, size)
        alpha = None if picture.alpha is None else bicubic_downscale_tiled(picture.alpha[..., None], size)[..., 0]
        gray, icc = (picture.icc, None) if is_gray_profile(picture.icc) else (None, picture.icc)
        mode: Literal['L', 'RGB'] = 'L' if picture.mode == 'L' else 'RGB'
        metadata = LRMetadata.of(lr, hr_size=picture.size, model=self.name, weights=self.weights_hash, mode=mode,
                                 alpha=alpha is not None, gray_icc=gray or b'',
                                 payload=bits.declared(lr) if self.payload else 0)
        return Picture(lr, alpha, mode, icc, picture.exif, metadata, remarks=picture.remarks, made_from=picture.size)

    def upscale_picture(self, picture: Picture, size: Size) -> Picture:
        """Restored picture of a size in range; its remarks are those of the restoration."""
        metadata, remarks = picture.metadata, list[str]()
        rgb = self.upscale_pixels(picture.rgb, size, metadata.payload if metadata else None, remarks.append)
        alpha = None if picture.alpha is None else bicubic_upscale_tiled(picture.alpha[..., None], size)[..., 0]
        mode, icc = picture.mode, picture.icc
        if metadata:
            mode, icc = metadata.mode, metadata.gray_icc or icc
            if metadata.alpha and alpha is None:  # it was opaque, or the file would still have it
                alpha = np.full(size, 255, np.uint8)
        return Picture(rgb, alpha, mode, icc, picture.exif, remarks=tuple(remarks), made_from=picture.size)

    def remarks_on_lr(self, picture: Picture, size: Size) -> tuple[str, ...]:
        """Why what is made of an LR may not be its original."""
        if picture.no_metadata:
            return ('enlarged, not restored',)
        if picture.metadata is None:
            return (f'no IARN metadata: restored if it was made with the weights {self.name} from a picture of that '
                    'size, else enlarged',)
        try:
            picture.metadata.check(eight_bit(picture.rgb), self.name, self.weights_hash)
        except MetadataError as error:  # in spite of which force goes on
            return (f'{error.reason}: not restored as it was',)
        if size != picture.metadata.hr_size:
            return ('the size is not that of its original: not restored as it was',)
        return ()


def remarks_on_original(picture: Picture) -> tuple[str, ...]:
    """What to know before a picture becomes an LR."""
    already = ('it is an LR image already: restoring both steps loses more than restoring one; downscale its original '
               'instead',)
    deep = ('it has 16 bits a channel; the LR, and what is restored from it, have 8',)
    return (already if picture.metadata else ()) + (deep if picture.rgb.dtype == np.uint16 else ())
