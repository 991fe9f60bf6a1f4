"""What the README files tell people to type: commands parse, one of each kind runs, and the Python works."""

import re
import shlex
import shutil

import click
import cv2
import pytest
from helpers import ROOT, make_image, run_python

from iarn_basicsr.config.benchmark_schema import check_benchmark
from iarn_basicsr.config.option_file import override, read_option_file
from iarn_basicsr.inference.cli.commands import iarn
from iarn_basicsr.inference.rescaler import Rescaler
from iarn_basicsr.pipeline.check import check_file
from iarn_basicsr.pipeline.options import parse_arguments

READMES = [ROOT / 'README.md', *sorted(p for folder in ('iarn_basicsr', 'options', 'scripts')
                                       for p in (ROOT / folder).rglob('README.md'))]
TEXTS = {p.relative_to(ROOT).as_posix(): p.read_text(encoding='utf-8') for p in READMES}
BLOCKS = [(name, kind, code) for name, text in TEXTS.items()
          for kind, code in re.findall(r'```(bash|python)\n(.*?)```', text, re.S)]
COMMANDS = [f'{name}: {line.split("#")[0].strip()}' for name, kind, code in BLOCKS if kind == 'bash'
            for line in code.splitlines() if line.split('#')[0].strip()]
# make runs these tests itself; BasicSR's own commands and the scripts have tests of their own
PARSED = [c for c in COMMANDS if re.search(r': (iarn|iarn-\w+|torchrun|python -m iarn_basicsr\.\w+) ', c)]
SMALL = ['datasets:train:dataroot_gt=hr', 'datasets:train:io_backend:type=disk', 'datasets:train:gt_size=16',
         'datasets:train:lq_size=null', 'datasets:train:num_worker_per_gpu=0', 'datasets:train:batch_size_per_gpu=1',
         'datasets:train:persistent_workers=false', 'train:total_iter=1', 'num_gpu=0', 'datasets:val:dataroot_gt=hr',
         'datasets:val:scales=[2]']


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with the repository's options and small images where the data would be."""
    folder = tmp_path_factory.mktemp('readme')
    shutil.copytree(ROOT / 'options', folder / 'options')
    (folder / 'hr').mkdir()
    cv2.imwrite(str(folder / 'hr' / 'image.png'), make_image(48, 36, seed=1))
    cv2.imwrite(str(folder / 'photo.jpg'), make_image(60, 72, seed=2))
    return folder


@pytest.mark.parametrize('command', PARSED)
def test_command_parses(place, monkeypatch, command):
    """By the parser of the program; its option file is there, and right with what the command line changes."""
    program, *arguments = shlex.split(command.split(': ', 1)[1])
    monkeypatch.chdir(place)
    if '-m' in arguments:
        program = arguments[arguments.index('-m') + 1].replace('iarn_basicsr.', 'iarn-')
        arguments = arguments[arguments.index('-m') + 2:]
    if program == 'iarn':
        with click.Context(iarn) as context:
            name, found, rest = iarn.resolve_command(context, arguments)
            found.make_context(name, rest, parent=context)
    elif program == 'iarn-benchmark':
        check_benchmark(read_option_file(arguments[arguments.index('-opt') + 1]))
    else:
        monkeypatch.setattr('sys.argv', [program, *arguments])
        args = parse_arguments(program == 'iarn-train')
        options = read_option_file(args.opt)
        for entry in args.force_yml:
            override(options, entry)
        check_file(options, program == 'iarn-train')


@pytest.mark.slow
def test_one_command_of_each_kind_runs(place):
    """The first one of README.md: a picture, training, a test of what was trained, two processes."""
    for program, module in (('iarn', 'iarn_basicsr.inference.cli'), ('iarn-train', 'iarn_basicsr.train'),
                            ('iarn-test', 'iarn_basicsr.test'), ('torchrun', 'torch.distributed.run')):
        command = next(c for c in PARSED if c.startswith(f'README.md: {program} '))
        words = ['-m', module, *shlex.split(command)[2:]]
        if program != 'iarn':
            words += ['--force_yml', *(SMALL[-3:] if program == 'iarn-test' else SMALL)]
        done = run_python(*words, cwd=place)
        assert done.returncode == 0, (command, done.stderr[-2000:])


@pytest.mark.parametrize('code', [code for _, kind, code in BLOCKS if kind == 'python'])
def test_python_runs(tmp_path, monkeypatch, code):
    """And what it makes has the size that it should have."""
    monkeypatch.chdir(tmp_path)
    found = {'image': make_image(60, 72, seed=2), 'top': 20, 'left': 30, 'height': 8, 'width': 9}
    cv2.imwrite('photo.jpg', found['image'])
    Rescaler.load().downscale_file('photo.jpg', 'small.png', scale=2)
    exec(code, found)
    for name, shape in (('small', (40, 24, 3)), ('lr', (1, 3, 120, 181)), ('part', (8, 9, 3))):
        assert getattr(found.get(name), 'shape', shape) == shape
    if 'restored' in found:
        assert found['restored'].shape == found.get('hr', found['image']).shape


@pytest.mark.parametrize('name', TEXTS)
def test_every_file_and_heading_named_exists(name):
    text, folder = TEXTS[name], (ROOT / name).parent
    for file in re.findall(r'(?<![\w/])(?:options|scripts|\.github)/[\w./-]+\.(?:yml|py|png|json|md)', text):
        assert (ROOT / file).exists(), file
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if target.startswith('http'):
            continue
        path, _, heading = target.partition('#')
        file = (folder / path).resolve() if path else ROOT / name
        assert file.exists(), target
        if heading:
            titles = re.findall(r'^#+ (.+)$', file.read_text(encoding='utf-8'), re.M)
            assert heading in {re.sub(r'[^\w -]', '', t.lower()).replace(' ', '-') for t in titles}, target


def test_makefile_has_the_targets():
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for target in re.findall(r'^make (\w+)', '\n'.join(code for _, kind, code in BLOCKS if kind == 'bash'), re.M):
        assert f'\n{target}:' in makefile
