"""What imports what: downward only, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from helpers import run_python

PACKAGE = Path(__file__).resolve().parents[2] / 'iarn_basicsr'

# From the ground up; a room may import its own floor and those below.
FLOORS = [
    {'version', 'errors', 'files'},
    {'ops'},
    {'zoo', 'payload'},
    {'config'},
    {'archs'},
    {'inference'},
    {'compat', 'metrics'},
    {'data', 'models'},
    {'pipeline'},
    {'benchmark', 'plugin', 'train', 'test'},
]
MEASURING = {('inference.compare', 'metrics'), ('inference.verify', 'metrics')}  # which BasicSR's metrics are part of


def module_of(path: Path) -> str:
    """Name of a module below the package, without the package: ``ops.size``; a package itself: ``ops``."""
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports (without the package's name)."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith('iarn_basicsr.')}
        elif isinstance(node, ast.ImportFrom):
            inside = ['iarn_basicsr', *path.relative_to(PACKAGE).parts[:-1]]
            base = '.'.join(inside[:len(inside) - node.level + 1]) if node.level else ''
            place = '.'.join(p for p in (base, node.module) if p)
            if place.split('.')[0] == 'iarn_basicsr':
                found |= {f'{place}.{a.name}' for a in node.names} | {place}
    names = {name.removeprefix('iarn_basicsr').lstrip('.') for name in found}
    return {n for n in names if n and ((PACKAGE / Path(*n.split('.'))).is_dir()
                                       or (PACKAGE / Path(*n.split('.'))).with_suffix('.py').is_file())}


MODULES = {module_of(p): p for p in sorted(PACKAGE.rglob('*.py')) if module_of(p)}


def floor(module: str) -> int:
    return next(k for k, rooms in enumerate(FLOORS) if module.split('.')[0] in rooms)


def test_nothing_imports_upward():
    arrows = {(module, name.split('.')[0]) for module, path in MODULES.items() for name in imports(path)
              if floor(name) > floor(module)}
    assert arrows <= MEASURING


def test_networks_and_pictures_need_no_basicsr():
    """Only what measures does; ``doctor`` looks whether it is there."""
    own = {module for module, path in MODULES.items() if module.split('.')[0] in ('ops', 'archs', 'zoo', 'inference')
           and 'basicsr' in {word for line in path.read_text(encoding='utf-8').splitlines()
                             if line.lstrip().startswith(('import ', 'from ')) for word in line.split()}}
    assert own <= {'inference.compare', 'inference.verify', 'inference.doctor'}


def modules_after(program: str) -> set[str]:
    """Top-level modules that are loaded after a program in a process of its own."""
    done = run_python('-c', f'{program}\nimport sys; print("MODULES", *sys.modules)')
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit('MODULES', 1)[1].split())


HEAVY = {'torch', 'torchvision', 'basicsr', 'numpy', 'cv2', 'scipy', 'PIL'}


@pytest.mark.parametrize('program', [
    'import iarn_basicsr; iarn_basicsr.__version__; assert iarn_basicsr.list_models()\n'
    'from iarn_basicsr.ops.size import lr_size; lr_size((10, 10), 2.5)',
    'from iarn_basicsr.inference.cli import main; main(["downscale", "--help"]); main(["--help"]); main(["--version"])',
])
def test_import_and_help_are_light(program):
    assert not modules_after(program) & HEAVY


def test_public_names():
    import iarn_basicsr
    for name in iarn_basicsr.__all__:
        assert getattr(iarn_basicsr, name) is not None
    with pytest.raises(AttributeError, match="'iarn_basicsr' has no attribute 'Rescaller'"):
        _ = iarn_basicsr.Rescaller


@pytest.mark.slow
def test_registration_follows_the_plugin_alone():
    """Importing the package first and BasicSR then registers nothing; the plugin does, whenever it is imported."""
    program = ('import iarn_basicsr.compat; iarn_basicsr.compat.prepare_import(); import basicsr\n'
               'from basicsr.utils.registry import ARCH_REGISTRY\n'
               'assert "IARN" not in ARCH_REGISTRY\nimport iarn_basicsr.plugin\nassert "IARN" in ARCH_REGISTRY')
    assert 'basicsr' in modules_after(program)
