"""Wrong option files of the benchmark: one line each that names key and value, before anything is measured."""

from __future__ import annotations

import copy
import math

import pytest
from hostile.option_files import BENCHMARK, MISSING, changed, renamed

from iarn_basicsr.config.benchmark_schema import check_benchmark
from iarn_basicsr.errors import OptionError


def refusal(options: object) -> str:
    with pytest.raises(OptionError) as error:
        check_benchmark(options)
    line = str(error.value)
    assert line.isprintable() and len(line) < 700
    return line


PUBLISHED = {'source': 'x', 'metric': 'psnr_y', 'values': {'two': {'ours': {'x2': 12.34}}}}


@pytest.mark.parametrize(('place', 'value'), [
    ('name', '../../escape'), ('name', 'a\nb'), ('device', 3), ('threads', 1.5),
    ('datasets', {}), ('datasets.two', 'Set5'), ('datasets.two.size_rule', 'up'), ('datasets.two.scales', [0.5]),
    ('scales', 2), ('scales', []), ('scales', ['wide']),
    ('methods', ['IARN']), ('methods.ours', ['IARN']), ('methods.ours.type', 'IRAN'), ('methods.ours.type', ['IARN']),
    ('methods.ours.weights', 5), ('methods.EDSR.nets', []), ('methods.EDSR.nets', ['x.pth']),
    ('methods.EDSR.nets', [{'scale': 99, 'path': 'x'}]),
    ('methods.EDSR.nets', [{'scale': 2, 'path': 'x', 'network': 'EDSR'}]), ('methods.own.path', [5]),
    *[('methods.coded', {'type': 'IARN', 'bits': bits}) for bits in (3.5, '2', True, math.nan)],
    ('methods.coded', {'type': 'IARN', 'weights': 'none', 'effort': 30}),
    ('cost.hr_size', [480]), ('cycles.counts', [0]), ('cycles.dataset', 'three'), ('cycles.methods', ['our']),
    ('files.qualities', [500]), ('files.formats', ['gif']), ('files.scales', [0.5]),
    ('published', [{**PUBLISHED, 'metric': 'lpips'}]), ('published', [{**PUBLISHED, 'source': ''}]),
    ('published', [{**PUBLISHED, 'values': {'two': {'ours': {'x2': 'high'}}}}]),
    ('published', [{**PUBLISHED, 'values': {'two': {'ours': {'wide': 3}}}}]),
], ids=lambda v: repr(v)[:50].encode('ascii', 'replace').decode())
def test_wrong_value(place, value):
    line = refusal(changed(BENCHMARK, place, value))
    assert place.split('.')[0] in line and place.rpartition('.')[2] in line


@pytest.mark.parametrize('name', [' ', 'a\nb', None])
@pytest.mark.parametrize('section', ['methods', 'datasets'])
def test_names(section, name):
    options = copy.deepcopy(BENCHMARK)
    options[section][name] = next(iter(options[section].values()))
    assert refusal(options).startswith(f'{section}: {name!r}; expected printable text')


@pytest.mark.parametrize('place', ['methods', 'cycles.counts', 'methods.ours.weights', 'datasets.two.mod_crop'])
def test_misspelt_key(place):
    line = refusal(renamed(copy.deepcopy(BENCHMARK), place, 'mispelt'))
    assert place.split('.')[0] in line and "'mispelt'" in line


@pytest.mark.parametrize('place', ['name', 'cycles.counts', 'datasets.two.dataroot_gt', 'methods.EDSR.nets'])
def test_missing_option(place):
    assert place.rpartition('.')[2] in refusal(changed(BENCHMARK, place, MISSING))


@pytest.mark.parametrize(('place', 'value'), [
    ('cost', None), ('threads', MISSING), ('published', [PUBLISHED]), ('scales', ['x1.5x3', 2.5]),
    ('methods.EDSR.nets', [{'scale': 4, 'path': 'x.pth'}]),
    ('files', {'scales': [2, 'x1.5x3'], 'dataset': 'two', 'methods': ['ours']}),
    ('methods.own', {'type': 'IARN', 'bits': 3, 'weights': 'iarn_light_x1-4', 'effort': 10000}),
    ('methods.own', {'type': 'spandrel', 'path': 'x.pth'}), ('methods.least squares (λ=0)', {'type': 'bicubic'}),
])
def test_accepted(place, value):
    options = changed(BENCHMARK, place, value)
    before = copy.deepcopy(options)
    check_benchmark(options)
    assert options == before
