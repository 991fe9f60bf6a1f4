"""BasicSR's training pipeline with the plugin: ``python -m iarn_basicsr.train -opt FILE``, or ``iarn-train``."""

from __future__ import annotations

from collections.abc import Callable

from iarn_basicsr.pipeline.launch import launch

__all__ = ['main']


def main() -> None:
    """Train as the option file says; results land below the current directory."""
    launch('iarn-train', _load)


def _load() -> Callable[[], None]:
    import iarn_basicsr.plugin  # noqa: F401  (makes basicsr importable and registers)
    from iarn_basicsr.pipeline.training import train
    return train


if __name__ == '__main__':
    main()
