"""Networks in plain torch; :mod:`iarn_basicsr.plugin` registers them with BasicSR."""
