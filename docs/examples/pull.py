"""
Receives objects in pull style: the program waits for associations, and for one command of each after the other.

One coroutine serves one association, so that a slow sender holds up nobody else.
"""

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from dcxtwisted import DCXACC, DCXACCEvents


class Events(DCXACCEvents):
    def OnStoreDone(self, filename, storage_status, request):
        print("stored" if storage_status else "failed", request.SOPInstanceUID, filename, flush=True)
        return True


async def serve(association):
    while await association.WaitForCommand(30):
        pass  # one command was served; until the next wait the sender is held back
    association.abort()  # where it is up still, and only the 30 seconds are over


async def main(reactor):
    acceptor = DCXACC(events=Events(), storeDirectory="received", reactor=reactor)
    reactor.addSystemEventTrigger("before", "shutdown", acceptor.stopService)
    while association := await acceptor.WaitForConnection("DCXTWISTED", 11112, None):
        Deferred.fromCoroutine(serve(association))


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
