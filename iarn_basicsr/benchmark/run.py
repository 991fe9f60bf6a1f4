"""The command: read the option file, measure what is not measured yet, write the tables."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from os import path as osp
from typing import Any

import msgspec
import torch
from tqdm import tqdm

from iarn_basicsr.config.benchmark_schema import BenchmarkOptions, check_benchmark
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.errors import OptionError, shortened, suggestion
from iarn_basicsr.files import save_json
from iarn_basicsr.ops.image import full_float32
from iarn_basicsr.ops.size import lr_size, scale_label
from iarn_basicsr.payload.codec import MissingCodecError, check_codec

from . import tasks
from .methods import Method, MissingWeightsError, UnsupportedSizeError, build_method, fingerprint, import_networks
from .plots import draw_plots
from .report import summary, write_report

__all__ = ['Records', 'main', 'run']

EXTRAS: dict[str, Callable[..., dict[str, float]]] = {  # sections of the option file that measure single images
    'cycles': lambda method, hr, size, section: tasks.cycles(method, hr, size, section.counts),
    'lossy': lambda method, hr, size, section: tasks.lossy(method, hr, size, section.formats, section.qualities),
    'bytes': lambda method, hr, size, section: tasks.avif_of_same_size(method, hr, size),
}
WITH_AVIF = ('lossy', 'bytes')
Key = tuple[str, ...]
Job = tuple[Key, Callable[[], dict[str, Any]]]  # what it is called, how it is measured


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark of an option file; exit code 2 for a mistake in it or in a module to import."""
    parser = argparse.ArgumentParser(
        prog='iarn-benchmark', description='Measure rescaling methods side by side. Results are kept per image, and an '
        'interrupted run resumes.')
    parser.add_argument('-opt', required=True, metavar='FILE', help='YAML, see options/benchmark.yml')
    parser.add_argument('-o', '--output', metavar='FOLDER', help='default: results/NAME below the current directory')
    for name in ('dataset', 'method'):
        parser.add_argument(f'--{name}', action='append', metavar='NAME', help=f'only this {name} of the file; several '
                            'are possible')
    parser.add_argument('--import', dest='modules', action='append', default=[], metavar='MODULE', help='import this '
                        'module, which registers a network of your own with BasicSR: its name, or a file with its .py; '
                        'several are possible')
    args = parser.parse_args(argv)
    try:
        import_networks(args.modules)
        options = read_option_file(args.opt)
        check_benchmark(options)
        for name in ('dataset', 'method'):
            _select(options, name, getattr(args, name))
        folder = args.output or osp.join('results', options['name'])
        results = run(options, folder, args.modules)
    except (OSError, ValueError) as error:
        print(f'iarn-benchmark: {error}', file=sys.stderr)
        return 2
    print(summary(results))
    print(f'\nbenchmark.md, .json, .csv and plots are in {folder}')
    return 0


def _select(options: dict[str, Any], kind: str, names: Sequence[str] | None) -> None:
    """Leave the data sets or methods that the command line names."""
    section = options[f'{kind}s']
    for name in names or ():
        if name not in section:
            raise OptionError(f'--{kind} {shortened(name)}: not in the option file; {suggestion(name, section)}')
    if names:
        options[f'{kind}s'] = {name: section[name] for name in section if name in names}


@torch.no_grad()
@full_float32()
def run(options: dict[str, Any], folder: str, modules: Sequence[str] = ()) -> dict[str, Any]:
    """Measure what is missing, write the report into ``folder`` and return its numbers.

    Args:
        options: of the option file, see ``options/benchmark.yml``.
        folder: keeps ``records.jsonl`` too; a second run with the same options measures nothing again.
        modules: that were imported to register networks; processes that measure cost import them too.
    """
    checked = check_benchmark(options)
    threads = checked.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    device = _device(checked.device)
    skipped: dict[str, str] = {}
    datasets = _datasets(checked, skipped)
    if any(getattr(checked, section) for section in WITH_AVIF):
        try:
            check_codec()
        except MissingCodecError as error:
            skipped.update(dict.fromkeys((s for s in WITH_AVIF if getattr(checked, s)), str(error)))
    methods = {}
    for name, method_options in checked.methods.items():  # all of them: mistakes show before the work
        try:
            methods[name] = build_method(name, method_options, device)
        except (MissingWeightsError, MissingCodecError) as error:
            skipped[name] = str(error)
    for name, reason in skipped.items():
        print(f'{name}: left out, {reason}', file=sys.stderr)

    records, rows = Records(osp.join(folder, 'records.jsonl')), []
    for name, method in methods.items():
        identity = fingerprint(checked.methods[name], method)
        jobs = [*_quality_jobs(method, checked, datasets),
                *(job for section in EXTRAS if section not in skipped
                  for job in _extra_jobs(section, name, method, checked, datasets)),
                *_cost_jobs(name, checked, threads, str(device), modules)]
        for key, measure in tqdm(jobs, desc=name, disable=None, leave=False):
            values = records.get((name, identity, *key), partial(_or_reason, measure))
            rows.append({'method': name, 'key': key, **values})
    results = {
        'name': checked.name,
        'machine': f'{platform.machine()}, {threads} threads, {device}, torch {torch.__version__}',
        'datasets': list(datasets),
        'methods': list(checked.methods),
        'skipped': skipped,
        'published': msgspec.to_builtins(checked.published or []),
        'options': options,
        'rows': rows,
    }
    save_json(results, osp.join(folder, 'benchmark.json'))
    write_report(results, folder, draw_plots(results, folder))
    return results


def _device(name: str | None) -> torch.device:
    """One of PyTorch's that is there."""
    gpus = [f'cuda:{k}' for k in range(torch.cuda.device_count())]
    known = ['cpu', *(['cuda', *gpus] if gpus else []), *(['mps'] if torch.backends.mps.is_available() else [])]
    if name is not None and name not in known:
        raise OptionError(f'device: {shortened(name)}; PyTorch finds here: {", ".join(known)}')
    return torch.device(name or ('cuda' if gpus else 'cpu'))


def _datasets(options: BenchmarkOptions, skipped: dict[str, str]) -> dict[str, ArbitraryScaleDataset]:
    """HR images with bicubic LR at every scale, as in validation, of the data sets whose folder exists."""
    found = {}
    for name, dataset in options.datasets.items():
        if osp.exists(osp.expanduser(dataset['dataroot_gt'])):
            found[name] = ArbitraryScaleDataset({
                'io_backend': {'type': 'disk'}, 'scales': options.scales, 'type': 'ArbitraryScaleDataset', **dataset,
                'name': name, 'phase': 'val'})
        else:
            skipped[name] = f'there is no folder {dataset["dataroot_gt"]}'
    if not found:
        raise OptionError(f'datasets: none is there; {"; ".join(f"{k}: {v}" for k, v in skipped.items())}')
    return found


def _or_reason(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The values, or why there are none."""
    try:
        return measure()
    except UnsupportedSizeError as error:
        return {'unsupported': str(error)}


def _quality_jobs(method: Method, options: BenchmarkOptions,
                  datasets: Mapping[str, ArbitraryScaleDataset]) -> Iterator[Job]:
    def measure(images: ArbitraryScaleDataset, index: int) -> dict[str, float]:
        item = images[index]
        hr, reference = (item[k][None].to(method.device) for k in ('gt', 'lq'))
        method.check((hr.shape[-2], hr.shape[-1]), (reference.shape[-2], reference.shape[-1]))
        return tasks.quality(method, hr, reference)

    for dataset, images in datasets.items():
        for index in range(len(images)):
            which, k = divmod(index, len(images.scales))
            key = ('quality', dataset, scale_label(images.scales[k]), images.names[which], _digest(options, dataset))
            yield key, partial(measure, images, index)


def _extra_jobs(kind: str, name: str, method: Method, options: BenchmarkOptions,
                datasets: Mapping[str, ArbitraryScaleDataset]) -> Iterator[Job]:
    """Of a section of ``EXTRAS``; ``cycles`` is for two-way methods only."""
    section = getattr(options, kind)
    if not section or name not in (section.methods or [name]) or (kind == 'cycles' and not method.two_way):
        return
    dataset = section.dataset or next(iter(datasets))
    if dataset not in datasets:
        return
    images = datasets[dataset]

    def measure(which: int, scale: tuple[float, float]) -> dict[str, float]:
        hr = images[which * len(images.scales)]['gt'][None].to(method.device)
        hr_size = (hr.shape[-2], hr.shape[-1])
        size = lr_size(hr_size, scale, options.datasets[dataset].get('size_rule', 'round'))
        method.check(hr_size, size)
        return EXTRAS[kind](method, hr, size, section)

    digest = _digest(options, dataset)
    asked = {k: v for k, v in msgspec.structs.asdict(section).items() if k not in ('scales', 'dataset', 'methods')}
    for scale in section.scales:
        for which, image in enumerate(images.names):
            yield (kind, dataset, scale_label(scale), image, str(asked), digest), partial(measure, which, scale)


def _digest(options: BenchmarkOptions, dataset: str) -> str:
    """Changes with the options of a data set: its folder, how its images are cropped, the rule of the LR size."""
    own = {k: v for k, v in options.datasets[dataset].items() if k != 'scales'}
    return hashlib.sha256(repr(sorted(own.items())).encode()).hexdigest()[:16]


def _cost_jobs(name: str, options: BenchmarkOptions, threads: int, device: str,
               modules: Sequence[str]) -> Iterator[Job]:
    if not options.cost:
        return
    hr, repeats = (options.cost.hr_size[0], options.cost.hr_size[1]), options.cost.repeats
    for scale in map(scale_label, options.cost.scales):
        key = ('cost', f'{hr[0]}x{hr[1]}', scale, f'{repeats} runs', f'{threads} threads', device)
        yield key, partial(tasks.cost, name, options.methods[name], hr, scale, repeats, threads, device, modules)


class Records:
    """Results by key, one JSON line a result, appended at once: an interrupted benchmark resumes.

    Args:
        path: the file; made if it is not there. A last line that an interruption cut short is dropped.

    Raises:
        ValueError: naming file and line, if another line is damaged.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._values: dict[Key, dict[str, Any]] = {}
        os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
        with open(path, 'a+', encoding='utf-8') as file:
            file.seek(0)
            length = 0
            for n, line in enumerate(file.read().splitlines(keepends=True), 1):
                if not line.endswith('\n'):
                    file.truncate(length)
                    break
                length += len(line.encode())
                try:
                    record = json.loads(line)
                    self._values[tuple(record['key'])] = record['values']
                except (json.JSONDecodeError, KeyError, TypeError):
                    raise ValueError(f'{path}, line {n} is damaged: remove it, or the file to start anew') from None

    def get(self, key: Key, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The values of a key; computed and stored first if they are not there."""
        if key not in self._values:
            values = compute()
            with open(self.path, 'a', encoding='utf-8') as file:
                file.write(json.dumps({'key': key, 'values': values}) + '\n')
                file.flush()
                os.fsync(file.fileno())
            self._values[key] = values
        return self._values[key]
