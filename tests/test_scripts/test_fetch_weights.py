"""Weights of others: fetched from a server of this test, which breaks off as servers do, and checked."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


class Server(ThreadingHTTPServer):
    """Serves ``content``, whatever the path.

    Attributes:
        limit: bytes after which a connection is closed.
        length: whether it says how many bytes there are.
        asked: how often.
    """

    content = b''
    limit: int | None = None
    length = True
    asked = 0

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200)
        if self.server.length:
            self.send_header('Content-Length', str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[:self.server.limit])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv('no_proxy', '*')
    with Server() as served:
        buffer = io.BytesIO()
        torch.save({'params': {'a': torch.arange(5000.)}}, buffer)
        served.content = buffer.getvalue()
        thread = Thread(target=served.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture
def fetch(script: Callable[[str], ModuleType], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
          capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Fetches NET, one file: (exit code, its line). ``digest``: of the name; none is published if it is empty."""
    module = script('bench/fetch_weights')
    monkeypatch.chdir(tmp_path)

    def run(digest: str | None = None) -> tuple[int, str]:
        digest = hashlib.sha256(server.content).hexdigest()[:8] if digest is None else digest
        url = f'http://127.0.0.1:{server.server_port}/w.pth'
        full = len(digest) > 8
        module.FILES = {'NET': {'NET/net.pth' if full else f'NET/net-{digest}.pth': module.Source(url, full * digest)}}
        code = module.main(['NET', '-o', 'models'])
        line, = capsys.readouterr().out.splitlines()
        return code, line

    return run


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob('*') if p.is_file())


def test_a_file_is_fetched_once_and_checked_again(fetch, server, tmp_path):
    server.length = False
    code, line = fetch()
    assert (code, line.rsplit(': ')[1]) == (0, 'ok')
    path, = (tmp_path / 'models/NET').iterdir()
    assert path.read_bytes() == server.content
    assert fetch()[0] == 0
    assert server.asked == 1
    path.write_bytes(server.content + b'x')  # damaged since
    code, line = fetch()
    assert code == 1
    assert re.search('its SHA-256 begins [0-9a-f]{8}, expected [0-9a-f]{8}; remove it and run this again', line)


def test_a_download_that_broke_off_starts_again(fetch, server, tmp_path):
    server.limit = 9000
    code, line = fetch()
    assert code == 1 and f'IncompleteRead(0 bytes read, {len(server.content) - 9000} more expected)' in line
    assert files(tmp_path) == []
    server.limit = None
    assert fetch()[0] == 0


@pytest.mark.parametrize(('digest', 'message'), [
    ('00000000', 'its SHA-256 begins [0-9a-f]{8}, expected 00000000'), ('', 'is not a PyTorch weight file'),
    (hashlib.sha256(b'other').hexdigest(), 'its SHA-256 begins [0-9a-f]{8}, expected d9298a10')])
def test_a_wrong_file_leaves_nothing_behind(fetch, server, tmp_path, digest, message):
    server.content = b'<html>quota</html>'
    code, line = fetch(digest)
    assert code == 1
    assert re.search(rf'as fetched from http://127\.0\.0\.1:\d+/w\.pth: .*{message}', line)
    assert files(tmp_path) == []


def test_without_a_network_one_line_says_what_to_do(fetch, server, tmp_path):
    server.server_port = 9  # the discard port: nobody listens
    code, line = fetch()
    assert code == 1 and server.asked == 0
    assert re.fullmatch(r'(models/NET/net-\w+\.pth): cannot be fetched \(URLError: .*\); fetch '
                        r'http://127\.0\.0\.1:9/w\.pth on a machine with a network and save it as \1', line)
    assert files(tmp_path) == []


def test_a_page_where_a_person_has_to_fetch_it(script, tmp_path, monkeypatch, capsys):
    module = script('bench/fetch_weights')
    monkeypatch.chdir(tmp_path)
    module.FILES = {'NET': {'NET/other.pth': module.Source('https://example.org/page', page=True)}}
    assert module.main([]) == 1
    shown = capsys.readouterr()
    assert shown.out == ('experiments/pretrained_models/NET/other.pth: has no direct address; fetch it from where '
                         'https://example.org/page links it and save it as '
                         'experiments/pretrained_models/NET/other.pth\n')
    assert '1 files are not there; each line above says what to do' in shown.err


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
