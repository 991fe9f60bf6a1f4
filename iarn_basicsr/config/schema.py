"""Every key of an option file, once: kind, range, default and meaning.

From these classes come the check of a file, the tables of ``options/README.md`` and the JSON schema by which an editor
completes and underlines (``python -m iarn_basicsr.config.schema``). Keys that BasicSR or torch check themselves have no
range here.
"""

# Annotations are evaluated by msgspec: no `from __future__ import annotations`, and no `X | Y` before Python 3.10.
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Optional, Type, TypeVar  # noqa: UP035

import msgspec
from msgspec import Meta, Struct, field

from iarn_basicsr.errors import OptionError, shortened, suggestion
from iarn_basicsr.ops.size import parse_scale

__all__ = ['DatasetOptions', 'EvalDatasetOptions', 'IARNOptions', 'IRNOptions', 'JPEGOptions', 'LossOptions',
           'Scale', 'TrainDatasetOptions', 'TrainOptions', 'ValOptions', 'check']

Probability = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Quality = Annotated[int, Meta(ge=1, le=100)]


class Scale(tuple):
    """A scale as it is written (2.5, '1.5x3' or [1.5, 3]), read as (vertical, horizontal)."""

    __slots__ = ()


class Options(Struct, kw_only=True, forbid_unknown_fields=True):
    """A section of an option file. Cross-checks stand in ``__post_init__`` and raise ``ValueError``."""


# ----------------------------------------------------------------------------------------------------------- networks


class IARNOptions(Options):
    """``network_g`` of type ``IARN``."""

    num_block: Annotated[int, Meta(ge=0, le=64, description='number of coupling blocks')] = 2
    width: Annotated[int, Meta(ge=1, le=512, description='channels inside a subnet')] = 32
    subnet: Annotated[Literal['dense', 'residual'], Meta(
        description='networks in the couplings: residual ones, or the dense blocks of IRN')] = 'residual'
    num_unit: Annotated[int, Meta(ge=0, le=64, description='units of a residual subnet')] = 6
    split: Annotated[Literal['area', 'cubic', 'cubic_interp'], Meta(
        description='how the image is split into LR and detail; the untrained LR of cubic is the bicubic LR')] = 'cubic'
    coupling: Annotated[Literal['lr_grid', 'hr_grid'], Meta(description='grid of the convolutions')] = 'lr_grid'
    order: Annotated[int, Meta(ge=1, le=8, description='lr_grid: functions per axis of the pooling basis')] = 3
    fold: Annotated[int, Meta(ge=1, le=8, description='hr_grid: space-to-depth factor')] = 2
    encoding: Annotated[bool, Meta(description='tell the blocks the scale, on the HR grid the position too')] = True
    clamp: Annotated[float, Meta(ge=0.01, le=10, description='bound of the log-scale of a block')] = 1.0
    init_last: Annotated[float, Meta(ge=0, le=10, description='initial gain of the last layer of a subnet')] = 0.3
    max_scale: Annotated[float, Meta(ge=1, le=64, description='largest HR / LR that is accepted')] = 4.0
    extra_channels: Annotated[int, Meta(
        ge=0, le=512, description='channels of the low branch beside those of the LR (lr_grid; cubic or area)')] = 13

    def __post_init__(self) -> None:
        if self.extra_channels and (self.coupling != 'lr_grid' or self.split == 'cubic_interp'):
            raise ValueError(f'extra_channels: {self.extra_channels} needs coupling: lr_grid and split: area or cubic; '
                             f'here are {self.coupling} and {self.split}')


class IRNOptions(Options):
    """``network_g`` of type ``IRN``."""

    scale: Annotated[Literal[2, 3, 4, 8], Meta(description='HR / LR on both axes')]
    num_block: Annotated[int, Meta(ge=0, le=64, description='coupling blocks after each split')] = 8
    width: Annotated[int, Meta(ge=1, le=512, description='channels inside a dense block')] = 32
    clamp: Annotated[float, Meta(ge=0.01, le=10, description='bound of the log-scale of a block')] = 1.0


# ----------------------------------------------------------------------------------------------------------- datasets


class CommonScalesOptions(Options):
    """``common_scales``."""

    scales: Annotated[list[Scale], Meta(min_length=1, description='the scales, for example [2, 3, 4]')]
    prob: Annotated[Probability, Meta(description='share of the batches')] = 0.5


class CurriculumOptions(Options):
    """``curriculum``."""

    start: Annotated[float, Meta(ge=1, description='the first scale')] = 2.0
    hold: Annotated[int, Meta(ge=0, description='iterations at it alone')] = 0
    widen: Annotated[int, Meta(ge=0, description='iterations until the full range is open')] = 0


class ShrinkOptions(Options):
    """``shrink``."""

    prob: Annotated[Probability, Meta(description='share of the patches')] = 0.5
    range: Annotated[list[Annotated[float, Meta(ge=1, le=16)]], Meta(
        min_length=2, max_length=2, description='factors by which photographs are reduced')] = field(
            default_factory=lambda: [1.0, 2.0])


class NoiseOptions(Options):
    """``noise``."""

    prob: Annotated[Probability, Meta(description='share of the patches')] = 0.2
    range: Annotated[list[Annotated[float, Meta(ge=0, le=255)]], Meta(
        min_length=2, max_length=2, description='sigma in grey levels')] = field(default_factory=lambda: [0.0, 10.0])


class BackendOptions(Options):
    """``io_backend``."""

    type: Annotated[Literal['disk', 'lmdb'], Meta(description='how images are stored')] = 'disk'


class DatasetOptions(Options):
    """Keys of an ``ArbitraryScaleDataset`` in every phase."""

    name: Annotated[str, Meta(description='in logs and folders')]
    type: Annotated[str, Meta(description='ArbitraryScaleDataset')]
    phase: Annotated[Optional[str], Meta(description='set by BasicSR')] = None
    dataroot_gt: Annotated[Optional[str], Meta(
        description='folder of HR images with its sub-folders, or .lmdb; none: restore given LR images')] = None
    dataroot_lq: Annotated[Optional[str], Meta(
        description='stored LR images; {scale} stands for x2.5, {factor} for 2.5; none: bicubic LR')] = None
    filename_tmpl: Annotated[str, Meta(description='name of an LR file: {} is that of the HR file')] = '{}'
    meta_info_file: Annotated[Optional[str], Meta(description='text file with an image name a line')] = None
    io_backend: BackendOptions = field(default_factory=BackendOptions)
    scale: Annotated[Any, Meta(description='set by BasicSR from the top of the file')] = None
    scales: Annotated[Optional[list[Scale]], Meta(
        description='scales of validation and test, or those of dataroot_lq in training')] = None
    size_rule: Annotated[Literal['round', 'ceil', 'floor'], Meta(description='how a scale becomes a size')] = 'round'
    pin_memory: Annotated[Optional[bool], Meta(description="BasicSR's")] = None
    persistent_workers: Annotated[Optional[bool], Meta(description="BasicSR's")] = None
    prefetch_mode: Annotated[Optional[Literal['cpu', 'cuda']], Meta(description="BasicSR's")] = None
    num_prefetch_queue: Annotated[Count, Meta(description="BasicSR's")] = 1


class TrainDatasetOptions(DatasetOptions):
    """``datasets.train``."""

    gt_size: Annotated[Optional[int], Meta(ge=8, le=4096, description='HR patch in pixels (144)')] = None
    lq_size: Annotated[Optional[int], Meta(
        ge=4, le=1024, description='in place of gt_size: LR patch in pixels')] = None
    use_hflip: Annotated[bool, Meta(description='flips')] = True
    use_rot: Annotated[bool, Meta(description='rotation by 90 degrees')] = True
    scale_range: Annotated[Optional[list[Annotated[float, Meta(ge=1)]]], Meta(
        min_length=2, max_length=2, description='one LR size per batch is drawn from it ([1, 4])')] = None
    common_scales: Annotated[Optional[CommonScalesOptions], Meta(
        description='scales that a share of the batches takes')] = None
    asymmetric_prob: Annotated[Probability, Meta(
        description='share of the other batches with independent axes')] = 0.0
    curriculum: Annotated[Optional[CurriculumOptions], Meta(description='one scale first, then wider')] = None
    shrink: Annotated[Optional[ShrinkOptions], Meta(
        description='a share of the patches comes from reduced photographs, with sharp colour')] = None
    noise: Annotated[Optional[NoiseOptions], Meta(description='a share of the patches gets Gaussian noise')] = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1, description='of all draws')] = 0
    start_iter: Annotated[int, Meta(ge=0, description='set by the pipeline when a run resumes')] = 0
    batch_size_per_gpu: Annotated[int, Meta(ge=1, le=65536, description="BasicSR's")] = 16
    num_worker_per_gpu: Annotated[int, Meta(ge=0, le=1024, description="BasicSR's")] = 0
    dataset_enlarge_ratio: Annotated[float, Meta(gt=0, description="BasicSR's")] = 1.0
    use_shuffle: Annotated[Optional[Literal[True]], Meta(description='BasicSR shuffles in any case')] = None


class EvalDatasetOptions(DatasetOptions):
    """``datasets.val``, ``datasets.test_1``, ..."""

    mod_crop: Annotated[int, Meta(ge=1, le=1024, description='crop HR to a multiple; 12 to compare with others')] = 1


# ---------------------------------------------------------------------------------------------------- train, val, ...


class LossOptions(Struct, kw_only=True):
    """A loss of BasicSR's registry; other keys are its arguments."""

    type: str
    loss_weight: Annotated[float, Meta(ge=0)] = 1.0
    reduction: Optional[Literal['mean', 'sum', 'none']] = None


class JPEGOptions(Options):
    """``train.jpeg``."""

    prob: Annotated[Probability, Meta(description='share of the LR images that become JPEGs')] = 1.0
    quality: Annotated[list[Quality], Meta(min_length=2, max_length=2, description='lowest and highest')] = field(
        default_factory=lambda: [60, 95])
    subsampling: Annotated[Optional[list[Literal['4:2:0', '4:2:2', '4:4:4']]], Meta(
        description='each batch has one of them')] = None
    encoder: Annotated[Literal['libjpeg', 'diff', 'straight'], Meta(
        description="libjpeg: the real encoder's pixels with DiffJPEG's gradient")] = 'libjpeg'


class TrainOptions(Options):
    """``train`` with ``IARNModel``."""

    pixel_opt: Annotated[LossOptions, Meta(description='loss between restored and HR image')]
    optim_g: Annotated[dict[str, Any], Meta(description='type of torch.optim and its arguments')]
    scheduler: Annotated[dict[str, Any], Meta(description="BasicSR's")]
    total_iter: Annotated[Count, Meta(description='iterations')]
    warmup_iter: Annotated[int, Meta(ge=-1, description='iterations in which the rate rises; -1: none')] = -1
    guide_opt: Annotated[Optional[LossOptions], Meta(description='loss between LR and bicubic LR')] = None
    luma_opt: Annotated[Optional[LossOptions], Meta(description='loss on Y, beside pixel_opt')] = None
    latent_opt: Annotated[Optional[LossOptions], Meta(description='loss on the latent')] = None
    inv_opt: Annotated[Optional[LossOptions], Meta(
        description='split: cubic_interp: pulls the low branch to what the LR can hold')] = None
    perceptual_opt: Annotated[Optional[dict[str, Any]], Meta(description="BasicSR's")] = None
    cycle_opt: Annotated[Optional[LossOptions], Meta(
        description='loss between the LR and the LR of the 8-bit restored image')] = None
    cycle_freq: Annotated[Count, Meta(description='cycle_opt: one iteration in so many has it')] = 1
    ema_decay: Annotated[float, Meta(ge=0, lt=1, description='of the averaged weights; 0: none')] = 0.0
    grad_clip: Annotated[float, Meta(ge=0, le=1e6, description='largest gradient norm; 0: no limit')] = 1.0
    grad_accumulation: Annotated[int, Meta(ge=1, le=1024, description='parts in which a batch is computed')] = 1
    amp: Annotated[Literal['none', 'bf16'], Meta(description='autocast to bfloat16')] = 'none'
    cuda_graph: Annotated[Optional[bool], Meta(description='record the step on a GPU and replay it')] = None
    nonfinite_limit: Annotated[int, Meta(
        ge=1, le=10**6, description='so many steps in a row with a non-finite gradient end the run')] = 20
    jpeg: Annotated[Optional[JPEGOptions], Meta(description='a JPEG between the two directions')] = None


class ValOptions(Options):
    """``val`` with ``IARNModel``."""

    save_img: Annotated[bool, Meta(description='write LR and restored images')] = False
    val_freq: Annotated[Optional[Count], Meta(description='iterations between validations')] = None
    suffix: Annotated[Optional[str], Meta(description='added to the names of images')] = None
    metrics: Annotated[Optional[dict[str, dict[str, Any]]], Meta(
        description="BasicSR's metrics by names of your own; PSNR and SSIM of both, RGB and Y, if left out")] = None
    pbar: Annotated[Optional[bool], Meta(description='progress bar')] = None
    jpeg: Annotated[Optional[list[Quality]], Meta(
        description='measure also with the LR as a JPEG of each of these qualities')] = None


class LoggerOptions(Options):
    """``logger``."""

    print_freq: Annotated[Count, Meta(description='iterations between lines of the log')] = 100
    save_checkpoint_freq: Annotated[Count, Meta(description='iterations between checkpoints')] = 5000
    use_tb_logger: Annotated[bool, Meta(description='write for TensorBoard')] = False
    wandb: Annotated[Optional[dict[str, Any]], Meta(description="BasicSR's: project, resume_id")] = None


# ------------------------------------------------------------------------------------------------------------ checking

Section = TypeVar('Section', bound=Struct)


def check(section: str, kind: Type[Section], options: Any) -> Section:  # noqa: UP006
    """A section as values.

    Args:
        section: where it stands, ``datasets.train``, for messages.
        kind: one of the classes above.
        options: what the file says; integral floats (``5e3``) count as integers.

    Raises:
        OptionError: in one line, naming the key, its value, and what would be right.
    """
    try:
        return msgspec.convert(_integral(options), kind, dec_hook=_read)
    except msgspec.ValidationError as error:
        raise OptionError(_in_words(section, kind, options, str(error))) from None


def _integral(value: Any) -> Any:
    """Floats without a fraction as integers, which serve where a float is wanted too."""
    if isinstance(value, Mapping):
        return {k: _integral(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_integral(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read(kind: type, value: Any) -> Any:
    if kind is Scale:
        return Scale(parse_scale(value))
    raise NotImplementedError(kind)


def _in_words(section: str, kind: Type[Struct], options: Any, message: str) -> str:  # noqa: UP006
    """msgspec's message with the value, and with a suggestion for an unknown key."""
    text, _, path = message.partition(' - at `$')
    place = path.rstrip('`')
    where, value = section, options
    for name, index in re.findall(r'\.(\w+)|\[(\d+)\]', place):
        where = f'{where}.{name}' if name else f'{where}[{index}]'
        value = value[name] if name else value[int(index)]
    unknown = re.fullmatch(r'Object contains unknown field `(.*)`', text)
    if unknown:
        known = [f.encode_name for f in msgspec.structs.fields(kind)] if not place else []
        return f'{where}: unknown option {unknown[1]!r}; {suggestion(unknown[1], known)}'
    return f'{where}: {shortened(value)}; {text[0].lower()}{text[1:]}'
