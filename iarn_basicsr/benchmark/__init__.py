"""``iarn-benchmark``: datasets x scales x methods in one run, as tables and plots.

Modules: ``methods`` (IARN and its rivals behind one interface), ``tasks`` (what is measured of a method), ``report``
and ``plots`` (what is written), ``run`` (the command, and the records by which it resumes). The option file:
``config.benchmark_schema``.
"""

from iarn_basicsr.compat import prepare_import

prepare_import()
