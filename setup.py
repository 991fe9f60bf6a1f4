"""Installs the plugin: ``pip install -e .`` (torch and torchvision first, together; see README)."""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

if sys.version_info >= (3, 13):
    sys.exit('iarn_basicsr needs Python 3.9 to 3.12: basicsr 1.4.2 (its only source distribution) cannot be built on '
             f'Python {sys.version_info.major}.{sys.version_info.minor} (KeyError: __version__ in its setup.py). '
             'Make an environment with one of those, for example: python3.12 -m venv .venv')

version = re.search(r"__version__ = '(.+)'", (HERE / 'iarn_basicsr' / 'version.py').read_text(encoding='utf-8'))

setup(
    name='iarn_basicsr',
    version=version.group(1),
    description='Invertible arbitrary image rescaling (IARN) for BasicSR: downscale to any size, restore from it',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['iarn_basicsr', 'iarn_basicsr.*']),
    package_data={  # not zoo/earlier: what restores files of earlier versions stays in the repository
        'iarn_basicsr': ['py.typed'],
        'iarn_basicsr.pictures': ['*.jinja'],
        'iarn_basicsr.zoo': ['*.json', '*.pth', '*.png'],
    },
    python_requires='>=3.9,<3.13',
    install_requires=[
        'torch>=2.1',
        'torchvision>=0.16',
        'basicsr>=1.4.2',
        'opencv-python>=4.8',
        'lmdb',
        'pyyaml',
        'numpy>=1.24',
        'scipy>=1.11',
        'tqdm',
        'pillow>=9.4',
        'jinja2>=3',
        'setuptools; python_version >= "3.12"',  # basicsr imports distutils
    ],
    extras_require={
        'safetensors': ['safetensors>=0.4'],
        'onnx': ['onnx', 'onnxscript', 'onnxruntime'],
        'test': ['pytest>=8', 'hypothesis>=6.100', 'scikit-image>=0.22', 'matplotlib>=3.8', 'safetensors>=0.4',
                 'onnx', 'onnxscript', 'onnxruntime'],
        'dev': ['ruff==0.17.6', 'mypy==2.4.1', 'types-PyYAML'],
        'demo': ['scikit-image>=0.22', 'matplotlib>=3.8'],
    },
    entry_points={
        'console_scripts': [
            'iarn = iarn_basicsr.pictures.cli:main',
            'iarn-train = iarn_basicsr.train:main',
            'iarn-test = iarn_basicsr.test:main',
            'iarn-benchmark = iarn_basicsr.benchmark.run:main',
        ],
    },
)
