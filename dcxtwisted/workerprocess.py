"""
One worker of a supervisor, as a program: ``python -m dcxtwisted.workerprocess``, for C{workers.processes} alone.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import sys
from types import FrameType
from typing import Any, Final, NoReturn, cast

from twisted.internet.protocol import Factory
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure
from twisted.python.reflect import namedModule

from dcxtwisted.acceptor import DCXACC
from dcxtwisted.deadlines import useMonotonicClock
from dcxtwisted.options import Options
from dcxtwisted.setups import Reload
from dcxtwisted.tap import listenerFrom
from dcxtwisted.workers.commands import Started
from dcxtwisted.workers.lines import observerFor
from dcxtwisted.workers.processes import LINK, Task
from dcxtwisted.workers.serving import Serving, factoryFor

_log = Logger()

# Seconds left, after the deadline of a stop, to what cannot be aborted.
_LAST_GRACE: Final = 2.0

# Ctrl-C and the end of a terminal reach every process: what they mean is the supervisor's to say.
_NOT_OURS: Final = (signal.SIGINT, signal.SIGHUP)
_SIGNALS: Final = (*_NOT_OURS, signal.SIGTERM)

_STDOUT: Final = 1


class WorkerProgram:
    """What a worker does as a process: it starts, it stops, and it does not outlive its supervisor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._listener: DCXACC | None = None
        self._serving: Serving | None = None
        self._isStopping = False
        self._asked = 0

    def start(self, task: Task) -> None:
        """
        Make a listener, and open its store.

        :raise Exception: it cannot be; whatever the application's own code raises included.
        """
        useMonotonicClock(self._reactor)
        options = Options()
        options.settle(task.given, self._reactor, isWorker=True)
        listener = self._listener = listenerFrom(options, self._reactor)
        reload = Reload(listener, task.given, options.setup, self._reactor)
        listener.addReload(reload.prepare)
        factories = [factoryFor(listener, port, isTLS=False) for port in options.ports]
        factories += [factoryFor(listener, port, isTLS=True) for port in options.setup.listeners.tlsPorts]
        self._serving = Serving(listener, factories, reload, self._reactor, self)
        listener.startService()

    def run(self) -> None:
        """Serve until all is over."""
        self._reactor.callWhenRunning(self._begin)
        # What the start has made stays to the end: see tap.
        gc.collect()
        gc.freeze()
        self._reactor.run()

    def _begin(self) -> None:
        serving = self._serving
        assert serving is not None
        self._reactor.adoptStreamConnection(LINK, socket.AF_UNIX, Factory.forProtocol(lambda: serving))
        os.close(LINK)
        for number in _NOT_OURS:
            signal.signal(number, _ignored)
        signal.signal(signal.SIGTERM, self._signalled)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._terminated)

    def _terminated(self) -> None:
        self._asked += 1
        assert self._listener is not None
        assert self._serving is not None
        if self._asked > 1:
            self._listener.abortAll()
        elif not self._isStopping:
            _log.info("SIGTERM: stopping once the objects in flight are done; a second one aborts them")
            # What is on its way is taken first.
            self._serving.leave().addBoth(lambda ignored: self.stop())

    def supervisorLost(self) -> None:
        """The supervisor is gone: finish what is in flight, and end."""
        if not self._isStopping:
            _log.error("the supervisor is gone: stopping")
            self.stop()

    def stop(self) -> None:
        """Finish what is in flight, abort the rest at the deadline, and end."""
        if self._isStopping:
            return
        self._isStopping = True
        listener = self._listener
        assert listener is not None
        self._reactor.callLater(listener.configuration.stopDeadline + _LAST_GRACE, self._leave)
        stopped = listener.stopService()
        stopped.addErrback(lambda failure: _log.failure("stopping failed", failure))
        stopped.addBoth(lambda ignored: self._reactor.stop())

    def _leave(self) -> NoReturn:
        _log.critical("something in flight does not end: leaving it, with status 1")
        os._exit(1)


def _ignored(number: int, frame: FrameType | None) -> None:
    """No signal of ours. To ignore it as such would be handed down to every program that an event starts."""


def _say(error: str) -> None:
    box = Started.makeArguments({"error": error}, cast(Any, None))
    box[b"_command"] = Started.commandName
    with socket.socket(fileno=os.dup(LINK)) as link:
        link.sendall(box.serialize())


def main() -> int:
    """Do what the supervisor has said on standard input; 1 where that cannot be."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    task: Task = pickle.load(sys.stdin.buffer)
    globalLogBeginner.beginLoggingTo([observerFor(_STDOUT)])
    namedModule(task.reactor).install()
    from twisted.internet import reactor  # the one just installed

    program = WorkerProgram(reactor)
    try:
        program.start(task)
    except Exception as error:
        # The application's own code may raise whatever it likes.
        if not isinstance(error, OSError | ValueError):
            _log.failure("a worker cannot start", Failure())
        _say(f"{error}"[:2000] or type(error).__name__)
        return 1
    _say("")
    program.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
