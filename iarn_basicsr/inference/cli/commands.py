"""The commands of ``iarn``. What is heavy (torch, numpy, Pillow) is imported by the commands that need it."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from os import path as osp
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from iarn_basicsr import zoo
from iarn_basicsr.errors import OptionError, suggestion
from iarn_basicsr.files import IMAGE_ENDINGS, check_writable, save_bytes, without_ending
from iarn_basicsr.inference import MOST_EFFORT, SMALLEST_TILE
from iarn_basicsr.ops.jpeg import DEFAULT_QUALITY, QUALITIES, is_jpeg
from iarn_basicsr.ops.size import Region, Size, lr_size, parse_scale, scale_label
from iarn_basicsr.payload import MAX_BITS
from iarn_basicsr.version import __version__

from .process import Bar, in_words, postponed, print_error, print_lines, wh

if TYPE_CHECKING:
    from iarn_basicsr.inference.picture_file import Picture
    from iarn_basicsr.inference.rescaler import Rescaler

__all__ = ['iarn']

EXAMPLES = {
    'downscale': """iarn downscale photo.jpg -o small.png --scale 2.5
iarn downscale holiday/ -o small/ --max-side 1600
iarn downscale photo.jpg -o small.jpg --scale 2 --quality 90""",
    'upscale': """iarn upscale small/ -o restored/
iarn upscale small.png -o part.png --region 512x512+1024+768""",
    'compare': """iarn compare photo.jpg --scale 2 --scale 1.5x3 -o page.html
iarn compare photo.jpg --scale 2 --jpeg 75 --jpeg 90""",
    'info': 'iarn info small.png',
    'options': 'iarn options train_IARN_light_x1-4.yml -o own.yml',
    'export': 'iarn export iarn_light_x1-4 down.onnx --direction down --hr-size 1280x720 --scale 2',
}
Command = TypeVar('Command', bound=Callable[..., Any])

# --------------------------------------------------------------------------------------------------- what is typed


def size_of(text: str) -> Size:
    """WIDTHxHEIGHT, as (h, w)."""
    numbers = re.fullmatch(r'0*([1-9]\d{0,8})x0*([1-9]\d{0,8})', text, re.ASCII | re.IGNORECASE)
    if not numbers:
        raise click.BadParameter(f'{text!r}: write WIDTHxHEIGHT, for example 1920x1080')
    return int(numbers[2]), int(numbers[1])


def region_of(text: str) -> Region:
    """WIDTHxHEIGHT+X+Y, as (top, left, height, width)."""
    numbers = re.fullmatch(r'0*([1-9]\d{0,8})x0*([1-9]\d{0,8})\+(\d{1,9})\+(\d{1,9})', text, re.ASCII | re.IGNORECASE)
    if not numbers:
        raise click.BadParameter(f'{text!r}: write WIDTHxHEIGHT+X+Y, for example 512x512+1024+768')
    width, height, left, top = map(int, numbers.groups())
    return top, left, height, width


def scale_of(text: str) -> tuple[float, float]:
    """2.5 or 1.5x3, as (vertical, horizontal)."""
    try:
        return parse_scale(text)
    except OptionError as error:
        raise click.BadParameter(str(error)) from None


class PayloadType(click.FloatRange):
    """Bits of each sample, or auto."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == 'auto' else super().convert(value, param, ctx)


QUALITY = click.IntRange(*QUALITIES)
FORMAT = click.Choice([ending[1:] for ending in IMAGE_ENDINGS], case_sensitive=False)
OVERWRITE = click.option('--overwrite', is_flag=True, help='Replace files that exist.')
SCALE_HELP = '2.5, or vertical x horizontal: 1.5x3.'


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown in this order."""
    return lambda command: functools.reduce(lambda made, decorate: decorate(made), reversed(decorators), command)


def files(forms: str) -> Callable[[Command], Command]:
    """The arguments of the commands that make files from files."""
    return options(
        click.argument('sources', nargs=-1, required=True, metavar='IN...'),
        click.option('-o', '--output', required=True, metavar='OUT', help='Folder, or a file for a single file.'),
        click.option('--format', 'form', type=FORMAT, default='png', metavar='F',
                     help=f'Of files in a folder: {forms}.'),
        click.option('--dry-run', is_flag=True, help='Say what would be done.'), OVERWRITE,
        click.option('--skip-existing', is_flag=True, help='Skip existing results silently.'))


def computing(which: str) -> Callable[[Command], Command]:
    """The options of the commands that compute."""
    return options(
        click.option('--weights', metavar='NAME|FILE', help=f'Released name, .pth or .safetensors ({which}).'),
        click.option('--device', metavar='D', help='cpu, cuda, cuda:1 (default: cuda where there is one).'),
        click.option('--tile', type=click.IntRange(SMALLEST_TILE), metavar='N',
                     help='Tile side in HR pixels (default: by memory).'))


DETAIL = options(
    click.option('--payload', type=PayloadType(0, MAX_BITS), default=0, metavar='K',
                 help='Low bits of each LR sample that hold coded detail, or auto (1 with a network, 2 with --weights '
                 'none); default: 0.'),
    click.option('--effort', type=click.IntRange(0, MOST_EFFORT), default=0, metavar='N',
                 help='Gradient steps on the LR before it is stored: slow here, restoring costs the same; try 10 '
                 '(default: 0).'))


def exactly_one(**values: object) -> None:
    """Raise unless one of these options was given."""
    given = [f'--{name.replace("_", "-")}' for name, value in values.items() if value is not None]
    if len(given) != 1:
        names = ', '.join(f'--{name.replace("_", "-")}' for name in values)
        raise click.UsageError(f'Pass one of {names}, not {" and ".join(given) or "none"}.')


def examples(*texts: str) -> str:
    """The end of a help page."""
    return '\b\nExamples:\n' + '\n'.join(f'  {line}' for text in texts for line in text.splitlines())


def command(name: str) -> Callable[[Callable[..., int]], click.Command]:
    """A command of ``iarn`` with its examples."""
    return iarn.command(name, epilog=examples(EXAMPLES[name]) if name in EXAMPLES else None)


@click.group(no_args_is_help=False, context_settings={'max_content_width': 120},
             epilog=examples(*EXAMPLES.values()))
@click.version_option(__version__, message=f'iarn_basicsr {__version__}')
def iarn() -> None:
    """Downscale pictures, and restore the originals from them."""


# -------------------------------------------------------------------------------------------------------- commands


@command('downscale')
@files('png (default) or webp, both lossless; or jpg, with its own weights')
@click.option('--scale', type=scale_of, metavar='S', help=SCALE_HELP)
@click.option('--size', type=size_of, metavar='WxH', help='Exact LR size, width x height.')
@click.option('--max-side', type=click.IntRange(1), metavar='N', help='Longer side of the LR image.')
@click.option('--quality', type=QUALITY, metavar='Q', help=f'Of .jpg (default: {DEFAULT_QUALITY}).')
@click.option('--allow-lossy', is_flag=True, help='Write .jpg or .bmp with any weights all the same.')
@computing(f'default: {zoo.DEFAULT}, for .jpg {zoo.JPEG}; see iarn verify for the names')
@DETAIL
def downscale(scale: tuple[float, float] | None, size: Size | None, max_side: int | None, quality: int | None,
              allow_lossy: bool, weights: str | None, device: str | None, tile: int | None, payload: float | str,
              effort: int, **files: Any) -> int:
    """Make LR images from which the originals can be restored."""
    exactly_one(scale=scale, size=size, max_side=max_side)
    with postponed():
        from .batch import Batch
    with Batch(**files) as batch:
        rescaler = load(weights or (zoo.JPEG if is_jpeg(batch.ending) else zoo.DEFAULT), device, tile, payload, effort)
        for job in batch:
            with batch.making(job):
                batch.made(job, rescaler.downscale_file(
                    job.source, job.target, scale, size, max_side, allow_lossy=allow_lossy, quality=quality,
                    dry_run=batch.dry_run))
    return int(bool(batch.failed))


@command('upscale')
@files('png (default), webp, jpg, ...')
@click.option('--size', type=size_of, metavar='WxH', help='Size to make, for LR images without metadata.')
@click.option('--region', type=region_of, metavar='WxH+X+Y', help='Restore only this part, in pixels of the original: '
              'width x height + left + top.')
@click.option('--force', is_flag=True, help='Restore even if the weights differ or the LR was changed.')
@computing('default: those that the LR was made with')
def upscale(size: Size | None, region: Region | None, force: bool, weights: str | None, device: str | None,
            tile: int | None, **files: Any) -> int:
    """Restore the originals from LR images."""
    with postponed():
        from iarn_basicsr.inference.picture_file import read_picture

        from .batch import Batch
    loaded = functools.lru_cache(maxsize=2)(functools.partial(load, device=device, tile=tile))
    with Batch(**files) as batch:
        loaded(weights or zoo.DEFAULT)  # a mistake in the arguments ends here, before the first file
        for job in batch:
            with batch.making(job):
                picture = read_picture(job.source)
                known = zoo.name_of(picture.metadata.weights) if picture.metadata else None
                rescaler = loaded(weights or known or (zoo.JPEG if is_jpeg(job.source) else zoo.DEFAULT))
                batch.made(job, rescaler.upscale_file(picture, job.target, size, force, region=region,
                                                     dry_run=batch.dry_run))
    return int(bool(batch.failed))


@command('compare')
@click.argument('source', metavar='IN')
@click.option('--scale', 'scales', type=scale_of, metavar='S', multiple=True, default=['2', '3', '1.5x3'],
              help='Can be repeated; default: 2, 3 and 1.5x3.')
@click.option('--jpeg', type=QUALITY, multiple=True, metavar='Q', help='Quality, can be repeated: also '
              'compare what is restored after the LR images became such JPEG files.')
@click.option('--network', metavar='FILE', help='Weights of a one-way network (ESRGAN, SwinIR, HAT, ...) to restore '
              'the bicubic LR; needs the package spandrel.')
@click.option('-o', '--output', metavar='PAGE', help='Default: IN_compare.html in the current directory.')
@computing(f'default: {zoo.DEFAULT}, with --jpeg {zoo.JPEG}')
@DETAIL
@OVERWRITE
def compare(source: str, scales: tuple[tuple[float, float], ...], jpeg: tuple[int, ...], network: str | None,
            output: str | None, overwrite: bool, weights: str | None, **computing: Any) -> int:
    """Write one page that shows IARN beside bicubic, with a slider."""
    with postponed():
        from iarn_basicsr.archs.one_way import SpandrelNet
        from iarn_basicsr.inference import compare as comparing
        from iarn_basicsr.inference.picture_file import read_picture
    picture = read_picture(source)
    target = output or without_ending(osp.basename(source)) + '_compare.html'
    if not target.lower().endswith(('.html', '.htm')):
        raise click.UsageError(f'-o {target}: the page is HTML, choose a name that ends in .html')
    refuse_existing(target, overwrite)
    if osp.exists(target) and osp.samefile(source, target):
        raise click.UsageError(f'-o {target}: the output would replace the input {source}: choose another name')
    rescaler = load(weights or (zoo.JPEG if jpeg else zoo.DEFAULT), **computing)
    one_way = SpandrelNet.from_file(network) if network else None
    results = comparing.compare(rescaler, picture, scales, one_way, jpeg)
    print_lines(*comparing.table(results).splitlines())
    comparing.page(osp.basename(source), picture, results, target)
    print_lines(f'page: {target}')
    return 0


@command('info')
@click.argument('sources', nargs=-1, required=True, metavar='FILE...')
def info(sources: tuple[str, ...]) -> int:
    """Say what a file is and how it was made."""
    with postponed():
        from iarn_basicsr.inference.picture_file import read_picture
    failed = 0
    for path in sources:
        try:
            lines = list(description(path, read_picture(path)))
        except (ValueError, OSError, MemoryError) as error:
            print_error(f'iarn info: {in_words(error, path)}')
            failed = 1
        else:
            print_lines(*lines)
    return failed


def description(path: str, picture: Picture) -> Iterator[str]:
    """What ``iarn info`` says about a picture."""
    from iarn_basicsr.ops.transparency import seen
    from iarn_basicsr.payload import bits
    metadata = picture.metadata
    kind = f'{picture.mode}{"" if picture.alpha is None else " with alpha"}, {8 * picture.rgb.dtype.itemsize} bits'
    yield f'{path}: {wh(picture.size)}, {kind}, {osp.getsize(path)} bytes'
    if picture.no_metadata:
        yield f'  {picture.no_metadata}; iarn upscale needs --size and --force, and enlarges rather than restores'
    elif metadata is None:
        yield ('  no IARN metadata: not made by IARN, or stripped; iarn upscale needs --size, and mostly enlarges '
               'rather than restores')
    else:
        ratios = [round(n / m, 3) for n, m in zip(metadata.hr_size, metadata.lr_size)]
        yield (f'  LR image of {wh(metadata.hr_size)}, {scale_label(ratios)}, original mode {metadata.mode}'
               f'{" with alpha" if metadata.alpha else ""}')
        yield f'  made with weights {metadata.model} ({metadata.weights}), metadata format {metadata.format}'
        if metadata.payload:
            damage = ''
            try:
                bits.read(seen(picture.visible, picture.alpha))
            except bits.PayloadError as error:
                damage = f', but {error}'
            yield f'  {metadata.payload:g} low bits of each sample hold coded detail{damage}'
        if change := metadata.change(picture.visible):
            yield f'  {change}'


@command('options')
@click.argument('name', required=False, metavar='[NAME]')
@click.option('-o', '--output', metavar='OUT', help='File, or folder (default: the current one).')
@click.option('--schema', is_flag=True, help='Print the JSON schema of option files, for editors.')
@OVERWRITE
def option_files(name: str | None, output: str | None, schema: bool, overwrite: bool) -> int:
    """List the option files that come with the package, or copy one to start from."""
    from . import option_files as shipped
    if schema:
        click.echo(shipped.SCHEMA.read_text(encoding='utf-8'), nl=False)
    elif name is None:
        if output is not None or overwrite:
            raise click.UsageError('-o and --overwrite are for copying: name the option file to copy')
        known = shipped.option_files()
        width = max(map(len, known), default=0)
        print_lines(*(f'{name:{width}}  {shipped.summary(path)}' for name, path in known.items()))
    else:
        known, target = shipped.option_files(), output or name
        if name not in known:
            raise OptionError(f'no option file {name!r} comes with the package; {suggestion(name, known)}')
        if osp.isdir(target) or target.endswith(('/', os.sep)):
            target = osp.join(target, name)
        refuse_existing(target, overwrite)
        save_bytes(known[name].read_bytes(), target)
        print_lines(f'{name} -> {target}')
    return 0


@command('doctor')
def doctor() -> int:
    """Check the installation."""
    with postponed():
        from iarn_basicsr.inference.doctor import checks
    return print_checks(checks())


@command('verify')
@click.argument('names', nargs=-1, metavar='[NAME]...')
def verify(names: tuple[str, ...]) -> int:
    """Recompute the numbers of the released weights and compare (default: of all)."""
    with postponed():
        from iarn_basicsr.inference.verify import verify
    return print_checks(verify(names))


@command('export')
@click.argument('weights')
@click.argument('target')
@click.option('--direction', type=click.Choice(['down', 'up']), help='Of an .onnx.')
@click.option('--hr-size', type=size_of, metavar='WxH', help='HR size of an .onnx, width x height.')
@click.option('--scale', type=scale_of, metavar='S', help=f'Of an .onnx: {SCALE_HELP}')
@click.option('--size', type=size_of, metavar='WxH', help='Of an .onnx: exact LR size, width x height.')
@OVERWRITE
def export(weights: str, target: str, direction: Literal['down', 'up'] | None, hr_size: Size | None,
           scale: tuple[float, float] | None, size: Size | None, overwrite: bool) -> int:
    """Write WEIGHTS (a released name, .pth or .safetensors) as a .safetensors or .pth, or a network as .onnx."""
    if not target.lower().endswith(('.safetensors', '.pth', '.onnx')):
        raise click.UsageError(f'{target}: choose a name that ends in .safetensors, .pth or .onnx')
    is_onnx = target.lower().endswith('.onnx')
    missing = [flag for flag, given in (('--direction', direction), ('--hr-size', hr_size),
                                        ('--scale or --size', scale or size)) if bool(given) != is_onnx]
    if missing:
        raise click.UsageError(f'{target}: {", ".join(missing)} ' + (
            'is missing: an .onnx is for one direction and one pair of sizes' if is_onnx else 'is for an .onnx only'))
    refuse_existing(target, overwrite)
    with postponed():
        from iarn_basicsr.archs.iarn import IARN
    path, name = zoo.resolve(weights)
    net = IARN.from_file(path)
    if direction and hr_size:
        exactly_one(scale=scale, size=size)
        with postponed():
            from iarn_basicsr.inference.onnx import export_onnx
        export_onnx(net, target, direction, hr_size, size or lr_size(hr_size, scale or 1))
    else:
        net.save(target)
    print_lines(f'{name} -> {target}')
    return 0


# ---------------------------------------------------------------------------------------------------- shared steps


def load(weights: str, device: str | None, tile: int | None, payload: float | str = 0, effort: int = 0) -> Rescaler:
    """The rescaler that a command line asks for."""
    with postponed():
        from iarn_basicsr.inference.rescaler import Rescaler
        from iarn_basicsr.inference.tiling import reuse_freed_memory

        from .share import Process
    reuse_freed_memory()
    return Rescaler.load(weights, device or Process.of_environment().device, tile, payload, effort, Bar())


def print_checks(checks: Iterable[tuple[str, bool, str]]) -> int:
    """Show (name, good, text) as they come; 1 if one is not good."""
    failed = 0
    for name, good, text in checks:
        print_lines(f'{"ok  " if good else "FAIL"}  {name}: {text}')
        failed |= not good
    return int(failed)


def refuse_existing(target: str, overwrite: bool) -> None:
    """End the command where ``target`` may not be replaced or cannot be written."""
    if osp.isfile(target) and not overwrite:
        raise click.UsageError(f'{target} exists: pass --overwrite to replace it')
    check_writable(target)
