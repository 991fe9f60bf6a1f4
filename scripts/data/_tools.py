"""What the data scripts share: errors of one line, output folders that are resumed safely, and reading ahead."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from os import path as osp
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import is_image, save_json

T, R = TypeVar('T'), TypeVar('R')


def run(job: Callable[[argparse.Namespace], int], args: argparse.Namespace, program: str) -> int:
    """Exit code of a job: a mistake in what was asked is 2, a failing disk 1, Ctrl-C 130; each with one line."""
    try:
        return job(args)
    except OptionError as error:
        print(f'{program}: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'{program}: {error}; run the same command again to go on from here', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'{program}: interrupted; run the same command again to go on from here', file=sys.stderr)
        return 130


def report(failures: list[str], program: str) -> int:
    """List the images that failed; the exit code."""
    for failure in failures:
        print(f'{program}: {failure}', file=sys.stderr)
    return 1 if failures else 0


def integer(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number in a range."""

    def convert(text: str) -> int:
        if not text.lstrip('-').isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from {low} to {high}')
        return int(text)

    return convert


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies inside it; links are followed."""
    place, folder = osp.realpath(path), osp.realpath(folder)
    return place == folder or place.startswith(osp.join(folder, ''))


def claim(output: str, settings: dict[str, Any], inputs: Iterable[str]) -> set[str]:
    """Take ``output`` for images made with ``settings``; returns the names of those that are there already.

    The settings are kept in a hidden part of the folder, so that one folder never mixes two of them.

    Raises:
        OptionError: if the folder holds images made otherwise, or lies inside a folder that is read.
    """
    if any(is_below(output, folder) for folder in inputs):
        raise OptionError(f'-o: {output!r} lies inside the input folder: the next run would take its images for input; '
                          'choose a folder beside it')
    record = osp.join(output, '.made_with', 'settings.json')  # scandir fails on hidden files, not on hidden folders
    there = {str(p.relative_to(output)) for p in Path(output).rglob('*') if is_image(p.name)}
    if there:
        made_with = _read(record)
        if made_with != settings:
            raise OptionError(f'-o: {output!r} holds images made with {made_with or "unknown settings"}, asked for are '
                              f'{settings}: remove it or choose another folder')
    save_json(settings, record)
    return there


def _read(record: str) -> Any:
    try:
        with open(record, encoding='utf-8') as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


def encode_png(image: np.ndarray, compression: int) -> bytes:
    """RGB uint8 (H, W, 3) as the bytes of a PNG file."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.png', bgr, [cv2.IMWRITE_PNG_COMPRESSION, compression])[1].tobytes()


def read_ahead(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """``map`` by threads (OpenCV works without the interpreter's lock), in order, at most 2 x workers items ahead."""
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """Threads that are useful for coding images."""
    return min(8, os.cpu_count() or 1)
