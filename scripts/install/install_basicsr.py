"""Installs BasicSR, on Python 3.13 and newer too, where ``pip install basicsr`` fails.

    python scripts/install/install_basicsr.py

An installed package has the same as ``python -m iarn_basicsr.install_basicsr``. Install torch and torchvision first.
BasicSR's own setup.py fails with ``KeyError: '__version__'`` since Python 3.13, where ``exec`` in a function no longer
binds names that ``locals()`` returns (PEP 667). While pip builds BasicSR, this script makes ``exec`` work as before.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import os
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ['main', 'patch_exec']

BASICSR = 'basicsr>=1.4.2'


def patch_exec() -> None:
    """Let ``exec`` without a namespace bind names that ``locals()`` of its caller returns."""
    import builtins
    import sys
    stock = builtins.exec

    def patched(source, /, globals=None, locals=None, **more):  # noqa: A002  (the names of exec itself)
        if globals is None:
            caller = sys._getframe(1)
            globals = caller.f_globals  # noqa: A001
            locals = caller.f_locals if locals is None else locals  # noqa: A001
        stock(source, globals, locals, **more)

    builtins.exec = patched


def pip_install(*arguments: str, path: str | None = None) -> None:
    """Run pip, with ``path`` before all else that is on Python's path."""
    env = {**os.environ, 'PIP_USE_PEP517': '1'}  # or an old pip builds by setup.py, which fetches Cython
    if path:
        env['PYTHONPATH'] = os.pathsep.join([path, *filter(None, [env.get('PYTHONPATH')])])
    subprocess.run([sys.executable, '-m', 'pip', 'install', *arguments], env=env, check=True)


def install(source: str, *flags: str) -> None:
    """Build BasicSR in this environment: in one of its own, pip would leave out the patch, and install torch again."""
    missing = [name for name in ('setuptools', 'wheel') if importlib.util.find_spec(name) is None]
    if missing:
        pip_install(*flags, *missing)
    with tempfile.TemporaryDirectory() as folder:
        if sys.version_info >= (3, 13):
            # every Python that has this folder on its path starts with it
            text = f'{inspect.getsource(patch_exec)}\n\npatch_exec()\n'
            Path(folder, 'sitecustomize.py').write_text(text, encoding='utf-8')
        pip_install(*flags, '--no-build-isolation', source, path=folder)


def main(argv: list[str] | None = None) -> int:
    """Install BasicSR; 0 if it is there afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', nargs='?', default=BASICSR, help=f'what pip shall install (default: {BASICSR})')
    parser.add_argument('-q', '--quiet', action='store_true', help='say only what went wrong')
    args = parser.parse_args(argv)
    if importlib.util.find_spec('pip') is None:
        parser.error('this Python has no pip: run "python -m ensurepip" first')
    try:
        install(args.source, *(['--quiet'] if args.quiet else []))
    except subprocess.CalledProcessError as error:
        print(f'install_basicsr: {args.source} was not installed; pip says why above', file=sys.stderr)
        return error.returncode
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
