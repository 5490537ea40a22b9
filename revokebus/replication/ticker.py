"""Ticks: has the copy proven, writes what is owed, and keeps the copy small, twice a second."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from revokebus.errors import ConfigurationError, UnsettledError
from revokebus.replication.run import LOOKED_EVERY
from revokebus.store.settling import LONGEST_PAUSE, pause_after_failure, tick_interval
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.denylist.denylist import Denylist
    from revokebus.denylist.freshness import Freshness
    from revokebus.protocol.continuity import Break
    from revokebus.replication.log_reader import LogReader
    from revokebus.replication.outbox import Outbox
    from revokebus.replication.repair import Comparison
    from revokebus.replication.run import Run
    from revokebus.settings.settings import Settings
    from revokebus.store.store import Store

logger = logging.getLogger("revokebus")

_SHORTEST_INTERVAL = 0.9
_SHORTEST_PAUSE = 0.02
_DELAYS_PER_BOUND = 4
_ALMOST, _AGAIN = 0.8, 0.7
_SWEPT_PER_TICK = 1000
_TICKS_PER_SWEEP = 200
MOST_SWEPT_PER_TICK = 2_500


@dataclass(eq=False, kw_only=True)
class Ticker:
    """Ticks until it is cancelled; whatever goes wrong is noted, and tried again.

    Attributes:
        run: What is shared with the other tasks.
        reader: Proves the copy.
        outbox: What is owed to Redis.
        comparison: Finds what Redis lacks.
        store: Where it is written.
        denylist: The copy.
        freshness: Is told of each proof.
        settings: How many seconds apart ticks start.
    """

    run: Run
    reader: LogReader
    outbox: Outbox
    comparison: Comparison
    store: Store
    denylist: Denylist
    freshness: Freshness
    settings: Settings
    _has_failed: bool = field(default=False, init=False)
    _is_almost_full: bool = field(default=False, init=False)

    async def tick_forever(self) -> None:
        """Prove, write what is owed, rest, and tick again."""
        run, slept = self.run, False
        while True:
            run.wake.clear()
            began, interval = run.clock.elapsed(), self._interval()
            with self._watched():
                rest = await self._tick()
            if not self._has_failed:
                rest = min(interval, rest, self.outbox.longest_rest())
            if run.was_suspended and not slept:  # once: a loop that is always late must rest, too
                rest = 0.0
            slept = run.was_suspended
            run.end_tick(max(began + rest, run.clock.elapsed() + _SHORTEST_PAUSE))
            self._sweep()
            self._note_state()
            await self._pause(began + rest - run.clock.elapsed())

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Note that a tick goes on, and whether this process runs meanwhile."""
        run, loop = self.run, asyncio.get_running_loop()

        def look() -> None:
            run.look()
            self._note_delay()
            self._note_state()
            timers.append(loop.call_later(LOOKED_EVERY, look))
            timers.popleft()

        run.begin_tick()
        timers = deque([loop.call_later(LOOKED_EVERY, look)])
        try:
            yield
            run.look()
        finally:
            timers[0].cancel()

    async def _tick(self) -> float:
        """Return after how many seconds another is of use at the latest; after an error, when."""
        run = self.run
        try:
            self.freshness.prove(await self.reader.prove())
            run.know()
        except UnsettledError as error:
            run.counters.ticks["unsettled"] += 1
            run.conditions.note("ticker", error)
            run.notify_readers()
            # What others must not do without is written while all of them wait for it.
            await self._list_again(self.reader.suspicion)
            await self.outbox.write_back(self.store, run, is_unsettled=True)
            self._has_failed = False
            return error.seconds or math.inf
        except Exception as error:  # noqa: BLE001 - a silent end would be a silent gap
            run.counters.ticks["failed"] += 1
            run.conditions.note("ticker", error)
            if isinstance(error, ConfigurationError):  # this Redis is refused
                run.decided.set()
            return self._pause_after_failure()
        self._has_failed = False
        run.decided.set()
        self.outbox.proven()
        run.counters.ticks["proven"] += 1
        run.conditions.over("ticker")
        run.conditions.over("proof")
        run.notify_readers()
        if not self.reader.is_refused:
            await self.outbox.write_back(self.store, run)
            await self._list_again(self.reader.use_of_listing())
            with run.conditions.noting("comparison"):
                await self.comparison.go_on(self.store, self.reader.instances)
        return math.inf

    def _pause_after_failure(self) -> float:
        # Each instance at another moment: a server that comes back would be kept away by all who
        # wait for it.
        self._has_failed = True
        longest = pause_after_failure(self.reader.instances)
        return random.uniform(longest / 2, longest)  # noqa: S311 - not a secret

    async def _list_again(self, reason: Break | None) -> None:
        if reason is not None:
            with self.run.conditions.noting("listing"):
                await self.reader.list_again(reason)

    def _sweep(self) -> None:
        swept = max(_SWEPT_PER_TICK, len(self.denylist) // _TICKS_PER_SWEEP)
        self.denylist.sweep(min(swept, MOST_SWEPT_PER_TICK))

    def _note_delay(self) -> None:
        """Note that Redis is slow, or away, long before the tick that waits for it gives up."""
        allowed, age = self.freshness.bound / _DELAYS_PER_BOUND, self.freshness.age
        if age is not None and age > allowed:
            text = f"no proof for more than {allowed:g} s: Redis does not answer, or too slowly"
            self.run.conditions.note("proof", text)

    def _note_state(self) -> None:
        conditions, state, full = self.run.conditions, self.freshness.state, ""
        if state == "stale":
            conditions.note("copy", f"stale, no proof within {self.freshness.bound:g} s")
        elif state == "fresh" and conditions.over("copy"):
            logger.warning("revokebus: the copy is fresh again", extra=event("fresh"))
        if not self.denylist.complete:
            full = (
                f"max_entries (REVOKEBUS_MAX_ENTRIES) of {self.denylist.max_entries} is reached, "
                "so Redis is asked about every token that the copy does not refuse; raise it"
            )
        if conditions.note_or_over("limit", full):
            logger.warning("revokebus: the copy is complete again", extra=event("complete"))
        self._warn_before_it_is_full()

    def _warn_before_it_is_full(self) -> None:
        entries, limit = len(self.denylist), self.denylist.max_entries or math.inf
        if entries > _ALMOST * limit and not self._is_almost_full:
            logger.warning(
                "revokebus: the copy holds %d of max_entries (REVOKEBUS_MAX_ENTRIES) %d; beyond "
                "that Redis is asked about every token",
                entries,
                limit,
                extra=event("almost_full"),
            )
        self._is_almost_full = entries > (_AGAIN if self._is_almost_full else _ALMOST) * limit

    def _interval(self) -> float:
        # With jitter, so that a fleet that was started at once does not tick at once.
        interval = tick_interval(self.settings, self.reader.instances)
        return interval * random.uniform(_SHORTEST_INTERVAL, LONGEST_PAUSE)  # noqa: S311 - not a secret

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(_SHORTEST_PAUSE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds - _SHORTEST_PAUSE):
                await self.run.wake.wait()
