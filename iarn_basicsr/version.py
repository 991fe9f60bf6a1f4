"""The version, for ``setup.py`` and for ``plugin: !!python/name:iarn_basicsr.__version__ ''`` in option files."""

__version__ = '0.1.0'
