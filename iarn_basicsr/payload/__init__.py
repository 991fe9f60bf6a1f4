"""Coded detail in the low bits of an LR image: where the bits go (``bits``) and what they say (``codec``)."""
