"""The local copy: the live revocations of this process, in memory.

An entry, once added, is there until its ``expires_at`` has passed by the cautious
`ExpiryClock`. Nothing else removes it: there is no eviction and no delete, so a look-up that
finds an entry needs no clock at all. Where there is a limit, what comes after it is reached is
left out, and the copy says that it is incomplete for as long as that may matter.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

from revokebus.revocation import Revocation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from revokebus.clock import ExpiryClock

_SWEPT_PER_ADD = 2
_ROOM = 0.9


class Denylist:
    """The live revocations, by claim and value.

    Args:
        clock: Decides when an entry may be dropped.
        max_entries: The most entries that are held; None for no limit.

    Attributes:
        complete: Whether every live revocation that was to be added is held.
        left_out: How many were left out, ever.
    """

    def __init__(self, clock: ExpiryClock, max_entries: int | None = None) -> None:
        self._clock = clock
        self._most = math.inf if max_entries is None else max_entries
        self._expiry: dict[str, dict[str, float]] = {}
        self._queue: list[tuple[float, str, str]] = []
        self._size = 0
        self._left_out_until = 0.0
        self.complete = True
        self.left_out = 0

    def __len__(self) -> int:
        return self._size

    @property
    def has_room(self) -> bool:
        """Whether a tenth of the limit is free, so that listing again is worth while."""
        return self._size <= _ROOM * self._most

    def add(self, revocation: Revocation, *, always: bool = False) -> bool:
        """Hold `revocation` until it expires; a second one only ever lengthens the first.

        Args:
            revocation: What to hold.
            always: Whether to hold it beyond the limit, too: nobody else has it.

        Returns:
            Whether the copy changed.
        """
        if revocation.expires_at <= self._clock.now():
            return False
        # Two for one: the copy shrinks faster than it grows, without ever a long pause.
        self.sweep(_SWEPT_PER_ADD)
        known = self._expiry.get(revocation.claim, {}).get(revocation.value)
        if known is not None and known >= revocation.expires_at:
            return False
        if known is None and self._size >= self._most and not always:
            self._leave_out(revocation)
            return False
        self._expiry.setdefault(revocation.claim, {})[revocation.value] = revocation.expires_at
        if known is None:
            self._size += 1
            self._enqueue(revocation.claim, revocation.value)
        return True

    def _leave_out(self, revocation: Revocation) -> None:
        self.left_out += 1
        self.complete = False
        self._left_out_until = max(self._left_out_until, revocation.expires_at)

    def completed(self) -> None:
        """Note that everything was listed anew and nothing was left out."""
        self.complete, self._left_out_until = True, 0.0

    def matches(self, claims: Mapping[str, object]) -> bool:
        """Return whether a revocation matches these claims of a verified token."""
        for claim, values in list(self._expiry.items()):  # a thread may ask, too
            value = claims.get(claim)
            if isinstance(value, str) and value in values:
                return True
        return False

    def holds(self, revocation: Revocation) -> bool:
        """Return whether there is an entry for the claim and value of `revocation`."""
        return revocation.value in self._expiry.get(revocation.claim, ())

    def live(self) -> Iterator[Revocation]:
        """Yield every entry that has not expired; the copy may change meanwhile."""
        now = self._clock.now()
        for claim, values in list(self._expiry.items()):
            for value, expires_at in list(values.items()):
                if expires_at > now:
                    yield Revocation(claim, value, expires_at)

    def sweep(self, limit: int) -> int:
        """Drop up to `limit` expired entries and return how many were dropped."""
        dropped = 0
        now = self._clock.now()
        for _ in range(limit):
            if not self._queue or self._queue[0][0] > now:
                break
            _, claim, value = heapq.heappop(self._queue)
            if self._expiry[claim][value] > now:  # lengthened since it was queued
                self._enqueue(claim, value)
            else:
                del self._expiry[claim][value]
                dropped += 1
        self._size -= dropped
        if not self.complete and self._left_out_until <= now:
            self.completed()  # whatever was left out has expired
        return dropped

    def _enqueue(self, claim: str, value: str) -> None:
        heapq.heappush(self._queue, (self._expiry[claim][value], claim, value))
