"""Registers :class:`iarn_basicsr.archs.irn.IRN` as ``network_g: {type: IRN, scale: 2, ...}``."""

from basicsr.utils.registry import ARCH_REGISTRY

from .irn import IRN

__all__ = ['IRN']

ARCH_REGISTRY.register(IRN)
