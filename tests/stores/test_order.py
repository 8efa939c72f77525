"""
Tests for the file store: in which order a listener asks the system for what, as ``strace`` sees it.
"""

from __future__ import annotations

from itertools import groupby, pairwise

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.kills import WITHOUT_UNNAMED_FILES
from tests.loopback import BlockingPeer, directoryFor
from tests.stores.tracing import Call, TracedListener
from tests.support import dataSet

# Where the layout puts what has no study and no series.
_DIRECTORY = "unknown/unknown"


class OrderTests(SynchronousTestCase):
    """Nothing is answered before it is on the disk, and nothing has a name before its bytes are."""

    def store(self, *objects: tuple[str, int], options: tuple[str, ...] = ()) -> list[list[str]]:
        """
        Store objects, each by its UID and its size; return what was done for each, from its file on.

        What follows the last response comes last. Each call has returned before the next begins.
        """
        listener = TracedListener(self, directoryFor(self), *options)
        peer = BlockingPeer(listener.port).established()
        for UID, size in objects:
            self.assertEqual(peer.storeAnd(dataSet(UID, size), UID), 0)
        peer.release()
        peer.until(lambda: peer.released)
        peer.close()
        listener.stop()
        stretches: list[list[tuple[str, Call]]] = [[]]
        for what, call in listener.told():
            if what == "send":
                stretches.append([])
            elif what != "unlink */lock":  # the working directory goes when it stops
                stretches[-1].append((what, call))
        # The A-ASSOCIATE-AC comes before the first object, and the A-RELEASE-RP after the last.
        self.assertEqual(len(stretches), len(objects) + 3)
        for steps in stretches[1:-2]:
            for (_, before), (_, after) in pairwise(steps):
                self.assertLess(before.returned, after.begun, steps)
        found = [[what for what, _ in steps] for steps in stretches[1:]]
        return [*found[:-2], found[-2] + found[-1]]

    def test_new(self) -> None:
        """Written, synchronized, named, the directory synchronized, and each new one above it; then the response."""
        first, second, after = self.store(("1.2.3", 300_000), ("1.2.4", 300))
        self.assertEqual(
            withoutRepeats(first),
            [
                "create in .",
                "write the file",
                "fsync the file",
                *("mkdir unknown", f"mkdir {_DIRECTORY}"),
                f"link {_DIRECTORY}/1.2.3.dcm",
                *(f"fsync {_DIRECTORY}", "fsync unknown", "fsync ."),
            ],
        )
        self.assertEqual(
            withoutRepeats(second),
            [
                "create in .",
                "write the file",
                "fsync the file",
                f"link {_DIRECTORY}/1.2.4.dcm",
                f"fsync {_DIRECTORY}",
            ],
        )
        self.assertEqual(after, [])

    def test_newFromWorkingDirectory(self) -> None:
        """The same where the file has a working name until it has its own."""
        _, second, after = self.store(("1.2.3", 300), ("1.2.4", 300_000), options=WITHOUT_UNNAMED_FILES)
        self.assertEqual(
            withoutRepeats(second),
            [
                "create in *",
                "write the file",
                "fsync the file",
                f"link {_DIRECTORY}/1.2.4.dcm",
                "unlink */2",
                f"fsync {_DIRECTORY}",
            ],
        )
        self.assertEqual(after, [])

    def test_duplicate(self) -> None:
        """What stands there is synchronized, and its directory, before it is answered for."""
        for options, place, removed in (((), ".", []), (WITHOUT_UNNAMED_FILES, "*", ["unlink */2"])):
            _, second, after = self.store(("1.2.3", 300), ("1.2.3", 300), options=options)
            done = [
                f"create in {place}",
                "write the file",
                "fsync the file",
                f"fsync {_DIRECTORY}/1.2.3.dcm",
                f"fsync {_DIRECTORY}",
            ]
            steps = withoutRepeats(second)
            self.assertEqual(steps[: len(done)], done)
            # Its own copy goes before the response, or beside it in a thread, where the disk was slow.
            self.assertEqual(steps[len(done) :] + after, removed)

    def test_keptBoth(self) -> None:
        """Another object of the UID is named beside the first, in the same order."""
        _, second, _ = self.store(("1.2.3", 300), ("1.2.3", 400))
        self.assertEqual(
            withoutRepeats(second),
            [
                "create in .",
                "write the file",
                "fsync the file",
                f"link {_DIRECTORY}/1.2.3~1.dcm",
                f"fsync {_DIRECTORY}",
            ],
        )

    def test_keptFirst(self) -> None:
        """The one that is acknowledged and not kept waits for the one that is."""
        _, second, after = self.store(("1.2.3", 300), ("1.2.3", 400), options=("--set", "duplicates=keep-first"))
        self.assertEqual(
            withoutRepeats(second),
            [
                "create in .",
                "write the file",
                "fsync the file",
                f"fsync {_DIRECTORY}/1.2.3.dcm",
                f"fsync {_DIRECTORY}",
            ],
        )
        self.assertEqual(after, [])

    def test_replaced(self) -> None:
        """The old one has a durable working name before the new one takes its place, and loses it after that."""
        replacing = ("--set", "duplicates=replace")
        made = ["mkdir .incoming", "mkdir *"]
        for options, number, before, naming in (((), 0, made, ["link */1"]), (WITHOUT_UNNAMED_FILES, 3, [], [])):
            _, second, after = self.store(("1.2.3", 300), ("1.2.3", 400), options=(*replacing, *options))
            kept = f"*/{number}"
            done = [
                "fsync the file",
                *before,
                *(f"symlink {kept}.name", f"link {kept}"),
                *("fsync *", "fsync .incoming", "fsync ."),
                *naming,
                f"rename {_DIRECTORY}/1.2.3.dcm",
                f"fsync {_DIRECTORY}",
            ]
            steps = withoutRepeats(second)[2:]
            self.assertEqual(steps[: len(done)], done)
            # Beside the response, in a thread.
            self.assertEqual(steps[len(done) :] + after, [f"unlink {kept}.name", f"unlink {kept}"])


def withoutRepeats(steps: list[str]) -> list[str]:
    """Return what was done, several writes as one, whichever call they are, without what only makes the disk begin."""
    named = ["write the file" if step == "writev the file" else step for step in steps]
    return [step for step, _ in groupby(named) if step != "sync_file_range the file"]
