"""Metrics of rescaling by BasicSR's own functions."""

from iarn_basicsr.compat import prepare_import

prepare_import()
