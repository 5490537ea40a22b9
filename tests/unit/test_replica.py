from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn, cast

from revokebus import replica as replica_module
from revokebus.clock import ExpiryClock
from revokebus.denylist import Denylist
from revokebus.replica import Replica, _end

if TYPE_CHECKING:
    import pytest

    from revokebus.store import Store
    from revokebus.testing import ManualClock
    from tests.support import MakeSettings


async def test_a_cancellation_that_is_lost_is_repeated() -> None:
    """Stopping an application would hang for ever, because redis-py can lose a cancellation."""
    cancelled = 0

    async def deaf() -> None:
        nonlocal cancelled
        while cancelled < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)  # let it begin to wait
    async with asyncio.timeout(10):
        await _end([task])
    assert cancelled == 3


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
    make_settings: MakeSettings, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some minutes without Redis an instance would never listen again, and not say so."""
    monkeypatch.setattr(replica_module, "_LONGEST_BACKOFF", 0)
    store = Unreachable()
    expiry_clock = ExpiryClock(clock)
    replica = Replica(
        make_settings(), Denylist(expiry_clock), clock, expiry_clock, lambda: cast("Store", store)
    )
    task = asyncio.create_task(replica._listen(cast("Store", store)))
    async with asyncio.timeout(30):
        await store.enough.wait()
    assert not task.done()
    await _end([task])
