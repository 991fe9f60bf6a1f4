"""Models: training and validation logic."""

from . import iarn_model  # noqa: F401  (imported to register)
