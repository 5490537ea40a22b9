from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn, cast

from revokebus.clock import ExpiryClock
from revokebus.connection import subscription as subscription_module
from revokebus.denylist.denylist import Denylist
from revokebus.protocol.unseen_writes import UnseenWrites
from revokebus.replication.applier import Applier
from revokebus.replication.confirmation import ConfirmationResponder
from revokebus.replication.feed import Feed
from revokebus.replication.repair import Repair
from revokebus.replication.run import Run
from revokebus.replication.subscriber import Subscriber
from revokebus.store.exchanges import Exchanges
from revokebus.tasks import end
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

    reads_elsewhere = False

    def subscribe(self, *, at_primary: bool) -> NoReturn:  # noqa: ARG002 - Store's
        self.attempts += 1
        if self.attempts > 1500:
            self.enough.set()
        raise ConnectionRefusedError


async def test_the_subscriber_outlives_a_long_outage(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some minutes without Redis an instance would never listen again, and not say so."""
    monkeypatch.setattr(subscription_module, "_LONGEST_PAUSE", 0)
    store, run = Unreachable(), Run(clock, Counters())
    denylist = Denylist(ExpiryClock(clock))
    subscriber = Subscriber(
        run=run,
        store=cast("Store", store),
        applier=Applier(
            denylist, Repair(denylist, Exchanges(clock), run.counters), run.conditions, Feed(clock)
        ),
        responder=ConfirmationResponder(run, cast("Instances", store), lambda: True),
        clock=clock,
        unseen_writes=UnseenWrites(),
    )
    task = asyncio.create_task(subscriber.subscribe_forever())
    async with asyncio.timeout(30):
        await store.enough.wait()
    assert not task.done()
    await end([task])
