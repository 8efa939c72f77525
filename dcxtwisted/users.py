"""
Users and how they are confirmed: user identities (PS3.7 D.3.3.7) as credentials for checkers of ``twisted.cred``.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials, IUsernamePassword
from twisted.cred.error import LoginFailed, UnauthorizedLogin, UnhandledCredentials
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, implementer, providedBy

from dcxtwisted.reading import readWhole
from dcxtwisted.wire.items import UserIdentityRequest

_log = Logger()

_USERNAME: Final = 1
_USERNAME_AND_PASSCODE: Final = 2

#: Bytes of a response to a user identity: the user information item has room for 65,535 in all, and others need some.
LARGEST_RESPONSE: Final = 32768


class IUsernameAlone(ICredentials):
    """Who the peer says it is, with nothing to show for it (type 1); a checker takes its word for it, or does not."""

    username: bytes = Attribute("The name, as sent.")


class ITicket(ICredentials):
    """What the peer has from others: a Kerberos ticket (type 3), a SAML assertion (4), a JSON web token (5)."""

    identityType: int = Attribute("3, 4 or 5.")
    ticket: bytes = Attribute("The primary field, as sent. A secret.")
    response: bytes = Attribute("Set by the checker where it has an answer; sent if the peer asked for one.")


@implementer(IUsernameAlone)
@attrs.frozen
class UsernameAlone:
    """See L{IUsernameAlone}."""

    username: bytes


@implementer(IUsernamePassword)
@attrs.frozen
class UsernamePassword:
    """Name and passcode (type 2)."""

    username: bytes
    password: bytes = attrs.field(repr=False)

    def checkPassword(self, password: bytes) -> bool:
        """True where it is this one; how long that takes tells nothing of where they differ."""
        return hmac.compare_digest(self.password, password)


@implementer(ITicket)
@attrs.define
class Ticket:
    """See L{ITicket}."""

    identityType: int
    ticket: bytes = attrs.field(repr=False)
    response: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class User:
    """
    Whom a checker has confirmed.

    :ivar name: '' where there was nothing to confirm.
    :ivar response: what the peer is told of it, if it asked.
    """

    name: str = ""
    response: bytes = attrs.field(default=b"", repr=False)


def _checkers(checkers: Sequence[ICredentialsChecker]) -> tuple[ICredentialsChecker, ...]:
    for checker in checkers:
        if not ICredentialsChecker.providedBy(checker):
            raise TypeError(f"a checker provides ICredentialsChecker, which a {type(checker).__name__} does not")
    return tuple(checkers)


@attrs.frozen
class Users:
    """
    Confirms users, with the checkers of an application.

    The first checker that takes credentials of the peer's kind is asked: C{IUsernamePassword} (type 2), or
    C{IUsernameAlone} and C{ITicket} of this module. An identity that none takes is not confirmed. Passcodes and tickets
    are passed to that checker and to nobody else, and what it fails with is never logged but for the exception's class.

    :ivar required: refuse who sends no user identity at all.
    """

    checkers: tuple[ICredentialsChecker, ...] = attrs.field(converter=_checkers)
    required: bool = attrs.field(default=False, kw_only=True)

    def identify(self, identity: UserIdentityRequest | None) -> Deferred[User]:
        """
        Return who the peer is.

        Fails with UnauthorizedLogin where nobody is confirmed; with LoginFailed where that could not be found out.
        """
        if identity is None:
            return fail(UnauthorizedLogin("no user identity")) if self.required else succeed(User())
        credentials = _credentialsFrom(identity)
        kinds = providedBy(credentials)
        for checker in self.checkers:
            if any(kind in kinds for kind in checker.credentialInterfaces):
                identifying: Deferred[Any] = maybeDeferred(checker.requestAvatarId, credentials)
                told: Deferred[User] = Deferred(partial(_cancelWithoutSecrets, identifying))
                identifying.addCallback(_user, credentials).addErrback(_withoutSecrets).addBoth(_tell, told)
                return told
        return fail(UnauthorizedLogin("no checker for this type of user identity"))


def _credentialsFrom(identity: UserIdentityRequest) -> UsernameAlone | UsernamePassword | Ticket:
    if identity.identityType == _USERNAME:
        return UsernameAlone(identity.primaryField)
    if identity.identityType == _USERNAME_AND_PASSCODE:
        return UsernamePassword(identity.primaryField, identity.secondaryField)
    return Ticket(identity.identityType, identity.primaryField)


def _user(avatarID: object, credentials: object) -> User:
    response = getattr(credentials, "response", b"")
    if not isinstance(response, bytes):
        raise TypeError("a checker's response is bytes")
    if isinstance(avatarID, bytes):
        # Whatever bytes they are, they stay apart from others.
        avatarID = avatarID.decode("utf-8", "surrogateescape")
    if not isinstance(avatarID, str) or not avatarID:
        raise TypeError("a checker answers with the name of a user")
    if len(response) > LARGEST_RESPONSE:
        raise ValueError("the response is too long")
    return User(avatarID, response)


def _withoutSecrets(failure: Failure) -> Failure:
    """What went wrong, without the texts and frames of the checker's exception, which may hold anything."""
    if failure.check(CancelledError):
        return failure
    if failure.check(UnauthorizedLogin, UnhandledCredentials):
        return Failure(UnauthorizedLogin("not confirmed"))
    _log.error("a checker of users failed: {kind}", kind=failure.type.__name__ if failure.type else "")
    return Failure(LoginFailed("a checker failed"))


def _cancelWithoutSecrets(identifying: Deferred[Any], told: Deferred[User]) -> None:
    try:
        identifying.cancel()
    except Exception as error:
        # The checker's own code, and its own words, likewise.
        _log.error("a checker of users could not be cancelled: {kind}", kind=type(error).__name__)


def _tell(result: User | Failure, told: Deferred[User]) -> None:
    if not told.called:
        told.callback(result)


@implementer(ICredentialsChecker)
@attrs.frozen(hash=False)
class Passwords:
    """Knows users by their passwords."""

    credentialInterfaces = (IUsernamePassword,)

    _passwords: Mapping[bytes, bytes] = attrs.field(repr=False)

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[bytes | tuple[()]]:
        """See ``ICredentialsChecker``."""
        password = self._passwords.get(credentials.username)
        # A name that nobody has takes as long as a wrong password.
        if credentials.checkPassword(password or b"") and password is not None:
            return succeed(credentials.username)
        return fail(UnauthorizedLogin("not confirmed"))


def passwordsFrom(path: str) -> Passwords:
    """
    Return the users of a file with NAME:PASSWORD in each line, in UTF-8; empty lines and those after # do not count.

    :raises ValueError: it cannot be read, or everyone can, or a line is not of this kind; told without the line.
    """
    passwords: dict[bytes, bytes] = {}
    try:
        content, mode = readWhole(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if mode & 0o007:
        raise ValueError(f"{path} is open to everyone: chmod o= keeps passwords to those who need them")
    lines = content.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        name, colon, password = line.partition(b":")
        if not colon or not name or not password:
            raise ValueError(f"{path}, line {number} is not NAME:PASSWORD")
        if name in passwords:
            raise ValueError(f"{path}, line {number} has a name again")
        passwords[name] = password
    return Passwords(passwords)
