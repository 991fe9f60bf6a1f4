"""The command: read the option file, measure what is not measured yet, write the tables."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from os import path as osp
from typing import Any

import torch
from tqdm import tqdm

import iarn_basicsr.plugin  # noqa: F401  (makes basicsr importable and registers)
from iarn_basicsr.checks import number
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.data.arbitrary_scale_dataset import ArbitraryScaleDataset
from iarn_basicsr.errors import OptionError
from iarn_basicsr.files import save_json
from iarn_basicsr.ops.image import full_float32
from iarn_basicsr.ops.size import lr_size, parse_scale, scale_label
from iarn_basicsr.payload.codec import MissingCodecError, check_codec

from . import tasks
from .methods import Method, MissingWeightsError, UnsupportedSizeError, build_method, fingerprint
from .options import check_benchmark
from .own import import_networks
from .records import Records
from .report import summary, write_report

__all__ = ['check_benchmark', 'main', 'run']

_WITH_AVIF = ('lossy', 'bytes')  # sections
_MEASURED = {'lossy': ['jpeg is 4:2:0']}  # changed when a section gives other values, or more: it is measured again
Job = tuple[tuple[str, ...], Callable[[], dict[str, Any]]]  # what it is called, how it is measured


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark of an option file; exit code 2 for a mistake in it or in a module to import."""
    parser = argparse.ArgumentParser(
        prog='iarn-benchmark', description='Measure rescaling methods side by side. An interrupted run goes on where '
        'it stopped; results are kept per image.')
    parser.add_argument('-opt', required=True, metavar='FILE', help='YAML, see options/benchmark_*.yml')
    parser.add_argument('-o', '--output', metavar='FOLDER', help='default: results/NAME below the current directory')
    parser.add_argument('--import', dest='modules', action='append', default=[], metavar='MODULE', help='import this '
                        'module, which registers a network of your own with BasicSR: its name, or a file with its .py; '
                        'several are possible')
    args = parser.parse_args(argv)
    try:
        import_networks(args.modules)
    except OptionError as error:
        print(f'iarn-benchmark: {error}', file=sys.stderr)
        return 2
    try:
        options = read_option_file(args.opt)
        check_benchmark(options)
        folder = args.output or osp.join('results', options['name'])
        results = run(options, folder, args.modules)
    except (OSError, ValueError) as error:
        print(f'iarn-benchmark: {args.opt}: {error}', file=sys.stderr)
        return 2
    print(summary(results))
    print(f'\nbenchmark.md, .json, .csv and plots are in {folder}')
    return 0


@torch.no_grad()
@full_float32()
def run(options: dict[str, Any], folder: str, modules: Sequence[str] = ()) -> dict[str, Any]:
    """Measure what is missing, write the report into ``folder`` and return its numbers.

    Args:
        options: of the option file, see ``options/benchmark_Set5.yml``.
        folder: keeps ``records.jsonl`` too; a second run with the same options measures nothing again.
        modules: that were imported to register networks; processes that measure cost import them too.
    """
    threads = number('option file', options, 'threads', os.cpu_count(), 1, 1024, int)
    torch.set_num_threads(threads)
    device = options.get('device') or ('cuda' if torch.cuda.is_available() else 'cpu')
    records = Records(osp.join(folder, 'records.jsonl'))
    datasets = {name: _dataset(name, o, options['scales']) for name, o in options['datasets'].items()}
    skipped = _sections_without_codec(options)
    rows: list[dict[str, Any]] = []
    for name, method_options in options['methods'].items():
        try:
            method = build_method(name, method_options).to(torch.device(device))
        except (MissingWeightsError, MissingCodecError) as error:
            skipped[name] = str(error)
            print(f'{name}: left out, {error}', file=sys.stderr)
            continue
        identity = fingerprint(method_options, method)
        jobs = [*_quality_jobs(method, datasets),
                *(job for section in ('cycles', *_WITH_AVIF) if section not in skipped
                  for job in _extra_jobs(section, name, method, options, datasets)),
                *_cost_jobs(name, method_options, options, threads, device, modules)]
        for key, measure in tqdm(jobs, desc=name, disable=None, leave=False):
            values = records.get((name, identity, *key), partial(_or_reason, measure))
            rows.append({'method': name, 'key': key, **values})
    results = {
        'name': options['name'],
        'machine': f'{platform.machine()}, {threads} threads, {device}, torch {torch.__version__}',
        'methods': list(options['methods']),
        'skipped': skipped,
        'published': options.get('published') or {},
        'options': options,
        'rows': rows,
    }
    save_json(results, osp.join(folder, 'benchmark.json'))
    write_report(results, folder)
    return results


def _sections_without_codec(options: Mapping[str, Any]) -> dict[str, str]:
    """``{section: why it is left out}`` of those that write AVIF."""
    asked = [section for section in _WITH_AVIF if options.get(section)]
    try:
        if asked:
            check_codec()
    except MissingCodecError as error:
        print(f'{", ".join(asked)}: left out, {error}', file=sys.stderr)
        return dict.fromkeys(asked, str(error))
    return {}


def _or_reason(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The values, or why there are none."""
    try:
        return measure()
    except UnsupportedSizeError as error:
        return {'unsupported': str(error)}


def _dataset(name: str, options: Mapping[str, Any], scales: list[Any]) -> ArbitraryScaleDataset:
    """HR images with bicubic LR at every scale, as in validation."""
    return ArbitraryScaleDataset({'io_backend': {'type': 'disk'}, **options, 'name': name, 'phase': 'val',
                                  'scales': scales})


def _quality_jobs(method: Method, datasets: Mapping[str, ArbitraryScaleDataset]) -> Iterator[Job]:
    for dataset, images in datasets.items():
        for index in range(len(images)):
            which, k = divmod(index, len(images.scales))
            key = ('quality', dataset, scale_label(images.scales[k]), images.names[which], _data(images))
            yield key, partial(_quality, method, images, index)


def _quality(method: Method, images: ArbitraryScaleDataset, index: int) -> dict[str, float]:
    item = images[index]
    hr, reference = (item[k][None].to(method.device) for k in ('gt', 'lq'))
    method.check((hr.shape[-2], hr.shape[-1]), (reference.shape[-2], reference.shape[-1]))
    return tasks.quality(method, hr, reference)


def _extra_jobs(section: str, name: str, method: Method, options: Mapping[str, Any],
                datasets: Mapping[str, ArbitraryScaleDataset]) -> Iterator[Job]:
    """Of the sections ``cycles`` (two-way methods only), ``lossy`` and ``bytes``."""
    wanted = options.get(section)
    if not wanted or name not in wanted.get('methods', [name]) or (section == 'cycles' and not method.two_way):
        return
    dataset = wanted.get('dataset') or next(iter(datasets))
    asked = [*wanted.get('counts', []), *wanted.get('formats', []), *wanted.get('qualities', []),
             *_MEASURED.get(section, [])]
    for scale in wanted['scales']:
        for which, image in enumerate(datasets[dataset].names):
            key = (section, dataset, scale_label(parse_scale(scale)), image, *map(str, asked), _data(datasets[dataset]))
            yield key, partial(_extra, section, wanted, method, datasets[dataset], which, scale)


def _data(images: ArbitraryScaleDataset) -> str:
    """Changes when the options of a dataset do: its folder, how its images are cropped, the rule of the LR size."""
    options = {k: v for k, v in images.opt.items() if k not in ('name', 'phase', 'scales')}
    return hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()[:16]


def _extra(section: str, wanted: Mapping[str, Any], method: Method, images: ArbitraryScaleDataset, which: int,
           scale: Any) -> dict[str, float]:
    hr = images[which * len(images.scales)]['gt'][None].to(method.device)
    hr_size = (hr.shape[-2], hr.shape[-1])
    size = lr_size(hr_size, parse_scale(scale), images.size_rule)
    method.check(hr_size, size)
    if section == 'cycles':
        return tasks.cycles(method, hr, size, wanted['counts'])
    if section == 'bytes':
        return tasks.avif_of_same_size(method, hr, size)
    return tasks.lossy(method, hr, size, wanted['formats'], wanted['qualities'])


def _cost_jobs(name: str, method_options: Mapping[str, Any], options: Mapping[str, Any], threads: int,
               device: str, modules: Sequence[str]) -> Iterator[Job]:
    wanted = options.get('cost')
    if not wanted:
        return
    hr = (int(wanted['hr_size'][0]), int(wanted['hr_size'][1]))
    repeats = number('cost', wanted, 'repeats', 5, 1, 1000, int)
    for scale in (scale_label(parse_scale(s)) for s in wanted['scales']):
        key = ('cost', f'{hr[0]}x{hr[1]}', scale, f'{repeats} runs', f'{threads} threads', device)
        yield key, partial(tasks.cost, name, method_options, hr, scale[1:], repeats, threads, device, modules)

