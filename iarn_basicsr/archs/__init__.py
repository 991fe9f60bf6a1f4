"""Networks. ``iarn``, ``irn``, ``coupling`` and ``base`` are plain torch; ``*_arch`` register with BasicSR."""

from importlib.util import find_spec

if find_spec('basicsr') is not None:
    from . import iarn_arch, irn_arch  # noqa: F401
