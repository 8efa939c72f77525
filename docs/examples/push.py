"""
Receives objects in push style: the same program as ``pull.py``, which is told what happens and waits for nothing.
"""

from twisted.internet import reactor

from dcxtwisted import DCXACC, Configuration, DCXACCEvents


class Events(DCXACCEvents):
    def OnStoreDone(self, filename, storage_status, request):
        print("stored" if storage_status else "failed", request.SOPInstanceUID, filename, flush=True)
        return True


acceptor = DCXACC(
    11112,
    Events(),
    storeDirectory="received",
    configuration=Configuration(AETitle="DCXTWISTED", silenceDeadline=30.0),
    reactor=reactor,
)
acceptor.startService()
reactor.addSystemEventTrigger("before", "shutdown", acceptor.stopService)
reactor.run()
