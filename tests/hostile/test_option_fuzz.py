"""Option files changed at random: they are accepted, or refused with one line; nothing else comes out."""

import copy
import random

import pytest
import yaml
from hostile.option_files import BENCHMARK, FOREIGN, good
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iarn_basicsr.benchmark.run import check_benchmark
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.errors import OptionError
from iarn_basicsr.pipeline.check import check_file

WORDS = st.sampled_from(['', 'abc', 'IARN', 'train', 'mean', 'auto', '2.5', 'x1.5x3', '{scale}', '{', '../x', 'a\nb',
                         '\x1b[31m', '\ud800', '~', 'null', 'none', '=1+1', 'Adam', 'L1Loss', 'type', 'name'])
PLAIN = st.none() | st.booleans() | st.integers(-3, 9) | st.integers() | st.floats() | WORDS | st.text(max_size=9) | \
    st.sampled_from([10**400, -10**400, 2**63, 1e308, 5e-324]) | st.binary(max_size=3) | st.dates()
KEYS = WORDS | st.integers(-1, 3) | st.none() | st.booleans() | st.floats(0, 1)
VALUES = st.recursive(PLAIN, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3), max_leaves=5)


CHECKS = {
    'train': (good('train'), lambda o: check_file(o, True)),
    'test': (good('test'), lambda o: check_file(o, False)),
    'SRModel': (FOREIGN, lambda o: check_file(o, True)),
    'benchmark': (BENCHMARK, check_benchmark),
}


def containers(value):
    """All mappings and lists that hold something."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*([value] if inner else []), *(c for v in inner for c in containers(v))]


def mutate(options, draw, rng):
    """Replace a value, take out or rename a key, or add one."""
    place = rng.choice(containers(options))
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    key, how = rng.choice(keys), rng.choice(['replace', 'replace', 'replace', 'delete', 'rename', 'add'])
    if how == 'delete':
        del place[key]
    elif how == 'replace' or isinstance(place, list):
        place[key] = draw(VALUES)
    elif how == 'rename':
        place[draw(KEYS)] = place.pop(key)
    else:
        place[draw(KEYS)] = draw(VALUES)


def accepted(check, options):
    """Whether the options are accepted; a refusal is one printable line."""
    try:
        check(options)
    except OptionError as error:
        line = str(error)
        assert line and '\n' not in line and line.isprintable()
        return False
    return True


@pytest.mark.parametrize('which', CHECKS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), seed=st.integers(0, 2**32), changes=st.integers(1, 3))
def test_changed_values(which, data, seed, changes):
    options, check = copy.deepcopy(CHECKS[which][0]), CHECKS[which][1]
    rng = random.Random(seed)
    for _ in range(changes):
        if containers(options):
            mutate(options, data.draw, rng)
    accepted(check, options)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(start=st.floats(0, 1), length=st.integers(0, 12), text=st.binary(max_size=8) | st.sampled_from(
    b': |\n  |- |&a |*a|!!set|!!int x|!!python/name:os.system|<<: |? |{|"'.split(b'|')))
def test_changed_text(tmp_path, start, length, text):
    """A piece of the file replaced by other bytes."""
    content = yaml.safe_dump(good(), sort_keys=False).encode()
    at = int(start * len(content))
    file = tmp_path / 'options.yml'
    file.write_bytes(content[:at] + text + content[at + length:])
    accepted(lambda path: check_file(read_option_file(path), True), str(file))
