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
from iarn_basicsr.inference.pixel_rescaler import usable_device
from iarn_basicsr.ops.image import full_float32
from iarn_basicsr.ops.size import lr_size, scale_label
from iarn_basicsr.payload.codec import MissingCodecError, check_codec

from . import tasks
from .methods import Method, UnavailableError, UnsupportedSizeError, build_method, fingerprint, import_networks
from .plots import draw_plots
from .report import summary, write_report

__all__ = ['Records', 'main', 'run']

SECTIONS = ('cost', 'cycles', 'files')  # of the option file; without them the quality is measured
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
        parser.add_argument(f'--{name}', action='extend', nargs='+', metavar='NAME', help=f'only these {name}s of the '
                            'file')
    parser.add_argument('--scale', nargs='+', metavar='SCALE', help='2 1.5x3, instead of the scales of the file')
    parser.add_argument('--quality', action='store_true', help='only this, not cost, cycles and files')
    parser.add_argument('--import', dest='modules', action='extend', nargs='+', default=[], metavar='MODULE',
                        help='import these modules, which register networks with BasicSR: names, or .py files')
    args = parser.parse_args(argv)
    try:
        import_networks(args.modules)
        options = read_option_file(args.opt)
        folder = args.output or osp.join('results', check_benchmark(options).name)
        if args.quality:
            options = {key: value for key, value in options.items() if key not in SECTIONS}
        if args.scale:
            for part in (options, *options['datasets'].values(), *(options.get(s) or {} for s in SECTIONS)):
                part.update({'scales': args.scale} if 'scales' in part else {})
        results = run(options, folder, args.modules, args.dataset, args.method)
    except (OSError, ValueError) as error:
        print(f'iarn-benchmark: {error}', file=sys.stderr)
        return 2
    print(summary(results))
    print(f'\nbenchmark.md, .json, .csv and plots are in {folder}')
    return 0


def _chosen(option: str, names: Sequence[str] | None, section: dict[str, Any]) -> dict[str, Any]:
    """The data sets or methods that the command line names, in the order of the file."""
    for name in names or ():
        if name not in section:
            raise OptionError(f'{option} {shortened(name)}: not in the option file; {suggestion(name, section)}')
    return {name: section[name] for name in section if not names or name in names}


@torch.no_grad()
@full_float32()
def run(options: dict[str, Any], folder: str, modules: Sequence[str] = (), only_datasets: Sequence[str] | None = None,
        only_methods: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure what is missing, write the report into ``folder`` and return its numbers.

    Args:
        options: of the option file, see ``options/benchmark.yml``.
        folder: keeps ``records.jsonl`` too; a second run with the same options measures nothing again.
        modules: that were imported to register networks; processes that measure cost import them too.
        only_datasets, only_methods: names in the option file; all, if left out.
    """
    checked = check_benchmark(options)
    checked.datasets = _chosen('--dataset', only_datasets, checked.datasets)
    checked.methods = _chosen('--method', only_methods, checked.methods)
    threads = checked.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    device = usable_device(checked.device)
    skipped: dict[str, str] = {}
    datasets = _datasets(checked, skipped)
    try:
        if checked.files:
            check_codec()
    except MissingCodecError as error:
        skipped['files'] = str(error)
    methods = {}
    for name, method_options in checked.methods.items():  # all of them: mistakes show before the work
        try:
            methods[name] = build_method(name, method_options, device)
        except (UnavailableError, MissingCodecError) as error:
            skipped[name] = str(error)
    for name, reason in skipped.items():
        print(f'{name}: left out, {reason}', file=sys.stderr)

    sections = {'cycles': checked.cycles, 'files': None if 'files' in skipped else checked.files}
    records, rows = Records(osp.join(folder, 'records.jsonl')), []
    for name, method in methods.items():
        identity = fingerprint(checked.methods[name], method)
        jobs = [*_image_jobs(name, method, checked, datasets, sections),
                *_cost_jobs(name, checked, threads, str(device), modules)]
        for key, measure in tqdm(jobs, desc=name, disable=None, leave=False):
            rows.append({'method': name, 'key': key, **records.get((name, identity, *key), measure)})
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


def _image_jobs(name: str, method: Method, options: BenchmarkOptions, datasets: Mapping[str, ArbitraryScaleDataset],
                sections: Mapping[str, Any]) -> Iterator[Job]:
    """Quality on all data sets, and the sections of the option file, each on one; ``cycles`` of two-way methods."""
    jobs: list[tuple[str, str, Any]] = [('quality', dataset, None) for dataset in datasets]
    for kind, section in sections.items():
        if section and name in (section.methods or [name]) and (kind != 'cycles' or method.two_way):
            dataset = section.dataset or next(iter(datasets))
            jobs += [(kind, dataset, section)] if dataset in datasets else []
    for kind, dataset, section in jobs:
        images = datasets[dataset]
        settings = {**options.datasets[dataset], **(msgspec.structs.asdict(section) if section else {})}
        settings = {k: v for k, v in settings.items() if k not in ('scales', 'dataset', 'methods')}
        digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:16]
        for scale in section.scales if section else images.scales:
            for which, image in enumerate(images.names):
                yield ((kind, dataset, scale_label(scale), image, digest),
                       partial(_measure, kind, method, images, which, scale, section))


def _measure(kind: str, method: Method, images: ArbitraryScaleDataset, which: int, scale: tuple[float, float],
             section: Any) -> dict[str, float]:
    """The values of one image, which is read only where they are not recorded."""
    item = images[which * len(images.scales) + (images.scales.index(scale) if kind == 'quality' else 0)]
    hr = item['gt'][None].to(method.device)
    hr_size = (hr.shape[-2], hr.shape[-1])
    size = lr_size(hr_size, scale, images.options.size_rule)
    method.check(hr_size, size)
    if kind == 'quality':
        return tasks.quality(method, hr, item['lq'][None].to(method.device))
    if kind == 'cycles':
        return tasks.cycles(method, hr, size, section.counts)
    return tasks.files(method, hr, size, section.formats, section.qualities)


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
        with open(path, 'ab+') as file:
            file.seek(0)
            content = file.read()
            whole = content[:content.rfind(b'\n') + 1]
            if whole != content:
                file.truncate(len(whole))
        for n, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self._values[tuple(record['key'])] = record['values']
            except (ValueError, KeyError, TypeError):
                raise ValueError(f'{path}, line {n} is damaged: remove it, or the file to start anew') from None

    def get(self, key: Key, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The values of a key; computed and stored first, or why there are none, if they are not there."""
        if key not in self._values:
            try:
                values = compute()
            except UnsupportedSizeError as error:
                values = {'unsupported': str(error)}
            with open(self.path, 'a', encoding='utf-8') as file:
                file.write(json.dumps({'key': key, 'values': values}) + '\n')
                file.flush()
                os.fsync(file.fileno())
            self._values[key] = values
        return self._values[key]
