from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn, cast

from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist
from revokebus.protocol.continuity import Continuity
from revokebus.replication import subscriber as subscriber_module
from revokebus.replication.applier import Applier
from revokebus.replication.confirmation import ConfirmationResponder
from revokebus.replication.repair import Repair
from revokebus.replication.subscriber import Subscriber
from revokebus.tasks import end
from revokebus.telemetry.conditions import Conditions
from revokebus.telemetry.counters import Counters

if TYPE_CHECKING:
    import pytest

    from revokebus.store.instances import Instances
    from revokebus.store.store import Store
    from revokebus.testing import ManualClock


class Unreachable:
    """A store that never lets anybody subscribe."""

    def __init__(self) -> None:
        self.attempts = 0
        self.enough = asyncio.Event()

    def subscribe(self) -> NoReturn:
        self.attempts += 1
        if self.attempts > 1500:
            self.enough.set()
        raise ConnectionRefusedError


async def test_the_subscriber_outlives_a_long_outage(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some minutes without Redis an instance would never listen again, and not say so."""
    monkeypatch.setattr(subscriber_module, "_LONGEST_BACKOFF", 0)
    store, conditions = Unreachable(), Conditions()
    denylist = Denylist(ExpiryClock(clock))
    continuity, wake = Continuity(), asyncio.Event()
    subscriber = Subscriber(
        store=cast("Store", store),
        continuity=continuity,
        applier=Applier(denylist, Repair(denylist), conditions),
        responder=ConfirmationResponder(
            cast("Instances", store), continuity, lambda: True, conditions, wake
        ),
        counters=Counters(),
        clock=clock,
        conditions=conditions,
        wake=wake,
    )
    task = asyncio.create_task(subscriber.run())
    async with asyncio.timeout(30):
        await store.enough.wait()
    assert not task.done()
    await end([task])
