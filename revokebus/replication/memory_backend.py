"""``memory://``: one process that shares nothing, so that its copy is the truth."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from revokebus.protocol.heartbeat import VERSION
from revokebus.protocol.revocation import Spending, Spent
from revokebus.replication.backend import Confirmed, Health
from revokebus.results import Confirmation, InstanceStatus
from revokebus.store.store import Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.clock import Clock
    from revokebus.denylist.denylist import Denylist
    from revokebus.denylist.freshness import Freshness
    from revokebus.protocol.revocation import Revocation, Target, Terms
    from revokebus.replication.feed import Feed
    from revokebus.results import Finding

_ALONE = "memory"


class MemoryBackend:
    """The `Backend` of an application with one worker, and of tests.

    Args:
        denylist: The copy to write to.
        clock: Tells how long a note is kept.
        freshness: Is told that the copy is the original.
        feed: Is told of revocations.
        longest_life: For how many seconds a token may live.
    """

    def __init__(
        self,
        denylist: Denylist,
        clock: Clock,
        freshness: Freshness,
        feed: Feed,
        longest_life: float,
    ) -> None:
        freshness.be_original()
        self._longest_life = longest_life
        self._feed = feed
        self._denylist = denylist
        self._clock = clock
        self._notes: dict[str, tuple[float, bytes]] = {}

    async def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def stop(self) -> None:
        """Do nothing."""

    async def write(self, revocations: Sequence[Revocation], min_replicas: int) -> Written:  # noqa: ARG002 - a Backend's
        """Add `revocations` to the copy."""
        for revocation in revocations:
            self._denylist.add(revocation)
        self._feed.notify_of(revocations)
        return Written()

    async def spend(self, spent: Revocation, unless: Sequence[Target], terms: Terms) -> Spent:  # noqa: ARG002 - a Backend's
        """Add `spent` if it is not there; whether the token is refused, the caller has asked."""
        jti = str(spent.value)
        if not self._denylist.add(spent):
            until, note = self._notes.get(jti, (0.0, b""))
            return Spent(Spending.SPENT, note if until > self._clock.elapsed() else None)
        self._notes = {k: v for k, v in self._notes.items() if v[0] > self._clock.elapsed()}
        if terms.grace:
            self._notes[jti] = self._clock.elapsed() + terms.grace, terms.note
        return Spent(Spending.GRANTED)

    async def refuses(self, targets: Sequence[Target], since: float) -> bool:  # noqa: ARG002 - a Backend's
        """Return False: the copy, which is all there is, has been asked."""
        return False

    async def instances(self) -> int:
        """Return 1."""
        return 1

    async def fleet(self) -> Sequence[InstanceStatus]:
        """Return this process."""
        return [
            InstanceStatus(
                instance=_ALONE,
                host=socket.gethostname(),
                pid=os.getpid(),
                version=VERSION,
                state="fresh",
                staleness=0.0,
                position=None,
                lag=0.0,
                entries=len(self._denylist),
                longest_life=self._longest_life,
                silence=0.0,
                is_silent=False,
                is_self=True,
            )
        ]

    async def confirm(
        self,
        written: Written,  # noqa: ARG002 - a Backend's
        began: float,  # noqa: ARG002
        timeout: float,  # noqa: ARG002
    ) -> Confirmed:
        """Return that this process, which is all there is, has applied it."""
        own = Confirmation(_ALONE, socket.gethostname(), os.getpid(), "applied", 0.0)
        return Confirmed((own,))

    async def audit(self) -> Sequence[Finding]:
        """Return nothing: there is nothing that could be set up wrongly."""
        return ()

    def health(self) -> Health:
        """Return that all is well."""
        return Health(staleness=0.0, subscribed=True)
