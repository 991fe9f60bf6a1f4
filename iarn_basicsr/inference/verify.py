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

    A way is a scale (``2``), or one with the quality of a JPEG that the LR becomes (``2 jpeg 90``).
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
    """(name, good, text) of released models: the file's sha256 and every expected number; ``none``: the payload.

    Without names: of all that are part of this installation.

    Raises:
        WeightsError: for a name that is not released.
    """
    released = zoo.entries()
    for name in names:
        if name == zoo.NONE:
            continue
        if name not in (zoo.DEFAULT, *released) or not released:
            hint = suggestion(name, [zoo.DEFAULT, *released])
            raise WeightsError(f'no released weights {name!r}; {hint}' if released else
                               'no released weights in this package')
    for name in names or (*zoo.list_models(), *([zoo.NONE] if released else [])):
        if name == zoo.NONE:
            yield zoo.NONE, *_verify_payload()
            continue
        try:
            rescaler = Rescaler.load(name, device='cpu')
        except WeightsError as error:
            yield name, False, str(error)
            continue
        known = released[rescaler.name]
        if rescaler.weights_hash != known['weights_hash']:
            yield name, False, f'weights {rescaler.weights_hash}, expected {known["weights_hash"]}'
            continue
        expected = known['expected']
        found = measure(rescaler, list(expected))
        wrong = [f'{scale} {metric} {found[scale][metric]:.3f}, expected {value:.3f}'
                 for scale, row in expected.items() for metric, value in row.items()
                 if abs(found[scale][metric] - value) > TOLERANCE]
        numbers = ', '.join(f'{scale} {row["psnr_y"]:.2f} dB' for scale, row in found.items())
        yield name, not wrong, '; '.join(wrong) or f'PSNR-Y {numbers}, as expected (within {TOLERANCE} dB)'


def _verify_payload() -> tuple[bool, str]:
    """Coded detail, written and read, without a network: versions of the codec differ, but all restore more with it."""
    try:
        plain, found = (measure(Rescaler.load(zoo.NONE, payload=bits), [PAYLOAD_SCALE])[PAYLOAD_SCALE]['psnr_rgb']
                        for bits in (0, PAYLOAD))
    except MissingCodecError as error:
        return True, f'left out: {error}'
    return found > plain, f'x{PAYLOAD_SCALE} {plain:.2f} dB RGB, with a payload of {PAYLOAD} bits {found:.2f}'
