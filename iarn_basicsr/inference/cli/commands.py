"""What the commands of ``iarn`` do."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import path as osp
from typing import TYPE_CHECKING

from iarn_basicsr import zoo
from iarn_basicsr.errors import ImageError, MetadataError, NoMetadataError, OtherWeightsError, SizeError
from iarn_basicsr.files import check_writable, save_bytes
from iarn_basicsr.inference import option_files
from iarn_basicsr.inference.picture_file import Picture, eight_bit, read_picture, refuse_unwritable, write_picture
from iarn_basicsr.ops.jpeg import is_jpeg
from iarn_basicsr.ops.size import Size, check_hr_size, check_lr_size, lr_size, scale_label
from iarn_basicsr.payload import bits

from .batch import Job, UsageError, one_line, plan, run
from .process import EffortBar, postponed, show, tell

if TYPE_CHECKING:  # torch is loaded by the commands that need it
    from iarn_basicsr.inference.rescaler import Rescaler

__all__ = ['run_command']


def run_command(args: argparse.Namespace) -> int:
    """Run ``args.command``; errors become one line and the exit code."""
    try:
        return _COMMANDS[args.command](args)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, MemoryError) as error:
        tell(f'iarn {args.command}: {one_line(error)}')
        return 1 if isinstance(error, (ImageError, OSError, MemoryError)) else 2


# ------------------------------------------------------------------------------------------------------- commands


def _downscale(args: argparse.Namespace) -> int:
    jobs, outcome = plan(args)
    target = jobs[0].target if jobs else ''  # all are of one kind
    rescaler = _rescaler(args, args.weights or (zoo.JPEG if is_jpeg(target) else zoo.DEFAULT))
    unfit = rescaler.unfit_for(target) if jobs and not args.allow_lossy else ''
    if unfit:
        raise UsageError(f'{target}: {unfit}; or pass --allow-lossy')
    if args.quality and jobs and not is_jpeg(target):
        raise UsageError(f'--quality {args.quality}: {target} is no JPEG')
    quality = args.quality or rescaler.jpeg_quality

    def one(job: Job) -> str:
        picture = read_picture(job.source)
        size = _lr_size(args, picture.size, rescaler.net.max_scale)
        outcome.remark(job.source, *picture.remarks)
        if picture.metadata:
            outcome.remark(job.source, 'it is an LR image already: restoring both steps loses more than restoring one; '
                           'downscale its original instead')
        if picture.rgb.dtype.itemsize == 2:
            outcome.remark(job.source, 'it has 16 bits a channel; the LR, and what is restored from it, have 8')
        text = f'{_wh(picture.size)} -> {_wh(size)}'
        refuse_unwritable(picture, size, job.target)
        if not args.dry_run:
            lr = rescaler.downscale(picture, size=size)
            del picture  # the memory is needed for writing
            outcome.remark(job.source, *write_picture(lr, job.target, quality))
        return text

    return run(args, jobs, outcome, one)


def _upscale(args: argparse.Namespace) -> int:
    jobs, outcome = plan(args)
    said: list[str] = []  # of one file
    load = functools.lru_cache(maxsize=2)(functools.partial(_rescaler, args, say=said.append))
    load(args.weights or zoo.DEFAULT)  # a mistake in the arguments ends here, before the first file

    def one(job: Job) -> str:
        picture = read_picture(job.source)
        known = zoo.name_of(picture.metadata.weights) if picture.metadata else None
        rescaler = load(args.weights or known or (zoo.JPEG if is_jpeg(job.source) else zoo.DEFAULT))
        size = _restored_size(args, picture, rescaler)
        outcome.remark(job.source, *picture.remarks, *_doubts(args, picture, rescaler))
        refuse_unwritable(picture, size, job.target)
        if not args.dry_run:
            said.clear()
            try:
                restored = rescaler.upscale(picture, args.size, args.force)
            finally:
                outcome.remark(job.source, *said)
            outcome.remark(job.source, *write_picture(restored, job.target))
        return f'{_wh(picture.size)} -> {_wh(size)}'

    return run(args, jobs, outcome, one)


def _doubts(args: argparse.Namespace, picture: Picture, rescaler: Rescaler) -> Iterator[str]:
    """Why what is made of an LR may not be its original."""
    refusal = rescaler.refusal(picture)
    if picture.no_metadata:
        yield 'enlarged, not restored'
    elif picture.metadata is None:
        yield ('its metadata hold no metadata of IARN: restored if it was made with the weights '
               f'{rescaler.name} from a picture of that size, else enlarged')
    elif refusal:  # in spite of which --force goes on
        yield f'{refusal.reason}: not restored as it was'
    elif args.size and args.size != picture.metadata.hr_size:
        yield '--size is not the size that it was made from: not restored as it was'


def _compare(args: argparse.Namespace) -> int:
    with postponed():
        from iarn_basicsr.archs.one_way import SpandrelNet
        from iarn_basicsr.inference.compare import compare, page, table
    picture = read_picture(args.source)
    scales = args.scale or [(2.0, 2.0), (3.0, 3.0), (1.5, 3.0)]
    target = args.output or osp.splitext(osp.basename(args.source))[0] + '_compare.html'
    if not target.lower().endswith(('.html', '.htm')):
        raise UsageError(f'-o {target}: the page is HTML, choose a name that ends in .html')
    _refuse_existing(args, target)
    if osp.exists(target) and osp.samefile(args.source, target):
        raise UsageError(f'-o {target}: the output would replace the input {args.source}: choose another name')
    rescaler = _rescaler(args, args.weights or (zoo.JPEG if args.jpeg else zoo.DEFAULT))
    network = SpandrelNet.from_file(args.network) if args.network else None
    for scale in scales:
        with _asked_for(f'{args.source}: --scale {scale_label(scale)[1:]}', picture.size):
            check_lr_size(picture.size, lr_size(picture.size, scale), rescaler.net.max_scale)
    try:
        results = compare(rescaler, picture, scales, network, args.jpeg)
    except (MemoryError, RuntimeError) as error:  # RuntimeError: torch, out of memory
        raise ImageError(f'{args.source}: {one_line(error)}') from None
    show(*table(results).splitlines())
    with _writing(target):
        page(osp.basename(args.source), picture, results, target)
    show(f'page: {target}')
    return 0


def _info(args: argparse.Namespace) -> int:
    failed = 0
    for path in args.sources:
        try:
            lines = list(_describe(path, read_picture(path)))
        except (ValueError, OSError, MemoryError) as error:
            message = one_line(error)
            tell(f'iarn info: {message}' if message.startswith(f'{path}: ') else f'iarn info: {path}: {message}')
            failed = 1
            continue
        show(*lines)
    return failed


def _describe(path: str, picture: Picture) -> Iterator[str]:
    metadata = picture.metadata
    kind = f'{picture.mode}{"" if picture.alpha is None else " with alpha"}, {8 * picture.rgb.dtype.itemsize} bits'
    yield f'{path}: {_wh(picture.size)}, {kind}, {osp.getsize(path)} bytes'
    if metadata is None:
        if picture.no_metadata:
            yield f'  {picture.no_metadata}; iarn upscale needs --size and --force, and enlarges rather than restores'
        else:
            yield ('  no metadata of IARN in its metadata: made otherwise, or they were removed; iarn upscale needs '
                   '--size, and mostly enlarges rather than restores')
        return
    ratios = [round(n / m, 3) for n, m in zip(metadata.hr_size, metadata.lr_size)]
    alpha = ' with alpha' if metadata.alpha else ''
    yield f'  LR image of {_wh(metadata.hr_size)}, {scale_label(ratios)}, original mode {metadata.mode}{alpha}'
    yield f'  made with weights {metadata.model} ({metadata.weights}), metadata format {metadata.format}'
    if metadata.payload:
        yield f'  {metadata.payload:g} low bits of each sample hold coded detail{_damage(picture)}'
    if metadata.lr_size != picture.size:
        yield f'  was {_wh(metadata.lr_size)} when made: resized or cropped since, what it hid is lost'
    elif change := metadata.change(eight_bit(picture.rgb)):
        yield f'  {change}'
    elif not metadata.intact:
        yield '  these metadata were edited since it was made'


def _damage(picture: Picture) -> str:
    """What is wrong with the payload of an LR."""
    try:
        bits.read(eight_bit(picture.rgb))
    except bits.PayloadError as error:
        return f', but {error}'
    return ''


def _recipes(args: argparse.Namespace) -> int:
    if args.name is None:
        if args.output is not None or args.overwrite:
            raise UsageError('-o and --overwrite are for copying: name the option file to copy')
        width = max(map(len, option_files.names()), default=0)
        for name in option_files.names():
            show(f'{name:{width}}  {option_files.summary(name)}')
        return 0
    source, target = option_files.file_of(args.name), args.name if args.output is None else args.output
    if not target:
        raise UsageError("-o '': name a file or a folder")
    if osp.isdir(target) or target.endswith(('/', os.sep)):
        target = osp.join(target, args.name)
    _refuse_existing(args, target)
    with open(source, 'rb') as file, _writing(target):
        save_bytes(file.read(), target)
    show(f'{args.name} -> {target}')
    return 0


def _doctor(args: argparse.Namespace) -> int:
    with postponed():
        from iarn_basicsr.inference.doctor import checks
    failed = 0
    for name, good, text in checks():
        show(f'{"ok  " if good else "FAIL"}  {name}: {text}')
        failed += not good
    return int(bool(failed))


def _verify(args: argparse.Namespace) -> int:
    with postponed():
        from iarn_basicsr.inference.verify import verify
    failed = count = 0
    for name, good, text in verify(args.names):
        show(f'{"ok  " if good else "FAIL"}  {name}: {text}')
        failed, count = failed + (not good), count + 1
    if not count:
        show('no released weights in this package')
    return int(bool(failed))


def _export(args: argparse.Namespace) -> int:
    is_onnx = args.target.endswith('.onnx')
    if not args.target.endswith(('.safetensors', '.pth', '.onnx')):
        raise UsageError(f'{args.target}: choose a name that ends in .safetensors, .pth or .onnx')
    missing = [flag for flag, given in (('--direction', args.direction), ('--hr-size', args.hr_size),
                                        ('--scale or --size', args.scale or args.size)) if bool(given) != is_onnx]
    if missing:
        raise UsageError(f'{args.target}: {", ".join(missing)} ' + (
            'is missing: an .onnx is for one direction and one pair of sizes' if is_onnx else 'is for an .onnx only'))
    _refuse_existing(args, args.target)

    with postponed():
        from iarn_basicsr.archs.iarn import IARN
    path, name = zoo.resolve(args.weights)
    net = IARN.from_file(path)
    with _writing(args.target):
        if is_onnx:
            with postponed():
                from iarn_basicsr.inference.onnx import export_onnx
            size = _lr_size(args, args.hr_size, net.max_scale)
            try:
                export_onnx(net, args.target, args.direction, args.hr_size, size)
            except RuntimeError as error:  # torch, out of memory
                raise OSError(one_line(error)) from None
        else:
            net.save(args.target)
    show(f'{name} -> {args.target}')
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    'downscale': _downscale,
    'upscale': _upscale,
    'compare': _compare,
    'info': _info,
    'options': _recipes,
    'doctor': _doctor,
    'verify': _verify,
    'export': _export,
}

# ------------------------------------------------------------- the errors of the library, in the words of the command


def _rescaler(args: argparse.Namespace, weights: str, say: Callable[[str], object] | None = None) -> Rescaler:
    """With ``say`` for its remarks; they go to standard error without it."""
    with postponed():
        from iarn_basicsr.inference.rescaler import Rescaler
        from iarn_basicsr.inference.tiling import reuse_freed_memory
    reuse_freed_memory()
    return Rescaler.load(weights, device=args.device, tile=args.tile,
                         say=say or (lambda line: tell(f'iarn {args.command}: {line}')),
                         payload=getattr(args, 'payload', 0), effort=getattr(args, 'effort', 0), progress=EffortBar())


def _lr_size(args: argparse.Namespace, hr: Size, max_scale: float) -> Size:
    """The LR size that the command line asks for, in the range of the network."""
    if args.size:
        asked, size = f'--size {_wh(args.size)}', args.size
    elif args.scale:
        asked, size = f'--scale {scale_label(args.scale)[1:]}', lr_size(hr, args.scale)
    else:
        asked, size = f'--max-side {args.max_side}', lr_size(hr, max(1.0, max(hr) / args.max_side))
    with _asked_for(asked, hr):
        return check_lr_size(hr, size, max_scale)


def _restored_size(args: argparse.Namespace, picture: Picture, rescaler: Rescaler) -> Size:
    """The HR size that a picture becomes; what does not fit says which argument would help."""
    if args.size:
        with _asked_for(f'--size {_wh(args.size)}', picture.size):
            check_hr_size(picture.size, args.size, rescaler.net.max_scale)
    try:
        return rescaler.restored_size(picture, args.size, args.force)
    except OtherWeightsError as error:
        raise UsageError(f'{error.reason}: restore it with those (--weights), or pass --force') from None
    except NoMetadataError as error:
        remedy = ('; to enlarge rather than restore it, pass --size WxH and --force' if picture.no_metadata else
                  ': name the size to make (--size WxH)')
        raise UsageError(error.reason + remedy) from None
    except MetadataError as error:
        raise UsageError(f'{error.reason}; pass --force to try') from None


@contextmanager
def _asked_for(argument: str, of: Size) -> Iterator[None]:
    """Errors of size name the argument, and sizes as width x height."""
    try:
        yield
    except SizeError as error:
        asked = argument if argument.endswith(_wh(error.asked)) else f'{argument}: {_wh(error.asked)}'
        limits = f'{_wh(error.low)} to {_wh(error.high)}'
        raise UsageError(f'{asked} is out of range: {_wh(of)} can become {limits}') from None


def _wh(size: Size) -> str:
    """Width x height, as people and --size write it."""
    return f'{size[1]}x{size[0]}'


def _refuse_existing(args: argparse.Namespace, target: str) -> None:
    """End the command where ``target`` may not be replaced or cannot be written."""
    if osp.isdir(target):
        raise UsageError(f'{target} is a folder: choose another name')
    if osp.exists(target) and not args.overwrite:
        raise UsageError(f'{target} exists: pass --overwrite to replace it')
    with _writing(target):
        check_writable(target)


@contextmanager
def _writing(path: str) -> Iterator[None]:
    """Errors name this file, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(f'{path}: cannot be written ({error.strerror or error})') from None
