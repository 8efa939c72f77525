"""
That the oracle notices: each thing that must hold in every case is broken once.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import fail
from twisted.logger import Logger

from tests.badinputs.cycles import measure
from tests.badinputs.inputs import PATIENT, RQ, echoRQ, store
from tests.badinputs.oracle import Attack, BadInputTestCase, Script
from tests.badinputs.peers import WHOLE, reactionsIn

_log = Logger("dcxtwisted.tests")


class OracleTests(BadInputTestCase):
    def assertNotices(self, what: str, script: Script, **answers: Any) -> None:
        """Assert that a run is judged badly, and with which words."""
        with self.assertRaises(self.failureException) as caught:
            self.eachWay(script, [WHOLE], **answers)
        self.assertIn(what, str(caught.exception))

    def assertNoticesAfterwards(self, what: str, harm: Script) -> None:
        """Assert that harm is noticed which an association leaves that was otherwise good."""

        def script(attack: Attack) -> None:
            attack.associate()
            harm(attack)
            attack.expectAlive()

        self.assertNotices(what, script)

    def test_nothing(self) -> None:
        self.bad(RQ, "AC")

    def test_reaction(self) -> None:
        with self.assertRaises(self.failureException):
            self.bad(RQ, "AB 0/0")
        with self.assertRaises(self.failureException):
            self.badOnceAssociated(echoRQ(), "AB 2/2")

    def test_connection(self) -> None:
        self.assertNotices("a connection stands", lambda attack: attack.connect())

    def test_timer(self) -> None:
        self.assertNoticesAfterwards("timers", lambda attack: attack.clock.callLater(1000, print))

    def test_descriptor(self) -> None:
        found: list[int] = []
        self.assertNoticesAfterwards("descriptors", lambda attack: found.append(os.open("/", os.O_RDONLY)))
        os.close(found[0])

    def test_memory(self) -> None:
        held: list[bytes] = []
        self.assertNoticesAfterwards("bytes of memory", lambda attack: held.append(bytes(9_000_000)))

    def test_file(self) -> None:
        self.assertNoticesAfterwards("stored, not []", lambda attack: attack.send(store()))

    def test_fileBesideTheStore(self) -> None:
        self.assertNoticesAfterwards("stored, not []", lambda attack: open(f"{attack.directory}/x", "w").close())

    def test_patientInTheLog(self) -> None:
        self.assertNoticesAfterwards("patient data", lambda attack: _log.debug("of {name}", name=PATIENT))

    def test_rawLog(self) -> None:
        self.assertNoticesAfterwards("a\nb", lambda attack: _log.debug("a\nb"))

    def test_manyLines(self) -> None:
        self.assertNoticesAfterwards("one, and one more", lambda attack: _log.info("one, and one more"))

    def test_failure(self) -> None:
        def script(attack: Attack) -> None:
            attack.associate()
            attack.expectAlive()

        self.assertNotices("ZeroDivisionError", script, OnEcho=ZeroDivisionError())

    def test_unhandledFailure(self) -> None:
        def harm(attack: Attack) -> None:
            fail(ZeroDivisionError())  # is nobody's, and gone at once

        self.assertNoticesAfterwards("Unhandled error in Deferred", harm)

    def test_canary(self) -> None:
        self.assertNotices("canary", lambda attack: attack.listener.acceptor.AbortActiveAssociations())

    def test_streams(self) -> None:
        """Bytes that are no whole PDUs are not passed over."""
        for stream in (b"\7\0\0\0\0\4\0\0\2", b"\7\1\0\0\0\4\0\0\2\2", b"\4\0\0\0\0\7\0\0\0\3\1\2x"):
            with self.assertRaises(AssertionError):
                reactionsIn(stream)


class CyclesTests(BadInputTestCase):
    def test_aFew(self) -> None:
        lines: list[str] = []
        self.assertTrue(measure(140, 60, 8 * 1024 * 1024, lines.append), lines)
        self.assertIn("140 cycles in", lines[-1])
        self.assertEqual(len(lines), 11)

    def test_stopsByItself(self) -> None:
        """And says that it did not do all."""
        lines: list[str] = []
        self.assertFalse(measure(1_000_000, 0.2, 8 * 1024 * 1024, lines.append), lines)
