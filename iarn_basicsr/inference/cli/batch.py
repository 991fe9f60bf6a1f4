"""Many files in one run: which are made from which, one after the other, and what became of them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os import path as osp
from typing import NamedTuple

import click
from tqdm import tqdm

from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import IMAGE_ENDINGS, is_image
from iarn_basicsr.inference import log_remarks
from iarn_basicsr.inference.picture_file import Picture

from .process import in_words, print_error, print_lines, wh

__all__ = ['Batch', 'Job']

OTHER_ENDINGS = ('.gif', '.jxl', '.jp2', '.avif', '.heic', '.heif', '.tga', '.pgm', '.exr', '.dng', '.svg', '.pdf')
READABLE_ENDINGS = (*IMAGE_ENDINGS, '.gif')  # whose 256 colours would restore little, so none is written


class Job(NamedTuple):
    """One file to read and one to write."""

    source: str
    target: str


class Batch:
    """Files to make from files: planned at once, then made one by one; a file that fails does not stop the rest.

        with Batch(sources, output, 'png', overwrite=False, dry_run=False) as batch:
            for job in batch:
                with batch.making(job):
                    batch.made(job, rescaler.downscale_file(job.source, job.target, scale=2))
        return batch.status

    What failed is logged at the end of the block.

    Attributes:
        jobs: what there is to do; a file that exists is skipped unless ``overwrite``.
        failed: a line for each file that failed.
        ending: of the files to write.

    Raises:
        click.UsageError: if sources and output do not fit together.
    """

    def __init__(self, sources: tuple[str, ...], output: str, form: str, *, overwrite: bool, dry_run: bool) -> None:
        self.jobs: list[Job] = []
        self.failed: list[str] = []
        self._dry_run, self._done, self._skipped = dry_run, 0, 0
        self._talks = sys.stderr.isatty()
        as_file = _is_file(output)
        if as_file and (len(sources) > 1 or osp.isdir(sources[0])):
            raise click.UsageError(f'-o {output}: several inputs need a folder to write to')
        self.ending = osp.splitext(output)[1].lower() if as_file else f'.{form}'
        self._plan([Job(source, output if as_file else osp.join(output, osp.splitext(name)[0] + self.ending))
                    for source, name in self._inputs(sources, output)], overwrite)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self.failed:
            logging.getLogger('iarn_basicsr').error('%s', line)
        if self._talks and not self._dry_run and (len(self.jobs) > 1 or self.failed or self._skipped):
            print_error(f'{self._done} done, {self._skipped} skipped, {len(self.failed)} failed')

    def __iter__(self) -> Iterator[Job]:
        return iter(tqdm(self.jobs, unit='image', disable=not self._talks or len(self.jobs) < 2))

    @property
    def status(self) -> int:
        """The exit code."""
        return int(bool(self.failed))

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
        if self._dry_run:
            print_lines(text)
        elif self._talks:
            with tqdm.external_write_mode():  # beside its bar
                print_error(text)

    def _inputs(self, sources: tuple[str, ...], output: str) -> Iterator[tuple[str, str]]:
        """(file, name below the output) of every input; folders are walked, but not the output folder.

        Other files and hidden ones are passed over; sub-folders that cannot be read are failures.
        """
        def unreadable(error: OSError) -> None:
            self.failed.append(f'{error.filename}: cannot be read ({error.strerror})')

        made = _identity(output)
        for source in sources:
            if not osp.exists(source):
                raise click.UsageError(f'{source}: no such file or folder (current directory {os.getcwd()})')
            if not osp.isdir(source):
                yield source, osp.basename(source)
                continue
            found = []
            for place, inner, files in os.walk(source, onerror=unreadable):
                inner[:] = [name for name in inner if not name.startswith('.')
                            and (made is None or _identity(osp.join(place, name)) != made)]
                found += [osp.join(place, name) for name in files if is_image(name, READABLE_ENDINGS)]
            if not found and not self.failed:
                raise click.UsageError(f'{source}: no image in this folder (looked for {", ".join(READABLE_ENDINGS)})')
            yield from ((path, osp.relpath(path, source)) for path in sorted(found))

    def _plan(self, jobs: list[Job], overwrite: bool) -> None:
        """Sort out what cannot be done: clashes fail, what exists is skipped, an input given twice is taken once."""
        inputs = {_identity(job.source) for job in jobs} - {None}
        planned: dict[str, Job] = {}  # by target
        for job in jobs:
            source, target = job
            other = planned.setdefault(target, job)
            if other is not job:
                if _identity(other.source) != _identity(source):
                    self.failed.append(f'{source}: another input becomes {target} too: rename one')
            elif _identity(target) in inputs:
                self.failed.append(f'{source}: the output would replace the input {target}: choose another -o')
            elif osp.isfile(target) and not overwrite:
                self._skipped += 1
                log_remarks(source, 'skipped, the output exists (--overwrite replaces it)')
            else:
                self.jobs.append(job)


def _is_file(output: str) -> bool:
    """Whether ``-o`` names a file, not a folder."""
    ending = osp.splitext(output)[1].lower()
    if osp.isdir(output) or output.endswith(os.sep):
        return False
    if output == '-' or ending in OTHER_ENDINGS or (osp.exists(output) and ending not in IMAGE_ENDINGS):
        raise click.UsageError(f'-o {output}: name a folder, or a file that ends in {", ".join(IMAGE_ENDINGS)}')
    return ending in IMAGE_ENDINGS


def _identity(path: str) -> tuple[int, int] | None:
    """Equal for two names of one file; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
