"""Every error that RevokeBus raises.

::

    RevokeBusError
    ├── AuthenticationError        who calls is not proven: HTTP 401
    │   ├── MissingTokenError      no credentials came with the request
    │   ├── StaleSignInError       the token is good, its owner must sign in again for this
    │   └── InvalidTokenError      malformed, wrongly signed, not this application's
    │       ├── ExpiredTokenError  ``exp`` has passed
    │       ├── WrongTypeError     a refresh token where an access token is due, or the reverse
    │       ├── RevokedTokenError  the token was taken back
    │       └── ReplayedTokenError a single-use refresh token came a second time
    ├── InvalidRequestError        two tokens came with the request: HTTP 400
    ├── CsrfError                  a cookie came without proof that our page sent it: HTTP 403
    ├── InsufficientScopeError     known, but not allowed to do this: HTTP 403
    ├── UnavailableError           no safe answer at this moment: HTTP 503
    │   ├── NotReadyError          the bus was not started, or has been closed
    │   ├── StaleError             the local copy is older than ``max_staleness``
    │   ├── PredicateError         the application's own check failed
    │   ├── KeysUnavailableError   the issuer's keys could not be fetched yet
    │   └── StoreError             Redis could not be asked
    │       ├── RefusedError       Redis has answered, and will not do it
    │       │   └── OtherDataSetError  it has not the data that it had
    │       ├── UnsettledError     Redis may have lost its data a moment ago
    │       └── NotDurableError    revoked here, but Redis does not hold the record yet
    │           ├── NotReplicatedError  Redis holds it, too few of its replicas do
    │           └── NotConfirmedError   Redis holds it, who has applied it is not known
    ├── ConfigurationError         the application is put together wrongly
    └── WireError                  bytes on the channel or under our keys that are not ours

No message of these errors contains a token, a key or a password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from revokebus.results import Receipt


class RevokeBusError(Exception):
    """The base of every error that RevokeBus raises."""


class AuthenticationError(RevokeBusError):
    """The caller's identity is not proven (RFC 9110 §15.5.2: 401)."""


class MissingTokenError(AuthenticationError):
    """The request carries no credentials (RFC 6750 §3: a challenge without an error code)."""

    def __init__(self) -> None:
        super().__init__("Not authenticated")


class StaleSignInError(AuthenticationError):
    """The token is too far from its owner's sign-in for this route (RFC 9470 §3).

    Attributes:
        max_age: For how many seconds after a sign-in the route opens; None where it wants a
            fresh token.
    """

    def __init__(self, max_age: float | None = None) -> None:
        super().__init__("A more recent sign-in is required")
        self.max_age = max_age


class InvalidTokenError(AuthenticationError):
    """The token is malformed, wrongly signed, or not meant for here (RFC 6750 §3.1)."""

    def __init__(self, message: str = "Invalid token") -> None:
        super().__init__(message)


class ExpiredTokenError(InvalidTokenError):
    """The token's ``exp`` has passed (RFC 7519 §4.1.4)."""

    def __init__(self) -> None:
        super().__init__("Token has expired")


class WrongTypeError(InvalidTokenError):
    """A token of another type than the route asks for.

    Args:
        expected: The type that would have been accepted.
    """

    def __init__(self, expected: str) -> None:
        super().__init__(f"Not a token of type {expected}")


class RevokedTokenError(InvalidTokenError):
    """The token was revoked before its expiry."""

    def __init__(self) -> None:
        super().__init__("Token has been revoked")


class ReplayedTokenError(InvalidTokenError):
    """A refresh token was used a second time; its session is now revoked (RFC 9700 §4.14.2)."""

    def __init__(self) -> None:
        super().__init__("Refresh token has been used before; its session has been revoked")


class InvalidRequestError(RevokeBusError):
    """The request carries more than one token (RFC 6750 §2, §3.1: 400)."""

    def __init__(self, message: str = "More than one token in the request") -> None:
        super().__init__(message)


class CsrfError(RevokeBusError):
    """A token came in a cookie, and nothing shows that a page of ours sent the request."""


class InsufficientScopeError(RevokeBusError):
    """The token lacks a scope that the route demands (RFC 6750 §3.1: 403).

    Args:
        required: The scopes that the route demands.
    """

    def __init__(self, required: tuple[str, ...]) -> None:
        super().__init__("Insufficient scope")
        self.required = required


class UnavailableError(RevokeBusError):
    """No safe answer can be given at this moment; trying again later may work (503).

    Attributes:
        retry_after: Seconds after which another attempt is sensible.
    """

    retry_after: int = 1

    @property
    def public(self) -> str:
        """What a client may be told; the message itself can name hosts."""
        return str(self)


class NotReadyError(UnavailableError):
    """The bus is not running: not started yet, or closed already."""

    @property
    def public(self) -> str:
        """What a client may be told; the message itself is for developers."""
        return "The service is starting or ending"


class StaleError(UnavailableError):
    """The local copy cannot be proven younger than ``max_staleness``."""


class PredicateError(UnavailableError):
    """A predicate added with ``deny_if`` raised, or did not return a bool."""


class KeysUnavailableError(UnavailableError):
    """The published keys of the token's issuer have never been fetched."""


class StoreError(UnavailableError):
    """Redis refused the request, or did not answer within ``redis_timeout``."""

    @property
    def public(self) -> str:
        """What a client may be told."""
        return "The store of revocations cannot be asked"


class NotDurableError(StoreError):
    """Revoked in this process, not yet recorded in Redis.

    The record is kept and written as soon as Redis takes it, as long as this process lives.
    """

    @property
    def public(self) -> str:
        """What a client may be told."""
        return "Signed out here; try again to be signed out everywhere"


class RefusedError(StoreError):
    """Redis can be reached and refuses: it is full, fenced, or the user lacks the right."""


class OtherDataSetError(RefusedError):
    """Redis has another data set than before: it has lost the old one, or is another server."""

    def __init__(self) -> None:
        super().__init__("Redis has another data set than before")


class UnsettledError(StoreError):
    """Redis may have lost its data a moment ago, so a process that knows nothing must wait.

    Attributes:
        seconds: How long at least; None where it depends on another instance.
    """

    def __init__(self, message: str, *, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class NotReplicatedError(NotDurableError):
    """Revoked everywhere and recorded in Redis, but by fewer replicas than were asked for.

    If the primary is lost now, so may the record be; live instances would write it back.

    Attributes:
        receipt: What was achieved.
    """

    def __init__(self, receipt: Receipt, min_replicas: int) -> None:
        super().__init__(
            f"recorded in Redis, acknowledged by {receipt.replicas} of the {min_replicas} replicas "
            "asked for"
        )
        self.receipt = receipt

    @property
    def public(self) -> str:
        """What a client may be told."""
        return "Revoked: not replicated yet"


class NotConfirmedError(NotDurableError):
    """Revoked and recorded in Redis, which then could not say which instances there are.

    Attributes:
        receipt: What was achieved.
    """

    def __init__(self, receipt: Receipt, reason: StoreError) -> None:
        super().__init__(
            f"recorded in Redis; which instances have applied it is not known: {reason}"
        )
        self.receipt = receipt

    @property
    def public(self) -> str:
        """What a client may be told."""
        return "Revoked: not confirmed yet"


class ConfigurationError(RevokeBusError):
    """The application is put together wrongly; the message names the remedy."""


class WireError(RevokeBusError):
    """Bytes that are not a message of this protocol.

    Args:
        kind: A short stable word for what is wrong with them, used to count.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(f"not a message of this protocol: {kind}")
        self.kind = kind
