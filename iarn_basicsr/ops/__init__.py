"""Mathematics of image rescaling in torch, numpy and scipy; ``size`` needs no torch, ``jpeg`` only Pillow and numpy.

Imports run one way: ``size`` and ``image``, then ``resample``.
"""
