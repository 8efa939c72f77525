"""
Where objects go: what provides IStore.

- ``file``: Part 10 files, named by ``layout``; ``publishing`` gives them their names in ``directories``, ``working``
  keeps them until then where the file system has no unnamed files, ``jobs`` runs what blocks
- ``memory``: Part 10 files for the application to take, in so much memory as ``budget`` has; ``spilling`` is where the
  rest goes
- ``filemeta``: what both put before a data set
"""
