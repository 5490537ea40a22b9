"""Applies what is pushed: for speed, never for proof."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis.backoff import ExponentialWithJitterBackoff

from revokebus.errors import WireError
from revokebus.protocol.continuity import Push
from revokebus.protocol.wire import decode_inquiry, decode_message

if TYPE_CHECKING:
    from revokebus.clock import Clock
    from revokebus.protocol.continuity import Continuity
    from revokebus.replication.applier import Applier
    from revokebus.replication.confirmation import ConfirmationResponder
    from revokebus.store.store import Store
    from revokebus.telemetry.conditions import Conditions
    from revokebus.telemetry.counters import Counters

_SHORTEST_PAUSE = 0.02
_LONGEST_BACKOFF = 1.0
_LASTING = 5.0
_MOST_FAILURES = 10


@dataclass(eq=False, kw_only=True)
class Subscriber:
    """Listens to the channel until it is cancelled; whatever ends a subscription, it begins anew.

    Attributes:
        store: Makes subscriptions.
        continuity: Judges messages.
        applier: Applies them.
        responder: Is told of questions.
        counters: Is told of subscriptions, gaps, and how old messages are.
        clock: Tells how long a subscription lasted.
        conditions: Is told what is wrong.
        wake: Set where the log should be read at once.
        subscribed: Whether messages are heard at this moment.
        tried: Set once the first attempt has succeeded or failed.
    """

    store: Store
    continuity: Continuity
    applier: Applier
    responder: ConfirmationResponder
    counters: Counters
    clock: Clock
    conditions: Conditions
    wake: asyncio.Event
    subscribed: bool = field(default=False, init=False)
    tried: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def run(self) -> None:
        """Subscribe, listen, and subscribe again."""
        backoff = ExponentialWithJitterBackoff(cap=_LONGEST_BACKOFF, base=_SHORTEST_PAUSE)
        failures = 0
        while True:
            began = self.clock.elapsed()
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - a silent end would be a silent gap
                self.conditions.note("subscriber", error)
            finally:
                self.subscribed = False
            self.tried.set()
            lasted = self.clock.elapsed() - began > _LASTING
            # Bounded, because the exponent outgrows a float after some minutes of outage.
            failures = 1 if lasted else min(failures + 1, _MOST_FAILURES)
            await asyncio.sleep(backoff.compute(failures))

    async def _listen(self) -> None:
        async with self.store.subscribe() as messages:
            self.subscribed = True
            self.counters.subscriptions += 1
            self.conditions.over("subscriber")
            self.tried.set()
            self.wake.set()  # what was published while nobody listened
            async for message in messages:
                await self._hear(message)

    async def _hear(self, data: bytes) -> None:
        if (inquiry := decode_inquiry(data)) is not None:
            self.responder.ask(inquiry)
            return
        try:
            message = decode_message(data)
        except WireError as error:
            self.conditions.ignore("message", error.kind)
            return
        push = self.continuity.hear(message)
        if push is not Push.TICK:
            with self.responder.waiting():  # the chain of messages is ahead of the copy
                await self.applier.hear(message)
            if written_at := message.entry[0] / 1000:  # 0 where Redis would not record it
                self.counters.propagation.observe(max(0.0, self.clock.wall() - written_at))
        if push is not Push.APPLY:
            self.counters.gaps += 1
            self.wake.set()
