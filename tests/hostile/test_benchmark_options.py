"""Wrong option files of the benchmark: one line each that names key and value, before anything is measured."""

from __future__ import annotations

import copy
import csv

import pytest
from helpers import write_yaml
from hostile.option_files import BENCHMARK, MISSING, changed, renamed

from iarn_basicsr.benchmark.run import check_benchmark, main
from iarn_basicsr.errors import OptionError


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys, image_folder):
    """Runs ``iarn-benchmark`` in this process and returns the one line that it ends with."""
    image_folder('hr', [(48, 36)])
    monkeypatch.chdir(tmp_path)

    def run(options):
        if isinstance(options, dict):
            write_yaml(options, tmp_path / 'options.yml')
        assert main(['-opt', 'options.yml']) == 2
        shown = capsys.readouterr()
        assert shown.out == '' and shown.err.startswith('iarn-benchmark: ') and shown.err.count('\n') == 1
        assert shown.err[:-1].isprintable() and len(shown.err) < 700
        assert sorted(p.name for p in tmp_path.iterdir()) == ['hr', 'options.yml']
        return shown.err

    return run


VALUES = [
    ('name', 5), ('name', '../../escape'), ('name', 'a/b'), ('name', 'a\nb'), ('name', ['x']), ('name', True),
    ('device', 'tpu'), ('device', 3), ('device', 'meta'), ('device', 'cuda:99'), ('device', ['cpu']),
    ('threads', 0), ('threads', 'many'), ('threads', 1.5), ('threads', [2]), ('threads', True),
    ('datasets', 'Set5'), ('datasets', ['Set5']), ('datasets.two', 'Set5'), ('datasets.two', ['Set5']),
    ('datasets.two.dataroot_gt', 5), ('datasets.two.mod_crop', 'abc'), ('datasets.two.mod_crop', 0),
    ('datasets.two.size_rule', 'up'), ('datasets.two.io_backend', 'disk'),
    ('scales', 2), ('scales', 'x2'), ('scales', [0.5]), ('scales', ['wide']), ('scales', {'x': 2}), ('scales', [True]),
    ('methods', 'IARN'), ('methods', ['IARN']), ('methods.ours', 'IARN'), ('methods.ours', ['IARN']),
    ('methods.ours.type', 'IRAN'), ('methods.ours.type', ['IARN']), ('methods.ours.weights', 5),
    ('methods.EDSR.nets', 'x.pth'), ('methods.EDSR.nets', {'scale': 2}), ('methods.EDSR.nets', ['x.pth']),
    ('methods.EDSR.nets', [{'scale': 99, 'path': 'x'}]), ('methods.EDSR.nets', [{'scale': 2, 'path': 7}]),
    ('methods.EDSR.nets', [{'scale': 2, 'path': 'x', 'network': 'EDSR'}]),
    ('methods.EDSR.nets', [{'scale': 2, 'path': 'x', 'network': {'type': 'EDRS'}}]),
    ('methods.EDSR.nets', [{'scale': 2, 'path': 'x', 'network': {'type': 'EDSR', 'num_feat': 'abc'}}]),
    ('methods.EDSR.nets', [{'scale': 2, 'path': 'x', 'multiple': 0}]), ('methods.own.paths', 'x.pth'),
    ('methods.own.paths', []), ('methods.own.paths', [5]),
    ('cost', 5), ('cost', [480, 640]), ('cost', 'yes'), ('cost', []), ('cost.hr_size', 480), ('cost.hr_size', [480]),
    ('cost.hr_size', [0, 640]), ('cost.hr_size', ['a', 'b']), ('cost.hr_size', [480.5, 640]), ('cost.scales', 2),
    ('cost.scales', [0]), ('cost.repeats', 0), ('cost.repeats', 'abc'),
    ('cycles', [1, 2]), ('cycles', 3), ('cycles.counts', [0]), ('cycles.counts', 3), ('cycles.counts', ['abc']),
    ('cycles.counts', [1.5]), ('cycles.counts', [-1]), ('cycles.scales', 'x2'), ('cycles.dataset', 5),
    ('cycles.dataset', 'three'), ('cycles.methods', 'ours'), ('cycles.methods', [['ours']]),
    ('cycles.methods', ['our']),
    ('lossy', 'jpeg'), ('lossy.qualities', [500]), ('lossy.qualities', [0]), ('lossy.qualities', 95),
    ('lossy.qualities', ['high']), ('lossy.formats', ['gif']),
    ('lossy.formats', ['jpeg', 'jpg']), ('lossy.formats', ['JPEG']), ('lossy.formats', ['jpeg420']),
    ('lossy.formats', 'jpeg'), ('lossy.formats', [5]),
    ('lossy.dataset', ['two']), ('lossy.methods', {'ours': 1}),
    *[('methods.coded', {'type': 'payload', 'bits': bits}) for bits in (-1, 3.5, 8, '2', True, [1], float('nan'))],
    *[('methods.coded', {'type': 'payload', 'bits': 1, 'weights': weights}) for weights in (5, None, '', ['none'])],
    *[('methods.coded', {'type': 'payload', 'bits': 1, 'weights': 'default', 'effort': effort})
      for effort in (-1, 1.5, 30.0, 10001, 'much', True)],
    ('methods.coded', {'type': 'payload', 'bits': 1, 'effort': 30}),
    ('methods.coded', {'type': 'payload', 'bits': 1, 'effort': 30, 'weights': 'none'}),
    ('methods.coded', {'type': 'payload', 'bits': 1, 'paylod': 7}), ('methods.coded', {'type': 'paylod', 'bits': 1}),
    ('bytes', 'png'), ('bytes', [2]), ('bytes', {'scales': 2}), ('bytes', {'scales': [0.5]}),
    ('bytes', {'scales': [2], 'dataset': 'three'}), ('bytes', {'scales': [2], 'methods': 'ours'}),
    ('bytes', {'scales': [2], 'formats': ['jpeg']}),
    ('published', 5), ('published', ['two']), ('published.two', 5), ('published.two.ours', 44.0),
    ('published.two.ours', {'x2': 'high'}), ('published.two.ours', {'wide': 3}), ('published.two.ours', {2: 3}),
    ('published', {'three': {}}),
]


@pytest.mark.parametrize(('place', 'value'), VALUES, ids=lambda v: repr(v)[:50].encode('ascii', 'replace').decode())
def test_wrong_value(refused, place, value):
    line = refused(changed(BENCHMARK, place, value))
    assert place.rpartition('.')[2] in line
    inner = [*value.values(), *value] if isinstance(value, dict) else value if isinstance(value, list) else []
    inner = [*inner, *(v for i in inner if isinstance(i, dict) for v in (*i.values(), *i))]
    inner = [*inner, *(v for i in inner if isinstance(i, dict) for v in i.values())]
    assert any(repr(v) in line for v in (value, *inner)), line


@pytest.mark.parametrize('name', ['=1+1', '=HYPERLINK("http://x")', '+1', '-1', '@SUM(A1)', '\t=1', 'a\nb', 'a\rb',
                                  'esc\x1b[31m', '', ' ', 5, None, True, 1.5])
@pytest.mark.parametrize('section', ['methods', 'datasets', 'published.two'])
def test_names_that_a_spreadsheet_would_run(refused, section, name):
    options = copy.deepcopy(BENCHMARK)
    place = options
    for part in section.split('.'):
        place = place[part]
    place[name] = next(iter(place.values()))
    line = refused(options)
    assert section in line and repr(name) in line and 'spreadsheet' in line


@pytest.mark.parametrize('name', ['../x', 'a/b', '..'])
def test_names_of_data_sets_that_write_elsewhere(refused, name):
    line = refused(renamed(copy.deepcopy(BENCHMARK), 'datasets.two', name))
    assert f"datasets: '{name}'; expected text that can name a file" in line


@pytest.mark.parametrize(('place', 'name'), [
    ('methods', 'method'), ('datasets', 'dataset'), ('scales', 'scale'), ('lossy', 'losy'), ('cycles.counts', 'count'),
    ('cost.hr_size', 'size'), ('lossy.qualities', 'quality'), ('methods.ours.weights', 'weight'),
    ('methods.own.paths', 'pths'), ('datasets.two.mod_crop', 'modcrop'), ('datasets.two.dataroot_gt', 'dataroot'),
    ('methods.ours.type', 'typ'), ('threads', 'thread'), ('published', 'publish'), ('device', 'devise'),
])
def test_misspelt_key(refused, place, name):
    line = refused(renamed(copy.deepcopy(BENCHMARK), place, name))
    assert place.rpartition('.')[2] in line and (name in line or 'type: None' in line)


@pytest.mark.parametrize('place', ['name', 'datasets', 'scales', 'methods', 'cost.scales', 'cost.hr_size',
                                   'cycles.counts', 'lossy.formats', 'lossy.qualities', 'datasets.two.dataroot_gt',
                                   'methods.EDSR.nets'])
@pytest.mark.parametrize('how', ['left out', 'empty'])
def test_missing_option(refused, place, how):
    assert place.rpartition('.')[2] in refused(changed(BENCHMARK, place, MISSING if how == 'left out' else None))


@pytest.mark.parametrize(('place', 'value', 'words'), [
    ('methods.coded', {'type': 'payload'}, "methods.coded: option 'bits' is missing; expected a number from 0 to 3"),
    ('methods.coded', {'type': 'payload', 'bits': None}, 'methods.coded.bits: None; expected a number from 0 to 3'),
    ('bytes', {}, 'bytes.scales is missing'),
    ('bytes', {'scales': [2], 'methods': ['our']}, "bytes.methods: 'our' is not among ours"),
    ('bytes', {'scales': []}, 'bytes.scales'),
])
def test_coded_detail_without_what_it_needs(refused, place, value, words):
    assert words in refused(changed(BENCHMARK, place, value))


@pytest.mark.parametrize(('text', 'words'), [
    (b'\xff\xfe', 'utf-8'), (b'a: &a [*a]', 'without end'), (b'[' * 5000, 'YAML'), (b'a: [1\nb: }', 'not valid YAML'),
    (b'- a', 'is not an option file'), (b'', 'is not an option file'),
    (b'a: !!python/object/apply:os.system [x]', 'os.system'),
    (b'methods: &m {m: *m}', 'YAML'), (b'? {a: 1}\n: 2', 'YAML'), (b'a: 0x' + b'f' * 5000, "unknown option 'a'"),
])
def test_files_that_are_no_option_files(refused, tmp_path, text, words):
    (tmp_path / 'options.yml').write_bytes(text)
    assert words in refused(None)


@pytest.mark.parametrize(('place', 'value'), [
    ('cost', None), ('device', None), ('threads', MISSING), ('published', MISSING), ('methods.EDSR.nets', [
        {'scale': 4, 'path': 'x.pth'}]), ('cycles.counts', [1]), ('lossy.qualities', [1, 100]),
    ('lossy.formats', ['jpeg', 'jpeg444', 'webp', 'avif']),
    ('scales', ['x1.5x3', 2.5]),
    ('bytes', None), ('bytes', {'scales': [2, 'x1.5x3'], 'dataset': 'two', 'methods': ['ours']}),
    ('methods.own', {'type': 'payload', 'bits': 0}), ('methods.own', {'type': 'payload', 'bits': 2.5, 'effort': 0}),
    ('methods.own', {'type': 'payload', 'bits': 3, 'weights': 'iarn_light_x1-4', 'effort': 10000}),
    ('methods.own', {'type': 'spandrel', 'path': 'x.pth'}), ('methods.least squares (λ=0)', {'type': 'least_squares'}),
])
def test_accepted(place, value):
    check_benchmark(changed(BENCHMARK, place, value))


def test_a_later_method_is_checked_before_an_earlier_one_is_measured(refused):
    assert "methods.last: unknown option 'weihgts'" in refused(
        changed(BENCHMARK, 'methods.last', {'type': 'IARN', 'weihgts': 'x'}))


def test_images_that_a_spreadsheet_would_run(tmp_path, image_folder, monkeypatch):
    """Names of files cannot be refused: in the table they begin with an apostrophe, as spreadsheets mark text."""
    folder = image_folder('hr', [(48, 36)])
    (folder / 'image0.png').rename(folder / '=1+1.png')
    options = {'name': 'x', 'threads': 1, 'datasets': {'two': {'dataroot_gt': 'hr'}}, 'scales': [2],
               'methods': {'bicubic': {'type': 'bicubic'}}}
    monkeypatch.chdir(tmp_path)
    assert main(['-opt', str(write_yaml(options, tmp_path / 'o.yml'))]) == 0
    with open(tmp_path / 'results' / 'x' / 'benchmark.csv', encoding='utf-8', newline='') as file:
        assert {row['image'] for row in csv.DictReader(file)} == {"'=1+1.png"}


def test_options_are_not_changed():
    before = copy.deepcopy(BENCHMARK)
    check_benchmark(BENCHMARK)
    assert before == BENCHMARK
    with pytest.raises(OptionError, match='expected a mapping with bytes, cost, cycles'):
        check_benchmark([])
