"""
Several processes that serve together: one supervisor accepts, counts and restarts, its workers do the rest.

- ``supervisor``: the service that listens, and what concerns all workers: starting, stopping, reloading.
- ``dispatch``: to whom a connection goes, and who may come in.
- ``processes``: one worker as a process: started, watched, started again.
- ``accepting``: connections as they are accepted, of which nothing is read.
- ``serving``: the worker's side: what it is handed, and whom it asks.
- ``commands``: what the two say to each other.
- ``lines``: how the log lines of workers come into the supervisor's log.
"""
