"""``iarn-benchmark``: datasets x scales x methods in one run, as tables and plots.

Modules: ``methods`` (IARN and its rivals behind one interface), ``tasks`` (what is measured of one of them),
``records`` (what was measured, resumable), ``tables``, ``report`` and ``plots`` (what is written), ``run`` (command).
"""

from iarn_basicsr.compat import prepare_import

prepare_import()
