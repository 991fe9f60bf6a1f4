"""Datasets."""

from iarn_basicsr.compat import prepare_import

prepare_import()
