"""The ``iarn`` command: rescale pictures with released or own weights; nothing here trains."""

from __future__ import annotations

import argparse
import functools
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import path as osp
from typing import Any

from tqdm import tqdm

from iarn_basicsr.images import (
    IMAGE_ENDINGS,
    LOSSLESS_ENDINGS,
    OUTPUT_ENDINGS,
    ImageError,
    Picture,
    checksum,
    read_picture,
    write_picture,
)
from iarn_basicsr.ops import lr_size, parse_scale, scale_label
from iarn_basicsr.ops.size import Size, largest_hr_size, smallest_lr_size

__all__ = ['main']

LOSSY_REASON = ('{path}: what is hidden in an LR image does not survive a lossy file (measured: at x2, JPEG of quality '
                '95 costs 7.3 dB), and only PNG and WebP carry the recipe to restore it; write .png or .webp, or pass '
                '--allow-lossy')
OTHER_ENDINGS = ('.gif', '.jxl', '.jp2', '.avif', '.heic', '.heif', '.tga', '.pgm', '.exr', '.dng', '.svg', '.pdf')
EXAMPLES = """examples:
  iarn downscale photo.jpg -o small.png --scale 2.5
  iarn downscale holiday/ -o small/ --max-side 1600
  iarn upscale small/ -o whole/
  iarn compare photo.jpg --scale 2 --scale 1.5x3 -o page.html
  iarn info small.png"""


class UsageError(ValueError):
    """A command line that cannot be carried out; ends with exit code 2."""


@dataclass(frozen=True)
class Job:
    """One file to read and one to write."""

    source: str
    target: str


@dataclass
class Outcome:
    """What became of the files of a run."""

    done: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=dict)  # remark -> sources

    def remark(self, source: str, *texts: str) -> None:
        """What is worth knowing and no failure."""
        for text in texts:
            self.remarks.setdefault(text, []).append(source)


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 if all went well, 1 if a file failed, 2 for a wrong command line, 130 if interrupted."""
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # file names may be no text
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # of ``iarn info * | head``; nothing is left to be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        print(f'iarn {args.command}: {_one_line(error)}', file=sys.stderr)
        return 1 if isinstance(error, (ImageError, OSError)) else 2
    except KeyboardInterrupt:
        print(f'iarn {args.command}: interrupted; files already written are whole', file=sys.stderr)
        return 130


# ------------------------------------------------------------------------------------------------------- commands


def _downscale(args: argparse.Namespace) -> int:
    jobs, outcome = _plan(args)
    lossy = [j for j in jobs if not j.target.lower().endswith(LOSSLESS_ENDINGS)]
    if lossy and not args.allow_lossy:
        raise UsageError(LOSSY_REASON.format(path=lossy[0].target))
    rescaler = _rescaler(args, args.weights)

    def one(job: Job) -> str:
        picture = read_picture(job.source)
        size = _lr_size(args, picture.size, rescaler)
        outcome.remark(job.source, *picture.remarks)
        if picture.recipe:
            outcome.remark(job.source, 'it is an LR image already: restoring both steps loses more than restoring one; '
                           'downscale its original instead')
        if picture.rgb.dtype.itemsize == 2:
            outcome.remark(job.source, 'it has 16 bits a channel; the LR, and what is restored from it, have 8')
        text = f'{_wh(picture.size)} -> {_wh(size)}'
        if not args.dry_run:
            lr = rescaler.downscale_picture(picture, size=size)
            del picture  # the memory is needed for writing
            outcome.remark(job.source, *write_picture(lr, job.target))
        return text

    return _run(args, jobs, outcome, one)


def _upscale(args: argparse.Namespace) -> int:
    from iarn_basicsr import zoo
    jobs, outcome = _plan(args)
    load = functools.lru_cache(maxsize=2)(functools.partial(_rescaler, args))
    load(args.weights or 'default')  # a mistake in the arguments ends here, before the first file

    def one(job: Job) -> str:
        picture = read_picture(job.source)
        rescaler = load(args.weights or (zoo.name_of(picture.recipe.weights) if picture.recipe else 'default'))
        _check_hr_size(args, picture.size, rescaler)
        size = rescaler.restored_size(picture, args.size, args.force)
        outcome.remark(job.source, *picture.remarks)
        if picture.recipe is None:
            made = '' if picture.no_recipe else 'not made by IARN: '
            outcome.remark(job.source, f'{made}enlarged, not restored')
        if not args.dry_run:
            restored = rescaler.upscale_picture(picture, args.size, args.force)
            outcome.remark(job.source, *write_picture(restored, job.target))
        return f'{_wh(picture.size)} -> {_wh(size)}'

    return _run(args, jobs, outcome, one)


def _compare(args: argparse.Namespace) -> int:
    from iarn_basicsr.compare import compare, page, table
    picture = read_picture(args.source)
    scales = [parse_scale(s) for s in args.scale or ['2', '3', '1.5x3']]
    target = args.output or osp.splitext(osp.basename(args.source))[0] + '_compare.html'
    if not target.lower().endswith(('.html', '.htm')):
        raise UsageError(f'-o {target}: the page is HTML, choose a name that ends in .html')
    _refuse_existing(args, target)
    rescaler = _rescaler(args, args.weights)
    for scale in scales:
        asked = f'{args.source}: --scale {scale_label(scale)[1:]}'
        _checked_lr_size(asked, lr_size(picture.size, scale), picture.size, rescaler)
    results = compare(rescaler, picture, scales)
    print(table(results))
    with _writing(target):
        page(osp.basename(args.source), picture, results, target)
    print(f'page: {target}')
    return 0


def _info(args: argparse.Namespace) -> int:
    failed = 0
    for path in args.sources:
        try:
            picture = read_picture(path)
        except ValueError as error:
            print(f'iarn info: {error}', file=sys.stderr)
            failed = 1
            continue
        print('\n'.join(_describe(path, picture)))
    return failed


def _describe(path: str, picture: Picture) -> Iterator[str]:
    recipe = picture.recipe
    kind = f'{picture.mode}{"" if picture.alpha is None else " with alpha"}, {8 * picture.rgb.dtype.itemsize} bits'
    yield f'{path}: {_wh(picture.size)}, {kind}, {osp.getsize(path)} bytes'
    if recipe is None:
        why, needs = (picture.no_recipe, ' and --force') if picture.no_recipe else ('not made by IARN', '')
        yield f'  {why}; iarn upscale needs --size{needs}, and enlarges rather than restores'
        return
    ratios = [round(n / m, 3) for n, m in zip(recipe.hr_size, recipe.lr_size)]
    alpha = ' with alpha' if recipe.alpha else ''
    yield f'  LR image of {_wh(recipe.hr_size)}, {scale_label(ratios)}, original mode {recipe.mode}{alpha}'
    yield f'  made with weights {recipe.model} ({recipe.weights}), metadata format {recipe.format}'
    if recipe.lr_size != picture.size:
        yield f'  was {_wh(recipe.lr_size)} when made: resized since, what it hid is lost'
    elif recipe.pixels != checksum(picture.rgb):
        yield '  edited or recompressed since it was made: what it hid is damaged'


def _doctor(args: argparse.Namespace) -> int:
    from iarn_basicsr.doctor import checks
    failed = 0
    for name, good, text in checks():
        print(f'{"ok  " if good else "FAIL"}  {name}: {text}')
        failed += not good
    return int(bool(failed))


def _verify(args: argparse.Namespace) -> int:
    from iarn_basicsr.zoo.verify import verify
    failed = count = 0
    for name, good, text in verify(args.names):
        print(f'{"ok  " if good else "FAIL"}  {name}: {text}')
        failed, count = failed + (not good), count + 1
    if not count:
        print('no released weights in this package')
    return int(bool(failed))


def _export(args: argparse.Namespace) -> int:
    from iarn_basicsr import zoo
    if not args.target.endswith(('.safetensors', '.pth')):
        raise UsageError(f'{args.target}: choose a name that ends in .safetensors or .pth')
    _refuse_existing(args, args.target)
    net, name = zoo.load(args.weights)
    with _writing(args.target):
        (zoo.save_safetensors if args.target.endswith('.safetensors') else zoo.save_pth)(net, args.target)
    print(f'{name} -> {args.target}')
    return 0


# ---------------------------------------------------------------------------------------------------------- files


def _plan(args: argparse.Namespace) -> tuple[list[Job], Outcome]:
    """The files to make; what exists already is skipped, clashes fail."""
    outcome, jobs, taken = Outcome(), [], set()
    pairs = list(_pairs(args))
    inputs = {_identity(source) for source, _ in pairs} - {None}
    for source, target in pairs:
        if target in taken:
            outcome.failed.append(f'{source}: another input becomes {target} too: rename one')
        elif _identity(target) in inputs:
            outcome.failed.append(f'{source}: the output would replace the input {target}: choose another -o')
        elif osp.isdir(target):
            outcome.failed.append(f'{source}: {target} is a folder: choose another -o')
        elif osp.exists(target) and not args.overwrite:
            outcome.skipped += 1
            outcome.remark(source, 'skipped, the output exists (--overwrite replaces it)')
        else:
            jobs.append(Job(source, target))
        taken.add(target)
    return jobs, outcome


def _identity(path: str) -> tuple[int, int] | None:
    """Equal for two names of one file; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _pairs(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """(source, target) of every input; folders are walked, but not the output folder; other files are passed over."""
    as_file, ending = _output_is_file(args.output), '.' + args.format.lower().lstrip('.')
    if as_file and (len(args.sources) > 1 or osp.isdir(args.sources[0])):
        raise UsageError(f'-o {args.output}: several inputs need a folder to write to')
    if ending not in OUTPUT_ENDINGS:
        raise UsageError(f'--format {args.format}: choose one of {", ".join(e[1:] for e in OUTPUT_ENDINGS)}')
    for source in args.sources:
        if not osp.exists(source):
            raise UsageError(f'{source}: no such file or folder (current directory {os.getcwd()})')
        if not osp.isdir(source):
            yield source, args.output if as_file else osp.join(args.output, _stem(osp.basename(source)) + ending)
            continue
        names = sorted(_images_below(source, args.output))
        if not names:
            raise UsageError(f'{source}: no image in this folder (looked for {", ".join(IMAGE_ENDINGS)})')
        for name in names:
            yield osp.join(source, name), osp.join(args.output, _stem(name) + ending)


def _output_is_file(path: str) -> bool:
    ending = osp.splitext(path)[1].lower()
    if path == '-':
        raise UsageError('-o -: nothing is written to standard output, name a file or folder (./- is one)')
    if osp.isdir(path) or path.endswith(os.sep):
        return False
    if ending in OTHER_ENDINGS:
        raise UsageError(f'-o {path}: {ending} cannot be written, choose one of {", ".join(OUTPUT_ENDINGS)}')
    if osp.exists(path) and ending not in OUTPUT_ENDINGS:
        raise UsageError(f'-o {path}: exists and is neither a folder nor an image')
    return ending in OUTPUT_ENDINGS


def _images_below(folder: str, output: str) -> Iterator[str]:
    """Names of images in a folder and its sub-folders, relative to it."""
    made = _identity(output)
    for place, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if made is None or _identity(osp.join(place, name)) != made]
        for name in files:
            if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith('.'):
                yield osp.relpath(osp.join(place, name), folder)


def _stem(name: str) -> str:
    return osp.splitext(name)[0]


def _run(args: argparse.Namespace, jobs: list[Job], outcome: Outcome, one: Callable[[Job], str]) -> int:
    """Every file on its own; one that fails is listed at the end and does not stop the rest."""
    talk = sys.stderr.isatty() or args.dry_run
    try:
        for job in tqdm(jobs, unit='image', disable=not sys.stderr.isatty() or len(jobs) < 2):
            try:
                text = one(job)
            except (OSError, ValueError, MemoryError, RuntimeError) as error:  # RuntimeError: torch, out of memory
                message = _one_line(error)
                outcome.failed.append(message if message.startswith(f'{job.source}: ') else f'{job.source}: {message}')
                continue
            outcome.done += 1
            if talk:
                tqdm.write(f'{job.source} -> {job.target}: {text}', file=sys.stdout if args.dry_run else sys.stderr)
    finally:
        _report(args, outcome)
    if talk and not args.dry_run and (len(jobs) > 1 or outcome.failed or outcome.skipped):
        print(f'{outcome.done} done, {outcome.skipped} skipped, {len(outcome.failed)} failed', file=sys.stderr)
    return int(bool(outcome.failed))


def _report(args: argparse.Namespace, outcome: Outcome) -> None:
    for text, sources in outcome.remarks.items():
        more = f' and {len(sources) - 1} more' if len(sources) > 1 else ''
        print(f'iarn {args.command}: {sources[0]}{more}: {text}', file=sys.stderr)
    for line in outcome.failed:
        print(f'iarn {args.command}: {line}', file=sys.stderr)


def _one_line(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return 'not enough memory'
    return ' '.join(str(error).split()) or type(error).__name__


def _refuse_existing(args: argparse.Namespace, target: str) -> None:
    if osp.isdir(target):
        raise UsageError(f'{target} is a folder: choose another name')
    if osp.exists(target) and not args.overwrite:
        raise UsageError(f'{target} exists: pass --overwrite to replace it')


@contextmanager
def _writing(path: str) -> Iterator[None]:
    """Errors name this file, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(f'{path}: cannot be written ({error.strerror or error})') from None


# --------------------------------------------------------------------------------------------------- command line


def _rescaler(args: argparse.Namespace, weights: str) -> Any:
    from iarn_basicsr.rescaler import Rescaler
    from iarn_basicsr.tiling import reuse_freed_memory
    reuse_freed_memory()
    return Rescaler.load(weights, device=args.device, tile=args.tile,
                         say=lambda line: print(f'iarn {args.command}: {line}', file=sys.stderr))


def _lr_size(args: argparse.Namespace, hr: Size, rescaler: Any) -> Size:
    """What the command line asks for, in the model's range."""
    if args.size:
        return _checked_lr_size(f'--size {_wh(args.size)}', args.size, hr, rescaler)
    if args.max_side:
        size = lr_size(hr, max(1.0, max(hr) / args.max_side))
        return _checked_lr_size(f'--max-side {args.max_side}', size, hr, rescaler)
    return _checked_lr_size(f'--scale {scale_label(args.scale)[1:]}', lr_size(hr, args.scale), hr, rescaler)


def _checked_lr_size(asked: str, size: Size, hr: Size, rescaler: Any) -> Size:
    low = smallest_lr_size(hr, rescaler.net.max_scale)
    if not all(least <= n <= most for least, n, most in zip(low, size, hr)):
        raise ValueError(f'{asked}: an LR of {_wh(size)} is out of range: {_wh(hr)} can become {_wh(low)} to {_wh(hr)}')
    return size


def _check_hr_size(args: argparse.Namespace, lr: Size, rescaler: Any) -> None:
    high = largest_hr_size(lr, rescaler.net.max_scale)
    if args.size and not all(least <= n <= most for least, n, most in zip(lr, args.size, high)):
        raise ValueError(f'--size {_wh(args.size)} is out of range: {_wh(lr)} can become {_wh(lr)} to {_wh(high)}')


def _wh(size: Size) -> str:
    """Width x height, as people and --size write it."""
    return f'{size[1]}x{size[0]}'


def _size(text: str) -> Size:
    """(h, w) from WxH."""
    try:
        width, height = (int(n) for n in text.lower().split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r}: write WIDTHxHEIGHT, for example 1920x1080') from None
    if width < 1 or height < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: a side has at least one pixel')
    return height, width


def _scale(text: str) -> tuple[float, float]:
    try:
        return parse_scale(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number of at least 1')
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='iarn', description='Images smaller now and whole again later.',
                                     epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, (run, add_arguments, text) in COMMANDS.items():
        own = '\n'.join(['examples:', *(e for e in EXAMPLES.splitlines() if f'iarn {name} ' in e)])
        command = commands.add_parser(name, help=text, description=text, epilog=own if '\n' in own else None,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
        command.set_defaults(run=run)
        add_arguments(command)
    return parser


def _downscale_arguments(command: argparse.ArgumentParser) -> None:
    _files(command, 'png (default) or webp, both lossless')
    size = command.add_mutually_exclusive_group(required=True)
    size.add_argument('--scale', type=_scale, metavar='S', help='2.5, or vertical x horizontal: 1.5x3')
    size.add_argument('--size', type=_size, metavar='WxH', help='exact LR size, width x height')
    size.add_argument('--max-side', type=_positive, metavar='N', help='longer side of the LR image')
    command.add_argument('--allow-lossy', action='store_true', help='write .jpg all the same')
    _computing(command)
    _overwriting(command)


def _upscale_arguments(command: argparse.ArgumentParser) -> None:
    _files(command, 'png (default), webp, jpg, ...')
    command.add_argument('--size', type=_size, metavar='WxH', help='size to make, for LR images without a recipe')
    command.add_argument('--force', action='store_true', help='in spite of other weights, or of an LR resized since')
    _computing(command, None, 'default: those that the LR was made with')
    _overwriting(command)


def _compare_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument('source', metavar='IN')
    command.add_argument('--scale', action='append', type=_scale, metavar='S', help='several are possible')
    command.add_argument('-o', '--output', metavar='PAGE', help='default: IN_compare.html in the current directory')
    _computing(command)
    _overwriting(command)


def _info_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument('sources', nargs='+', metavar='FILE')


def _verify_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument('names', nargs='*', metavar='NAME', help='default: all')


def _export_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument('weights', help='released name, .pth or .safetensors')
    command.add_argument('target', help='.safetensors or .pth')
    _overwriting(command)


def _files(command: argparse.ArgumentParser, formats: str) -> None:
    command.add_argument('sources', nargs='+', metavar='IN', help='files and folders (with their sub-folders)')
    command.add_argument('-o', '--output', required=True, metavar='OUT', help='folder, or a file for a single file')
    command.add_argument('--format', default='png', metavar='F', help=f'of files in a folder: {formats}')
    command.add_argument('--dry-run', action='store_true', help='say what would be done')


def _computing(command: argparse.ArgumentParser, weights: str | None = 'default',
               which: str = 'see iarn verify for the names') -> None:
    command.add_argument('--weights', default=weights, metavar='NAME|FILE',
                         help=f'released name, .pth, .safetensors ({which})')
    command.add_argument('--device', metavar='D', help='cpu, cuda, cuda:1 (default: cuda where there is one)')
    command.add_argument('--tile', type=_positive, metavar='N', help='tile side in HR pixels (default: by memory)')


def _overwriting(command: argparse.ArgumentParser) -> None:
    command.add_argument('--overwrite', action='store_true', help='replace files that exist')


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], object], str]] = {
    'downscale': (_downscale, _downscale_arguments, 'make LR images that know how to be restored'),
    'upscale': (_upscale, _upscale_arguments, 'restore the originals from LR images'),
    'compare': (_compare, _compare_arguments, 'one page that shows IARN beside bicubic, with a slider'),
    'info': (_info, _info_arguments, 'what a file is and how it was made'),
    'doctor': (_doctor, lambda command: None, 'check the installation'),
    'verify': (_verify, _verify_arguments, 'recompute the numbers of the released weights and compare'),
    'export': (_export, _export_arguments, 'write weights as .safetensors or .pth'),
}

if __name__ == '__main__':
    sys.exit(main())
