"""
Files without a name, and how they get one: everything here blocks, and any OSError passes through.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from errno import EINVAL, EISDIR, EOPNOTSUPP
from secrets import token_hex
from typing import Final

from dcxtwisted.configuration import Duplicates
from dcxtwisted.errors import DuplicateRefused, StoreRefused
from dcxtwisted.interfaces import Outcome
from dcxtwisted.statuses import CANNOT_UNDERSTAND
from dcxtwisted.stores.directories import ATTEMPTS, Directories
from dcxtwisted.stores.replacing import Replacement
from dcxtwisted.stores.standing import Found, Held, StandingFile, candidates, standsAt
from dcxtwisted.stores.synchronizing import NotSynchronized, synchronizeDirectory, synchronizeFile
from dcxtwisted.stores.working import INCOMING, WorkingDirectories
from dcxtwisted.stores.writing import Buffers, WrittenFile

# Bytes of a file that are not removed in passing: a GiB takes 50 to 150 ms, this much some 1 ms.
_MUCH: Final = 16 << 20
# How often a name may come free, while it is being used, before it is given up.
_ATTEMPTS = 5
# What a file system that has no unnamed files says; EISDIR is said by a kernel that has none.
_NO_UNNAMED_FILES = frozenset({EOPNOTSUPP, EISDIR, EINVAL})


# What comes of another object of the same UID under the name.
_OUTCOMES: Final = {Duplicates.REPLACE: Outcome.REPLACED, Duplicates.KEEP_FIRST: Outcome.KEPT_FIRST}


def createUnnamed(directory: str) -> int | None:
    """Return the descriptor of a new file without a name, None where the file system has none such."""
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666)
    except OSError as error:
        if error.errno in _NO_UNNAMED_FILES:
            return None
        raise


def linkUnnamed(fd: int, filename: str) -> None:
    """Give an unnamed file a name, which must not be there."""
    # With a descriptor of a directory Python calls linkat, and has it follow; an absolute path leaves that one unused.
    os.link(f"/proc/self/fd/{fd}", filename, src_dir_fd=fd, follow_symlinks=True)


def makesUnnamedFiles(directory: str) -> bool:
    """Tell whether files can be made in a directory without a name and be given one: that takes /proc too."""
    fd = createUnnamed(directory)
    if fd is None:
        return False
    name = os.path.join(directory, f"{INCOMING}-{os.getpid()}-{token_hex(8)}")
    try:
        linkUnnamed(fd, name)
        os.unlink(name)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


class UnnamedFile(WrittenFile):
    """
    A written file that has no final name yet, and later has one.

    :ivar filename: the final name once it is decided; before, '' or one that was tried.
    """

    __slots__ = (
        "_directories",
        "_made",
        "_prepared",
        "_replacement",
        "_standing",
        "_workingName",
        "_workingNames",
        "filename",
    )

    def __init__(
        self,
        fd: int,
        lead: bytes,
        buffers: Buffers | None,
        directories: Directories,
        workingNames: WorkingDirectories,
        workingName: str,
        made: Sequence[str] = (),
    ) -> None:
        """
        :param workingName: where the file stands while it has no final name, '' where it stands nowhere.
        :param made: directories that were made for it, from the top down.
        """
        super().__init__(fd, lead, buffers)
        self._directories = directories
        self._workingNames = workingNames
        self._workingName = workingName
        self._made = made
        self._prepared = False
        self._standing: StandingFile | None = None
        self._replacement: Replacement | None = None
        self.filename = ""

    def publish(self, filename: str, uids: tuple[str, str], duplicates: Duplicates) -> Outcome:
        """
        Give the file its name, or find what serves as well, and make that durable.

        :param uids: its transfer syntax and SOP instance.
        :param duplicates: what to do where another object of this UID has the name.
        :raises Held: nothing was decided; call it again.
        """
        self._prepare()
        outcome = self._place(filename, uids, duplicates)
        if self._directories.durable:
            self._settle()
        return outcome

    def _settle(self) -> None:
        standing = self._standing if self._replacement is None else None
        try:
            if standing is not None:
                synchronizeFile(standing.fd)
            self._directories.settle(os.path.dirname(self.filename))
        except NotSynchronized:
            if standing is not None:
                self._directories.doubts.add(standing.identity)
            raise

    def publishNew(self, filename: str) -> None:
        """
        Give the file its name and nothing more, the quick way of a store that is not durable.

        :raises FileExistsError: something stands there; ``publish`` finds out what.
        """
        self._prepare()
        self._link(filename)

    def _prepare(self) -> None:
        """Do all that can fail before there is a name, and hold the file so that no duplicate is answered early."""
        if self._prepared:
            return
        self.flush()
        if self._directories.durable:
            self.synchronize()
        # Closing a duplicate makes a file system report what it would report at the last close, for 0.5 us, and
        # the lock stays.
        os.close(os.dup(self._fd))
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._prepared = True

    def _place(self, filename: str, uids: tuple[str, str], duplicates: Duplicates) -> Outcome:
        refused = False
        for candidate in candidates(filename):
            found = self._placeAt(candidate, uids, duplicates, not refused)
            if found is Found.SAME:
                return Outcome.IDENTICAL
            if found is Found.NOTHING and refused:
                break
            if found is Found.NOTHING:
                return Outcome.NEW if candidate == filename else Outcome.KEPT_BOTH
            if found is Found.RIVAL and duplicates in _OUTCOMES:
                return _OUTCOMES[duplicates]
            # Refused only where the same object does not stand beside the other, from when both were kept.
            refused = refused or (found is Found.RIVAL and duplicates is Duplicates.REFUSE)
        if refused:
            raise DuplicateRefused(CANNOT_UNDERSTAND, "another object has this UID")
        raise StoreRefused(CANNOT_UNDERSTAND, "too many different objects with this UID")

    def _placeAt(self, candidate: str, uids: tuple[str, str], duplicates: Duplicates, linking: bool) -> Found:
        """
        Return what was found under a name and is dealt with.

        :param linking: whether to take the name where there was nothing.
        """
        for _ in range(_ATTEMPTS):
            if linking:
                try:
                    self._link(candidate)
                    return Found.NOTHING
                except FileExistsError:
                    if standsAt(self._fd, candidate):  # NFS, where an answer got lost
                        return Found.NOTHING
            try:
                standing = StandingFile.hold(candidate)
            except FileNotFoundError:
                if not linking:
                    return Found.NOTHING
            else:
                return Found.OTHER if standing is None else self._beside(standing, uids, duplicates)
        raise Held

    def _beside(self, standing: StandingFile, uids: tuple[str, str], duplicates: Duplicates) -> Found:
        """Compare with what stands under a name, and keep hold of it where it matters to the end."""
        try:
            found = standing.compare(self._fd, self._dataOffset, self.size, *uids)
            # One that could not be synchronized before stands for nothing: to try once more would prove nothing.
            doubted = standing.identity in self._directories.doubts
            relied = found is Found.SAME or (found is Found.RIVAL and duplicates is Duplicates.KEEP_FIRST)
            if (found is Found.RIVAL and duplicates is Duplicates.REPLACE) or (found is Found.SAME and doubted):
                self._replace(standing)
            elif relied and doubted:
                found = Found.OTHER
            elif relied:
                self._standing = standing
                self.filename = standing.filename
        finally:
            if self._standing is not standing:
                standing.close()
        return found

    def _replace(self, standing: StandingFile) -> None:
        replacement = Replacement(standing, self._directories, self._workingNames)
        self._standing, self._replacement = standing, replacement
        try:
            replacement.prepare()
            if not self._workingName:
                base = self._workingNames.baseOf(os.path.dirname(standing.filename))
                self._workingName = self._workingNames.reserve(base)
                linkUnnamed(self._fd, self._workingName)
            replacement.take(self._workingName)
        except Held:
            self._standing = self._replacement = None
            replacement.forget()
            raise
        self.filename = standing.filename
        self._releaseWorkingName()

    def _link(self, filename: str) -> None:
        for _ in range(ATTEMPTS):
            try:
                self._linkOnce(filename)
                return
            except FileNotFoundError:
                # Looked for only now: usually the directory is there, and asking costs as much as linking.
                self._made = [*self._made, *self._directories.make(os.path.dirname(filename))]
        self._linkOnce(filename)

    def _linkOnce(self, filename: str) -> None:
        # Before it is tried: what fails may have been done all the same.
        self.filename = filename
        if self._workingName:
            os.link(self._workingName, filename)
            self._releaseWorkingName()
        else:
            linkUnnamed(self._fd, filename)

    @property
    def removesMuch(self) -> bool:
        """Whether ``accept`` removes a file that may be large: what is replaced, or itself where another serves."""
        return self._replacement is not None or (self._standing is not None and self.size > _MUCH)

    def accept(self) -> None:
        """The object is acknowledged: what it replaces goes, and all that is held is let go of."""
        try:
            if self._replacement is not None:
                self._replacement.accept()
        finally:
            self.close()

    def discard(self) -> None:
        """
        Take the name away again, where it still is this file's, or give it back to what stood there; close.

        Directories that were made for it go with it, where nothing else is in them.
        """
        try:
            if self._replacement is not None:
                self._replacement.undo(self._fd)
            elif self.filename and standsAt(self._fd, self.filename):
                # From now on they may go, and be made again by another process, with the same inodes.
                self._directories.forget(os.path.dirname(self.filename))
                os.unlink(self.filename)
                if self._directories.durable:
                    self._synchronizeRemoval()
        except OSError:
            self._doubt()
            raise
        finally:
            try:
                self.close()
            finally:
                self._directories.remove(self._made, os.path.dirname(self.filename))

    def _synchronizeRemoval(self) -> None:
        try:
            synchronizeDirectory(os.path.dirname(self.filename))
        except NotSynchronized:
            raise
        except OSError:
            pass  # it is gone; that a crash may bring it back, unacknowledged, does no harm

    def _doubt(self) -> None:
        """What was refused stands there still, perhaps not durable."""
        try:
            status = os.fstat(self._fd)
        except OSError:
            return
        if status.st_nlink:
            self._directories.doubts.add((status.st_dev, status.st_ino))

    def close(self) -> None:
        """Let go of everything held; what has a name keeps it."""
        try:
            if self._workingName:
                self._releaseWorkingName()
        finally:
            standing, self._standing = self._standing, None
            try:
                if standing is not None:
                    standing.close()
            finally:
                super().close()

    def _releaseWorkingName(self) -> None:
        name, self._workingName = self._workingName, ""
        self._workingNames.release(name)
