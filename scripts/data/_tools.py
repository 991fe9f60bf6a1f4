"""Shared by the data scripts: one-line errors, output folders that can be resumed safely, and reading ahead."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import path as osp
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from iarn_basicsr.data.image_source import ImageSource
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import is_image, save_json

T, R = TypeVar('T'), TypeVar('R')
WORKERS = min(8, os.cpu_count() or 1)  # threads that help when coding images


def command(name: str, doc: str) -> argparse.ArgumentParser:
    """The parser of a script."""
    return argparse.ArgumentParser(prog=name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def run(job: Callable[[argparse.Namespace], list[str]], parser: argparse.ArgumentParser, argv: list[str] | None) -> int:
    """Exit code of a job, which returns a line for each image that failed.

    1 for such images or a failing disk, 2 for a request that cannot work, 130 for Ctrl-C.
    """
    args, code = parser.parse_args(argv), 1
    try:
        failures = job(args)
    except OptionError as error:
        failures, code = [str(error)], 2
    except OSError as error:
        failures = [f'{error}; run the same command again to resume']
    except KeyboardInterrupt:
        failures, code = ['interrupted; run the same command again to resume'], 130
    for failure in failures:
        print(f'{parser.prog}: {failure}', file=sys.stderr)
    return code if failures else 0


def integer(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an integer in a range."""

    def convert(text: str) -> int:
        if not text.lstrip('-').isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f'{text!r} is not an integer from {low} to {high}')
        return int(text)

    return convert


def images_by_stem(folders: list[str], name: str, output: str) -> dict[str, tuple[ImageSource, str]]:
    """All images below the folders by their relative name without ending, of which the output file gets its name.

    Args:
        folders: HR folders, sub-folders included.
        name: of the argument that holds them, for errors.
        output: name of an output file, with ``{}`` where the stem goes.

    Raises:
        OptionError: if two images would become the same file.
    """
    images: dict[str, tuple[ImageSource, str]] = {}
    for folder in folders:
        source = ImageSource(folder, 'disk', None, name)
        for file in source.names:
            stem = osp.splitext(file)[0]
            if stem in images:
                other, other_file = images[stem]
                raise OptionError(f'{other.path(other_file)!r} and {source.path(file)!r} would both become '
                                  f'{output.format(stem)!r}: rename one of them')
            images[stem] = source, file
    return images


def claim(output: str, settings: dict[str, Any], inputs: Iterable[str]) -> set[str]:
    """Take ``output`` for images made with ``settings``; returns the names of those that are there already.

    The settings are kept in a hidden part of the folder, so that one folder never mixes two of them.

    Raises:
        OptionError: if the folder holds images made with other settings, or lies inside an input folder.
    """
    if any(Path(output).resolve().is_relative_to(Path(folder).resolve()) for folder in inputs):
        raise OptionError(f'-o: {output!r} lies inside the input folder: the next run would read its images as input; '
                          'choose a folder beside it')
    record = Path(output, '.made_with', 'settings.json')
    there = {str(p.relative_to(output)) for p in Path(output).rglob('*') if is_image(p.name)}
    try:
        made_with = json.loads(record.read_text(encoding='utf-8'))
    except (FileNotFoundError, ValueError):
        made_with = 'unknown settings'
    if there and made_with != settings:
        raise OptionError(f'-o: {output!r} holds images made with {made_with}, not with {settings}: remove it or '
                          'choose another folder')
    save_json(settings, str(record))
    return there


def encode_png(image: np.ndarray, compression: int) -> bytes:
    """RGB uint8 (H, W, 3) as the bytes of a PNG file."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.png', bgr, [cv2.IMWRITE_PNG_COMPRESSION, compression])[1].tobytes()


def read_ahead(function: Callable[[T], R], items: Iterable[T], workers: int, failures: list[str]) -> Iterator[R]:
    """``map`` in threads (OpenCV releases the interpreter's lock), in order, at most 2 x workers items ahead.

    Items for which it raises ``OSError`` are passed over, and the reasons put into ``failures``.
    """
    pool, queue = ThreadPoolExecutor(workers), iter(items)
    try:
        waiting = deque(pool.submit(function, item) for item in islice(queue, 2 * workers))
        while waiting:
            try:
                result = waiting.popleft().result()
            except OSError as error:
                failures.append(str(error))
            else:
                yield result
            waiting.extend(pool.submit(function, item) for item in islice(queue, 1))
    finally:
        pool.shutdown(cancel_futures=True)
