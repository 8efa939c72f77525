"""
Where objects go: what provides IStore.

- ``file``: Part 10 files, named by ``layout``, each received by a ``sink``; ``writing`` gathers and writes them,
  ``publishing`` gives them their names in ``directories``, beside or in place of what is ``standing`` there
  (``replacing``), ``working`` keeps what has a name only until then, ``synchronizing`` makes all that durable, ``jobs``
  runs what blocks, ``health`` says whether the disk is fit for more
- ``memory``: Part 10 files for the application to take, in so much memory as ``budget`` has; ``spilling`` is where the
  rest goes
- ``filemeta``: what both put before a data set
"""
