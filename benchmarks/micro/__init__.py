"""
Micro-benchmarks of what runs for each PDU, message or object: ``python -m pytest benchmarks/micro``.

They take the extra ``benchmark``, and less than a minute. ``--benchmark-save=NAME`` and ``--benchmark-compare`` of
pytest-benchmark set two commits against each other; ``--benchmark-disable`` runs each once, for what it asserts.
"""
