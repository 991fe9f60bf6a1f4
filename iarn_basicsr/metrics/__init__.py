"""Metrics of rescaling by BasicSR's own functions."""

from .rescaling import DEFAULT_METRICS, border_of, evaluate

__all__ = ['DEFAULT_METRICS', 'border_of', 'evaluate']
