"""Mathematics of image rescaling in torch, numpy and scipy only; nothing here imports basicsr.

Dependencies run one way: ``size``, ``quantise``, ``precision`` -> ``pixels``, ``resample`` -> ``position`` -> ``grid``.
``size`` needs no torch.
"""
