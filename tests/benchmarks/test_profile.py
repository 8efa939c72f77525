"""
Tests of L{benchmarks.profile}, L{benchmarks.syscalls} and L{benchmarks.cutouts}.
"""

from __future__ import annotations

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.cutouts import Counting, Wire
from benchmarks.load import RELEASE_RQ, associateRQ
from benchmarks.objects import makeTemplate
from benchmarks.profile import PARTS, formatCalls, formatProfile, profiled
from benchmarks.results import Case, Measured
from benchmarks.syscalls import Calls, parseSummary
from tests.benchmarks.support import ran

SUMMARY = """

 Summary of events:

 twistd (26189), 992 events, 95.4%

   syscall            calls  errors  total       min       avg       max       stddev
                                     (msec)    (msec)    (msec)    (msec)        (%)
   --------------- --------  ------ -------- --------- --------- ---------     ------
   recvfrom             200      0    10.000     0.012     0.050     0.056      2.18%
   epoll_wait           100      0   500.500     0.012     5.005    10.000      2.18%

 twistd (26190), 2 events, 0.2%

   recvfrom               2      1     2.000     1.000     1.000     1.000      0.00%
"""


class ProfileTests(SynchronousTestCase):
    """The tables."""

    def runs(self, **microseconds: tuple[int, int]) -> Measured:
        """Return runs of one round, user and system time by receiver."""
        return {
            Case("1K", 8, 1, name): {0: ran(100, user * 1e-6, system * 1e-6)}
            for name, (user, system) in microseconds.items()
        }

    def rows(self, text: str) -> dict[str, list[str]]:
        """Return the cells of each row by the part."""
        return {part: cells.split() for line in text.splitlines() for part, _, cells in [line.partition("  ")]}

    def test_whatEachAdds(self) -> None:
        """A part takes what it adds to the one before it; where one was not measured, to the one before that."""
        rows = self.rows(formatProfile({"": self.runs(reactor=(10, 20), wire=(15, 20), reader=(40, 21))}, "1K", 8))
        self.assertEqual(rows["part"], ["us", "user", "system"])
        self.assertEqual(rows["reactor: recv, send, epoll"], ["30.0", "10.0", "20.0"])
        self.assertEqual(rows["wire: framing, command sets"], ["5.0", "5.0", "0.0"])
        self.assertEqual(rows["association, dimse, services"], ["-"] * 3)
        self.assertEqual(rows["data set reader"], ["26.0", "25.0", "1.0"])
        self.assertEqual(rows["all, without durability"], ["-"] * 3)

    def test_beforeAndAfter(self) -> None:
        columns = {"before": self.runs(dcxtwisted=(60, 40)), "after": self.runs(dcxtwisted=(30, 40))}
        rows = self.rows(formatProfile(columns, "1K", 8))
        self.assertEqual(" ".join(rows["part"]), "before us before user before system after us after user after system")
        self.assertEqual(rows["all, without durability"], ["100.0", "60.0", "40.0", "70.0", "30.0", "40.0"])

    def test_everyPartHasAReceiver(self) -> None:
        self.assertEqual(list(profiled()), list(PARTS))
        self.assertEqual(
            [name for name, receiver in profiled().items() if not receiver.keeps],
            ["reactor", "wire", "services", "reader"],
        )


class CallsTests(SynchronousTestCase):
    """System calls, from perf's summary to the table."""

    def test_parse(self) -> None:
        """The calls of all threads together."""
        calls = parseSummary(SUMMARY)
        self.assertEqual(list(calls), ["recvfrom", "epoll_wait"])
        self.assertEqual((calls["recvfrom"].count, calls["epoll_wait"].count), (202, 100))
        self.assertAlmostEqual(calls["recvfrom"].seconds, 0.012)
        self.assertAlmostEqual(calls["epoll_wait"].seconds, 0.5005)

    def test_table(self) -> None:
        """What tracing adds is taken off, what waits has no time, and what is rare is left out."""
        calls = {
            "epoll_wait": Calls(50, 5.0),
            "close": Calls(100, 0.0012),
            "recvfrom": Calls(200, 0.004),
            "futex": Calls(0, 0.0),
            "brk": Calls(1, 0.1),
        }
        lines = [line.split() for line in formatCalls(calls, 200, 0.00001).splitlines()]
        self.assertEqual(
            lines[1:],
            [
                ["recvfrom", "1.00", "10.0", "10.0"],
                ["close", "0.50", "2.0", "1.0"],
                ["epoll_wait", "0.25", "(waits)", "-"],
            ],
        )


class Transport(StringTransport):
    """One that has what TCP has."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Whatever."""


class CutoutTests(SynchronousTestCase):
    """What stands on the reactor alone answers as the whole listener does, however the stream is cut."""

    def conversation(self, protocol: Counting | Wire, cut: int) -> list[int]:
        """Return the types of the PDUs in what was answered to an association with two objects."""
        transport = Transport()
        protocol.makeConnection(transport)
        template = makeTemplate(400_000, 131072, 1)
        stream = template.head + bytes(template.body)
        for message in (associateRQ(b"ANY-SCP"), stream, stream, RELEASE_RQ):
            for start in range(0, len(message), cut):
                protocol.dataReceived(message[start : start + cut])
        answered, types = transport.value(), []
        while answered:
            types.append(answered[0])
            answered = answered[6 + int.from_bytes(answered[2:6], "big") :]
        return types

    def test_conversation(self) -> None:
        for kind in (Counting, Wire):
            for cut in (262144, 131078, 65536, 1009):
                self.assertEqual(self.conversation(kind(), cut), [2, 4, 4, 6], (kind, cut))
