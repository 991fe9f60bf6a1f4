"""``python -m iarn_basicsr.pictures.cli``."""

import sys

from . import main

sys.exit(main())
