"""Applies what is pushed: for speed, never for proof."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from revokebus.connection.subscription import pause_after
from revokebus.errors import WireError
from revokebus.protocol.continuity import Entry, Push
from revokebus.protocol.wire import decode_inquiry, decode_message

if TYPE_CHECKING:
    from revokebus.clock import Clock
    from revokebus.protocol.unseen_writes import UnseenWrites
    from revokebus.replication.applier import Applier
    from revokebus.replication.confirmation import ConfirmationResponder
    from revokebus.replication.run import Run
    from revokebus.store.store import Store

_LASTING = 5.0
_FAILED_AT_REPLICA, _AT_PRIMARY = 4, 60.0


@dataclass(eq=False, kw_only=True)
class Subscriber:
    """Reads the channel until it is cancelled; whatever ends a subscription, it makes another.

    Attributes:
        run: What is shared with the other tasks.
        store: Makes subscriptions.
        applier: Applies messages.
        responder: Is given questions.
        clock: Tells the time, and how long a subscription lasted.
        unseen_writes: What was heard must be in the log.
        subscribed: Whether messages arrive at this moment.
        tried: Set once the first attempt has succeeded or failed.
    """

    run: Run
    store: Store
    applier: Applier
    responder: ConfirmationResponder
    clock: Clock
    unseen_writes: UnseenWrites
    subscribed: bool = field(default=False, init=False)
    tried: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def subscribe_forever(self) -> None:
        """Subscribe, read, and subscribe again."""
        failures = 0
        while True:
            began = self.clock.elapsed()
            try:
                if self.store.reads_elsewhere and failures >= _FAILED_AT_REPLICA:
                    await self._read_at_primary()
                else:
                    await self._read(at_primary=False)
            except Exception as error:  # noqa: BLE001 - a silent end would be a silent gap
                self.run.conditions.note("subscriber", error)
            finally:
                self.subscribed = False
            self.tried.set()
            lasted = self.clock.elapsed() - began > _LASTING
            failures = 1 if lasted else failures + 1
            await asyncio.sleep(pause_after(failures))

    async def _read_at_primary(self) -> None:
        """Be told by the primary for a while, where the replica is away."""
        longest = random.uniform(0.5, 1.0) * _AT_PRIMARY  # noqa: S311 - not a secret
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._read(at_primary=True)

    async def _read(self, *, at_primary: bool) -> None:
        async with self.store.subscribe(at_primary=at_primary) as messages:
            self.subscribed = True
            self.run.counters.subscriptions += 1
            self.run.conditions.over("subscriber")
            self.tried.set()
            self.run.wake.set()  # what was published while there was no subscription
            async for message in messages:
                await self._receive(message)

    async def _receive(self, data: bytes) -> None:
        run = self.run
        if (inquiry := decode_inquiry(data)) is not None:
            self.responder.ask(inquiry)
            return
        try:
            message = decode_message(data)
        except WireError as error:
            run.conditions.ignore("message", error.kind)
            return
        push = run.continuity.hear(message)
        if push is not Push.TICK:
            if await self.applier.hear(message):
                self.responder.look()  # a question may have come while it was applied
            if written_at := message.entry[0] / 1000:  # 0 where Redis would not record it
                entry = Entry(message.entry, message.payload)
                self.unseen_writes.hear(entry, self.clock.elapsed())
                run.counters.propagation.observe(max(0.0, self.clock.wall() - written_at))
        if push is not Push.APPLY:
            run.counters.gaps += 1
            if run.continuity.position is not None:  # or each would have everything listed at once
                run.wake.set()
