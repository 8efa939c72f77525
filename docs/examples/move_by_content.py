"""
Moves each object to where its content says, in OnStoreDone: what it answers decides what the sender is told.

The modality and the year are from the data set, which a sender may fill with anything: only what is expected gets into
a path.
"""

import os
import re
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from dcxtwisted import DCXACC, DCXACCEvents

SORTED = Path("sorted")
MODALITIES = {"CR", "CT", "DX", "MG", "MR", "NM", "PT", "SR", "US", "XA"}


def placeOf(head):
    """Return the directory for an object, by the attributes found in it."""
    modality = head.Modality if head.Modality in MODALITIES else "other"
    year = re.match(r"(19|20)\d\d", head.StudyDate)
    return SORTED / modality / (year[0] if year else "undated")


def move(filename, head):
    """Move an object's file; where another stands already, it stays where it is. Returns True: it is stored."""
    directory = placeOf(head)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        os.link(filename, directory / filename.name)  # a link never replaces what is there
    except FileExistsError:
        return True
    # The sender may delete its copy when it is told 0000: the new name has to be on the disk by then.
    for each in (directory, *directory.parents[: len(SORTED.parts) + 2]):
        descriptor = os.open(each, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    filename.unlink()
    print("moved to", directory / filename.name, flush=True)
    return True


class Events(DCXACCEvents):
    def OnStoreDone(self, filename, storage_status, request):
        if storage_status:
            return deferToThread(move, Path(filename), request.head)


acceptor = DCXACC(11112, Events(), storeDirectory="received", layout="{SOPInstanceUID}.dcm")
acceptor.startService()
reactor.addSystemEventTrigger("before", "shutdown", acceptor.stopService)
reactor.run()
