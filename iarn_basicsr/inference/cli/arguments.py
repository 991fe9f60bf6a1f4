"""The command line of ``iarn``: what may be typed, and what it means; nothing heavy is imported here."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from iarn_basicsr import zoo
from iarn_basicsr.errors import OptionError
from iarn_basicsr.inference.limits import MOST_EFFORT, SMALLEST_TILE
from iarn_basicsr.inference.text import printable, shortened
from iarn_basicsr.ops.jpeg import DEFAULT_QUALITY, QUALITIES
from iarn_basicsr.ops.size import Size, parse_scale
from iarn_basicsr.payload import MAX_BITS
from iarn_basicsr.version import __version__

__all__ = ['make_parser']

EXAMPLES = """examples:
  iarn downscale photo.jpg -o small.png --scale 2.5
  iarn downscale holiday/ -o small/ --max-side 1600
  iarn downscale photo.jpg -o small.jpg --scale 2 --quality 90
  iarn upscale small/ -o restored/
  iarn compare photo.jpg --scale 2 --scale 1.5x3 -o page.html
  iarn compare photo.jpg --scale 2 --jpeg 75 90
  iarn info small.png
  iarn options train_IARN_light_x1-4.yml -o own.yml
  iarn export iarn_x1-4 down.onnx --direction down --hr-size 1280x720 --scale 2"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that a terminal can show, whatever was typed or matched by the shell."""

    def error(self, message: str) -> NoReturn:
        super().error(shortened(printable(message)))


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` is the name of the one that was typed."""
    parser = Parser(prog='iarn', epilog=EXAMPLES,
                    description='Downscale pictures, and restore the originals from them.',
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--version', action='version', version=f'iarn_basicsr {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, (add_arguments, text) in COMMANDS.items():
        own = '\n'.join(['examples:', *(e for e in EXAMPLES.splitlines() if f'iarn {name} ' in e)])
        command = commands.add_parser(name, help=text, description=text, epilog=own if '\n' in own else None,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
        add_arguments(command)
    return parser


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
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number of at least 1')
    return int(text)


def _tile(text: str) -> int:
    if not text.isdigit() or int(text) < SMALLEST_TILE:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number of at least {SMALLEST_TILE}')
    return int(text)


def _downscale_arguments(command: argparse.ArgumentParser) -> None:
    _files(command, 'png (default) or webp, both lossless; or jpg, which takes weights of its own')
    size = command.add_mutually_exclusive_group(required=True)
    size.add_argument('--scale', type=_scale, metavar='S', help='2.5, or vertical x horizontal: 1.5x3')
    size.add_argument('--size', type=_size, metavar='WxH', help='exact LR size, width x height')
    size.add_argument('--max-side', type=_positive, metavar='N', help='longer side of the LR image')
    command.add_argument('--quality', type=_quality, metavar='Q',
                         help=f'of .jpg, 1 to 100 (default: {DEFAULT_QUALITY})')
    command.add_argument('--allow-lossy', action='store_true', help='write .jpg or .bmp with any weights all the same')
    _computing(command, f'default: {zoo.DEFAULT}, for .jpg {zoo.JPEG}; see iarn verify for the names')
    _detail(command)
    _overwriting(command)


def _upscale_arguments(command: argparse.ArgumentParser) -> None:
    _files(command, 'png (default), webp, jpg, ...')
    command.add_argument('--size', type=_size, metavar='WxH', help='size to make, for LR images without a metadata')
    command.add_argument('--force', action='store_true',
                         help='restore even if the weights differ or the LR was changed')
    _computing(command, 'default: those that the LR was made with')
    _overwriting(command)


def _compare_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument('source', metavar='IN')
    command.add_argument('--scale', action='append', type=_scale, metavar='S', help='several are possible')
    command.add_argument('--jpeg', nargs='+', type=_quality, default=[], metavar='Q', help='qualities, 1 to 100: also '
                         'compare what is restored after the LR images became such JPEG files')
    command.add_argument('--network', metavar='FILE', help='weights of a one-way network (ESRGAN, SwinIR, HAT, ...) to '
                         'restore the bicubic LR; needs the package spandrel')
    command.add_argument('-o', '--output', metavar='PAGE', help='default: IN_compare.html in the current directory')
    _computing(command, f'default: {zoo.DEFAULT}, with --jpeg {zoo.JPEG}')
    _detail(command)
    _overwriting(command)


def _info_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument('sources', nargs='+', metavar='FILE')


def _verify_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument('names', nargs='*', metavar='NAME', help='default: all')


def _export_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument('weights', help='released name, .pth or .safetensors')
    command.add_argument('target', help='.safetensors, .pth or, for one pair of sizes, .onnx')
    command.add_argument('--direction', choices=['down', 'up'], help='of an .onnx')
    command.add_argument('--hr-size', type=_size, metavar='WxH', help='HR size of an .onnx, width x height')
    size = command.add_mutually_exclusive_group()
    size.add_argument('--scale', type=_scale, metavar='S', help='of an .onnx: 2.5, or vertical x horizontal: 1.5x3')
    size.add_argument('--size', type=_size, metavar='WxH', help='of an .onnx: exact LR size, width x height')
    _overwriting(command)


def _recipes_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument('name', nargs='?', metavar='NAME', help='copy this one (default: list all)')
    command.add_argument('-o', '--output', metavar='OUT', help='file, or folder (default: the current one)')
    _overwriting(command)


def _payload(text: str) -> float | str:
    if text == 'auto':
        return text
    try:
        bits = float(text)
    except ValueError:
        bits = -1
    if not 0 <= bits <= MAX_BITS:
        raise argparse.ArgumentTypeError(f'{text!r}: expected bits a sample, 0 to {MAX_BITS}, or auto')
    return bits


def _quality(text: str) -> int:
    if not text.isdigit() or not QUALITIES[0] <= int(text) <= QUALITIES[1]:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number from {QUALITIES[0]} to {QUALITIES[1]}')
    return int(text)


def _steps(text: str) -> int:
    if not text.isdigit() or int(text) > MOST_EFFORT:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a whole number from 0 to {MOST_EFFORT}')
    return int(text)


def _detail(command: argparse.ArgumentParser) -> None:
    command.add_argument('--payload', type=_payload, default=0, metavar='K',
                         help='low bits of each LR sample, 0 to 3, that hold coded detail, or auto (1 with a '
                         'network, 2 with --weights none); default: 0')
    command.add_argument('--effort', type=_steps, default=0, metavar='N',
                         help='gradient steps on the LR before it is stored: slow here, free for who restores; try 30 '
                         '(default: 0)')


def _files(command: argparse.ArgumentParser, formats: str) -> None:
    command.add_argument('sources', nargs='+', metavar='IN', help='files and folders (with their sub-folders)')
    command.add_argument('-o', '--output', required=True, metavar='OUT', help='folder, or a file for a single file')
    command.add_argument('--format', default='png', metavar='F', help=f'of files in a folder: {formats}')
    command.add_argument('--dry-run', action='store_true', help='say what would be done')


def _computing(command: argparse.ArgumentParser, which: str) -> None:
    command.add_argument('--weights', metavar='NAME|FILE',
                         help=f'released name, .pth, .safetensors ({which})')
    command.add_argument('--device', metavar='D', help='cpu, cuda, cuda:1 (default: cuda where there is one)')
    command.add_argument('--tile', type=_tile, metavar='N', help='tile side in HR pixels (default: by memory)')


def _overwriting(command: argparse.ArgumentParser) -> None:
    command.add_argument('--overwrite', action='store_true', help='replace files that exist')


COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], object], str]] = {
    'downscale': (_downscale_arguments, 'make LR images from which the originals can be restored'),
    'upscale': (_upscale_arguments, 'restore the originals from LR images'),
    'compare': (_compare_arguments, 'one page that shows IARN beside bicubic, with a slider'),
    'info': (_info_arguments, 'what a file is and how it was made'),
    'options': (_recipes_arguments, 'list the option files that come with the package, or copy one to start from'),
    'doctor': (lambda command: None, 'check the installation'),
    'verify': (_verify_arguments, 'recompute the numbers of the released weights and compare'),
    'export': (_export_arguments, 'write weights as .safetensors or .pth, or a network as .onnx'),
}
