"""Self-repair: what this process holds and Redis has lost, and whose turn it is to write it back.

Some losses leave a trace: the log does not go on. Others do not: records that were evicted, deleted
by hand, or expired by a clock that was wrong. So the copy is also compared with the records some at
a time, without a reason to look.

A fleet notices a loss all at once. Each instance therefore writes only while it has the turn, a
lock in Redis, and only what Redis then still lacks; what another one has written meanwhile comes
back through the log and is crossed off here. Only some of what Redis lacks is listed at a time: the
rest is found by walking on through the copy, so that a fleet that has lost a million does not hold
each of them twice.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from itertools import islice
from typing import TYPE_CHECKING

from cachetools import TTLCache

from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from revokebus.clock import Clock
    from revokebus.denylist.denylist import Denylist
    from revokebus.protocol.revocation import Revocation, Target
    from revokebus.store.exchanges import Exchanges
    from revokebus.store.store import Store
    from revokebus.telemetry.counters import Counters

logger = logging.getLogger("revokebus")

_COMPARED_AT_ONCE, _LISTED_AT_ONCE = 1000, 5000
_WRITTEN_AT_ONCE = 1000
_WALKED_SECONDS = 0.2

FLEET_RATE = 5_000.0
"""How many records a second the whole fleet asks for: under 1 % of what Redis can do."""

MOST_PER_TICK, MOST_AT_ONCE = 1000, 200
"""How many one instance asks for after a tick, and together: a millisecond's work."""

MOST_FILLED, FILLED_SECONDS = 100_000, 3600.0
"""Of how many it is remembered that they were written back, and for how long not again."""

SHORTEST_ROUND = 5.0
"""For how many seconds the comparison of a small copy takes at least."""

_NEAR_ITS_END, _SHARE_OF_INTERVAL = 60.0, 0.2


class _Walk:
    """A comparison of the copy with what Redis has, not yet at its end.

    Args:
        denylist: The copy.
        listed: What Redis has, as a listing and the log after it have shown.
    """

    def __init__(self, denylist: Denylist, listed: Denylist) -> None:
        self._denylist = denylist
        self.listed = listed
        self.begin()

    def begin(self) -> None:
        """Begin with the first entry, again."""
        self.parts = self._denylist.lacking(self.listed, _COMPARED_AT_ONCE)


class Repair:
    """The list of what Redis lacks.

    There are two kinds: what it has *lost*, which others must not do without, so that they are held
    until it is written back; and *gaps*, found without such a reason. A gap may be a revocation
    that Redis never took, because it is full, and a fleet must not stand still for that.

    Args:
        denylist: The copy that Redis is compared with.
        exchanges: The sessions that were refreshed here.
        counters: Is told what was written back.
        elapsed: Tells for how long it is at work.
    """

    def __init__(
        self,
        denylist: Denylist,
        exchanges: Exchanges,
        counters: Counters,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._elapsed = elapsed
        self._exchanges = exchanges
        self._counters = counters
        self._denylist = denylist
        self._lost: dict[Target, Revocation] = {}
        self._gaps: dict[Target, Revocation] = {}
        # Where Redis evicts, it would evict the next one for each that is written back.
        self._filled: TTLCache[Target, bool] = TTLCache(
            MOST_FILLED, FILLED_SECONDS, timer=denylist.clock.now
        )
        self._listed: Denylist | None = None
        self._walk: _Walk | None = None
        self._is_unsettled = False

    def __len__(self) -> int:
        """Return how many were lost, as far as they are found."""
        return len(self._lost)

    @property
    def is_owed(self) -> bool:
        """Whether something was lost, or may have been: others must not rely on Redis."""
        return bool(self._lost) or self._walk is not None

    @property
    def is_looking(self) -> bool:
        """Whether it is not known yet what was lost."""
        return self._walk is not None

    @property
    def is_interested(self) -> bool:
        """Whether it needs to be told what Redis has."""
        return bool(self._lost or self._gaps or self._walk is not None or self._listed is not None)

    def begin(self, *, may_lack: bool = False) -> None:
        """Note what a listing brings, from now on.

        A copy that is empty has nothing to compare, unless Redis may lack what the log will show.

        Args:
            may_lack: Whether it may, because it evicts records.
        """
        self._exchanges.lost()  # exchanges have no entry in the log that could be missed
        self._listed = self._denylist.another() if may_lack or len(self._denylist) else None

    def unsettled(self, *, is_unsettled: bool) -> None:
        """Note whether Redis is new, so that it may have lost sessions that no listing shows."""
        if is_unsettled and not self._is_unsettled:
            self._exchanges.lost()
        self._is_unsettled = is_unsettled

    def has(self, revocations: Sequence[Revocation]) -> None:
        """Note that Redis has these."""
        if self._walk is not None:
            self._walk.listed.add_all(each for each in revocations if self._denylist.holds(each))
        for lacking in (self._lost, self._gaps):
            if not lacking:
                continue
            for revocation in revocations:
                target = revocation.target
                known = lacking.get(target)
                if known is not None and revocation.covers(known):
                    del lacking[target]

    def listed(self, revocations: Iterable[Revocation]) -> None:
        """Note that the listing has brought these, as far as the copy has room for them."""
        if self._listed is not None:
            self._listed.add_all(each for each in revocations if self._denylist.holds(each))

    def lost(self, revocations: Iterable[Revocation]) -> None:
        """Note that Redis has acknowledged these and lost them."""
        _put_down(revocations, self._lost)

    def lacks(self, revocations: Iterable[Revocation]) -> None:
        """Note that Redis does not have these, for whatever reason; of each once an hour."""
        _put_down((each for each in revocations if each.target not in self._filled), self._gaps)

    async def compare(self, *, is_loss: bool = True) -> None:
        """Find the live entries of the copy that the listing did not bring: the first of them.

        Args:
            is_loss: Whether Redis was listed because it has lost something.
        """
        listed, self._listed = self._listed, None
        if listed is None:
            return
        walk = _Walk(self._denylist, listed)
        if is_loss or self._walk is not None:  # what another walk has not come to, this one will
            self._walk = walk
            await self._walk_on()
            return
        for some in walk.parts:
            self.lacks(some)
            if len(self._gaps) >= _LISTED_AT_ONCE:
                return  # the rest is found by comparing, a little at a time
            await asyncio.sleep(0)  # let requests through

    async def _walk_on(self) -> None:
        """Find more of what Redis has lost, unless enough is known, or it takes too long.

        Others are held meanwhile by what is renewed between two calls.
        """
        walk, until = self._walk, self._elapsed() + _WALKED_SECONDS
        while walk is not None and len(self._lost) < _LISTED_AT_ONCE:
            try:
                some = next(walk.parts, None)
                self.lost(some or ())
            except BaseException:
                walk.begin()  # or it would seem to be at its end
                raise
            if some is None:
                if self._walk is walk:
                    self._walk = None
                return
            if self._elapsed() >= until:
                return
            await asyncio.sleep(0)  # let requests through

    async def write_back(self, store: Store, epoch: str) -> None:
        """Write what Redis lacks, in the data set `epoch`, if it is this instance's turn.

        Sessions are written by every instance that remembers them: that is idempotent.
        """
        try:
            await self._write_revocations(store, epoch)
        finally:
            await self._exchanges.write_back(store)

    async def _write_revocations(self, store: Store, epoch: str) -> None:
        await self._walk_on()
        if self._lost:
            # To the end: an instance that starts relies on Redis once none holds or repairs.
            async with store.turn() as is_ours:
                while self.is_owed and await is_ours():
                    if self._lost:
                        await self._write_some(self._lost, store, epoch)
                    await self._walk_on()
        # Without the lock, which would keep others from a proof; and not while Redis has just lost
        # what all of them hold, or each would write what one has the turn to write.
        if self._gaps and not self._lost and not self._is_unsettled:
            for each in await self._write_some(self._gaps, store, epoch):
                self._filled[each.target] = True

    async def _write_some(
        self, lacking: Mapping[Target, Revocation], store: Store, epoch: str
    ) -> Sequence[Revocation]:
        """Write what is still missing of some of them, and return it."""
        some = list(islice(lacking.values(), _WRITTEN_AT_ONCE))
        missing = await store.missing(some)
        if missing:
            await store.writes.write(missing, epoch)
            self._counters.repaired += len(missing)
            logger.warning(
                "revokebus has written back %d revocations that Redis had lost",
                len(missing),
                extra=event("repaired"),
            )
        self.has(some)
        return missing


def _put_down(revocations: Iterable[Revocation], where: dict[Target, Revocation]) -> None:
    for each in revocations:
        target = each.target
        where[target] = each.merged(where.get(target))


class Comparison:
    """Goes round the copy, again and again.

    Args:
        denylist: The copy.
        repair: Is told what Redis lacks.
        clock: Tells the time.
        interval: Seconds between two ticks.
    """

    def __init__(self, denylist: Denylist, repair: Repair, clock: Clock, interval: float) -> None:
        self._denylist = denylist
        self._repair = repair
        self._clock = clock
        self._interval = interval
        self._round: Iterator[Revocation] = iter(())
        self._next_round_at = -math.inf

    async def go_on(self, store: Store, instances: int) -> None:
        """Compare the next entries.

        Args:
            store: Where the records are.
            instances: How many share the work.

        Raises:
            StoreError: Redis cannot be asked.
        """
        share = FLEET_RATE * self._interval / max(1, instances)
        left = max(1, min(MOST_PER_TICK, round(share)))
        # Where Redis is far away the next tick must not come later for it.
        until = self._clock.elapsed() + _SHARE_OF_INTERVAL * self._interval
        while left > 0 and (some := list(islice(self._round, min(left, MOST_AT_ONCE)))):
            left -= len(some)
            # By Redis's clock what ends soon may have ended, and would be written for nothing.
            lasting = self._denylist.clock.now() + _NEAR_ITS_END
            if wanted := [each for each in some if each.expires_at > lasting]:
                self._repair.lacks(await store.missing(wanted))
            if self._clock.elapsed() > until:
                return
        now = self._clock.elapsed()
        if left > 0 and now >= self._next_round_at:
            self._next_round_at = now + SHORTEST_ROUND
            self._round = self._denylist.live()
