"""
A requestor that sends objects one after the other and tells what was sent and answered; it waits for each answer.
"""

from __future__ import annotations

import socket
from hashlib import sha256
from struct import pack_into, unpack_from
from typing import Final

from benchmarks.load import associateRQ
from benchmarks.objects import SERIAL_DIGITS, Template, makeTemplate

_LONGEST_PDU: Final = 16384
_PATIENCE: Final = 30.0
_STATUS: Final = b"\0\0\0\x09\2\0\0\0"

#: An object: its SOP Instance UID and the hash of its data set.
Identity = tuple[str, bytes]


def templateOf(size: int, run: int) -> Template:
    """Return what objects of so many bytes are made from, whatever the acceptor's PDU length."""
    return makeTemplate(size, _LONGEST_PDU, run)


def requestFor(template: Template, serial: int) -> tuple[bytes, Identity]:
    """Return a C-STORE request as bytes, and what is in it."""
    head = bytearray(template.head)
    for position in template.serialsAt:
        head[position : position + SERIAL_DIGITS] = b"%0*d" % (SERIAL_DIGITS, serial)
    pack_into("<H", head, template.messageIDAt, 1)
    request = bytes(head) + template.body
    UID = bytes(head[template.UIDAt : template.serialsAt[0] + SERIAL_DIGITS]).decode()
    return request, (UID, sha256(_dataSetOf(request)).digest())


def _dataSetOf(request: bytes) -> bytes:
    """Return the fragments of all PDUs but the first, each of one PDV, in one piece."""
    position = 6 + unpack_from(">L", request, 2)[0]
    fragments = []
    while position < len(request):
        end = position + 6 + unpack_from(">L", request, position + 2)[0]
        fragments.append(request[position + 12 : end])
        position = end
    return b"".join(fragments)


class Requestor:
    """One association."""

    def __init__(self, port: int) -> None:
        """
        :raises OSError: there is no connection, or none any more.
        """
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self._socket.sendall(associateRQ(b"DCXTWISTED"))
        self._readPDU()

    def store(self, request: bytes) -> int:
        """
        Send a request and return the status of the response.

        :raises OSError: the connection broke, or something else came.
        """
        self._socket.sendall(request)
        PDU = self._readPDU()
        at = PDU.rfind(_STATUS)
        if at < 0:
            raise ConnectionAbortedError(f"no response but {PDU[:10].hex()}")
        status: int = unpack_from("<H", PDU, at + len(_STATUS))[0]
        return status

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _readPDU(self) -> bytes:
        data = b""
        while len(data) < 6 or len(data) < 6 + unpack_from(">L", data, 2)[0]:
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionResetError
            data += more
        return data
