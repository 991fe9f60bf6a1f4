"""``iarn verify``: recompute the expected numbers of released weights on the packaged photograph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import path as osp

from iarn_basicsr import zoo
from iarn_basicsr.errors import WeightsError, suggestion
from iarn_basicsr.inference.picture_file import read_picture
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.metrics.rescaling import DEFAULT_METRICS, evaluate
from iarn_basicsr.ops.jpeg import jpeg_copy
from iarn_basicsr.ops.size import parse_scale
from iarn_basicsr.payload.codec import MissingCodecError

__all__ = ['PHOTOGRAPH', 'TOLERANCE', 'measure', 'verify']

PHOTOGRAPH = osp.join(zoo.FOLDER, 'chelsea.png')  # scikit-image's, CC0; never trained on
TOLERANCE = 0.02  # dB; other processors and versions round differently
PAYLOAD, PAYLOAD_SCALE = 2, '2'  # bits a sample
METRICS = {name: DEFAULT_METRICS[name] for name in ('psnr_y', 'psnr_rgb')}


def measure(rescaler: Rescaler, ways: Sequence[str]) -> dict[str, dict[str, float]]:
    """Way -> metric -> value of the round trip of the packaged photograph.

    A way is a scale (``2``), or a scale and the quality of a JPEG that the LR becomes (``2 jpeg 90``).
    """
    hr = read_picture(PHOTOGRAPH).rgb
    values = {}
    for way in ways:
        scale, _, quality = way.partition(' jpeg ')
        lr = rescaler.downscale(hr, scale=parse_scale(scale))
        lr = jpeg_copy(lr, int(quality)) if quality else lr
        restored = rescaler.upscale(lr, hr.shape[:2])
        values[way] = evaluate((restored[..., ::-1], hr[..., ::-1]), (lr, lr), METRICS)
    return values


def verify(names: Sequence[str] = ()) -> Iterator[tuple[str, bool, str]]:
    """(name, good, text) of released weights: the file's hash and every expected number; ``none``: the payload.

    Without names: of all in this installation.

    Raises:
        WeightsError: for a name that is not released.
    """
    known = [*zoo.entries(), zoo.NONE]
    for name in names:
        if name not in (zoo.DEFAULT, *known):
            raise WeightsError(f'no released weights {name!r}; {suggestion(name, [zoo.DEFAULT, *known])}')
    for name in names or known:
        yield name, *(_verify_payload() if name == zoo.NONE else _verify_weights(name))


def _verify_weights(name: str) -> tuple[bool, str]:
    try:
        rescaler = Rescaler.load(name, device='cpu')
    except WeightsError as error:
        return False, str(error)
    entry = zoo.entries()[rescaler.name]
    if rescaler.weights_hash != entry['weights_hash']:
        return False, f'weights {rescaler.weights_hash}, expected {entry["weights_hash"]}'
    found = measure(rescaler, list(entry['expected']))
    wrong = [f'{way} {metric} {found[way][metric]:.3f}, expected {value:.3f}'
             for way, row in entry['expected'].items() for metric, value in row.items()
             if not abs(found[way][metric] - value) <= TOLERANCE]
    numbers = ', '.join(f'{way} {row["psnr_y"]:.2f} dB' for way, row in found.items())
    return not wrong, '; '.join(wrong) or f'PSNR-Y {numbers}, as expected (within {TOLERANCE} dB)'


def _verify_payload() -> tuple[bool, str]:
    """Coded detail without a network. Versions of the codec differ, but with each the payload restores more."""
    try:
        plain, found = (measure(Rescaler.load(zoo.NONE, payload=bits), [PAYLOAD_SCALE])[PAYLOAD_SCALE]['psnr_rgb']
                        for bits in (0, PAYLOAD))
    except MissingCodecError as error:
        return True, f'left out: {error}'
    return found > plain, f'x{PAYLOAD_SCALE} {plain:.2f} dB RGB, with a payload of {PAYLOAD} bits {found:.2f}'
