"""
Receives objects into memory and makes a thumbnail of each image; nothing else gets to the disk.

It takes NumPy (``pip install 'dcxtwisted[examples]'``). The thumbnails are PGM and PPM files, which most viewers show.
"""

from pathlib import Path

import numpy
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from dcxtwisted import DCXACC

SIZE = 150  # pixels of the longer side, at most

log = Logger()


def makeThumbnail(received):
    """Write the thumbnail of an object, and return its path; None where there is no image that can be read here."""
    dataset = received.dataset()
    if "PixelData" not in dataset or dataset.file_meta.TransferSyntaxUID.is_compressed:
        return None
    pixels = dataset.pixel_array
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        pixels = pixels[len(pixels) // 2]
    step = -(-max(pixels.shape[:2]) // SIZE)
    small = pixels[::step, ::step].astype(float)
    low, high = small.min(), small.max()
    shown = ((small - low) * 255 / max(high - low, 1)).astype(numpy.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 255 - shown
    isColour = shown.ndim == 3
    header = f"{'P6' if isColour else 'P5'} {shown.shape[1]} {shown.shape[0]} 255\n"
    # The UID was checked: it is safe in a path.
    path = Path(f"{received.SOPInstanceUID}.{'ppm' if isColour else 'pgm'}")
    path.write_bytes(header.encode() + shown.tobytes())
    return path


async def serve(association):
    isUp = True
    while isUp:
        isUp = await association.WaitForCommand(30)
        while received := association.TakeStoredObject():
            try:
                # In a thread: other associations go on meanwhile, this sender waits.
                path = await deferToThread(makeThumbnail, received)
            except Exception:
                log.failure("no thumbnail of {uid}", uid=received.SOPInstanceUID)
            else:
                print("thumbnail", path, flush=True)
    association.abort()


async def main(reactor):
    acceptor = DCXACC(storeDirectory="spilled", reactor=reactor)
    acceptor.EnableInMemoryStorageSCP = True
    reactor.addSystemEventTrigger("before", "shutdown", acceptor.stopService)
    while association := await acceptor.WaitForConnection("DCXTWISTED", 11112, None):
        Deferred.fromCoroutine(serve(association))


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
