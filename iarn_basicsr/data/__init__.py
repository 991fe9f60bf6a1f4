"""Datasets."""

from . import arbitrary_scale_dataset  # noqa: F401  (imported to register)
