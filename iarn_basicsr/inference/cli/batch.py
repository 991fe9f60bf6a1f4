"""Many files in one run: which are made from which, one after the other, and what became of them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import path as osp

from tqdm import tqdm

from iarn_basicsr.files import is_image
from iarn_basicsr.inference.picture_file import INPUT_ENDINGS, OUTPUT_ENDINGS

from .process import show, tell

__all__ = ['Job', 'Outcome', 'UsageError', 'one_line', 'plan', 'run']

OTHER_ENDINGS = ('.gif', '.jxl', '.jp2', '.avif', '.heic', '.heif', '.tga', '.pgm', '.exr', '.dng', '.svg', '.pdf')


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


def plan(args: argparse.Namespace) -> tuple[list[Job], Outcome]:
    """The files to make; what exists already is skipped, clashes fail."""
    outcome, jobs = Outcome(), []
    taken: dict[str, str] = {}  # target -> source
    pairs = list(_pairs(args, outcome))
    inputs = {_identity(source) for source, _ in pairs} - {None}
    for source, target in pairs:
        if target in taken and _identity(taken[target]) == _identity(source):
            outcome.remark(source, 'was given more than once, and is taken once')
        elif target in taken:
            outcome.failed.append(f'{source}: another input becomes {target} too: rename one')
        elif _identity(target) in inputs:
            outcome.failed.append(f'{source}: the output would replace the input {target}: choose another -o')
        elif osp.exists(target) and not osp.isfile(target):
            kind = 'a folder' if osp.isdir(target) else 'no regular file'
            outcome.failed.append(f'{source}: {target} is {kind}: choose another -o')
        elif osp.exists(target) and not args.overwrite:
            outcome.skipped += 1
            outcome.remark(source, 'skipped, the output exists (--overwrite replaces it)')
        else:
            jobs.append(Job(source, target))
        taken.setdefault(target, source)
    return jobs, outcome


def _identity(path: str) -> tuple[int, int] | None:
    """Equal for two names of one file; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _pairs(args: argparse.Namespace, outcome: Outcome) -> Iterator[tuple[str, str]]:
    """(source, target) of every input; folders are walked, but not the output folder; other files are passed over.

    Sub-folders that cannot be read are failures of the ``outcome``.
    """
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
        failed = len(outcome.failed)
        names = sorted(_images_below(source, args.output, outcome))
        if not names and len(outcome.failed) == failed:
            raise UsageError(f'{source}: no image in this folder (looked for {", ".join(INPUT_ENDINGS)})')
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


def _images_below(folder: str, output: str, outcome: Outcome) -> Iterator[str]:
    """Names of images in a folder and its sub-folders, relative to it; hidden ones are passed over."""
    made = _identity(output)

    def unreadable(error: OSError) -> None:
        outcome.failed.append(f'{error.filename}: cannot be read ({error.strerror})')

    for place, inner, files in os.walk(folder, onerror=unreadable):
        inner[:] = [name for name in inner if not name.startswith('.')
                    and (made is None or _identity(osp.join(place, name)) != made)]
        for name in files:
            if is_image(name) or (name.lower().endswith('.gif') and not name.startswith('.')):
                yield osp.relpath(osp.join(place, name), folder)


def _stem(name: str) -> str:
    return osp.splitext(name)[0]


def run(args: argparse.Namespace, jobs: list[Job], outcome: Outcome, one: Callable[[Job], str]) -> int:
    """Every file on its own; one that fails is listed at the end and does not stop the rest."""
    talk = sys.stderr.isatty() or args.dry_run
    try:
        for job in tqdm(jobs, unit='image', disable=not sys.stderr.isatty() or len(jobs) < 2):
            try:
                text = one(job)
            except (OSError, ValueError, MemoryError, RuntimeError) as error:  # RuntimeError: torch, out of memory
                message = one_line(error)
                outcome.failed.append(message if message.startswith(f'{job.source}: ') else f'{job.source}: {message}')
                continue
            outcome.done += 1
            if talk:
                with tqdm.external_write_mode():  # beside its bar
                    (show if args.dry_run else tell)(f'{job.source} -> {job.target}: {text}')
    finally:
        _report(args, outcome)
    if talk and not args.dry_run and (len(jobs) > 1 or outcome.failed or outcome.skipped):
        tell(f'{outcome.done} done, {outcome.skipped} skipped, {len(outcome.failed)} failed')
    return int(bool(outcome.failed))


def _report(args: argparse.Namespace, outcome: Outcome) -> None:
    for text, sources in outcome.remarks.items():
        more = f' and {len(sources) - 1} more' if len(sources) > 1 else ''
        tell(f'iarn {args.command}: {sources[0]}{more}: {text}')
    for line in outcome.failed:
        tell(f'iarn {args.command}: {line}')


def one_line(error: BaseException) -> str:
    """The message of an error."""
    if isinstance(error, MemoryError):
        return 'not enough memory'
    return ' '.join(str(error).split()) or type(error).__name__
