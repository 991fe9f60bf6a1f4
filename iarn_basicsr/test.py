"""BasicSR's test pipeline with the plugin: ``python -m iarn_basicsr.test -opt FILE``, or ``iarn-test``."""

from __future__ import annotations

import os
from functools import partial

import iarn_basicsr.plugin  # noqa: F401  (makes basicsr importable and registers)
from iarn_basicsr.toolbox.launch import running
from iarn_basicsr.toolbox.option_checks import check_options
from iarn_basicsr.toolbox.option_file import parse_options

__all__ = ['main']


def main() -> None:
    """Test as the option file says; results land below the current directory."""
    import basicsr.test as pipeline

    with running('iarn-test', pipeline, parse_options=partial(parse_options, check=check_options)):
        pipeline.test_pipeline(os.getcwd())


if __name__ == '__main__':
    main()
