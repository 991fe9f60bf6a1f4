"""Coded detail in the low bits of an LR image: where the bits go (``bits``) and what they say (``codec``)."""

MAX_BITS = 3  # of each 8-bit sample
