"""Networks in plain torch; ``iarn_basicsr.plugin`` registers them with BasicSR.

Imports run one way: ``scale_encoding``, then ``grid``, ``channel_split`` and ``coupling`` (with ``subnets``), then the
networks ``iarn`` and ``irn`` on ``base``. ``one_way`` stands alone.
"""
