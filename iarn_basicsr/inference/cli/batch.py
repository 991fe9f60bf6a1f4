"""Many files in one run: inputs and outputs, each process's share, and the results."""

from __future__ import annotations

import logging
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from os import path as osp
from pathlib import Path
from typing import NamedTuple

import click
from tqdm import tqdm

from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import IMAGE_ENDINGS, identity, pictures_below, readable_endings, without_ending
from iarn_basicsr.inference import log_remarks
from iarn_basicsr.inference.picture_file import Picture

from .process import in_words, print_error, print_lines, wh
from .share import Process, even_shares, pixels_of

__all__ = ['Batch', 'Job']

NO_FOLDER_ENDINGS = ('.jxl', '.exr', '.pfm', '.dng', '.svg', '.pdf')  # beside the readable ones


class Job(NamedTuple):
    """One file to read and one to write."""

    source: str
    target: str


class Batch:
    """Files to make from files: planned at once, then made one by one; a file that fails does not stop the rest.

        with Batch(sources, output, 'png') as batch:
            for job in batch:
                with batch.making(job):
                    batch.made(job, rescaler.downscale_file(job.source, job.target, scale=2))
        return int(bool(batch.failed))

    Under ``torchrun`` or ``srun`` each process plans all files and takes its share, whatever exists already; process 0
    reports errors in the plan. Failures are logged at the end of the block.

    The arguments are those of the commands, see ``commands.files``.

    Attributes:
        jobs: files to make.
        failed: a line for each file that failed.
        ending: of the files to write.

    Raises:
        click.UsageError: if the arguments do not fit together.
        OptionError: if the environment names no share.
    """

    def __init__(self, sources: tuple[str, ...], output: str, form: str, *, overwrite: bool = False,
                 skip_existing: bool = False, dry_run: bool = False) -> None:
        if overwrite and skip_existing:
            raise click.UsageError('Pass one of --overwrite and --skip-existing, not both.')
        self.failed: list[str] = []
        self.dry_run, self._done, self._skipped, self._passed_over = dry_run, 0, 0, ''
        self._process, self._talks = Process.of_environment(), sys.stderr.isatty()
        as_file = _is_file(output)
        if as_file and (len(sources) > 1 or osp.isdir(sources[0])):
            raise click.UsageError(f'-o {output}: several inputs need a folder to write to')
        self.ending = osp.splitext(output)[1].lower() if as_file else f'.{form}'
        jobs = self._possible([
            Job(source, output if as_file else osp.join(output, without_ending(name) + self.ending))
            for source, name in self._inputs(sources, output)])
        if self._process.count > 1:
            jobs = self._share(jobs)
        self.jobs: list[Job] = []
        for job in jobs:
            if overwrite or not osp.isfile(job.target):
                self.jobs.append(job)
            else:
                self._skipped += 1
                if not skip_existing:
                    log_remarks(job.source, 'skipped, the output exists (--overwrite replaces it)')

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        logger, several = logging.getLogger('iarn_basicsr'), self._process.count > 1
        for line in (*self.failed, *filter(None, [self._passed_over])):
            logger.warning('%s', line)
        counts = f'{self._done} done, {self._skipped} skipped, {len(self.failed)} failed'
        if several and not self.dry_run:
            logger.info('%s: %s', self._process, counts)
        elif self._talks and not self.dry_run and (len(self.jobs) > 1 or self.failed or self._skipped):
            logger.info(counts)
        if kind is None:
            self._process.leave(bool(self.failed))

    def __iter__(self) -> Iterator[Job]:
        return iter(tqdm(self.jobs, unit='image', disable=not self._talks or len(self.jobs) < 2))

    @contextmanager
    def making(self, job: Job) -> Iterator[None]:
        """Errors inside the block are failures of the file; wrong options, and a reader that left, end the command."""
        try:
            yield
        except (OptionError, BrokenPipeError):
            raise
        except (OSError, ValueError, MemoryError, RuntimeError) as error:  # RuntimeError: torch, out of memory
            self.failed.append(in_words(error, job.source))

    def made(self, job: Job, picture: Picture) -> None:
        """Count a file that was made, or would be, and say so on a terminal."""
        self._done += 1
        text = f'{job.source} -> {job.target}: {wh(picture.made_from or picture.size)} -> {wh(picture.size)}'
        if self.dry_run:
            print_lines(text)
        elif self._talks:
            with tqdm.external_write_mode():  # beside its bar
                print_error(text)

    def _inputs(self, sources: tuple[str, ...], output: str) -> Iterator[tuple[str, str]]:
        """(file, name below the output) of every input; what folders hold beside pictures is counted."""
        others, hidden = Counter[str](), 0
        for source in sources:
            if not osp.exists(source):
                raise click.UsageError(f'{source}: no such file or folder (current directory {os.getcwd()})')
            if not osp.isdir(source):
                yield source, osp.basename(source)
                continue
            if self._process.count > 1 and Path(source).resolve().is_relative_to(Path(output).resolve()):
                raise click.UsageError(f'-o {output}: several processes need an output folder outside of {source}, or '
                                       'each would take what the others made for inputs')
            found = pictures_below(source, output)
            others += found.others
            hidden += found.hidden
            self.failed += [f'{error.filename}: cannot be read ({error.strerror})' for error in found.unreadable]
            if not found.pictures and not found.unreadable:
                others_only = _passed_over(found.others, found.hidden) or 'it is empty'
                raise click.UsageError(f'{source}: no image in this folder: {others_only}')
            yield from ((osp.join(source, name), name) for name in found.pictures)
        self._passed_over = _passed_over(others, hidden)

    def _possible(self, jobs: list[Job]) -> list[Job]:
        """Each input once, without jobs that would replace an input or another job's output.

        Names that differ only in case or in the form of accents are one file on many systems, so they count as one.
        """
        inputs = {identity(job.source) for job in jobs} - {None}
        planned: dict[str, Job] = {}
        possible = []
        for job in jobs:
            other = planned.setdefault(unicodedata.normalize('NFC', job.target.casefold()), job)
            if other is not job:
                place = identity(job.source)
                if place is None or place != identity(other.source):
                    self.failed.append(f'{job.source}: another input becomes {other.target} too: rename one')
            elif identity(job.target) in inputs:
                self.failed.append(f'{job.source}: the output would replace the input {job.target}: choose another -o')
            else:
                possible.append(job)
        return possible

    def _share(self, jobs: list[Job]) -> list[Job]:
        """Those of this process."""
        rank = self._process.rank
        if rank > 0:  # process 0 tells what concerns all
            self.failed, self._passed_over = [], ''
        pixels = [pixels_of(job.source) for job in jobs]
        mine = [k for k, owner in enumerate(even_shares(pixels, self._process.count)) if owner == rank]
        if self.dry_run:
            print_lines(f'{self._process}: {len(mine)} of {len(jobs)} files, {sum(pixels[k] for k in mine) / 1e6:.1f} '
                        f'of {sum(pixels) / 1e6:.1f} megapixels')
        return [jobs[k] for k in mine]


def _passed_over(others: Counter[str], hidden: int) -> str:
    """``3 other files passed over (.txt 2, .pdf 1), 1 hidden``; nothing if there are none."""
    kinds = ', '.join(f'{ending or "without ending"} {number}' for ending, number in others.most_common())
    number = sum(others.values())
    if not number:
        return f'{hidden} hidden passed over' if hidden else ''
    return f'{number} other file{"s" * (number > 1)} passed over ({kinds})' + (f', {hidden} hidden' if hidden else '')


def _is_file(output: str) -> bool:
    """Whether ``-o`` names a file, not a folder."""
    ending = osp.splitext(output)[1].lower()
    if osp.isdir(output) or output.endswith(('/', os.sep)):
        return False
    if output == '-' or (ending not in IMAGE_ENDINGS and (
            osp.exists(output) or ending in (*readable_endings(), *NO_FOLDER_ENDINGS))):
        raise click.UsageError(f'-o {output}: name a folder, or a file that ends in {", ".join(IMAGE_ENDINGS)}')
    return ending in IMAGE_ENDINGS
