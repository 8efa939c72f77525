"""
One object on its way into a file: the reactor's side of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dcxtwisted.dataset import Head
from dcxtwisted.errors import LocalProtocolError, StoreRefused
from dcxtwisted.interfaces import IStoreRequest, IStoreSink, Outcome, StoredObject
from dcxtwisted.statuses import OUT_OF_RESOURCES
from dcxtwisted.stores.filemeta import isAsAnnounced, leadOf
from dcxtwisted.stores.jobs import QUICK, Jobs, refusal
from dcxtwisted.stores.publishing import UnnamedFile
from dcxtwisted.stores.standing import Held

if TYPE_CHECKING:
    from dcxtwisted.stores.file import FileStore

_log = Logger()

# Bytes of one object after which what is written so far is synchronized while writing goes on: 8 GiB take 8 s so, and
# 23 s where all is left to the end.
_SYNCHRONIZED_EVERY: Final = 32 * 1024 * 1024
# Seconds until the next look at an object that another publisher holds; each wait is twice the one before, up to a
# limit, so that a crowd of duplicates does not keep the threads busy with looking.
_FIRST_WAIT: Final = 0.02
_LONGEST_WAIT: Final = 0.32


@implementer(IStoreSink)
class FileSink:
    """
    One object on its way into a file.

    Its file is used by one thread at a time: the reactor's while the store is quick, else by one job after the other.
    Only fdatasync runs beside writing.
    """

    __slots__ = (
        "_discarded",
        "_failure",
        "_file",
        "_filename",
        "_finished",
        "_jobs",
        "_kept",
        "_look",
        "_quick",
        "_request",
        "_store",
        "_unsynchronized",
    )

    def __init__(self, store: FileStore, file: UnnamedFile, filename: str, request: IStoreRequest, quick: bool) -> None:
        """
        :param filename: where the object is to stand, '' where the layout says so.
        :param quick: whether writing may begin on the reactor's thread.
        """
        self._store = store
        self._file = file
        self._filename = filename
        self._request = request
        self._quick = quick
        self._finished = self._kept = False
        self._unsynchronized = 0
        self._failure: BaseException | None = None
        self._jobs: Jobs | None = None
        self._look: Deferred[None] | None = None
        self._discarded: Deferred[None] | None = None

    def write(self, view: memoryview) -> Deferred[None] | None:
        """See ``IStoreSink.write``."""
        if self._file.gather(view):
            return None
        threads = self._store.threads
        started = threads.seconds()
        # Of any object: a hundred that each found out for themselves would hold everybody up a hundred times.
        if not self._quick or started < threads.slowUntil:
            self._quick = False
            return Deferred.fromCoroutine(self._writeInPool(bytes(view)))
        try:
            self._file.write(view)
        except OSError as error:
            self._failure = refusal(error)
            self._quick = False
            raise self._failure from error
        if threads.seconds() - started > QUICK:
            self._quick = threads.wasQuick(started)
        return self._wrote(len(view))

    async def _writeInPool(self, data: bytes) -> None:
        self._check()
        try:
            await self._ownJobs().run(self._store.threads.timed, self._file.write, data)
        except Exception as error:
            self._failure = error
            raise
        self._check()
        waiting = self._wrote(len(data))
        if waiting is not None:
            await waiting

    def _wrote(self, size: int) -> Deferred[None] | None:
        self._unsynchronized += size
        if self._unsynchronized < _SYNCHRONIZED_EVERY or not self._store.durable:
            return None
        return self._synchronize()

    def _synchronize(self) -> Deferred[None] | None:
        """Start to synchronize what is written, once the last time has returned."""
        jobs = self._ownJobs()
        if jobs.underWay:
            return Deferred.fromCoroutine(self._synchronizeNext(jobs))
        self._unsynchronized = 0
        jobs.run(self._file.synchronizeData).addErrback(self._synchronizingFailed)
        return None

    async def _synchronizeNext(self, jobs: Jobs) -> None:
        await jobs.idle()
        self._check()
        self._synchronize()

    def _synchronizingFailed(self, failure: Failure) -> None:
        # Whatever a second attempt said, the pages may be gone: the object has failed.
        error = self._failure = failure.value
        assert error is not None
        self._quick = False
        self._store.failed(error, self._filename)

    def _check(self) -> None:
        """Go on only where nothing failed meanwhile and nobody gave up."""
        if self._failure is not None:
            raise self._failure
        if self._discarded is not None:
            raise StoreRefused(OUT_OF_RESOURCES, "aborted")

    def _ownJobs(self) -> Jobs:
        # Made when it is needed: where nothing is synchronized, hardly ever.
        jobs = self._jobs
        if jobs is None:
            jobs = self._jobs = Jobs(self._store.threads.submit)
        return jobs

    def finish(self, head: Head) -> StoredObject | Deferred[StoredObject]:
        """See ``IStoreSink.finish``."""
        store = self._store
        filename = self._filename or store.pathOf(head, self._request)
        if not isAsAnnounced(head, self._request):
            return Deferred.fromCoroutine(self._finish(filename, head, leadOf(self._request, head)))
        started = store.threads.seconds()
        if store.threads.isSlow(started):
            self._quick = False
        if self._quick:
            try:
                if store.durable:
                    self._file.begin()
                    self._quick = store.threads.wasQuick(started)
                elif self._isPublishedHere(filename):
                    store.threads.wasQuick(started)
                    self._finished = True
                    return StoredObject(filename, self._file.size, head, Outcome.NEW)
            except OSError as error:
                store.threads.wasQuick(started)
                refused = refusal(error)
                refused.__cause__ = error
                store.failed(refused, self._filename)
                return self.abort().addCallback(lambda ignored: _raise(refused))
        if self._jobs is None and (self._quick or not self._file.gathers):
            # As with most: nothing is under way that would have to be waited for. 12 us less than a coroutine takes.
            publishing = self._publishOnce(filename, head)
            return publishing.addCallbacks(
                self._published, self._notPublished, callbackArgs=(filename, head), errbackArgs=(filename, head)
            )
        return Deferred.fromCoroutine(self._finish(filename, head))

    def _isPublishedHere(self, filename: str) -> bool:
        # On the reactor's thread, where nothing is synchronized: a hop to another and back costs more than all of it.
        try:
            self._file.publishNew(filename)
        except FileExistsError:
            return False  # what stands there is compared, and that may block
        return True

    def _published(self, outcome: Outcome, filename: str, head: Head) -> StoredObject | Deferred[StoredObject]:
        if self._failure is not None or self._discarded is not None:
            return Deferred.fromCoroutine(self._finish(filename, head))  # it tells what failed, and clears up
        self._finished = True
        return StoredObject(self._file.filename, self._file.size, head, outcome)

    def _notPublished(self, failure: Failure, filename: str, head: Head) -> Deferred[StoredObject]:
        return Deferred.fromCoroutine(self._finish(filename, head, failed=failure))

    async def _finish(
        self, filename: str, head: Head, lead: bytes = b"", failed: Failure | None = None
    ) -> StoredObject:
        """
        :param lead: what is to stand before the data set in place of what does, '' where that is right.
        :param failed: how a first attempt to publish it did, where there was one.
        """
        try:
            if self._file.gathers and not self._quick:
                # By itself, so that it is known for how long the disk is slow.
                await self._ownJobs().run(self._store.threads.timed, self._file.flush)
                self._check()
            if lead:
                await self._replaceLead(lead)
            outcome = await self._publish(filename, head, failed)
            self._check()
        except Exception as error:
            self._store.failed(error, self._filename)
            await self.abort()
            raise
        self._finished = True
        return StoredObject(self._file.filename, self._file.size, head, outcome)

    async def _replaceLead(self, lead: bytes) -> None:
        jobs = self._ownJobs()
        await jobs.idle()
        self._check()
        await jobs.run(self._file.replaceLead, lead)

    def _publishOnce(self, filename: str, head: Head) -> Deferred[Outcome]:
        uids = self._request.transferSyntaxUID, head.SOPInstanceUID
        return self._ownJobs().run(self._file.publish, filename, uids, self._store.duplicates)

    async def _publish(self, filename: str, head: Head, failed: Failure | None) -> Outcome:
        threads = self._store.threads
        await self._ownJobs().idle()
        deadline = threads.reactor.seconds() + self._store.heldDeadline
        wait = _FIRST_WAIT
        while True:
            self._check()
            try:
                if failed is not None:
                    failed.raiseException()
                return await self._publishOnce(filename, head)
            except Held:
                failed = None
                if threads.reactor.seconds() >= deadline:
                    raise StoreRefused(OUT_OF_RESOURCES, "the same object is being stored") from None
            self._check()
            self._look = deferLater(threads.reactor, wait)
            await self._look
            self._look = None
            wait = min(2 * wait, _LONGEST_WAIT)

    def keep(self) -> None:
        """See ``IStoreSink.keep``."""
        if self._kept or self._discarded is not None:
            return
        if not self._finished:
            raise LocalProtocolError("an object is kept when it is finished, not before")
        self._kept = True
        if self._file.removesMuch or not self._quick:
            # Not here: to remove a large file takes its time. Until it is gone nobody else is told of this one.
            self._ownJobs().run(self._file.accept).addErrback(_closingFailed)
            return
        try:
            self._file.close()
        except OSError as error:
            _closingFailed(Failure(refusal(error)))

    def abort(self) -> Deferred[None]:
        """See ``IStoreSink.abort``; what still runs in a thread is waited for."""
        if self._kept:
            return succeed(None)
        if self._discarded is None:
            self._discarded = Deferred()
            Deferred.fromCoroutine(self._discard()).chainDeferred(self._discarded)
            if self._look is not None:
                self._look.cancel()
        told: Deferred[None] = Deferred()
        self._discarded.addCallback(_tell, told)
        return told

    async def _discard(self) -> None:
        jobs = self._ownJobs()
        await jobs.idle()
        try:
            await jobs.run(self._file.discard)
        except StoreRefused as error:
            self._store.failed(error, self._filename)
            _log.error("an object could not be removed: {error}", error=error)
        except Exception:
            _log.failure("an object could not be removed")


def _tell(ignored: None, told: Deferred[None]) -> None:
    told.callback(None)


def _closingFailed(failure: Failure) -> None:
    # What closing has to say was asked for before the object had its name.
    error = failure.value
    _log.warn("closing a stored object: {error}", error=getattr(error, "comment", type(error).__name__))


def _raise(error: BaseException) -> NoReturn:
    raise error
