"""
A requestor that sends one message after the other and tells what was sent and answered; it waits for each answer.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from hashlib import sha256
from struct import pack_into, unpack_from
from typing import Final

from benchmarks.load import RELEASE_RQ, associateRQ
from benchmarks.objects import (
    CT_IMAGE_STORAGE,
    EXPLICIT_VR_LITTLE_ENDIAN,
    SERIAL_DIGITS,
    Template,
    echoRequest,
    makeTemplate,
)

_LONGEST_PDU: Final = 16384
_PATIENCE: Final = 30.0
_STATUS: Final = b"\0\0\0\x09\2\0\0\0"

_ECHO: Final = echoRequest()

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
    """
    One association.

    :ivar associatedIn: seconds from the A-ASSOCIATE-RQ to its answer.
    """

    def __init__(
        self,
        port: int,
        TLS: ssl.SSLContext | None = None,
        abstractSyntax: bytes = CT_IMAGE_STORAGE,
        transferSyntax: bytes = EXPLICIT_VR_LITTLE_ENDIAN,
    ) -> None:
        """
        :param TLS: speak TLS by it.
        :raises OSError: there is no connection, or none any more, or the association is not accepted.
        """
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if TLS is not None:
            self._socket = TLS.wrap_socket(self._socket)
        begun = time.perf_counter()
        self._socket.sendall(associateRQ(b"DCXTWISTED", 1, abstractSyntax, transferSyntax))
        PDU = self._readPDU()
        self.associatedIn = time.perf_counter() - begun
        if PDU[0] != 2:
            self.close()
            raise ConnectionRefusedError(f"no A-ASSOCIATE-AC but {PDU[:10].hex()}")

    def echo(self) -> float:
        """
        Send a C-ECHO and return the seconds to its response; for an association with C{VERIFICATION}.

        :raises OSError: the connection broke, or something else came.
        """
        begun = time.perf_counter()
        status = self.store(_ECHO)
        if status:
            raise ConnectionAbortedError(f"a C-ECHO answered with {status:04X}")
        return time.perf_counter() - begun

    def store(self, request: bytes) -> int:
        """
        Send a request and return the status of the response.

        :raises OSError: the connection broke, or something else came.
        """
        return self.storePieces((request,))

    def storePieces(self, pieces: Iterable[bytes]) -> int:
        """As C{store}, with a request in pieces."""
        for piece in pieces:
            self._socket.sendall(piece)
        PDU = self._readPDU()
        at = PDU.rfind(_STATUS)
        if at < 0:
            raise ConnectionAbortedError(f"no response but {PDU[:10].hex()}")
        status: int = unpack_from("<H", PDU, at + len(_STATUS))[0]
        return status

    def release(self) -> None:
        """
        Release the association and close the connection.

        :raises OSError: the connection broke, or something else came.
        """
        self._socket.sendall(RELEASE_RQ)
        PDU = self._readPDU()
        self.close()
        if PDU[0] != 6:
            raise ConnectionAbortedError(f"no A-RELEASE-RP but {PDU[:10].hex()}")

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
