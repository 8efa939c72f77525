"""
Every sample file of pydicom, its data set sent as it stands in the file: what is acknowledged is stored byte for byte,
and what is refused is listed here.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from struct import unpack

import pydicom
from twisted.internet.threads import deferToThread

from dcxtwisted import Configuration
from dcxtwisted.testing import associateRQ
from dcxtwisted.wire.assembly import fragment
from dcxtwisted.wire.commandset import decodeCommandSet
from dcxtwisted.wire.items import ABSTRACT_SYNTAX_NOT_SUPPORTED, ACCEPTANCE
from dcxtwisted.wire.messages import ERROR_COMMENT, MESSAGE_ID_BEING_RESPONDED_TO, STATUS, encodeCStoreRQ
from dcxtwisted.wire.negotiation import MINIMUM_PDU_LENGTH
from dcxtwisted.wire.pdu import P_DATA_TF, AssociateAC, ReleaseRP, ReleaseRQ, decode
from tests.interop.samples import MEDIA_DIRECTORIES, WITHOUT_IDENTITY, Part10, SampleFile, sampleFiles
from tests.interop.support import ListenerTestCase

#: What a peer is told of an object: the status, or the result of its presentation context; and the comment.
Outcome = tuple[str, str]

STORED: Outcome = ("status 0000", "")
_NO_IDENTITY: Outcome = ("status C000", "no SOP Class UID or no SOP Instance UID")
_NOT_STORAGE: Outcome = (f"context result {ABSTRACT_SYNTAX_NOT_SUPPORTED}", "")

#: Each file that is refused, with what its sender is told; another version of pydicom may lack some.
REFUSED: Mapping[str, Outcome] = {
    # Cut in the middle of a value: whoever sent them must not take them for stored.
    "MR_truncated.dcm": ("status C000", "value of (7FE0,0010) cut by 62 bytes"),
    "rtplan_truncated.dcm": ("status C000", "value of (300A,00B0) cut by 265 bytes"),
    **dict.fromkeys(WITHOUT_IDENTITY, _NO_IDENTITY),
    **dict.fromkeys(MEDIA_DIRECTORIES, _NOT_STORAGE),
}


class SampleFilesTests(ListenerTestCase):
    """The sample files, sent by a peer that knows nothing about data sets."""

    async def test_each(self) -> None:
        """Each file is stored as it is under the name it should have, or refused as listed."""
        port = self.listen()
        samples = sampleFiles()
        outcomes = await deferToThread(sendAll, port, samples)
        present = {sample.name for sample in samples}
        refused = {name: outcome for name, outcome in outcomes.items() if outcome != STORED}
        self.assertEqual(refused, {name: outcome for name, outcome in REFUSED.items() if name in present})
        stored = self.storedFiles()
        names = namesOf(samples, outcomes)
        self.assertEqual(set(stored), set(names.values()))
        for sample in samples:
            if sample.name in names:
                self.assertKept(sample, stored[names[sample.name]], self.store / names[sample.name])

    def assertKept(self, sample: SampleFile, kept: Part10, path: Path) -> None:
        """Fail unless a stored file is what its sample was: the bytes, their syntax, and what pydicom makes of it."""
        self.assertEqual(kept.dataSet, sample.dataSet, sample.name)
        self.assertEqual(kept.transferSyntaxUID, sample.transferSyntaxUID, sample.name)
        self.assertEqual(kept.SOPClassUID, sample.SOPClassUID, sample.name)
        self.assertEqual(kept.SOPInstanceUID, sample.SOPInstanceUID, sample.name)
        self.assertEqual(pydicom.dcmread(path), pydicom.dcmread(sample.path, force=True), sample.name)

    async def test_sentTwice(self) -> None:
        """Sent again on another association, all is answered as before, and the store holds what it held."""
        port = self.listen()
        samples = sampleFiles()
        outcomes = await deferToThread(sendAll, port, samples)
        stored = self.storedFiles()
        self.assertEqual(await deferToThread(sendAll, port, samples), outcomes)
        self.assertEqual(self.storedFiles(), stored)

    async def test_inManyPieces(self) -> None:
        """The smallest of fragments change nothing."""
        port = self.listen(configuration=Configuration(maximumLength=MINIMUM_PDU_LENGTH))
        samples = [sample for sample in sampleFiles() if len(sample.dataSet) < 8000]
        outcomes = await deferToThread(sendAll, port, samples)
        for sample in samples:
            self.assertEqual(outcomes[sample.name], REFUSED.get(sample.name, STORED))
        stored = {(kept.transferSyntaxUID, kept.dataSet) for kept in self.storedFiles().values()}
        accepted = [sample for sample in samples if sample.name not in REFUSED]
        self.assertEqual(stored, {(sample.transferSyntaxUID, sample.dataSet) for sample in accepted})


def namesOf(samples: Sequence[SampleFile], outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """
    Return where each sample that was stored stands, stored in this order.

    Other bytes under the same UID stand beside the first, as ``~1`` and so on.
    """
    taken: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    names = {}
    for sample in samples:
        if outcomes[sample.name] != STORED:
            continue
        stem = f"{sample.directory}/{sample.SOPInstanceUID}"
        content = (sample.transferSyntaxUID, sample.dataSet)
        if content not in taken[stem]:
            taken[stem].append(content)
        number = taken[stem].index(content)
        names[sample.name] = f"{stem}~{number}.dcm" if number else f"{stem}.dcm"
    return names


# The peer: it blocks, so it runs in a thread


def sendAll(port: int, samples: Sequence[SampleFile]) -> dict[str, Outcome]:
    """Send samples on one association, one after the other, and return what came of each."""
    syntaxes = dict.fromkeys((sample.SOPClassUID, sample.transferSyntaxUID) for sample in samples)
    contexts = {2 * number + 1: (abstract, [transfer]) for number, (abstract, transfer) in enumerate(syntaxes)}
    outcomes = {}
    with associated(port, contexts) as (connection, accepted):
        results = {context.contextID: context.result for context in accepted.presentationContexts}
        contextIDs = dict(zip(syntaxes, contexts, strict=True))
        for messageID, sample in enumerate(samples, 1):
            contextID = contextIDs[sample.SOPClassUID, sample.transferSyntaxUID]
            if results[contextID] != ACCEPTANCE:
                outcomes[sample.name] = (f"context result {results[contextID]}", "")
            else:
                maximumLength = accepted.userInformation.maximumLength or 0
                outcomes[sample.name] = send(connection, sample, contextID, messageID, maximumLength)
    return outcomes


@contextmanager
def associated(port: int, contexts: Mapping[int, tuple[str, list[str]]]) -> Iterator[tuple[socket.socket, AssociateAC]]:
    """Hold an association; at the end it is released."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(associateRQ(contexts).encode())
        accepted = decode(*receive(connection))
        assert isinstance(accepted, AssociateAC), accepted
        yield connection, accepted
        connection.sendall(ReleaseRQ().encode())
        assert decode(*receive(connection)) == ReleaseRP()


def send(connection: socket.socket, sample: SampleFile, contextID: int, messageID: int, maximumLength: int) -> Outcome:
    """Send one object and return what its response says."""
    command = encodeCStoreRQ(messageID, sample.SOPClassUID, sample.SOPInstanceUID)
    connection.sendall(fragment(contextID, True, command, maximumLength))
    connection.sendall(fragment(contextID, False, sample.dataSet, maximumLength))
    pduType, body = receive(connection)
    assert pduType == P_DATA_TF, (sample.name, pduType, body)
    # The whole of a response is in one PDV here: nothing of ours is longer than 16384 bytes.
    elements = decodeCommandSet(body[6:])
    assert elements[MESSAGE_ID_BEING_RESPONDED_TO] == messageID.to_bytes(2, "little")
    comment = elements.get(ERROR_COMMENT, b"").rstrip(b" ").decode("ascii")
    return f"status {int.from_bytes(elements[STATUS], 'little'):04X}", comment


def receive(connection: socket.socket) -> tuple[int, bytes]:
    """Return type and body of the next PDU."""
    pduType, length = unpack(">BxL", receiveExactly(connection, 6))
    return pduType, receiveExactly(connection, length)


def receiveExactly(connection: socket.socket, size: int) -> bytes:
    """Return that many bytes."""
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        assert chunk, f"closed after {data!r}"
        data += chunk
    return data
