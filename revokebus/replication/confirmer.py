"""Finds out which instances have applied a row of the log.

They are asked once, on the channel, and answer by themselves. Only where an answer is missing is
Redis asked, for all of them at once, what their heartbeats say.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from revokebus.errors import StoreError, WireError
from revokebus.protocol.wire import Inquiry, decode_instance
from revokebus.replication.backend import Confirmed
from revokebus.results import Confirmation
from revokebus.tasks import end

if TYPE_CHECKING:
    from collections.abc import Iterable

    from revokebus.clock import Clock
    from revokebus.protocol.heartbeat import Present
    from revokebus.protocol.wire import RowId
    from revokebus.results import Outcome
    from revokebus.store.instances import Roll, RollCall
    from revokebus.store.subscription import Subscription

_LOOK_EVERY = 0.5


class Confirmer:
    """Asks a fleet about one row.

    Args:
        roll_call: The channel and the heartbeats.
        clock: Tells how fast the answers are.
        bound: What ``max_staleness`` is here, in seconds.
        epoch: The data set that the row is in.
        row: The row.
        began: The moment that answers are timed from, in elapsed seconds.
    """

    def __init__(
        self,
        roll_call: RollCall,
        clock: Clock,
        bound: float,
        epoch: str,
        row: RowId,
        began: float,
    ) -> None:
        self._roll_call = roll_call
        self._clock = clock
        self._bound = bound
        self._inquiry = Inquiry(epoch, row, secrets.token_hex(8))
        self._began = began
        # Here it was applied before it was written.
        self._seconds: dict[str, float] = {roll_call.instance: 0.0}
        self._answered = asyncio.Event()
        self._fleet: dict[str, Present] = {}
        self._heard_at: dict[str, float] = {}
        self._ended: frozenset[str] = frozenset()
        self._known_since = math.inf
        self._confirmed_at = -math.inf

    async def ask(self, timeout: float) -> Confirmed:
        """Return what became of the row at each instance that may have lived when it was written.

        Args:
            timeout: For how many seconds to wait.

        Raises:
            StoreError: It is not known which instances there are, or was not in time.
        """
        deadline = self._clock.elapsed() + timeout
        try:
            async with (
                asyncio.timeout(timeout),
                self._roll_call.answers(self._inquiry.name) as answers,
            ):
                listening = asyncio.create_task(self._listen(answers))
                try:
                    await self._roll_call.inquire(self._inquiry)
                    self._take(roll := await self._roll_call.call(), roll.presents)
                    await self._wait(deadline)
                finally:
                    await end([listening])
        except TimeoutError:
            if self._known_since == math.inf:
                message = f"Redis did not say within {timeout:g} s who is to answer"
                raise StoreError(message) from None
        now = self._clock.elapsed()
        confirmations = tuple(self._confirmation(each, now) for each in self._fleet.values())
        knows_all = self._confirmed_at >= self._began and now >= self._all_known_at()
        return Confirmed(confirmations, knows_all)

    async def _listen(self, answers: Subscription) -> None:
        # Where it ends, the heartbeats are looked at.
        with contextlib.suppress(RedisError, OSError):
            async for answer in answers:
                with contextlib.suppress(WireError):
                    self._note(decode_instance(answer))

    def _note(self, instance: str) -> None:
        self._seconds.setdefault(instance, self._clock.elapsed() - self._began)
        self._answered.set()

    def _take(self, roll: Roll, asked: Iterable[str]) -> None:
        """Note what heartbeats say; an instance that is missing was last heard of before."""
        now = self._clock.elapsed()
        for instance in asked:
            if present := roll.presents.get(instance):
                self._fleet[instance] = present
                self._heard_at[instance] = now - present.silence
                if present.has(self._inquiry.epoch, self._inquiry.row):
                    self._note(instance)
        self._ended |= roll.ended
        self._known_since = now - roll.age
        self._confirmed_at = roll.confirmed_at

    async def _wait(self, deadline: float) -> None:
        while not self._is_over(deadline):
            self._answered.clear()
            try:
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._answered.wait()
            except TimeoutError:
                with contextlib.suppress(StoreError):
                    self._take(await self._roll_call.call(), tuple(self._fleet))

    def _is_over(self, deadline: float) -> bool:
        """Return whether waiting until then changes nothing any more."""
        now = self._clock.elapsed()
        if now >= deadline:
            return True
        if any(self._outcome(each, now) == "silent" for each in self._fleet.values()):
            return False
        return not now < self._all_known_at() <= deadline

    def _all_known_at(self) -> float:
        """Return when whoever was cut off from other data knows that its copy is stale."""
        bounds = (each.beat.bound for each in self._fleet.values())
        return self._known_since + max(self._bound, *bounds, 0.0)

    def _outcome(self, present: Present, now: float) -> Outcome:
        instance = present.instance
        if instance in self._seconds:
            return "applied"
        if instance in self._ended:
            return "ended"
        silence = now - self._heard_at[instance]
        return "silent" if replace(present, silence=silence).may_accept else "stale"

    def _confirmation(self, present: Present, now: float) -> Confirmation:
        return Confirmation(
            instance=present.instance,
            host=present.beat.host,
            pid=present.beat.pid,
            outcome=self._outcome(present, now),
            seconds=self._seconds.get(present.instance),
        )
