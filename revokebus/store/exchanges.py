"""What this process has exchanged lately, to write it back where Redis has lost it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from cachetools import TLRUCache

from revokebus.protocol.exchange import SessionRecord

if TYPE_CHECKING:
    from revokebus.clock import Clock
    from revokebus.protocol.exchange import Exchanged
    from revokebus.protocol.revocation import Target
    from revokebus.store.store import Store

MOST_SESSIONS = 10_000
"""How many sessions are remembered: those that were refreshed here last."""

_WRITTEN_AT_ONCE = 500


class Exchanges:
    """The sessions that were refreshed here, each for as long as it lives.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: TLRUCache[Target, tuple[SessionRecord, float]] = TLRUCache(
            MOST_SESSIONS, ttu=_until, timer=clock.elapsed
        )
        self._owed: dict[Target, tuple[SessionRecord, float]] = {}

    def note(self, session: Target, exchanged: Exchanged, life: float) -> None:
        """Remember for `life` seconds what a session was given last, and that it was delivered."""
        now = round(1000 * self._clock.wall())
        record = SessionRecord(exchanged.generation, True, (now,), exchanged.note)  # noqa: FBT003 - a field
        self._sessions[session] = record, self._clock.elapsed() + life

    def owe(self, session: Target) -> None:
        """Note that the report of the last delivery has failed, so that it is sent again."""
        if len(self._owed) < MOST_SESSIONS and session in self._sessions:
            self._owed[session] = self._sessions[session]

    def lost(self) -> None:
        """Note that Redis may have lost all of them."""
        self._owed = dict(self._sessions.items())

    async def write_back(self, store: Store) -> None:
        """Write what may have been lost.

        Raises:
            StoreError: Redis refuses, or does not answer; the rest is written the next time.
        """
        while some := dict(islice(self._owed.items(), _WRITTEN_AT_ONCE)):
            now = self._clock.elapsed()
            living = {
                session: (record, until - now)
                for session, (record, until) in some.items()
                if until > now
            }
            if living:
                await store.sessions.restore(living)
            for session, written in some.items():
                if self._owed.get(session) == written:  # not exchanged once more meanwhile
                    del self._owed[session]


def _until(_session: Target, value: tuple[SessionRecord, float], _now: float) -> float:
    return value[1]
