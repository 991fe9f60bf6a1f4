"""Registers :class:`iarn_basicsr.archs.iarn.IARN` as ``network_g: {type: IARN, ...}``."""

from basicsr.utils.registry import ARCH_REGISTRY

from .iarn import IARN

__all__ = ['IARN']

ARCH_REGISTRY.register(IARN)
