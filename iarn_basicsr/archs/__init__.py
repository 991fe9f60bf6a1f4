"""Networks. ``iarn`` and ``coupling`` are plain torch; ``iarn_arch`` registers with BasicSR."""

from importlib.util import find_spec

if find_spec('basicsr') is not None:
    from . import iarn_arch  # noqa: F401
