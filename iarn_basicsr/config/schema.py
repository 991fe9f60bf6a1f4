"""Every key of an option file, once: kind, range, default and meaning.

These classes check a file, and make the tables of ``options/README.md`` and the JSON schema for editors. What BasicSR,
torch or a registry checks has no range here. Keys that BasicSR always expects have no default.

    python -m iarn_basicsr.config.schema           # prints the JSON schema
    python -m iarn_basicsr.config.schema tables    # prints the tables
"""

# Annotations are evaluated by msgspec: no `from __future__ import annotations`, and no `X | Y` before Python 3.10.
import json
import sys
from os import path as osp
from typing import Annotated, Any, Literal, Optional, Union

import msgspec
from msgspec import Meta, Struct, field

from iarn_basicsr.ops.size import scale_label

from .sections import UNBOUNDED, Options, Scale, check, table

__all__ = ['DEFAULT_RANGE', 'DatasetOptions', 'EvalDatasetOptions', 'FileName', 'IARNOptions', 'IRNOptions',
           'JPEGOptions', 'LossOptions', 'Options', 'Scale', 'Scales', 'Text', 'TrainDatasetOptions', 'TrainOptions',
           'ValOptions', 'check', 'filled', 'json_schema', 'tables']

DEFAULT_RANGE = [1.0, 4.0]  # of training scales
Probability = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=UNBOUNDED)]
Natural = Annotated[int, Meta(ge=0, le=UNBOUNDED)]
Weight = Annotated[float, Meta(ge=0, le=UNBOUNDED)]
Quality = Annotated[int, Meta(ge=1, le=100)]
Scales = Annotated[list[Scale], Meta(min_length=1)]
Text = Annotated[str, Meta(pattern=r'^[^\x00-\x1f\x7f]*$(?!\n)', extra={'words': 'text'})]
_CHARACTER = r'[^/\\<>:"|?*\x00-\x1f\x7f-\x9f\ud800-\udfff]'  # of a file name on any system
_DEVICE = r'([cC][oO][nN]|[pP][rR][nN]|[aA][uU][xX]|[nN][uU][lL]|[cC][oO][mM]\d|[lL][pP][tT]\d)(\.|$)'  # of Windows
FileName = Annotated[str, Meta(
    pattern=rf'^(?! |{_DEVICE}){_CHARACTER}{{1,100}}$(?<![ .])(?!\n)',
    extra={'words': 'text that can name a file on any system (a number in quotes): at most 100 characters, none of '
                    '/\\<>:"|?*, no dot or space at the end'})]


# ----------------------------------------------------------------------------------------------------------- networks


class IARNOptions(Options):
    """``network_g`` of type ``IARN``."""

    num_block: Annotated[int, Meta(ge=0, le=64, description='number of coupling blocks')] = 2
    width: Annotated[int, Meta(ge=1, le=512, description='channels inside a subnet')] = 32
    subnet: Annotated[Literal['dense', 'residual'], Meta(
        description="kind of the couplings' networks; dense blocks are those of IRN")] = 'residual'
    num_unit: Annotated[int, Meta(ge=0, le=64, description='units of a residual subnet')] = 6
    split: Annotated[Literal['area', 'cubic', 'cubic_interp'], Meta(
        description='how LR and detail are split; untrained, the LR of cubic is the bicubic LR')] = 'cubic'
    coupling: Annotated[Literal['lr_grid', 'hr_grid'], Meta(description='grid of the convolutions')] = 'lr_grid'
    order: Annotated[int, Meta(ge=1, le=8, description='lr_grid: functions per axis of the pooling basis')] = 3
    fold: Annotated[int, Meta(ge=1, le=8, description='hr_grid: space-to-depth factor')] = 2
    encoding: Annotated[bool, Meta(description='give blocks the scale, on the HR grid the position too')] = True
    clamp: Annotated[float, Meta(ge=0.01, le=10, description='bound of the log-scale of a block')] = 1.0
    init_last: Annotated[float, Meta(ge=0, le=10, description="initial gain of a subnet's last layer")] = 0.3
    max_scale: Annotated[float, Meta(ge=1, le=64, description='largest HR / LR accepted')] = 4.0
    extra_channels: Annotated[int, Meta(
        ge=0, le=512, description='channels of the low branch beside the LR (lr_grid; cubic or area)')] = 13

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

    scales: Annotated[Scales, Meta(description='for example [2, 3, 4]')]
    prob: Annotated[Probability, Meta(description='share of the batches')] = 0.5


class CurriculumOptions(Options):
    """``curriculum``."""

    start: Annotated[float, Meta(ge=1, le=UNBOUNDED, description='the first scale')] = 2.0
    hold: Annotated[Natural, Meta(description='iterations at `start` alone')] = 0
    widen: Annotated[Natural, Meta(description='iterations until the full range is open')] = 0


class ShrinkOptions(Options):
    """``shrink``."""

    prob: Annotated[Probability, Meta(description='share of the patches')] = 0.5
    range: Annotated[list[Annotated[float, Meta(ge=1, le=8)]], Meta(
        min_length=2, max_length=2, description='factor of the reduction')] = field(
            default_factory=lambda: [1.0, 2.0])

    def __post_init__(self) -> None:
        _check_order('range', self.range)


class NoiseOptions(Options):
    """``noise``."""

    prob: Annotated[Probability, Meta(description='share of the patches')] = 0.2
    range: Annotated[list[Annotated[float, Meta(ge=0, le=100)]], Meta(
        min_length=2, max_length=2, description='sigma in grey levels')] = field(default_factory=lambda: [0.0, 10.0])

    def __post_init__(self) -> None:
        _check_order('range', self.range)


class BackendOptions(Options):
    """``io_backend``."""

    type: Annotated[Literal['disk', 'lmdb'], Meta(description='how images are stored')] = 'disk'


class DatasetOptions(Options):
    """Keys of an ``ArbitraryScaleDataset`` in every phase."""

    name: Annotated[FileName, Meta(description='in logs and folders')]
    type: Annotated[Literal['ArbitraryScaleDataset'], Meta(description='')] = 'ArbitraryScaleDataset'
    phase: Annotated[Literal['train', 'val', 'test'], Meta(description='set by BasicSR')] = 'train'
    dataroot_gt: Annotated[Optional[Text], Meta(
        description='folder of HR images **with all sub-folders**, or `.lmdb`; none: restore given LR')] = None
    dataroot_lq: Annotated[Optional[Text], Meta(
        description='stored LR images, with `{scale}` for `x2.5` and `{factor}` for `2.5`; none: bicubic LR made on '
                    'the fly, bit-equal to stored files')] = None
    filename_tmpl: Annotated[Text, Meta(
        description="name of an LR file without ending; `{}`: the HR file's; `{scale}`, `{factor}` as above")] = '{}'
    meta_info_file: Annotated[Optional[Text], Meta(
        description='text file with an image name per line; none: all images')] = None
    io_backend: Annotated[BackendOptions, Meta(description='')] = field(default_factory=BackendOptions)
    scale: Annotated[Optional[Scale], Meta(description='set by BasicSR from the top of the file')] = None
    scales: Annotated[Optional[Scales], Meta(
        description='numbers or [vertical, horizontal] pairs, every image at each; in training, those of '
                    '`dataroot_lq`')] = None
    size_rule: Annotated[Literal['round', 'ceil', 'floor'], Meta(description='how a scale becomes a size')] = 'round'
    pin_memory: Annotated[Optional[bool], Meta(description="BasicSR's")] = None
    prefetch_mode: Annotated[Optional[Literal['cpu', 'cuda']], Meta(description="BasicSR's")] = None
    num_prefetch_queue: Annotated[int, Meta(ge=1, le=65536, description="BasicSR's")] = 1

    def __post_init__(self) -> None:
        """``~`` in folders is replaced, and a single ``scale`` becomes the list ``scales``."""
        if self.scales is None and self.scale is not None:
            self.scales = [self.scale]
        for key in ('dataroot_gt', 'dataroot_lq'):
            if getattr(self, key):
                setattr(self, key, osp.expanduser(getattr(self, key)))
        filled(self.filename_tmpl, 1, 'x')
        if self.prefetch_mode == 'cuda' and not self.pin_memory:
            raise ValueError('prefetch_mode: cuda needs pin_memory: true')
        if self.dataroot_lq and not self.scales:
            raise ValueError('dataroot_lq needs scales, the list of HR / LR ratios it holds')
        if len({*self.lq_roots().values()}) < len(self.lq_roots()):
            raise ValueError(f'dataroot_lq: {self.dataroot_lq!r} serves {len(self.lq_roots())} scales: put {{scale}} '
                             '(x2.5) or {factor} (2.5) where the scale stands in the path')

    def lq_roots(self) -> dict[str, str]:
        """Folders of LR images by the name of their scale; empty where the LR is made on the fly."""
        return {scale_label(s): filled(self.dataroot_lq, s) for s in self.scales or ()} if self.dataroot_lq else {}


class TrainDatasetOptions(DatasetOptions, kw_only=True):
    """``datasets.train``."""

    num_worker_per_gpu: Annotated[int, Meta(ge=0, le=1024, description="BasicSR's")]
    batch_size_per_gpu: Annotated[int, Meta(ge=1, le=65536, description="BasicSR's")]
    persistent_workers: Annotated[Optional[bool], Meta(description="BasicSR's")] = None
    gt_size: Annotated[Optional[Annotated[int, Meta(ge=8, le=4096)]], Meta(
        description='HR patch in pixels (144); smaller images are padded by reflection')] = None
    lq_size: Annotated[Optional[Annotated[int, Meta(ge=4, le=1024)]], Meta(
        description='instead of `gt_size`: LR patch in pixels, so that every scale costs about the same')] = None
    use_hflip: Annotated[bool, Meta(description='flips')] = True
    use_rot: Annotated[bool, Meta(description='rotation by 90 degrees')] = True
    scale_range: Annotated[
        Optional[Annotated[list[Annotated[float, Meta(ge=1, le=UNBOUNDED)]], Meta(min_length=2, max_length=2)]],
        Meta(description="range of a batch's scale ([1, 4])")] = None
    common_scales: Annotated[Optional[CommonScalesOptions], Meta(
        description='scales drawn more often: exactly x2 is learned only at x2')] = None
    asymmetric_prob: Annotated[Probability, Meta(
        description='share of the other batches with independent axes')] = 0.0
    curriculum: Annotated[Optional[CurriculumOptions], Meta(description='one scale first, then wider')] = None
    shrink: Annotated[Optional[ShrinkOptions], Meta(
        description='patches from reduced photographs: their colour is as sharp as their brightness')] = None
    noise: Annotated[Optional[NoiseOptions], Meta(description='patches with Gaussian colour noise')] = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1, description='of all draws')] = 0
    start_iter: Annotated[Natural, Meta(description='set when a run resumes')] = 0
    dataset_enlarge_ratio: Annotated[float, Meta(gt=0, le=UNBOUNDED, description="BasicSR's")] = 1.0
    use_shuffle: Annotated[Optional[Literal[True]], Meta(description='BasicSR shuffles in any case')] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dataroot_gt:
            raise ValueError('dataroot_gt is missing: training needs a folder or LMDB of HR images')
        if self.persistent_workers and (self.num_worker_per_gpu == 0 or self.prefetch_mode == 'cpu'):
            raise ValueError('persistent_workers: true needs num_worker_per_gpu >= 1, and not prefetch_mode: cpu, with '
                             'which BasicSR starts the loader twice')
        if self.lq_size and (self.gt_size or self.dataroot_lq):
            raise ValueError('lq_size takes the place of gt_size and needs LR made on the fly: leave out '
                             f'{"gt_size" if self.gt_size else "lq_size or dataroot_lq"}')
        if self.lq_size is None:
            self.gt_size = self.gt_size or 144
        if self.dataroot_lq:
            for key in ('common_scales', 'asymmetric_prob', 'curriculum', 'shrink', 'noise', 'scale_range'):
                if getattr(self, key):
                    raise ValueError(f'{key} needs LR made on the fly: leave out {key} or dataroot_lq, whose files '
                                     'have scales and content of their own')
        elif self.scales and self.scale is None:
            raise ValueError('scales serves dataroot_lq; for LR made on the fly give scale_range, and common_scales '
                             'for a list')
        self._check_range()

    def _check_range(self) -> None:
        """``scale_range`` gets its default; all other scales lie within it."""
        if self.scale_range is None:
            self.scale_range = [self.scales[0][0]] * 2 if self.scales else list(DEFAULT_RANGE)
        low, high = self.scale_range
        _check_order('scale_range', self.scale_range)
        inside = f'lies outside of scale_range, {scale_label(low)} to {scale_label(high)}'
        for scale in self.common_scales.scales if self.common_scales else ():
            if not low <= min(scale) <= max(scale) <= high:
                raise ValueError(f'common_scales.scales: {scale_label(scale)} {inside}')
        if self.curriculum and not low <= self.curriculum.start <= high:
            raise ValueError(f'curriculum.start: {self.curriculum.start:g} {inside}')


class EvalDatasetOptions(DatasetOptions):
    """``datasets.val``, ``datasets.test_1``, ..."""

    mod_crop: Annotated[int, Meta(
        ge=1, le=1024, description='crop HR to a multiple; 12 as in comparisons')] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dataroot_gt and not self.dataroot_lq:
            raise ValueError('neither dataroot_gt nor dataroot_lq is given: name a folder of HR images, or of LR '
                             'images to restore')
        if not self.scales:
            raise ValueError('scales is missing: list the scales, for example [1.5, 2, [1.5, 3]]')


def _check_order(key: str, limits: list[float]) -> None:
    if limits[0] > limits[1]:
        raise ValueError(f'{key}: [{limits[0]:g}, {limits[1]:g}]; expected [low, high] with low <= high')


def filled(template: str, scale: Any, *name: str) -> str:
    """A path or a name of LR images, with the scale in place of ``{scale}`` (x2.5) and ``{factor}`` (2.5).

    Raises:
        ValueError: if anything else stands in braces.
    """
    label = scale_label(scale)
    try:
        return template.format(*name, scale=label, factor=label[1:])
    except (LookupError, ValueError, AttributeError):
        raise ValueError(f'{template!r}: in braces only {"{}, " if name else ""}{{scale}} and {{factor}} are '
                         'understood') from None


# ---------------------------------------------------------------------------------------------------- train, val, ...


class LossOptions(Struct, kw_only=True):
    """A loss of BasicSR's registry; other keys are its arguments."""

    type: str
    loss_weight: Weight = 1.0
    reduction: Literal['mean', 'sum'] = 'mean'


class OptimiserOptions(Struct, kw_only=True):
    """An optimiser of ``torch.optim``, or ``SOAP`` of ``ops.soap``; other keys are its arguments."""

    type: str
    lr: Weight
    weight_decay: Weight = 0.0
    betas: Optional[Annotated[list[Annotated[float, Meta(ge=0, lt=1)]], Meta(min_length=2, max_length=2)]] = None


class SchedulerOptions(Struct, kw_only=True):
    """A scheduler of BasicSR; other keys are its arguments."""

    type: str
    milestones: Optional[list[Natural]] = None
    periods: Optional[Annotated[list[Count], Meta(min_length=1)]] = None
    gamma: Annotated[float, Meta(gt=0, le=UNBOUNDED)] = 0.1
    eta_min: Weight = 0.0


class MetricOptions(Struct, kw_only=True):
    """A metric of BasicSR's registry; other keys are its arguments."""

    type: str
    better: Literal['higher', 'lower'] = 'higher'
    crop_border: Union[Annotated[int, Meta(ge=0, le=UNBOUNDED)], Literal['auto']] = 0
    compare: Literal['hr', 'lr'] = 'hr'


class JPEGOptions(Options):
    """``train.jpeg``."""

    prob: Annotated[Probability, Meta(description='share of the LR images')] = 1.0
    quality: Annotated[list[Quality], Meta(
        min_length=2, max_length=2, description='range; drawn per image')] = field(
            default_factory=lambda: [60, 95])
    subsampling: Annotated[list[Literal['4:2:0', '4:4:4']], Meta(
        min_length=1, description='of chroma; one per batch')] = field(
            default_factory=lambda: ['4:2:0', '4:4:4'])
    encoder: Annotated[Literal['libjpeg', 'diff', 'straight'], Meta(
        description="`libjpeg`: its pixels with the gradient of BasicSR's DiffJPEG; `diff`: DiffJPEG for both; "
                    '`straight`: unchanged gradient')] = 'libjpeg'

    def __post_init__(self) -> None:
        _check_order('quality', [float(q) for q in self.quality])


class TrainOptions(Options):
    """``train`` with ``IARNModel``."""

    total_iter: Annotated[Count, Meta(description='iterations')]
    optim_g: Annotated[OptimiserOptions, Meta(description='an optimiser of `torch.optim` or `SOAP`, and its arguments')]
    scheduler: Annotated[SchedulerOptions, Meta(description="one of BasicSR's")]
    pixel_opt: Annotated[LossOptions, Meta(description='loss between restored and HR image')]
    guide_opt: Annotated[Optional[LossOptions], Meta(
        description='loss between LR and bicubic LR; more weight: cleaner LR, worse restoration')] = None
    luma_opt: Annotated[Optional[LossOptions], Meta(
        description='loss on brightness (Y); moves the error into colour')] = None
    latent_opt: Annotated[Optional[LossOptions], Meta(
        description='loss on the latent, which is not stored')] = None
    inv_opt: Annotated[Optional[LossOptions], Meta(
        description='`split: cubic_interp`: limits the low branch to what the LR can hold')] = None
    cycle_opt: Annotated[Optional[LossOptions], Meta(
        description='loss between the LR and the LR of the 8-bit restored image')] = None
    cycle_freq: Annotated[Count, Meta(description='iterations per use of `cycle_opt`')] = 1
    perceptual_opt: Annotated[Optional[dict[str, Any]], Meta(description="BasicSR's")] = None
    warmup_iter: Annotated[int, Meta(
        ge=-1, le=UNBOUNDED, description='iterations of rising learning rate; -1: none')] = -1
    ema_decay: Annotated[float, Meta(ge=0, lt=1, description='of averaged weights; 0: none')] = 0.0
    grad_clip: Annotated[float, Meta(ge=0, le=1e6, description='largest gradient norm; 0: no limit')] = 1.0
    grad_accumulation: Annotated[int, Meta(
        ge=1, le=1024, description='parts of a batch, at most its images')] = 1
    amp: Annotated[Literal['none', 'bf16'], Meta(
        description='autocast to bfloat16; a CPU without it trains in float32, with a warning')] = 'none'
    cuda_graph: Annotated[Optional[bool], Meta(description='record the GPU step and replay it')] = None
    nonfinite_limit: Annotated[int, Meta(
        ge=1, le=10**6, description='skipped steps in a row (non-finite gradient) that end the run')] = 20
    jpeg: Annotated[Optional[JPEGOptions], Meta(description='store the LR as JPEG before restoring')] = None

    def __post_init__(self) -> None:
        for key in self.__struct_fields__ if self.grad_accumulation > 1 or self.cuda_graph else ():
            loss = getattr(self, key)
            if isinstance(loss, LossOptions) and loss.reduction == 'sum':
                raise ValueError(f"{key}.reduction: 'sum'; grad_accumulation and cuda_graph need mean")
        periods = self.scheduler.periods
        if periods and sum(periods) + 1 < self.total_iter:  # where they end, BasicSR's scheduler fails
            raise ValueError(f'scheduler.periods: {periods} end at iteration {sum(periods)}; expected a sum >= '
                             f'total_iter, {self.total_iter}')


class ValOptions(Options):
    """``val`` with ``IARNModel``."""

    save_img: Annotated[bool, Meta(description='write LR and restored images')] = False
    val_freq: Annotated[Optional[Count], Meta(description='iterations between validations; needed in training')] = None
    suffix: Annotated[Optional[FileName], Meta(description='added to the names of images')] = None
    metrics: Annotated[Optional[dict[str, MetricOptions]], Meta(
        description="BasicSR's, by any name. `compare: lr`: the LR against the bicubic LR; `crop_border: auto`: "
                    'ceil(max scale). None: PSNR and SSIM of both, RGB and Y')] = None
    pbar: Annotated[Optional[bool], Meta(description='progress bar')] = None
    jpeg: Annotated[Optional[list[Quality]], Meta(
        description='also measure with the LR as JPEG (4:2:0) of each quality: rows such as `x2_jpeg90`, `lr_*` after '
                    'JPEG')] = None


class PathOptions(Options):
    """``path`` with ``IARNModel``."""

    pretrain_network_g: Annotated[Optional[Text], Meta(
        description='weights to start from or to test: a file or a released name')] = None
    param_key_g: Annotated[Optional[Text], Meta(
        description='`params`, or `params_ema` for averaged weights')] = None
    strict_load_g: Annotated[bool, Meta(description='the file must have exactly the weights of the network')] = True
    resume_state: Annotated[Optional[Text], Meta(description='a `training_states/ITER.state`')] = None
    ignore_resume_networks: Annotated[Optional[list[str]], Meta(description="BasicSR's")] = None
    experiments_root: Annotated[Optional[Text], Meta(description="BasicSR's")] = None
    results_root: Annotated[Optional[Text], Meta(description="BasicSR's")] = None


class WandbOptions(Options):
    """``logger.wandb``."""

    project: Annotated[Optional[Text], Meta(description="BasicSR's; needs `use_tb_logger: true`")] = None
    resume_id: Annotated[Optional[Text], Meta(description="BasicSR's")] = None


class LoggerOptions(Options):
    """``logger``."""

    print_freq: Annotated[Count, Meta(description='iterations between log lines')]
    save_checkpoint_freq: Annotated[Count, Meta(description='iterations between checkpoints')]
    use_tb_logger: Annotated[bool, Meta(description='write for TensorBoard')]
    wandb: Annotated[Optional[WandbOptions], Meta(description='')] = None

    def __post_init__(self) -> None:
        if self.wandb and self.wandb.project and not self.use_tb_logger:
            raise ValueError(f'wandb.project: {self.wandb.project!r} needs use_tb_logger: true')


class FileOptions(Options):
    """The top of an option file."""

    name: Annotated[FileName, Meta(description='of the run, and of its folder')]
    model_type: Annotated[str, Meta(description='`IARNModel`, or another that is registered')]
    num_gpu: Annotated[Union[Annotated[int, Meta(ge=0, le=1024)], Literal['auto']], Meta(
        description='several need torchrun; 0: the CPU')]
    datasets: Annotated[dict[str, Any], Meta(description='`train` and `val`, or `test_1`, `test_2`, ...')]
    network_g: Annotated[dict[str, Any], Meta(description='`type` and arguments of the network')]
    path: Annotated[dict[str, Any], Meta(description='weights and folders')]
    plugin: Annotated[Any, Meta(description='lets stock BasicSR find this package')] = None
    scale: Annotated[Optional[Scale], Meta(description='given to every data set')] = None
    manual_seed: Annotated[Optional[Natural], Meta(description='of the initial weights')] = None
    train: Annotated[Optional[dict[str, Any]], Meta(description='losses and schedule')] = None
    val: Annotated[Optional[dict[str, Any]], Meta(description='validation')] = None
    logger: Annotated[Optional[dict[str, Any]], Meta(description='logs and checkpoints')] = None
    dist_params: Annotated[Optional[dict[str, Any]], Meta(description="BasicSR's")] = None
    find_unused_parameters: Annotated[bool, Meta(description="BasicSR's")] = False


NETWORKS: dict[str, type[Options]] = {'IARN': IARNOptions, 'IRN': IRNOptions}


# --------------------------------------------------------------------------------------------- JSON schema and tables


def json_schema() -> dict[str, Any]:
    """For editors, which complete and underline by it (JSON Schema, draft 2020-12).

    Nothing is required: a file may be based on another. Types of other packages accept anything.
    """
    kinds = [FileOptions, *NETWORKS.values(), TrainDatasetOptions, EvalDatasetOptions, TrainOptions, ValOptions,
             PathOptions, LoggerOptions]
    references, parts = msgspec.json.schema_components(kinds, schema_hook=_scale_schema, ref_template='#/$defs/{name}')
    for part in parts.values():
        part.pop('required', None)
        part.pop('title', None)
    for name, kind in NETWORKS.items():
        parts[kind.__name__]['properties']['type'] = {'const': name}
    reference = dict(zip(kinds, references))
    top = parts.pop('FileOptions')
    del top['additionalProperties']
    top['properties'].update(
        based_on={'type': 'string', 'description': 'another option file, for all keys that this one leaves out'},
        logger=reference[LoggerOptions],
        network_g={'type': 'object', 'properties': {'type': {'type': 'string', 'examples': [*NETWORKS]}},
                   'allOf': [_when('type', name, reference[kind]) for name, kind in NETWORKS.items()]},
        datasets={'type': 'object', 'properties': {'train': _ours(reference[TrainDatasetOptions])},
                  'patternProperties': {'^(val|test)(_.*)?$': _ours(reference[EvalDatasetOptions])}})
    with_model = {'train': reference[TrainOptions], 'val': reference[ValOptions], 'path': reference[PathOptions]}
    return {
        '$schema': 'https://json-schema.org/draft/2020-12/schema', 'title': 'Option file of iarn_basicsr', **top,
        'allOf': [_when('model_type', 'IARNModel', {'properties': with_model})], '$defs': dict(sorted(parts.items())),
    }


def _when(key: str, value: str, then: dict[str, Any]) -> dict[str, Any]:
    return {'if': {'properties': {key: {'const': value}}, 'required': [key]}, 'then': then}


def _ours(reference: dict[str, Any]) -> dict[str, Any]:
    """A data set, checked where its type is ours."""
    name = 'ArbitraryScaleDataset'
    return {'type': ['object', 'null'], 'properties': {'type': {'type': 'string', 'examples': [name]}},
            **_when('type', name, reference)}


def _scale_schema(kind: type) -> dict[str, Any]:
    """Of ``Scale``, the one type that msgspec does not know."""
    number = {'type': 'number', 'minimum': 1}
    return {'anyOf': [number, {'type': 'string', 'pattern': '^x?[0-9.]+(x[0-9.]+)?$'},
                      {'type': 'array', 'items': number, 'minItems': 2, 'maxItems': 2}]}


def tables() -> str:
    """The tables of ``options/README.md``, each below a comment with its name."""
    common = {*DatasetOptions.__struct_fields__}
    made = {
        'IARN': table(IARNOptions), 'IRN': table(IRNOptions),
        'datasets': table(DatasetOptions, leave_out={'phase', 'scale'}),
        'datasets.train': table(TrainDatasetOptions, leave_out={*common, 'start_iter'}),
        'datasets.val': table(EvalDatasetOptions, leave_out=common),
        'train': table(TrainOptions), 'val': table(ValOptions),
        'path': table(PathOptions), 'logger': table(LoggerOptions),
    }
    return '\n\n'.join(f'<!-- table: {name} -->\n{text}\n<!-- end -->' for name, text in made.items())


if __name__ == '__main__':
    sys.stdout.write(tables() if sys.argv[1:] == ['tables'] else json.dumps(json_schema(), indent=1))
    sys.stdout.write('\n')
