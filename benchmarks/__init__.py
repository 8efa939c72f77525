"""
Measurements: a load generator, and dcxtwisted beside other receivers.

Nothing here is installed. From a checkout: ``python -m benchmarks.peers`` and ``python -m benchmarks.load``.
"""
