"""What is still to be written to Redis: revocations made here, and what Redis has lost."""

from __future__ import annotations

import itertools
import logging
import math
from typing import TYPE_CHECKING

from revokebus.errors import RefusedError
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from revokebus.clock import Clock
    from revokebus.protocol.revocation import Revocation, Target
    from revokebus.replication.repair import Repair
    from revokebus.replication.run import Run
    from revokebus.store.store import Store
    from revokebus.store.writes import Written

logger = logging.getLogger("revokebus")

_SAVED_AT_ONCE = 5000
_LONGEST_HOLD_SECONDS = 30.0
_OWING_PAUSE = 0.2
HOLD_SECONDS = 0.5
"""For how long a hold keeps other instances from a proof, unless it is renewed."""


class Outbox:
    """The revocations that this process owes to Redis.

    Args:
        repair: What Redis has lost.
        clock: Tells for how long something has been owed.
    """

    def __init__(self, repair: Repair, clock: Clock) -> None:
        self._repair = repair
        self._clock = clock
        self._revocations: dict[Target, Revocation] = {}
        self._held_since: float | None = None

    def __len__(self) -> int:
        return len(self._revocations)

    def add(self, revocations: Iterable[Revocation]) -> None:
        """Remember `revocations`; of two for the same tokens what both refuse."""
        for each in revocations:
            target = each.target
            self._revocations[target] = each.merged(self._revocations.get(target))

    def get(self, target: Target) -> Revocation | None:
        """Return what is still to be written for `target`."""
        return self._revocations.get(target)

    def restart(self) -> None:
        """Note that the bus was started again: what is owed may be held for as long as ever."""
        self._held_since = None

    def longest_rest(self) -> float:
        """Return for how many seconds to rest at most, at the end of a tick."""
        return _OWING_PAUSE if self._repair.is_owed else math.inf

    def proven(self) -> None:
        """Note that the copy was proven, so that nobody is held, unless something is owed."""
        if not self._repair.is_owed:
            self._held_since = None

    async def write_back(self, store: Store, run: Run, *, is_unsettled: bool = False) -> None:
        """Write what can be written, and hold other instances while Redis lacks something.

        What goes wrong is noted, and tried again the next time.

        Args:
            store: Where to.
            run: The data set that is known there, and what is wrong.
            is_unsettled: Whether Redis may have lost what no listing shows.
        """
        self._repair.unsettled(is_unsettled=is_unsettled)
        with run.conditions.noting("unsaved"):
            if written := await self.save(store, run.continuity.epoch):
                run.conditions.note_or_over("publisher", written.unheard)
        with run.conditions.noting("repair"):
            try:
                await self._repair.write_back(store, run.continuity.epoch)
            except RefusedError:
                self._held_since = None  # Redis takes it from nobody, as where it is full
                raise
        if self._repair.is_owed:
            with run.conditions.noting("hold"):
                await self.hold(store)
        else:
            run.conditions.over("hold")

    async def hold(self, store: Store) -> None:
        """Keep other instances from a proof; but not for ever, if only this one cannot repair.

        Raises:
            StoreError: Redis refuses.
        """
        now = self._clock.elapsed()
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since < _LONGEST_HOLD_SECONDS:
            await store.hold(HOLD_SECONDS)

    async def save(self, store: Store, epoch: str) -> Written | None:
        """Write some of them; return what became of it, or None where there are none.

        Args:
            store: Where to.
            epoch: The data set that is known there; any where it is empty.

        Raises:
            StoreError: They could not be written; they are kept.
        """
        some = dict(itertools.islice(self._revocations.items(), _SAVED_AT_ONCE))
        if not some:
            return None
        written = await store.writes.write(list(some.values()), epoch)
        for key, revocation in some.items():
            if self._revocations.get(key) == revocation:  # not lengthened meanwhile
                del self._revocations[key]
        logger.info(
            "revokebus has written %d revocations that were unsaved",
            len(some),
            extra=event("unsaved_written"),
        )
        return written
