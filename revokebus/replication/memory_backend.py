"""``memory://``: one process that shares nothing, so that its copy is the truth."""

from __future__ import annotations

import math
import os
import socket
from typing import TYPE_CHECKING

from cachetools import TLRUCache

from revokebus.protocol.exchange import Outcome, decide
from revokebus.protocol.heartbeat import VERSION
from revokebus.protocol.sign_in import MOST_LISTED, decode_sign_in
from revokebus.replication.backend import Confirmed, Health
from revokebus.results import Confirmation, InstanceStatus
from revokebus.store.writes import Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.clock import Clock
    from revokebus.denylist.denylist import Denylist
    from revokebus.denylist.freshness import Freshness
    from revokebus.protocol.exchange import Exchange, Exchanged, SessionRecord
    from revokebus.protocol.revocation import Revocation, Target
    from revokebus.protocol.sign_in import SignIn
    from revokebus.replication.feed import Feed
    from revokebus.results import Finding

_ALONE = "memory"


class MemoryBackend:
    """The `Backend` of an application with one worker, and of tests.

    Args:
        denylist: The copy to write to.
        clock: Tells how long a session is remembered.
        freshness: Is told that the copy is the original.
        feed: Is told of revocations.
        longest_life: For how many seconds a token may live.
        rotation_grace: For how many seconds the answer to a refresh is given once more.
    """

    def __init__(
        self,
        denylist: Denylist,
        clock: Clock,
        freshness: Freshness,
        feed: Feed,
        longest_life: float,
        rotation_grace: float,
    ) -> None:
        freshness.be_original()
        self._longest_life = longest_life
        self._feed = feed
        self._denylist = denylist
        self._clock = clock
        self._grace = round(1000 * rotation_grace)
        self._sessions: TLRUCache[Target, tuple[SessionRecord, float]] = TLRUCache(
            math.inf, ttu=lambda _, value, __: value[1], timer=clock.elapsed
        )
        self._sign_ins: TLRUCache[Target, tuple[list[SignIn], float]] = TLRUCache(
            math.inf, ttu=lambda _, value, __: value[1], timer=clock.elapsed
        )

    async def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def stop(self) -> None:
        """Do nothing."""

    async def write(
        self,
        revocations: Sequence[Revocation],
        min_replicas: int,  # noqa: ARG002 - a Backend's
        *,
        is_known: bool = False,  # noqa: ARG002
    ) -> Written:
        """Add `revocations` to the copy."""
        for revocation in revocations:
            self._denylist.add(revocation)
        self._feed.notify_of(revocations)
        return Written()

    def keep(self, revocations: Sequence[Revocation]) -> None:
        """Apply `revocations`: here the copy is the original."""
        self._denylist.add_all(revocations)

    async def exchange(
        self,
        session: Target,
        exchange: Exchange,
        unless: Sequence[Target],  # noqa: ARG002 - a Backend's
    ) -> Exchanged:
        """Exchange it; whether the token is refused, the caller has asked."""
        held, now = self._sessions.get(session), round(1000 * self._clock.wall())
        exchanged, record = decide(held and held[0], exchange, now, self._grace, 0)
        if exchanged.outcome is Outcome.GRANTED and exchange.user is not None:
            entry = decode_sign_in(session.text.encode(), exchange.entry)
            if entry is not None:
                await self.sign_in(exchange.user, entry, exchange.life)
        if record is not None and exchanged.generation:
            # Nothing is on its way here, so it has arrived.
            until = self._clock.elapsed() + exchange.life
            until = max(until, held[1]) if held else until
            self._sessions[session] = record._replace(is_delivered=True), until
        return exchanged

    async def generation(self, session: Target) -> int | None:
        """Return what this process knows."""
        held = self._sessions.get(session)
        return held[0].generation if held else None

    async def sign_in(self, user: Target, sign_in: SignIn, life: float) -> None:
        """Note it here."""
        listed = {
            each.session_id: each
            for each in await self.sign_ins(user)
            if each.session_id != sign_in.session_id and not self._has_ended(user, each)
        }
        listed[sign_in.session_id] = sign_in
        until = self._clock.elapsed() + life
        if user in self._sign_ins:
            until = max(until, self._sign_ins[user][1])
        self._sign_ins[user] = list(listed.values())[-MOST_LISTED:], until

    def _has_ended(self, user: Target, sign_in: SignIn) -> bool:
        claims = {"sub": user.text, "sid": sign_in.session_id}
        return self._denylist.matches(claims, issuer=user.issuer, since=sign_in.signed_in_at)

    async def sign_ins(self, user: Target) -> Sequence[SignIn]:
        """Return what this process knows."""
        listed, _ = self._sign_ins.get(user, ([], 0.0))
        return [each for each in listed if each.expires_at >= self._clock.wall()]

    async def refuses(self, targets: Sequence[Target], since: float) -> bool:  # noqa: ARG002 - a Backend's
        """Return False: the copy, which is all there is, has been asked."""
        return False

    async def catch_up(self) -> None:
        """Do nothing: the copy is the original."""

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
