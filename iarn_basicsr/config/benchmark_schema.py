"""Every key of a benchmark's option file, once; see ``schema`` for those of training and testing."""

# Annotations are evaluated by msgspec: no `from __future__ import annotations`, and no `X | Y` before Python 3.10.
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Optional, Union

from msgspec import Meta

from iarn_basicsr.errors import OptionError, shortened, suggestion
from iarn_basicsr.ops.size import parse_scale
from iarn_basicsr.payload import MAX_BITS

from .schema import Count, EvalDatasetOptions, Quality, Scales
from .sections import Options, check

__all__ = ['BenchmarkOptions', 'CostOptions', 'CyclesOptions', 'FilesOptions', 'NetOptions', 'PublishedOptions',
           'check_benchmark', 'check_method']

File = Annotated[str, Meta(min_length=1, description='a weight file')]


# ------------------------------------------------------------------------------------------------------------ methods


class IARNMethodOptions(Options):
    """Type ``IARN``."""

    weights: Annotated[File, Meta(description='released name, file, or none, which is bicubic')] = 'default'
    bits: Annotated[float, Meta(ge=0, le=MAX_BITS, description='of each LR sample that hold coded detail')] = 0
    effort: Annotated[int, Meta(ge=0, le=10000, description='gradient steps on the LR')] = 0

    def __post_init__(self) -> None:
        if self.effort and self.weights == 'none':
            raise ValueError(f'effort: {self.effort}; these steps go through a network: name its weights, or leave '
                             'effort out')


class NetOptions(Options):
    """One of ``nets``: a network of BasicSR's registry."""

    scale: Annotated[int, Meta(ge=2, le=8, description='HR / LR that the network is made for')]
    path: File
    network: Annotated[Optional[dict[str, Any]], Meta(
        description='type and options of the architecture; none: as the weight file says')] = None
    multiple: Annotated[int, Meta(ge=1, le=1024, description='of which the LR size must be one (window size)')] = 1


class NetsOptions(Options):
    """Type ``IRN`` or ``SR``: one network a scale."""

    nets: Annotated[list[NetOptions], Meta(min_length=1)]


class SpandrelOptions(Options):
    """Type ``spandrel``: architecture and scale are found from the file."""

    path: Annotated[Union[File, list[File]], Meta(description='a file, or a list with one file a scale')]


METHODS: dict[str, type[Options]] = {
    'IARN': IARNMethodOptions, 'IRN': NetsOptions, 'SR': NetsOptions, 'spandrel': SpandrelOptions,
    **dict.fromkeys(('bicubic', 'area', 'lanczos'), Options),  # they have none
}


# ----------------------------------------------------------------------------------------------------------- sections


class CostOptions(Options):
    """``cost``: parameters, operations, seconds and memory."""

    hr_size: Annotated[list[Annotated[int, Meta(ge=8, le=16384)]], Meta(
        min_length=2, max_length=2, description='height and width of the HR image')]
    scales: Scales
    repeats: Annotated[int, Meta(ge=1, le=1000, description='timed runs, of which the median counts')] = 5


class OneDatasetOptions(Options):
    """Base of the sections that measure one data set."""

    scales: Scales
    dataset: Annotated[Optional[str], Meta(description='the first one, if left out')] = None
    methods: Annotated[Optional[list[str]], Meta(description='all, if left out')] = None


class CyclesOptions(OneDatasetOptions, kw_only=True):
    """``cycles``: repeated down and up."""

    counts: Annotated[list[Annotated[int, Meta(ge=1, le=1000)]], Meta(min_length=1, description='cycles to report')]


class FilesOptions(OneDatasetOptions):
    """``files``: the LR as PNG, lossless WebP and lossy files, beside plain files of the HR image of the same bytes."""

    formats: Annotated[list[Literal['jpeg', 'webp', 'avif']], Meta(description='lossy ones')] = []
    qualities: Annotated[list[Quality], Meta(description='of each of them')] = []


class PublishedOptions(Options):
    """One of ``published``: figures of a source, shown apart from those that are measured."""

    source: Annotated[str, Meta(min_length=1, description='where they are published')]
    metric: Annotated[Literal['psnr_rgb', 'psnr_y', 'lr_psnr_rgb', 'lr_psnr_y'], Meta(
        description='of the restored image, or of the LR against the bicubic LR')]
    values: Annotated[dict[str, dict[str, dict[str, float]]], Meta(
        description='data set -> method -> scale (x2.5) -> dB')]

    def __post_init__(self) -> None:
        for methods in self.values.values():
            for scale in (scale for row in methods.values() for scale in row):
                parse_scale(scale)


class BenchmarkOptions(Options):
    """The option file. Data sets and methods are checked one by one, so that messages name them."""

    name: Annotated[str, Meta(description='results are written to results/NAME')]
    datasets: Annotated[dict[Any, Any], Meta(min_length=1, description='name -> options as in validation')]
    scales: Scales
    methods: Annotated[dict[Any, Any], Meta(min_length=1, description='name -> type and its options')]
    threads: Annotated[Optional[Count], Meta(description='of PyTorch; one per core, if left out')] = None
    device: Annotated[Optional[str], Meta(description='cuda where there is one, else cpu, if left out')] = None
    cost: Optional[CostOptions] = None
    cycles: Optional[CyclesOptions] = None
    files: Optional[FilesOptions] = None
    published: Optional[list[PublishedOptions]] = None


def check_benchmark(options: Any) -> BenchmarkOptions:
    """The option file as values.

    Raises:
        OptionError: in one line, for the first key or value that is wrong.
    """
    found = check('', BenchmarkOptions, options)
    for section, names in (('name', [found.name]), ('datasets', found.datasets), ('methods', found.methods)):
        for name in names:
            _check_name(section, name, is_file=section != 'methods')
    for name, dataset in found.datasets.items():
        section = f'datasets.{name}'
        if not isinstance(dataset, Mapping) or not dataset.get('dataroot_gt'):
            raise OptionError(f'{section}: {shortened(dataset)}; expected a mapping with dataroot_gt, a folder of '
                              'images')
        check(section, EvalDatasetOptions, {'type': 'ArbitraryScaleDataset', 'scales': found.scales, **dataset,
                                            'name': name})
    for name, method in found.methods.items():
        check_method(name, method)
    for section in ('cycles', 'files'):
        given = getattr(found, section)
        if not given:
            continue
        for key, names, known in (('dataset', [given.dataset] if given.dataset is not None else [], found.datasets),
                                  ('methods', given.methods or [], found.methods)):
            for name in names:
                if name not in known:
                    raise OptionError(f'{section}.{key}: {shortened(name)} is not in this file; '
                                      f'{suggestion(name, known)}')
    return found


def check_method(name: str, options: Any) -> Options:
    """The options of a method as values, without ``type``.

    Raises:
        OptionError: in one line, for the first key or value that is wrong.
    """
    section = f'methods.{name}'
    if not isinstance(options, Mapping) or 'type' not in options:
        raise OptionError(f'{section}: {shortened(options)}; expected a mapping with type and its options')
    kind = options['type']
    if not isinstance(kind, str) or kind not in METHODS:
        raise OptionError(f'{section}.type: {shortened(kind)} is not a method; {suggestion(kind, METHODS)}')
    return check(section, METHODS[kind], {k: v for k, v in options.items() if k != 'type'})


def _check_name(section: str, name: Any, is_file: bool) -> None:
    """Names stand in tables; those of data sets and of the benchmark itself are parts of file names too."""
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise OptionError(f'{section}: {shortened(name)}; expected printable text (a number in quotes)')
    if is_file and (set(name) & set('/\\<>:"|?*') or name.endswith('.') or len(name.encode()) > 150):
        raise OptionError(f'{section}: {shortened(name)}; expected text that can be part of a file name')
