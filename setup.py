"""Installs the plugin: ``pip install -e .`` (torch and torchvision first, together; see README)."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
FROM_THE_TOP = {'options/*.yml': 'iarn_basicsr/options', 'scripts/install/install_basicsr.py': 'iarn_basicsr'}
HOOK = 'iarn_basicsr_stand_ins'  # see iarn_basicsr/compat/stand_ins.py
AT_START = f'import {HOOK}; {HOOK}.install()\n'  # site.py runs this line of a .pth when Python starts


class BuildPy(build_py):
    """Puts into a wheel what stands elsewhere in the repository, where an editable install finds it, and the hook."""

    def _from_the_top(self):
        """(file of the repository, file of the build)."""
        return [(path.relative_to(HERE).as_posix(), str(Path(self.build_lib, folder, path.name)))
                for pattern, folder in FROM_THE_TOP.items() for path in sorted(HERE.glob(pattern))]

    def run(self):
        super().run()
        if getattr(self, 'editable_mode', False):  # setuptools collects what an editable wheel holds in this folder
            return self._put_hook(self.get_finalized_command('install').install_lib)
        for source, target in self._from_the_top():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)
        return self._put_hook(self.build_lib)

    def _put_hook(self, folder):
        """Beside the package, which must not be imported when Python starts."""
        self.copy_file(str(HERE / 'iarn_basicsr' / 'compat' / 'stand_ins.py'), str(Path(folder, f'{HOOK}.py')))
        Path(folder, f'{HOOK}.pth').write_text(AT_START, encoding='ascii')

    def get_source_files(self):
        """Makes them part of a source distribution."""
        return [*super().get_source_files(), *(source for source, _ in self._from_the_top())]


version = re.search(r"__version__ = '(.+)'", (HERE / 'iarn_basicsr' / 'version.py').read_text(encoding='utf-8'))

setup(
    name='iarn_basicsr',
    version=version.group(1),
    description='Invertible arbitrary image rescaling (IARN) for BasicSR: downscale to any size, restore from it',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    cmdclass={'build_py': BuildPy},
    packages=find_packages(include=['iarn_basicsr', 'iarn_basicsr.*']),
    package_data={
        'iarn_basicsr': ['py.typed'],
        'iarn_basicsr.config': ['*.json'],
        'iarn_basicsr.inference': ['*.jinja'],
        'iarn_basicsr.zoo': ['*.json', '*.pth', '*.png'],
    },
    python_requires='>=3.9',
    install_requires=[
        'torch>=2.1',
        'torchvision>=0.16',
        # From 3.13 on pip cannot build basicsr, and all else here works without it: scripts/install/install_basicsr.py
        # installs it, and iarn_basicsr.compat says so where it is missing.
        'basicsr>=1.4.2; python_version < "3.13"',
        'opencv-python>=4.8',
        'lmdb',
        'pyyaml',
        'numpy>=1.24',
        'scipy>=1.11',
        'tqdm',
        'pillow>=11.3',  # the newest for Python 3.9: all that a file says, and AVIF
        'jinja2>=3',
        'msgspec>=0.18',
        'click>=8.1',
        'setuptools; python_version >= "3.12"',  # basicsr imports distutils
    ],
    extras_require={
        'safetensors': ['safetensors>=0.4'],
        'onnx': ['onnx', 'onnxscript', 'onnxruntime'],
        'spandrel': ['spandrel>=0.4'],
        'test': ['pytest>=8', 'pytest-xdist>=3.6', 'hypothesis>=6.100', 'scikit-image>=0.22', 'matplotlib>=3.8',
                 'safetensors>=0.4', 'onnx', 'onnxscript', 'onnxruntime', 'spandrel>=0.4'],
        'dev': ['ruff==0.17.6', 'mypy==2.4.1; python_version >= "3.10"', 'types-PyYAML'],
        'demo': ['scikit-image>=0.22', 'matplotlib>=3.8'],
    },
    entry_points={
        'console_scripts': [
            'iarn = iarn_basicsr.inference.cli:main',
            'iarn-train = iarn_basicsr.train:main',
            'iarn-test = iarn_basicsr.test:main',
            'iarn-benchmark = iarn_basicsr.benchmark.run:main',
        ],
    },
)
