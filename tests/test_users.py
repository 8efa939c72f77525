"""Users: their identities as credentials for checkers, what peers are told, and that nothing secret is logged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.cred.checkers import FilePasswordDB, ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dcxtwisted.policy import Rule
from dcxtwisted.testing import ListenerInMemory, MemoryConnection, RecordingEvents, ScriptedPeer
from dcxtwisted.users import (
    LARGEST_RESPONSE,
    ITicket,
    IUsernameAlone,
    Passwords,
    Ticket,
    UsernameAlone,
    UsernamePassword,
    Users,
    passwordsFrom,
)
from dcxtwisted.wire.items import UserIdentityRequest
from dcxtwisted.wire.pdu import AssociateRJ
from tests.support import logged

NOT_CONFIRMED = AssociateRJ(1, 1, 1)
FAILED = AssociateRJ(2, 1, 1)
SECRET = "op3n-sesame"


@implementer(ICredentialsChecker)
class Checker:
    """A checker that answers as a test wants."""

    def __init__(self, kind: Any, answer: Any) -> None:
        self.credentialInterfaces = (kind,)
        self.answer = answer
        self.asked: list[Any] = []

    def requestAvatarId(self, credentials: Any) -> Any:
        self.asked.append(credentials)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(credentials) if callable(self.answer) else self.answer


class UsersTests(SynchronousTestCase):
    """What becomes of the user identity of a request."""

    def request(
        self, users: Users, identity: UserIdentityRequest | None, **options: Any
    ) -> tuple[ScriptedPeer, MemoryConnection]:
        self.events = RecordingEvents()
        self.listener = ListenerInMemory(self.events, users=users, **options)
        return self.listener.associate(userIdentity=identity)

    def answerTo(self, users: Users, identity: UserIdentityRequest | None, **options: Any) -> AssociateRJ | str:
        """Return the rejection, or the name of the user who came in."""
        peer, _ = self.request(users, identity, **options)
        return peer.rejected or self.listener.acceptor.associations[0].user

    def test_passwords(self) -> None:
        """Name and passcode let in together, and only together."""
        users = Users([Passwords({b"alice": SECRET.encode(), b"bob": b"b"})])
        self.assertEqual(self.answerTo(users, UserIdentityRequest(2, False, b"alice", SECRET.encode())), "alice")
        for name, passcode in [(b"alice", b"b"), (b"alice", b""), (b"carol", b"b"), (b"carol", b""), (b"", b"")]:
            with self.subTest(name=name, passcode=passcode):
                identity = UserIdentityRequest(2, False, name, passcode)
                self.assertEqual(self.answerTo(users, identity), NOT_CONFIRMED)
                self.assertEqual(self.events.names, [])

    def test_twistedsOwn(self) -> None:
        """A checker of Twisted's own does as well."""
        path = self.mktemp()
        Path(path).write_text(f"alice:{SECRET}\n")
        users = Users([FilePasswordDB(path)])
        self.assertEqual(self.answerTo(users, UserIdentityRequest(2, False, b"alice", SECRET.encode())), "alice")
        self.assertEqual(self.answerTo(users, UserIdentityRequest(2, False, b"alice", b"x")), NOT_CONFIRMED)
        self.assertEqual(self.answerTo(users, UserIdentityRequest(2, False, b"bob", b"x")), NOT_CONFIRMED)

    def test_types(self) -> None:
        """Each type of identity goes to the checker for it, as it was sent; one that none is for is not confirmed."""
        for identityType in range(1, 6):
            kind = {1: IUsernameAlone, 2: IUsernamePassword}.get(identityType, ITicket)
            checker = Checker(kind, b"alice")
            others = [Checker(other, b"x") for other in (IUsernameAlone, IUsernamePassword, ITicket) if other != kind]
            identity = UserIdentityRequest(identityType, False, b"first", b"second")
            with self.subTest(identityType=identityType):
                self.assertEqual(self.answerTo(Users([*others, checker]), identity), "alice")
                self.assertEqual([other.asked for other in others], [[], []])
                self.assertEqual(
                    checker.asked,
                    [
                        {1: UsernameAlone(b"first"), 2: UsernamePassword(b"first", b"second")}.get(
                            identityType, Ticket(identityType, b"first")
                        )
                    ],
                )
                self.assertEqual(self.answerTo(Users(others), identity), NOT_CONFIRMED)

    def test_none(self) -> None:
        """Who sends no identity comes in as nobody, unless one is required; one of an unknown type is none."""
        for identity in (None, UserIdentityRequest(9, True, b"x")):
            self.assertEqual(self.answerTo(Users([]), identity), "")
            self.assertEqual(self.answerTo(Users([], required=True), identity), NOT_CONFIRMED)

    def test_response(self) -> None:
        """Who asks for a positive response gets one: empty, or the checker's."""

        def answer(credentials: Any) -> bytes:
            credentials.response = b"server ticket"
            return b"alice"

        for identityType, checker, response in [
            (2, Checker(IUsernamePassword, b"alice"), b""),
            (3, Checker(ITicket, answer), b"server ticket"),
        ]:
            for isRequested in (True, False):
                peer, _ = self.request(Users([checker]), UserIdentityRequest(identityType, isRequested, b"x", b"y"))
                assert peer.accepted is not None
                expected = response if isRequested else None
                self.assertEqual(peer.accepted.userInformation.userIdentityResponse, expected)

    def test_longResponse(self) -> None:
        """A response that has no room is a mistake of the checker's."""

        def answer(credentials: Any) -> bytes:
            credentials.response = bytes(LARGEST_RESPONSE + 1)
            return b"alice"

        self.assertEqual(self.answerTo(Users([Checker(ITicket, answer)]), UserIdentityRequest(4, True, b"x")), FAILED)

    def test_names(self) -> None:
        """A name may be text, or bytes of whatever kind; what is no name is a mistake of the checker's."""
        identity = UserIdentityRequest(1, False, b"x")
        good: list[tuple[object, str]] = [("Jürgen", "Jürgen"), ("Jürgen".encode(), "Jürgen"), (b"\xff", "\udcff")]
        for avatarID, name in good:
            self.assertEqual(self.answerTo(Users([Checker(IUsernameAlone, avatarID)]), identity), name)
        for wrong in ((), b"", None, 7):
            self.assertEqual(self.answerTo(Users([Checker(IUsernameAlone, wrong)]), identity), FAILED)

    def test_later(self) -> None:
        """A checker may take its time; OnConnection comes behind it, with the user's name to see."""
        held: Deferred[bytes] = Deferred()
        peer, connection = self.request(Users([Checker(ITicket, held)]), UserIdentityRequest(5, False, b"x"))
        self.assertEqual((peer.accepted, peer.rejected, self.events.names), (None, None, []))
        held.callback(b"alice")
        connection.pump()
        self.assertIsNotNone(peer.accepted)
        self.assertEqual(self.events.names, ["OnConnection"])

    def test_refusedLater(self) -> None:
        """The policy decides when the user is known."""
        held: Deferred[bytes] = Deferred()
        rules = [Rule(allow=False, users=["mallory"], reject="1/1/3"), Rule(allow=True)]
        peer, connection = self.request(
            Users([Checker(ITicket, held)]), UserIdentityRequest(5, False, b"x"), policy=rules
        )
        held.callback(b"mallory")
        connection.pump()
        self.assertEqual(peer.rejected, AssociateRJ(1, 1, 3))
        self.assertEqual(self.events.names, [])

    def test_late(self) -> None:
        """A checker that takes too long is cancelled, and the peer told to try again."""
        cancelled: list[object] = []
        held: Deferred[bytes] = Deferred(cancelled.append)
        peer, connection = self.request(Users([Checker(ITicket, held)]), UserIdentityRequest(5, False, b"x"))
        self.listener.clock.advance(15)
        connection.pump()
        self.assertEqual((peer.rejected, len(cancelled)), (FAILED, 1))

    def test_gone(self) -> None:
        """A peer that goes while a checker is asked leaves nothing behind."""
        for how in ("cancel", "answer"):
            with self.subTest(how=how):
                held: Deferred[bytes] = Deferred()
                peer, connection = self.request(Users([Checker(ITicket, held)]), UserIdentityRequest(5, False, b"x"))
                peer.abort()
                connection.pump()
                if how == "answer":
                    held.callback(b"alice")
                self.assertEqual((self.events.names, self.listener.acceptor.associations), ([], []))
                self.assertEqual(self.listener.clock.getDelayedCalls(), [])

    def test_secrets(self) -> None:
        """Whatever becomes of a passcode or a ticket, no line of the log has it, and no traceback."""

        def failing(credentials: Any) -> None:
            passcode = getattr(credentials, "password", None) or credentials.ticket
            raise RuntimeError(f"directory refused {passcode!r}")

        def failingLater(credentials: Any) -> Deferred[Any]:
            return Deferred.fromCoroutine(self._fail(credentials))

        kinds = [(2, IUsernamePassword), (3, ITicket), (4, ITicket), (5, ITicket)]
        answers: list[Any] = [failing, failingLater, b"alice", RuntimeError(SECRET), UnauthorizedLogin(SECRET), None]
        for identityType, kind in kinds:
            for answer in answers:
                identity = (
                    UserIdentityRequest(2, True, b"alice", SECRET.encode())
                    if identityType == 2
                    else UserIdentityRequest(identityType, True, SECRET.encode())
                )
                with self.subTest(identityType=identityType, answer=answer), logged() as lines:
                    self.request(Users([Checker(kind, answer)]), identity)
                    association = next(iter(self.listener.acceptor.associations), None)
                    lines.append(f"{association!r} {identity!r} {UsernamePassword(b'alice', SECRET.encode())!r}")
                    lines.append(repr(Ticket(3, SECRET.encode(), SECRET.encode())))
                self.assertNotIn(SECRET, "".join(lines))
                self.assertTrue(len(lines) > 2 or association is not None)

    async def _fail(self, credentials: Any) -> None:
        raise ValueError(SECRET)

    def test_failing(self) -> None:
        """A checker that fails has the peer told to try again, and the log say what kind of failure it was."""
        with logged() as lines:
            answer = self.answerTo(
                Users([Checker(ITicket, KeyError(SECRET))]), UserIdentityRequest(3, False, SECRET.encode())
            )
        self.assertEqual(answer, FAILED)
        self.assertIn("a checker of users failed: KeyError", lines)

    def test_responseOfAnotherType(self) -> None:
        """A response that is no bytes is a mistake of the checker's, told as one."""
        for response in ("text", None, 5, ["x"]):

            def answer(credentials: Any, response: Any = response) -> bytes:
                credentials.response = response
                return b"alice"

            with self.subTest(response=response):
                users = Users([Checker(ITicket, answer)])
                self.assertEqual(self.answerTo(users, UserIdentityRequest(4, True, b"x")), FAILED)

    def test_noChecker(self) -> None:
        """What is no checker is told at once, and not each peer."""
        for wrong in (object(), Checker, "ab"):
            self.assertRaises(TypeError, Users, [wrong])

    def test_cancellerFails(self) -> None:
        """A checker that cannot be cancelled holds up nothing, and its words are kept out of the log."""

        def failing(held: object) -> None:
            raise RuntimeError(SECRET)

        for how in ("late", "gone"):
            with self.subTest(how=how), logged() as lines:
                held: Deferred[bytes] = Deferred(failing)
                peer, connection = self.request(Users([Checker(ITicket, held)]), UserIdentityRequest(5, False, b"x"))
                if how == "late":
                    self.listener.clock.advance(15)
                else:
                    peer.abort()
                connection.pump()
                held.errback(ValueError(SECRET))
                self.assertEqual(peer.rejected, FAILED if how == "late" else None)
                self.assertIn("a checker of users could not be cancelled: RuntimeError", lines)
                self.assertNotIn(SECRET, "".join(lines))
                self.assertEqual(vars(self.listener.acceptor.factory.admission)["_inside"], {})

    def test_provided(self) -> None:
        """The credentials and the checker provide what they say."""
        verifyObject(IUsernameAlone, UsernameAlone(b"alice"))
        verifyObject(IUsernamePassword, UsernamePassword(b"alice", b"x"))
        verifyObject(ITicket, Ticket(3, b"x"))
        verifyObject(ICredentialsChecker, Passwords({}))


class PasswordFileTests(SynchronousTestCase):
    """The file of names and passwords."""

    def file(self, content: bytes, mode: int = 0o600) -> str:
        path: str = self.mktemp()
        Path(path).write_bytes(content)
        os.chmod(path, mode)
        return path

    def test_read(self) -> None:
        """Lines are NAME:PASSWORD, and a password may have colons and blanks."""
        passwords = passwordsFrom(self.file(b"# people\n\nalice:a:b c \nbob:x\n", 0o640))
        for name, password in [(b"alice", b"a:b c "), (b"bob", b"x")]:
            credentials = UsernamePassword(name, password)
            self.assertEqual(self.successResultOf(passwords.requestAvatarId(credentials)), name)
        failure: Failure = self.failureResultOf(passwords.requestAvatarId(UsernamePassword(b"# people", b"")))
        failure.trap(UnauthorizedLogin)

    def test_errors(self) -> None:
        """What cannot be used says where that is, and not what is there."""
        for content, mode, error in [
            (b"alice:x\nop3n-sesame\n", 0o600, "line 2 is not NAME:PASSWORD"),
            (b":op3n-sesame\n", 0o600, "line 1 is not NAME:PASSWORD"),
            (b"alice:\n", 0o600, "line 1 is not NAME:PASSWORD"),
            (b"alice:x\nalice:op3n-sesame\n", 0o600, "line 2 has a name again"),
            (b"alice:x\n", 0o604, "is open to everyone"),
        ]:
            path = self.file(content, mode)
            message = str(self.assertRaises(ValueError, passwordsFrom, path))
            self.assertIn(error, message)
            self.assertTrue(message.startswith(path))
            self.assertNotIn(SECRET, message)
        self.assertEqual(
            str(self.assertRaises(ValueError, passwordsFrom, "/no/such")),
            "/no/such cannot be read: No such file or directory",
        )
