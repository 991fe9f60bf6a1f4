"""How an option file is read: based on another, safe whatever it holds, numbers as numbers, errors of one line."""

import pytest

from iarn_basicsr.config import option_file
from iarn_basicsr.config.option_file import read_option_file
from iarn_basicsr.errors import OptionError

BASE = """
name: base
train: {lr: 1e-3, luma_opt: {type: L1Loss, loss_weight: 1.0}, betas: [0.9, 0.99]}
datasets:
  train: {gt_size: 64, seed: 0}
path: {resume_state: ~}
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Writes files into the current folder, reads the last: read(base=text, own=text)."""
    monkeypatch.chdir(tmp_path)

    def write_and_read(**texts):
        for name, text in texts.items():
            (tmp_path / f'{name}.yml').write_text(text, encoding='utf-8')
        return read_option_file(f'{list(texts)[-1]}.yml')

    return write_and_read


def bomb(twice):
    """Lines that stand for 2**98 values: each is the one before twice."""
    return 'a0: &a0 {x: 1}\n' + '\n'.join(f'a{n}: &a{n} {twice.format(f"a{n - 1}")}' for n in range(1, 99))


@pytest.mark.parametrize(('texts', 'said'), [
    ({'own': 'based_on: bsae.yml'}, "own.yml, based_on: 'bsae.yml' does not exist"),
    ({'own': 'based_on: [base.yml]'}, 'own.yml, based_on: '), ({'own': 'based_on: .'}, 'is a folder'),
    ({'own': 'based_on: own.yml'}, 'is based on this file itself'),
    ({'first': 'based_on: third.yml', 'second': 'based_on: first.yml', 'third': 'based_on: ./second.yml'},
     'is based on this file itself'),
    *(({'hostile': text, 'own': 'based_on: hostile.yml'}, "'hostile.yml' is not valid YAML") for text in (
        'name: !!python/object/apply:os.system ["touch pwned"]', "name: !!python/name:os.system ''",
        "name: !!python/name:iarn_basicsr_other.thing ''", '? !!python/object/apply:os.system ["touch pwned"]\n: 1')),
    ({'own': ''}, 'is not an option file'), ({'own': '- a'}, 'is not an option file'),
    ({'own': '#' * 1000001}, 'it has more than 1000000 bytes'),
    *(({'own': bomb(twice)}, 'more than 100000 values') for twice in ('[*{0}, *{0}]', '{{<<: [*{0}, *{0}]}}')),
    *(({'own': text}, "-opt: 'own.yml' is not valid YAML: ") for text in (
        'a: [1', 'a: 1\n---\nb: 2', 'a: !!int abc', 'a: 2026-13-45', 'a: !!bool abc', 'a: ' + '[' * 2000)),
], ids=lambda v: str(v)[:40])
def test_refused_with_one_line(read, tmp_path, texts, said):
    with pytest.raises(OptionError) as caught:
        read(**texts)
    assert said in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'pwned').exists()


def test_based_on_overrides_key_by_key(read):
    opt = read(base=BASE, own='based_on: base.yml\nname: own\n'
               'train: {lr: 5e-4, luma_opt: {loss_weight: 2}, betas: [0.5, 0.9]}\ndatasets: {val: {scales: [2]}}\n')
    assert opt == {
        'name': 'own',
        'train': {'lr': 5e-4, 'luma_opt': {'type': 'L1Loss', 'loss_weight': 2}, 'betas': [0.5, 0.9]},
        'datasets': {'train': {'gt_size': 64, 'seed': 0}, 'val': {'scales': [2]}},
        'path': {'resume_state': None},
    }


def test_based_on_chain_and_folders(read, tmp_path):
    """Each base is relative to the file that names it; what the second left out may come back in the third."""
    (tmp_path / 'sub').mkdir()
    opt = read(base=BASE, **{'sub/second': 'based_on: ../base.yml\nname: second\ndatasets: ~\n'
                                           'train: {luma_opt: ~, lr: 2e-4, amp: ~}\npath: {resume_state: a.state}\n',
                             'third': 'based_on: sub/second.yml\ntrain: {luma_opt: {type: MSELoss}}\n'})
    assert opt == {'name': 'second', 'path': {'resume_state': 'a.state'}, 'train': {
        'lr': 2e-4, 'betas': [0.9, 0.99], 'amp': None, 'luma_opt': {'type': 'MSELoss'}}}


def test_numbers_as_people_write_them_and_the_plugin_as_text(read):
    opt = read(own='a: 1e-4\nb: !!float 1e-4\nc: [5e3, x1e3]\nd: {e: -1.5E+2}\nname: IARN_4k5\n'
               "plugin: !!python/name:iarn_basicsr.nothing.here ''\n")
    assert opt == {'a': 1e-4, 'b': 1e-4, 'c': [5000.0, 'x1e3'], 'd': {'e': -150.0}, 'name': 'IARN_4k5',
                   'plugin': 'iarn_basicsr.nothing.here'}


def test_encodings(read, tmp_path):
    """UTF-8 with or without a byte-order mark, whatever the locale; any other is one line."""
    for content in ('name: Übung'.encode('utf-16'), b'name: \xff'):
        (tmp_path / 'own.yml').write_bytes(content)
        with pytest.raises(OptionError, match="'own.yml' is not text in UTF-8$"):
            read_option_file('own.yml')
    (tmp_path / 'own.yml').write_bytes('\ufeffname: Übung'.encode())
    assert read_option_file('own.yml') == {'name': 'Übung'}


def test_values_of_the_command_line():
    """``null`` leaves an option out; nothing is executed."""
    opt = {'a': {'b': 1, 'c': 2}}
    for entry in ('a:b=null', 'a:new=~'):
        option_file.override(opt, entry)
    assert opt == {'a': {'c': 2}}
    with pytest.raises(OptionError, match=r'^--force_yml .*: the value is not valid YAML: [^\n]*$'):
        option_file.override(opt, 'a:b=!!python/object/apply:os.system ["true"]')


def test_copy_beside_the_results_can_be_read(read, tmp_path, monkeypatch):
    """Of a file that is based on another, what both say; of one that stands alone, its own text with comments."""
    both = read(base='name: Übung  # a comment\ntrain: {lr: 1e-3, seed: 0}\n',
                own='based_on: base.yml\ntrain: {seed: 1}\n')
    (tmp_path / 'run').mkdir()
    monkeypatch.setattr('sys.argv', ['iarn-train', '-opt', 'a\nb\udcff'])
    monkeypatch.setattr('locale.getpreferredencoding', lambda *_: 'ascii')
    for name in ('own', 'base'):
        option_file.copy_option_file(f'{name}.yml', 'run')
    (tmp_path / 'base.yml').unlink()
    assert read_option_file('run/own.yml') == both == {'name': 'Übung', 'train': {'lr': 1e-3, 'seed': 1}}
    assert '# a comment' in (tmp_path / 'run' / 'base.yml').read_text(encoding='utf-8')
