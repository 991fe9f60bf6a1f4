"""``python -m iarn_basicsr.inference.cli``."""

import sys

from . import main

sys.exit(main())
