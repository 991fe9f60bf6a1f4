"""``iarn-benchmark``: datasets x scales x methods in one run, as tables and plots.

Modules: ``methods`` (IARN and its rivals behind one interface), ``own`` (networks of one's own), ``tasks`` (what is
measured of a method), ``records`` (what was measured, resumable), ``tables``, ``report`` and ``plots`` (what is
written), ``options`` (checks of the option file), ``run`` (the command).
"""

from iarn_basicsr.compat import prepare_import

prepare_import()
