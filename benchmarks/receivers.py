"""
Receivers to compare with: the least that any can do, in Python and in C, and a plain Storage SCP of pynetdicom.

Each is a process of its own: ``python -m benchmarks.receivers bare|native|native-durable|pynetdicom PORT DIRECTORY``;
it runs until a signal.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from struct import pack, unpack_from
from typing import Any, Final

from benchmarks.load import associateRQ
from benchmarks.objects import CONTEXT_ID, CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN

_HOST: Final = "127.0.0.1"
_LONGEST_PDU: Final = 131072
_MESSAGE_ID: Final = pack("<HHL", 0, 0x0110, 2)
RELEASE_RP: Final = pack(">BxLxxxx", 6, 4)
# A message ID that is to be found again in a response.
_PLACE: Final = 0xA55A


def _item(itemType: int, value: bytes) -> bytes:
    return pack(">BxH", itemType, len(value)) + value


def associateAC(request: bytes) -> bytes:
    """Return the A-ASSOCIATE-AC to what benchmarks.load proposes."""
    context = pack(">Bxxx", CONTEXT_ID) + _item(0x40, EXPLICIT_VR_LITTLE_ENDIAN)
    user = _item(0x51, pack(">L", _LONGEST_PDU)) + _item(0x52, b"2.25.161803398874989484820458683")
    body = request[6:74] + _item(0x10, b"1.2.840.10008.3.1.1.1") + _item(0x21, context) + _item(0x50, user)
    return pack(">BxL", 2, len(body)) + body


def storeRSP(messageID: int) -> bytes:
    """Return a C-STORE-RSP with status 0000 as a PDU."""
    elements = b"".join(
        pack("<HHL", 0, element, len(value)) + value
        for element, value in (
            (0x0002, CT_IMAGE_STORAGE + b"\0"),
            (0x0100, pack("<H", 0x8001)),
            (0x0120, pack("<H", messageID)),
            (0x0800, pack("<H", 0x0101)),
            (0x0900, pack("<H", 0)),
        )
    )
    command = pack("<HHLL", 0, 0, 4, len(elements)) + elements
    return pack(">BxLLBB", 4, len(command) + 6, len(command) + 2, CONTEXT_ID, 3) + command


class _BarePeer:
    """A connection to the bare receiver: each request goes into a file as it comes, PDU headers and all."""

    def __init__(self, connection: socket.socket, directory: Path) -> None:
        self.connection = connection
        self._prefix = f"{directory}/{connection.fileno()}-{connection.getpeername()[1]}-"
        self._stored = 0
        self._file = -1
        self._left = 0  # bytes of the current PDU that are still to come
        self._isLast = False
        self._messageID = 0
        self._carry = b""  # the beginning of a PDU header that was cut

    def received(self, chunk: memoryview) -> bool:
        """Take what has come; return whether the connection is to be closed."""
        if self._file < 0 and not self._carry:
            PDUType = chunk[0]
            if PDUType == 1:
                self.connection.sendall(associateAC(bytes(chunk)))
                return False
            if PDUType != 4:
                self.connection.sendall(RELEASE_RP)
                return True
            self._open(bytes(chunk[:256]))
        os.write(self._file, chunk)
        if self._walked(chunk):
            os.close(self._file)
            self._file = -1
            self.connection.sendall(storeRSP(self._messageID))
        return False

    def _open(self, command: bytes) -> None:
        self._messageID = unpack_from("<H", command, command.index(_MESSAGE_ID) + 8)[0]
        self._stored += 1
        self._file = os.open(f"{self._prefix}{self._stored}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)

    def _walked(self, chunk: memoryview) -> bool:
        """Follow the PDU headers; return whether the last fragment of a data set ends here."""
        position = self._left
        end = len(chunk)
        if self._carry:
            missing = 12 - len(self._carry)
            header = self._carry + bytes(chunk[:missing])
            position = missing + self._PDU(header, 0) if len(header) == 12 else end
            self._carry = b"" if len(header) == 12 else header
        while position + 12 <= end:
            position += 12 + self._PDU(chunk, position)
        if position < end:
            self._carry = bytes(chunk[position:])
        self._left = max(position - end, 0)
        return position == end and self._isLast

    def _PDU(self, data: bytes | memoryview, position: int) -> int:
        """Return how much of a PDU comes after its header and that of its only PDV."""
        length, flags = unpack_from(">L5xB", data, position + 2)
        self._isLast = flags == 2
        return int(length) - 6


def serveBare(port: int, directory: Path) -> None:
    """Answer with prepared bytes and write to a file for each object what is received: the limit of one process."""
    peers: dict[int, _BarePeer] = {}
    buffer = bytearray(1 << 18)
    view = memoryview(buffer)
    with socket.create_server((_HOST, port), backlog=128) as listener, select.epoll() as epoll:
        epoll.register(listener, select.EPOLLIN)
        while True:
            for descriptor, _ in epoll.poll():
                if descriptor == listener.fileno():
                    connection, _address = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    epoll.register(connection, select.EPOLLIN)
                    peers[connection.fileno()] = _BarePeer(connection, directory)
                    continue
                peer = peers[descriptor]
                length = peer.connection.recv_into(buffer)
                if not length or peer.received(view[:length]):
                    peer.connection.close()
                    del peers[descriptor]


def compiler() -> str | None:
    """Return what compiles C here, None where nothing does."""
    return shutil.which("cc")


def buildNative(directory: Path) -> Path:
    """Compile native.c into a directory and return the program."""
    response = storeRSP(_PLACE)
    prepared = {"ACCEPT": associateAC(associateRQ(b"ANY-SCP")), "RESPONSE": response}
    lines = [f"static const unsigned char {name}[] = {{{', '.join(map(str, PDU))}}};" for name, PDU in prepared.items()]
    lines.append(f"enum {{ MESSAGE_ID = {response.index(pack('<H', _PLACE))} }};")
    (directory / "prepared.h").write_text("\n".join(lines) + "\n")
    program = directory / "native"
    source = Path(__file__).with_name("native.c")
    subprocess.run([compiler() or "cc", "-O2", "-pthread", f"-I{directory}", "-o", program, source], check=True)
    return program


def serveNative(port: int, directory: Path, *, isDurable: bool = False) -> None:
    """Become the receiver in C."""
    # Beside the store, and not in it, where files are counted: whoever started this removes it.
    program = buildNative(directory.parent)
    os.execv(program, [str(program), str(port), str(directory), *(["durable"] if isDurable else [])])


def servePynetdicom(port: int, directory: Path) -> None:
    """Store as pynetdicom's documentation shows it: preamble, file meta and the data set's bytes as received."""
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import CTImageStorage

    def handleStore(event: Any) -> int:
        path = directory / f"CT.{event.request.AffectedSOPInstanceUID}"
        with path.open("wb") as file:
            file.write(event.encoded_dataset())
        return 0x0000

    entity = AE()
    entity.maximum_pdu_size = _LONGEST_PDU
    entity.maximum_associations = 1000
    entity.add_supported_context(CTImageStorage, EXPLICIT_VR_LITTLE_ENDIAN.decode())
    entity.start_server((_HOST, port), evt_handlers=[(evt.EVT_C_STORE, handleStore)])


def main() -> None:
    """Serve as the command line says: a name, a port, a directory."""
    name, port, directory = sys.argv[1:]
    serve: dict[str, Callable[[int, Path], None]] = {
        "bare": serveBare,
        "native": serveNative,
        "native-durable": partial(serveNative, isDurable=True),
        "pynetdicom": servePynetdicom,
    }
    serve[name](int(port), Path(directory))


if __name__ == "__main__":
    main()
