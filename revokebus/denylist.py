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

from revokebus.revocation import EVERYTHING, Revocation, is_refused, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from revokebus.clock import ExpiryClock

_SWEPT_PER_ADD = 2
_ROOM = 0.9

_Group = tuple[str, str, str]
"""A `Target` without its text."""


class Denylist:
    """The live revocations, by what they are about.

    Args:
        clock: Decides when an entry may be dropped.
        max_entries: The most entries that are held; None for no limit.
        on_add: Is told of each revocation that is new, one that there is no room for included.

    Attributes:
        complete: Whether every live revocation that was to be added is held.
        left_out: How many were left out, ever.
    """

    def __init__(
        self,
        clock: ExpiryClock,
        max_entries: int | None = None,
        on_add: Callable[[Revocation], None] | None = None,
    ) -> None:
        self._clock = clock
        self._most = math.inf if max_entries is None else max_entries
        self._on_add = on_add
        self._held: dict[_Group, dict[str, Revocation]] = {}
        self._queue: list[tuple[float, _Group, str]] = []
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
        """Hold `revocation` until it expires; a second one only ever adds to the first.

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
        *names, text = revocation.target
        group = (names[0], names[1], names[2])
        known = self._held.get(group, {}).get(text)
        if known is not None and known.covers(revocation):
            return False
        if known is None and self._size >= self._most and not always:
            self._leave_out(revocation)
            return False
        self._held.setdefault(group, {})[text] = revocation.merged(known)
        if known is None:
            self._size += 1
            heapq.heappush(self._queue, (revocation.expires_at, group, text))
        self._tell(revocation)
        return True

    def _tell(self, revocation: Revocation) -> None:
        if self._on_add is not None:
            self._on_add(revocation)

    def _leave_out(self, revocation: Revocation) -> None:
        self.left_out += 1
        self.complete = False
        self._left_out_until = max(self._left_out_until, revocation.expires_at)
        self._tell(revocation)

    def completed(self) -> None:
        """Note that everything was listed anew and nothing was left out."""
        self.complete, self._left_out_until = True, 0.0

    def matches(self, claims: Mapping[str, object], *, issuer: str = "", since: float = 0) -> bool:
        """Return whether a revocation refuses a token.

        Args:
            claims: The verified claims.
            issuer: Whose token it is, as in `Target`.
            since: The moment that cut-offs are compared with.
        """
        return any(is_refused(since, each.cut_off) for each in self._matching(claims, issuer))

    def _matching(self, claims: Mapping[str, object], issuer: str) -> Iterator[Revocation]:
        for (of, claim, kind), held in list(self._held.items()):  # a thread may ask, too
            if of == issuer or claim == EVERYTHING:
                for found, text in values_of(claims, claim):
                    if found == kind and (each := held.get(text)) is not None:
                        yield each

    def holds(self, revocation: Revocation) -> bool:
        """Return whether there is an entry for the target of `revocation`."""
        issuer, claim, kind, text = revocation.target
        return text in self._held.get((issuer, claim, kind), ())

    def live(self) -> Iterator[Revocation]:
        """Yield every entry that has not expired; the copy may change meanwhile."""
        now = self._clock.now()
        for held in list(self._held.values()):
            yield from [each for each in held.values() if each.expires_at > now]

    def sweep(self, limit: int) -> int:
        """Drop up to `limit` expired entries and return how many were dropped."""
        dropped = 0
        now = self._clock.now()
        for _ in range(limit):
            if not self._queue or self._queue[0][0] > now:
                break
            _, group, text = heapq.heappop(self._queue)
            if (expires_at := self._held[group][text].expires_at) > now:  # lengthened since
                heapq.heappush(self._queue, (expires_at, group, text))
            else:
                del self._held[group][text]
                dropped += 1
        self._size -= dropped
        if not self.complete and self._left_out_until <= now:
            self.completed()  # whatever was left out has expired
        return dropped
