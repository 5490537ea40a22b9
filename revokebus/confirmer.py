"""Finds out which instances have applied a row of the log.

They are asked once, on the channel, and answer by themselves. Only where an answer is missing is
Redis asked, for all of them at once, what their heartbeats say.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from revokebus.errors import StoreError, WireError
from revokebus.report import Confirmation
from revokebus.tasks import end
from revokebus.wire import Inquiry, decode_instance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from revokebus.clock import Clock
    from revokebus.presence import Present
    from revokebus.report import Outcome
    from revokebus.store import Store
    from revokebus.subscription import Subscription
    from revokebus.wire import RowId

_LOOK_EVERY = 0.5


class Confirmer:
    """Asks a fleet about one row.

    Args:
        store: The channel and the heartbeats.
        clock: Tells how fast the answers are.
        epoch: The data set that the row is in.
        row: The row.
        began: The moment that answers are timed from, in elapsed seconds.
    """

    def __init__(self, store: Store, clock: Clock, epoch: str, row: RowId, began: float) -> None:
        self._store = store
        self._clock = clock
        self._inquiry = Inquiry(epoch, row, secrets.token_hex(8))
        self._began = began
        # Here it was applied before it was written.
        self._seconds: dict[str, float] = {store.instance: 0.0}
        self._answered = asyncio.Event()

    async def ask(self, timeout: float) -> tuple[Confirmation, ...]:
        """Return what became of the row at each instance that was alive when it was written.

        Args:
            timeout: For how many seconds to wait.

        Raises:
            StoreError: It is not known which instances there are.
        """
        deadline = self._clock.elapsed() + timeout
        async with self._store.answers(self._inquiry.name) as answers:
            listening = asyncio.create_task(self._listen(answers))
            try:
                await self._store.inquire(self._inquiry)
                fleet = {each.instance: each for each in await self._store.presents()}
                later = await self._wait(fleet, deadline)
            finally:
                await end([listening])
        return tuple(self._confirmation(each, later) for each in fleet.values())

    async def _listen(self, answers: Subscription) -> None:
        # Where it ends, the heartbeats are looked at.
        with contextlib.suppress(RedisError, OSError):
            async for answer in answers:
                with contextlib.suppress(WireError):
                    self._note(decode_instance(answer))

    def _note(self, instance: str) -> None:
        self._seconds.setdefault(instance, self._clock.elapsed() - self._began)
        self._answered.set()

    async def _wait(
        self, fleet: Mapping[str, Present], deadline: float
    ) -> Mapping[str, Present] | None:
        """Wait for answers; return the instances as they were looked at last, None if never."""
        later: Mapping[str, Present] | None = None
        look_at = self._clock.elapsed() + _LOOK_EVERY
        while True:
            now = self._clock.elapsed()
            if self._has_all(fleet, later) or now >= deadline:
                return later
            if now >= look_at:
                look_at = now + _LOOK_EVERY
                with contextlib.suppress(StoreError):
                    later = {each.instance: each for each in await self._store.presents()}
                    self._note_what_beats_say(later)
                continue
            self._answered.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(deadline, look_at) - now):
                    await self._answered.wait()

    def _has_all(self, fleet: Mapping[str, Present], later: Mapping[str, Present] | None) -> bool:
        return all(self._outcome(each, later) != "silent" for each in fleet.values())

    def _note_what_beats_say(self, fleet: Mapping[str, Present]) -> None:
        for instance, present in fleet.items():
            if present.has(self._inquiry.epoch, self._inquiry.row):
                self._note(instance)

    def _outcome(self, present: Present, later: Mapping[str, Present] | None) -> Outcome:
        if present.instance in self._seconds:
            return "applied"
        if later is not None:
            if present.instance not in later:
                return "ended"
            present = later[present.instance]
        return "silent" if present.may_accept else "stale"

    def _confirmation(self, present: Present, later: Mapping[str, Present] | None) -> Confirmation:
        return Confirmation(
            instance=present.instance,
            host=present.beat.host,
            pid=present.beat.pid,
            outcome=self._outcome(present, later),
            seconds=self._seconds.get(present.instance),
        )
