"""Weights of others: fetched from a file of this test, and checked."""

from __future__ import annotations

import hashlib
import re

import pytest
import torch
from helpers import ROOT


@pytest.fixture
def fetch(script, tmp_path, monkeypatch, capsys):
    """Fetches NET, one file, from origin.pth: (exit code, its line). ``digest``: in its name, or published if whole."""
    module = script('bench/fetch_weights')
    monkeypatch.chdir(tmp_path)
    torch.save({'params': {'a': torch.arange(5000.)}}, 'origin.pth')
    right = hashlib.sha256((tmp_path / 'origin.pth').read_bytes()).hexdigest()[:8]

    def run(digest=right, url=None):
        whole = len(digest) == 64
        name = 'net.pth' if whole else f'net-{digest}.pth'
        source = module.Source(url or (tmp_path / 'origin.pth').as_uri(), digest if whole else '')
        module.FILES = {'NET': {f'NET/{name}': source}}
        code = module.main(['NET', '-o', 'models'])
        line, = capsys.readouterr().out.splitlines()
        return code, line

    return run


def test_a_file_is_fetched_once_and_checked_again(fetch, tmp_path):
    code, line = fetch()
    assert (code, line.rsplit(': ')[1]) == (0, 'ok')
    path, = (tmp_path / 'models/NET').iterdir()
    assert path.read_bytes() == (tmp_path / 'origin.pth').read_bytes()
    (tmp_path / 'origin.pth').unlink()
    assert fetch()[0] == 0
    path.write_bytes(path.read_bytes() + b'x')  # damaged since
    code, line = fetch()
    assert code == 1
    assert re.search('its SHA-256 begins [0-9a-f]{8}, expected [0-9a-f]{8}; remove it and run this again', line)


@pytest.mark.parametrize(('digest', 'content', 'message'), [
    ('00000000', b'<html>quota</html>', 'its SHA-256 begins [0-9a-f]{8}, expected 00000000'),
    ('', b'<html>quota</html>', 'is not a PyTorch weight file'),
    ('', None, 'is not a PyTorch weight file'),  # it broke off
    (hashlib.sha256(b'other').hexdigest(), None, 'its SHA-256 begins [0-9a-f]{8}, expected d9298a10')])
def test_a_wrong_file_leaves_nothing_behind(fetch, tmp_path, digest, content, message):
    origin = tmp_path / 'origin.pth'
    origin.write_bytes(content or origin.read_bytes()[:9000])
    code, line = fetch(digest)
    assert code == 1 and re.search(rf'as fetched from file:\S+/origin\.pth: .*{message}', line)
    assert [p for p in tmp_path.rglob('*') if p.is_file()] == [origin]


def test_without_a_network_one_line_says_what_to_do(fetch, tmp_path):
    code, line = fetch(url='http://127.0.0.1:9/w.pth')  # the discard port: nobody listens
    assert code == 1
    assert re.fullmatch(r'(models/NET/net-\w+\.pth): cannot be fetched \(URLError: .*\); fetch '
                        r'http://127\.0\.0\.1:9/w\.pth on a machine with a network and save it as \1', line)
    assert not list((tmp_path / 'models').rglob('*.pth*'))


def test_a_page_where_a_person_has_to_fetch_it(script, tmp_path, monkeypatch, capsys):
    module = script('bench/fetch_weights')
    monkeypatch.chdir(tmp_path)
    module.FILES = {'NET': {'NET/other.pth': module.Source('https://example.org/page', page=True)}}
    assert module.main([]) == 1
    path = 'experiments/pretrained_models/NET/other.pth'
    assert capsys.readouterr().out == (f'{path}: has no direct address; fetch it from where https://example.org/page '
                                       f'links it and save it as {path}\n')


def test_real_addresses(script, capsys):
    """What the benchmark reads is fetched to where it looks."""
    module = script('bench/fetch_weights')
    assert module.main(['--list']) == 0
    lines = [line.split('\t') for line in capsys.readouterr().out.splitlines()]
    assert all(re.fullmatch(r'https://\S+', address) for _, _, address in lines)
    benchmark = (ROOT / 'options/benchmark.yml').read_text()
    assert {name for name, path, _ in lines if path not in benchmark} == {*module.ELSEWHERE}
    assert all(len(source.sha256) in (0, 64) for files in module.FILES.values() for source in files.values())
    with pytest.raises(SystemExit):
        module.main(['EDSR'])
    assert "unknown network 'EDSR': choose from EDSR-M" in capsys.readouterr().err
