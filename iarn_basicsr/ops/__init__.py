"""Mathematics of image rescaling in torch, numpy and scipy.

``size`` needs no torch, ``jpeg`` only Pillow and numpy, ``transparency`` numpy and OpenCV. Imports run one way:
``size`` and ``image``, then ``resample``.
"""
