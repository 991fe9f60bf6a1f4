"""One command in many processes started by ``torchrun`` or ``srun``: this process's rank and share."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import path as osp

from iarn_basicsr.errors import OptionError, shortened
from iarn_basicsr.inference.picture_file import open_header

__all__ = ['Process', 'even_shares', 'pixels_of']


@dataclass(frozen=True)
class Process:
    """This process among those of a run."""

    rank: int = 0
    count: int = 1
    local: int = 0  # rank among those on this machine

    @classmethod
    def of_environment(cls) -> Process:
        """From ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``, else from what ``srun`` sets; alone without any of them.

        Raises:
            OptionError: naming the variable that is missing or makes no sense.
        """
        rank, count, local = 'RANK', 'WORLD_SIZE', 'LOCAL_RANK'
        if rank not in os.environ and count not in os.environ:
            # in a job SLURM_NTASKS counts what was allocated, also where srun started one process or none
            rank, local = 'SLURM_PROCID', 'SLURM_LOCALID'
            count = 'SLURM_STEP_NUM_TASKS' if 'SLURM_JOB_ID' in os.environ else 'SLURM_NTASKS'
            if rank not in os.environ or (count not in os.environ and 'SLURM_JOB_ID' in os.environ):
                return cls()
        for name, other in ((rank, count), (count, rank)):
            if name not in os.environ:
                raise OptionError(f'environment: {other} is set and {name} is not; torchrun and srun set both')
        found = cls(_number(rank), _number(count), _number(local if local in os.environ else rank))
        if found.rank >= found.count:
            raise OptionError(f'environment: {rank} {found.rank} is out of range, {count} is {found.count}')
        return found

    def __str__(self) -> str:
        return f'process {self.rank} of {self.count}'

    @property
    def device(self) -> str | None:
        """The GPU of this process; None where it is alone, or there is no GPU."""
        import torch  # only here: errors in a command line then show sooner
        if self.count == 1 or not torch.cuda.is_available():
            return None
        return f'cuda:{self.local % torch.cuda.device_count()}'

    def leave(self, failed: bool) -> None:
        """Where some files failed, wait until the other processes are done: ``torchrun`` ends them when one fails."""
        if self.count == 1 or 'TORCHELASTIC_RUN_ID' not in os.environ:
            return
        from torch.distributed import rendezvous
        with suppress(RuntimeError):  # the machine that keeps the store may be done, and gone
            store, _, _ = next(rendezvous('env://'))
            done = [f'done {rank}' for rank in range(self.count)]
            store.set(done[self.rank], '')
            while failed and not store.check(done):
                time.sleep(0.1)


def _number(name: str) -> int:
    text = os.environ[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise OptionError(f'environment: {name} is {shortened(text)}; expected an integer >= 0')
    return int(text)


def even_shares(sizes: Sequence[int], count: int) -> list[int]:
    """The owner of every item, 0 to ``count`` - 1: the largest first, each to the one that has least."""
    owners, loads = [0] * len(sizes), [0] * count
    for item in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        owners[item] = loads.index(min(loads))
        loads[owners[item]] += sizes[item]
    return owners


def pixels_of(path: str) -> int:
    """As the header says; 1 for what cannot be read, which takes next to no time."""
    if not osp.isfile(path):  # opening a pipe may never end
        return 1
    try:
        with open(path, 'rb') as raw, open_header(raw, path) as file:
            return file.width * file.height
    except Exception:  # a decoder may raise anything
        return 1
