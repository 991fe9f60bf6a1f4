"""The one schema: what it says of values, the JSON schema and the tables made from it."""

import json
import os
from pathlib import Path

import msgspec
import pytest
from hostile.option_files import good
from msgspec import inspect

from iarn_basicsr.config import schema
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.config.schema import (
    EvalDatasetOptions,
    Options,
    Scale,
    TrainDatasetOptions,
    TrainOptions,
    check,
    json_schema,
    tables,
)
from iarn_basicsr.config.sections import words
from iarn_basicsr.errors import OptionError

PACKAGE = Path(schema.__file__).parent
PAGE = Path(__file__).resolve().parents[2] / 'options' / 'README.md'
SECTIONS = [c for c in vars(schema).values()
            if isinstance(c, type) and issubclass(c, msgspec.Struct) and c is not Options]
DATA = {'name': 'd', 'dataroot_gt': 'hr', 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 4}
EVAL = {'name': 'd', 'dataroot_gt': 'hr', 'scales': [2]}


def numbers(kind):
    """All types of numbers in a type."""
    inner = [getattr(kind, name, None) for name in ('type', 'item_type', 'value_type')]
    own = [kind] if isinstance(kind, (inspect.IntType, inspect.FloatType)) else []
    return [*own, *(n for t in [*inner, *getattr(kind, 'types', ())] if t for n in numbers(t))]


@pytest.mark.parametrize('section', SECTIONS, ids=lambda s: s.__name__)
def test_every_number_has_two_ends_and_every_key_a_meaning(section):
    """Without an upper end, infinity and integers of a thousand digits would pass."""
    for field in inspect.type_info(section).fields:
        for number in numbers(field.type):
            assert number.ge is not None or number.gt is not None, field.name
            assert number.le is not None or number.lt is not None, field.name
        if section.__struct_config__.forbid_unknown_fields:
            assert 'description' in field.type.extra_json_schema, field.name


@pytest.mark.parametrize('section', SECTIONS, ids=lambda s: s.__name__)
def test_every_key_refuses_what_it_is_not(section):
    """Bytes, and a list without end, are no value of any key; the message names the key."""
    endless = []
    endless.append(endless)
    for field in msgspec.structs.fields(section):
        for value, shown in ((b'x', "b'x'"), (endless, r'\[\[...\]\]')) if words(field.type) != 'anything' else ():
            with pytest.raises(OptionError, match=rf'here\.{field.name}: {shown}; expected'):
                check('here', section, {field.name: value})


def test_values():
    options = check('d', TrainDatasetOptions, {**DATA, 'batch_size_per_gpu': 4.0, 'dataroot_gt': '~/hr',
                                               'common_scales': {'scales': [2, '1.5x3', [2, 2.5]]}, 'seed': 5e3})
    assert options.batch_size_per_gpu == 4 and isinstance(options.batch_size_per_gpu, int) and options.seed == 5000
    assert options.common_scales.scales == [(2.0, 2.0), (1.5, 3.0), (2.0, 2.5)]
    assert isinstance(options.common_scales.scales[0], Scale)
    assert options.gt_size == 144 and options.scale_range == [1.0, 4.0] and options.dataroot_gt == os.path.expanduser(
        '~/hr')
    assert check('d', TrainDatasetOptions, {**DATA, 'lq_size': 8, 'scale': 2}).scale_range == [2.0, 2.0]
    stored = check('d', EvalDatasetOptions, {**EVAL, 'dataroot_lq': 'lr/{scale}_{factor}', 'scales': [2, [1.5, 3]]})
    assert stored.lq_roots() == {'x2': 'lr/x2_2', 'x1.5x3': 'lr/x1.5x3_1.5x3'}


TRAINING_DATA = [
    ({'dataroot_gt': None}, 'dataroot_gt is missing: training needs'),
    ({'curriculum': {'holt': 1}}, "unknown option 'holt'; did you mean 'hold'"),
    ({'lq_size': 8, 'gt_size': 16}, 'lq_size takes the place of gt_size .*: leave out gt_size'),
    ({'lq_size': 8, 'dataroot_lq': 'lr', 'scales': [2]}, 'leave out lq_size or dataroot_lq'),
    ({'scales': [2]}, 'scales serves dataroot_lq; for LR made on the fly give scale_range'),
    ({'scale_range': [4, 1.5]}, r'scale_range: \[4, 1.5\]; expected \[low, high\] with low <= high'),
    ({'common_scales': {'scales': [2, 5]}}, 'common_scales.scales: x5 lies outside of scale_range, x1 to x4'),
    ({'curriculum': {'start': 9}}, 'curriculum.start: 9 lies outside of scale_range'),
    ({'shrink': {'range': [2, 1]}}, r'range: \[2, 1\]; expected \[low, high\]'),
    ({'noise': {'range': [2, 1]}}, r'range: \[2, 1\]; expected \[low, high\]'),
    ({'dataroot_lq': 'lr'}, 'dataroot_lq needs scales'),
    ({'dataroot_lq': 'lr', 'scales': [2, 3]}, "dataroot_lq: 'lr' serves 2 scales: put {scale}"),
    ({'dataroot_lq': 'lr/{sacle}', 'scales': [2]}, "'lr/{sacle}': in braces only {scale} and {factor}"),
    ({'filename_tmpl': '{name}'}, "'{name}': in braces only {}, {scale} and {factor}"),
    ({'persistent_workers': True}, 'persistent_workers: true needs num_worker_per_gpu >= 1'),
    ({'persistent_workers': True, 'num_worker_per_gpu': 1, 'prefetch_mode': 'cpu'}, 'and not prefetch_mode: cpu'),
    ({'prefetch_mode': 'cuda'}, 'prefetch_mode: cuda needs pin_memory: true'),
    *(({'dataroot_lq': 'lr', 'scales': [2], key: value}, f'{key} needs LR made on the fly: leave out {key}')
      for key, value in (('common_scales', {'scales': [2]}), ('asymmetric_prob', 0.5), ('curriculum', {'start': 2}),
                         ('shrink', {'prob': 1}), ('noise', {'prob': 1}), ('scale_range', [1, 4]))),
]
OTHER_DATA = [
    ({'dataroot_gt': None}, 'neither dataroot_gt nor dataroot_lq'), ({'scales': None}, 'scales is missing'),
    ({'use_hflip': True}, "unknown option 'use_hflip'"),
    *(({'scales': [scale]}, 'expected a list of one or more scales') for scale in (True, 0.5, [1, 2, 3])),
]
TRAINING = [
    ({'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [2]}}, 'expected a sum >= total_iter'),
    ({'pixel_opt': {'type': 'L1Loss', 'reduction': 'sum'}, 'grad_accumulation': 2}, "pixel_opt.reduction: 'sum'"),
    ({'guide_opt': {'type': 'L1Loss', 'reduction': 'sum'}, 'cuda_graph': True}, "guide_opt.reduction: 'sum'"),
    ({'jpeg': {'quality': [95, 60]}}, r'quality: \[95, 60\]; expected \[low, high\]'),
]


@pytest.mark.parametrize(('kind', 'whole', 'options', 'message'), [
    *((TrainDatasetOptions, DATA, *case) for case in TRAINING_DATA),
    *((EvalDatasetOptions, EVAL, *case) for case in OTHER_DATA),
    *((TrainOptions, good()['train'], *case) for case in TRAINING)])
def test_options_that_do_not_go_together(kind, whole, options, message):
    with pytest.raises(OptionError, match=rf'^here[.:].*{message}'):
        check('here', kind, {**whole, **options})


def test_json_schema_file():
    file, made = PACKAGE / 'option_file.schema.json', json.dumps(json_schema(), indent=1) + '\n'
    if os.environ.get('GENERATE_EXPECTED') == '1':
        file.write_text(made, encoding='utf-8')
    assert file.read_text(encoding='utf-8') == made


def test_tables_of_the_page():
    page = PAGE.read_text(encoding='utf-8')
    for table in tables().split('\n\n'):
        title, end = table.partition('\n')[0], '<!-- end -->'
        before, _, rest = page.partition(title)
        if os.environ.get('GENERATE_EXPECTED') == '1':
            page = before + table + rest.partition(end)[2]
            PAGE.write_text(page, encoding='utf-8')
        assert table in page, f'{title}: GENERATE_EXPECTED=1 writes it'


def test_json_schema_of_option_files():
    """Every option file fits; a misspelt key, a wrong value, and nothing else in another model's file, does not."""
    jsonschema = pytest.importorskip('jsonschema')
    validator = jsonschema.Draft202012Validator(json_schema())
    for path in PAGE.parent.rglob('*.yml'):
        if not path.name.startswith('benchmark'):
            assert not [*validator.iter_errors(read_option_file(str(path)))], path
    for place in ('network_g', 'train', 'val', 'path', 'logger'):
        wrong = good()
        wrong[place]['widht'] = 1
        assert [*validator.iter_errors(wrong)], place
        assert not [*validator.iter_errors({**wrong, 'model_type': 'SRModel', 'network_g': {'type': 'EDSR', 'x': 1},
                                            'logger': {}})]
