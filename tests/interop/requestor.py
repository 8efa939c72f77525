"""
pynetdicom as a requestor; it blocks, so it runs in threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pydicom
from pynetdicom import AE, build_context, evt
from twisted.internet.threads import deferToThread

from dcxtwisted import Configuration
from dcxtwisted.uids import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from tests.interop.relay import Conversation
from tests.interop.samples import (
    CT_IMAGE_STORAGE,
    MR_IMAGE_STORAGE,
    SECONDARY_CAPTURE_IMAGE_STORAGE,
    SampleFile,
    sampleNamed,
)
from tests.interop.support import ListenerTestCase

#: What is proposed where a test does not say.
CLASSES = (VERIFICATION, CT_IMAGE_STORAGE, MR_IMAGE_STORAGE, SECONDARY_CAPTURE_IMAGE_STORAGE)
DEFAULT_CONTEXTS = tuple((SOPClassUID, EXPLICIT_VR_LITTLE_ENDIAN) for SOPClassUID in CLASSES)


def entity(title: str = "PYNETDICOM") -> AE:
    """Return an application entity that does not wait for ever."""
    made = AE(title)
    made.acse_timeout = made.dimse_timeout = made.network_timeout = made.connection_timeout = 45
    return made


def _requestSent(event: evt.Event) -> None:
    """
    Wait, before a request leaves, until the association's own thread has really paused.

    It takes any message it finds for a request of the peer's, and while C{send_c_store} waits for a response it is
    meant to pause. But a pause is told by a flag that stays set while the thread has not yet woken from the one before:
    woken on a busy machine behind the next request, it takes its response away, and C{send_c_store} waits in vain.
    """
    association = event.assoc
    while association.is_alive() and not association._reactor_checkpoint._cond._waiters:
        time.sleep(0.0001)


@contextmanager
def associated(
    port: int,
    contexts: Iterable[tuple[str, str | list[str]]],
    items: Sequence[object] = (),
    requestor: AE | None = None,
    calledAETitle: str = "DCXTWISTED",
    maximumLength: int = 16382,
) -> Iterator[Any]:
    """
    Hold an association; at the end it is released.

    :param contexts: abstract syntax and transfer syntaxes of each, which may come more than once.
    :param items: of the user information, besides those that are always there.
    """
    association = (requestor or entity()).associate(
        "127.0.0.1",
        port,
        [build_context(abstract, transfer) for abstract, transfer in contexts],
        calledAETitle,
        max_pdu=maximumLength,
        ext_neg=list(items),
        evt_handlers=[(evt.EVT_DIMSE_SENT, _requestSent)],
    )
    assert association.is_established
    try:
        yield association
        if association.is_established:
            association.release()
    finally:
        if association.is_established:
            association.abort()


def sendSamples(port: int, samples: Sequence[SampleFile], load: Callable[[SampleFile], object]) -> dict[str, str]:
    """
    Send samples on one association, and return the status of each, or why there is none.

    :param load: gives what pynetdicom is to send of a sample.
    """
    pairs = dict.fromkeys((sample.SOPClassUID, sample.transferSyntaxUID) for sample in samples)
    outcomes = {}
    with associated(port, pairs) as association:
        for messageID, sample in enumerate(samples, 1):
            try:
                answer = association.send_c_store(load(sample), msg_id=messageID)
            except Exception as error:
                # Whatever its codecs and pydicom's make of a sample.
                outcomes[sample.name] = type(error).__name__
            else:
                outcomes[sample.name] = f"{answer.Status:04X}"
    return outcomes


class NegotiationTestCase(ListenerTestCase):
    """
    A test of one association.

    :ivar client: pynetdicom's side of it.
    """

    client: Any

    async def propose(
        self,
        *items: object,
        contexts: Sequence[tuple[str, str | list[str]]] = DEFAULT_CONTEXTS,
        sample: str = "CT_small.dcm",
        configuration: Configuration | None = None,
        **how: Any,
    ) -> Conversation:
        """Return what was said on an association with these items, on which a C-ECHO and a C-STORE went well."""
        self.start(configuration=configuration)
        self.assertEqual(await deferToThread(self._work, sampleNamed(sample), contexts, items, how), (0, 0))
        conversation = await self.conversation()
        self.assertEqual([sent.status for sent in conversation.objects], [0])
        self.assertStoredExactly(conversation.objects)
        await self.assertEvents("OnConnection", "OnEcho", "OnStoreSetup", "OnStoreDone", end="released")
        return conversation

    def _work(
        self,
        sample: SampleFile,
        contexts: Sequence[tuple[str, str | list[str]]],
        items: Sequence[object],
        how: dict[str, Any],
    ) -> tuple[int, int]:
        with associated(self.relayed.port, contexts, items, **how) as association:
            self.client = association
            return association.send_c_echo().Status, association.send_c_store(pydicom.dcmread(sample.path)).Status
