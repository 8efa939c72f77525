"""
Replacing: an object takes the name of another, which is kept until that is decided.

The name is at no time without a whole object: the old file gets a working name besides, with a symbolic link beside it
that says whose it was; once these are durable the new file is renamed over the old. A process that dies in between
leaves the new object under the name, and the old one to the next start, which gives it a name again (``working``):
the sender of either may have been told that it is stored.
"""

from __future__ import annotations

import os

from dcxtwisted.stores.directories import Directories
from dcxtwisted.stores.standing import Held, StandingFile, restore, standsAt
from dcxtwisted.stores.synchronizing import synchronizeDirectory
from dcxtwisted.stores.working import NAME_OF, WorkingDirectories


class Replacement:
    """
    An object that stands under a name until another takes it, and what brings it back.

    After ``take`` comes ``forget`` or ``undo``; either may come before, too.
    """

    __slots__ = ("_directories", "_kept", "_old", "_workingNames")

    def __init__(self, old: StandingFile, directories: Directories, workingNames: WorkingDirectories) -> None:
        """
        :param old: held as long as this is used.
        """
        self._old = old
        self._directories = directories
        self._workingNames = workingNames
        self._kept = ""

    def prepare(self) -> None:
        """
        Give the old file a working name besides its own, durably.

        :raises Held: its own was taken away meanwhile.
        """
        filename = self._old.filename
        base = self._workingNames.baseOf(os.path.dirname(filename))
        self._kept = self._workingNames.reserve(base)
        directory = os.path.dirname(self._kept)
        os.symlink(os.path.relpath(filename, directory), self._kept + NAME_OF)
        try:
            os.link(filename, self._kept)
        except FileNotFoundError:
            raise Held from None
        if not standsAt(self._old.fd, self._kept):
            raise Held
        if self._directories.durable:
            self._directories.settle(directory)

    def take(self, workingName: str) -> None:
        """
        Put the new file in the place of the old; the caller makes the directory durable.

        :raises Held: it is no longer the old file that stands there.
        """
        filename = self._old.filename
        if not standsAt(self._old.fd, filename):
            raise Held
        os.rename(workingName, filename)

    def undo(self, new: int) -> None:
        """
        Put the old file back, durably, where the new one stands; beside it where something else does by now.

        :param new: the descriptor of the new file.
        """
        filename = self._old.filename
        if not self._kept:
            return
        try:
            if not standsAt(self._old.fd, filename):
                if standsAt(new, filename):
                    self._putBack(filename)
                else:
                    # An application has moved the new one away.
                    restore(self._kept, filename)
                if self._directories.durable:
                    synchronizeDirectory(os.path.dirname(filename))
        except OSError:
            # All that surely leads to the old object: left to the next start.
            kept, self._kept = self._kept, ""
            self._workingNames.leave(kept)
            raise
        self.forget()

    def _putBack(self, filename: str) -> None:
        # Not the kept name itself: until the directory is durable a crash may take the renaming back.
        spare = self._workingNames.reserve(self._workingNames.baseOf(os.path.dirname(filename)))
        try:
            os.link(self._kept, spare)
            os.rename(spare, filename)
        finally:
            self._workingNames.release(spare)

    def accept(self) -> None:
        """Let the old file go."""
        self._directories.doubts.remove(self._old.identity)
        self.forget()

    def forget(self) -> None:
        """Remove the working name: the old file stands in its place, or is to go."""
        kept, self._kept = self._kept, ""
        if kept:
            try:
                os.unlink(kept + NAME_OF)
            except FileNotFoundError:
                pass  # it did not come to that
            finally:
                self._workingNames.release(kept)
