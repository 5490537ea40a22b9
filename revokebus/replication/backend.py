"""Where revocations are kept for good and come from: what the engine asks of Redis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from revokebus.protocol.exchange import Exchange, Exchanged
    from revokebus.protocol.revocation import Revocation, Target
    from revokebus.protocol.sign_in import SignIn
    from revokebus.results import Confirmation, Finding, InstanceStatus
    from revokebus.store.writes import Written


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What became of a write in the fleet.

    Attributes:
        confirmations: One for each instance that is known.
        knows_all: Whether there can be no other that accepts tokens.
    """

    confirmations: tuple[Confirmation, ...] = ()
    knows_all: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """What a backend knows of itself.

    Attributes:
        staleness: Seconds since the copy was last proven complete; None before the first time.
        position: The last entry of the log that the copy includes; None where there is none.
        subscribed: Whether revocations are pushed at this moment.
        last_error: The latest trouble, in words; None once a proof has succeeded after it.
        ignored: How many foreign messages, entries and records were met, by kind.
        unsaved: How many revocations are applied here and not yet durable.
        instance: What this process is called in the fleet; None where there is none.
        sees_restarts: Whether another server, or a restart, is noticed; None where that is not
            known, or there is none.
    """

    staleness: float | None
    position: str | None = None
    subscribed: bool = False
    last_error: str | None = None
    ignored: Mapping[str, int] = field(default_factory=dict)
    unsaved: int = 0
    instance: str | None = None
    sees_restarts: bool | None = None


class Backend(Protocol):
    """Keeps a `Denylist` fresh and revocations durable.

    `start` and `stop` are called in turn, on one event loop at a time.
    """

    async def start(self) -> None:
        """Begin to keep the copy fresh; return once it is, or after ``startup_timeout``."""

    async def stop(self) -> None:
        """End every task and connection."""

    async def write(
        self, revocations: Sequence[Revocation], min_replicas: int, *, is_known: bool = False
    ) -> Written:
        """Make `revocations` durable and push them.

        Args:
            revocations: What to write.
            min_replicas: For how many replicas to wait a moment.
            is_known: Whether the copy had all of them before, so that Redis may have them as well.

        Raises:
            StoreError: They are not durable; they will be written later if this process lives.
        """

    def keep(self, revocations: Sequence[Revocation]) -> None:
        """Apply `revocations` here, and have them written later if this process lives."""

    async def exchange(
        self, session: Target, exchange: Exchange, unless: Sequence[Target]
    ) -> Exchanged:
        """Exchange a refresh token of `session` if nothing refuses it, in one step.

        Args:
            session: The session.
            exchange: The token, and what its owner would be given.
            unless: What the token could be refused by.

        Raises:
            StoreError: The outcome is not known; the same token may be presented again.
        """

    async def generation(self, session: Target) -> int | None:
        """Return which generation of a session's tokens was issued last; None where none is known.

        Raises:
            StoreError: It is not known.
        """

    async def sign_in(self, user: Target, sign_in: SignIn, life: float) -> None:
        """Put a session on its user's list, which lives `life` seconds at least.

        Raises:
            StoreError: It may not be there.
        """

    async def sign_ins(self, user: Target) -> Sequence[SignIn]:
        """Return the sessions on a user's list that have not expired, revoked ones among them.

        Raises:
            StoreError: They are not known.
        """

    async def refuses(self, targets: Sequence[Target], since: float) -> bool:
        """Ask the durable records, not the copy, whether a token is refused.

        Args:
            targets: What it could be refused by.
            since: The moment that cut-offs are compared with, see `revocation.is_refused`.

        Raises:
            StoreError: It is not known.
        """

    async def catch_up(self) -> None:
        """Wait for the tick that is overdue, because this process did not run; for no other.

        It waits for ``redis_timeout`` at most, and where Redis is away not at all.
        """

    async def instances(self) -> int:
        """Return how many processes are told of revocations at this moment, with this one.

        Raises:
            StoreError: It is not known.
        """

    async def fleet(self) -> Sequence[InstanceStatus]:
        """Return how each instance is that lives, or did lately.

        Raises:
            StoreError: It is not known.
        """

    async def confirm(self, written: Written, began: float, timeout: float) -> Confirmed:
        """Return what became of a write at each instance.

        Args:
            written: What `write` has returned.
            began: The moment that answers are timed from, in elapsed seconds.
            timeout: For how many seconds to wait for them.

        Raises:
            StoreError: It is not known which instances there are, or was not in time.
        """

    async def audit(self) -> Sequence[Finding]:
        """Look for what endangers the promises.

        Raises:
            StoreError: Redis could not be asked.
        """

    def health(self) -> Health:
        """Return what is known."""
