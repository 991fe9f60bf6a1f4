"""BasicSR's test pipeline with the plugin: ``python -m iarn_basicsr.test -opt FILE``, or ``iarn-test``."""

from __future__ import annotations

from collections.abc import Callable

from iarn_basicsr.pipeline.launch import launch

__all__ = ['main']


def main() -> None:
    """Test as the option file says; results land below the current directory."""
    launch('iarn-test', _load)


def _load() -> Callable[[], None]:
    import iarn_basicsr.plugin  # noqa: F401  (makes basicsr importable and registers)
    from iarn_basicsr.pipeline.testing import test
    return test


if __name__ == '__main__':
    main()
