"""What is owed to Redis, and for how long others are held because of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist
from revokebus.errors import StoreError
from revokebus.protocol.revocation import Revocation
from revokebus.replication.outbox import Outbox
from revokebus.replication.repair import Repair
from revokebus.replication.run import Run
from revokebus.store.exchanges import Exchanges
from revokebus.store.writes import Written
from revokebus.telemetry.counters import Counters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from revokebus.store.store import Store
    from revokebus.testing import ManualClock


class Redis:
    """A store that works, or fails, as told."""

    def __init__(self) -> None:
        self.holds = 0
        self.writes = self  # a store's part that writes
        self.written: list[Revocation] = []
        self.fails = ""

    def _maybe_fail(self, what: str) -> None:
        if what in self.fails:
            raise StoreError(f"no {what}")

    async def hold(self, _seconds: float) -> None:
        self._maybe_fail("hold")
        self.holds += 1

    async def missing(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        return list(revocations)

    async def write(self, revocations: Sequence[Revocation], _epoch: str) -> Written:
        self._maybe_fail("write")
        self.written += revocations
        return Written("1-1", "e")

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[[], Any]]:
        async def is_ours() -> bool:
            return True

        yield is_ours


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def store(redis: Redis) -> Store:
    return cast("Store", redis)


@pytest.fixture
def repair(clock: ManualClock) -> Repair:
    return Repair(Denylist(ExpiryClock(clock)), Exchanges(clock), Counters())


@pytest.fixture
def outbox(clock: ManualClock, repair: Repair) -> Outbox:
    return Outbox(repair, clock)


@pytest.fixture
def run(clock: ManualClock) -> Run:
    return Run(clock, Counters())


def lost(clock: ManualClock, value: str = "a") -> Revocation:
    return Revocation("jti", value, clock.wall() + 600)


async def test_a_trouble_is_over_when_its_cause_is(
    clock: ManualClock, redis: Redis, store: Store, repair: Repair, outbox: Outbox, run: Run
) -> None:
    """An operator would look for a fault that was repaired long ago, or not be told of one."""
    repair.lost([lost(clock)])
    outbox.add([lost(clock, "b")])
    redis.fails = "write hold"
    await outbox.write_back(store, run)
    assert {part in str(run.conditions) for part in ("unsaved", "repair", "hold")} == {True}
    redis.fails = "write"
    await outbox.write_back(store, run)
    assert "hold" not in str(run.conditions)
    assert "repair: no write" in str(run.conditions)  # a hold that succeeds is not its end
    redis.fails = "hold"
    await outbox.write_back(store, run)
    assert str(run.conditions) == ""  # there is nothing left to hold others for
    assert sorted(str(each.value) for each in redis.written) == ["a", "b"]
    assert len(outbox) == 0


async def test_others_are_not_held_for_ever(
    clock: ManualClock, redis: Redis, store: Store, repair: Repair, outbox: Outbox, run: Run
) -> None:
    """One instance that cannot repair would keep every other from a proof."""
    repair.lost([lost(clock)])
    redis.fails = "write"
    for _ in range(100):
        await outbox.write_back(store, run)
        assert outbox.longest_rest() < 1
        clock.advance(1)
    assert redis.holds == 30


async def test_a_bus_that_is_started_again_may_hold_again(
    clock: ManualClock, redis: Redis, store: Store, repair: Repair, outbox: Outbox, run: Run
) -> None:
    """After a restart in the same process others would take a Redis that lacks data for whole."""
    repair.lost([lost(clock)])
    redis.fails = "write"
    await outbox.write_back(store, run)
    clock.advance(60)
    await outbox.write_back(store, run)
    assert redis.holds == 1
    outbox.restart()
    await outbox.write_back(store, run)
    assert redis.holds == 2


async def test_what_was_lengthened_meanwhile_is_written_again(
    clock: ManualClock, store: Store, redis: Redis, outbox: Outbox
) -> None:
    """The longer of two revocations of a token would be lost with the process."""
    short, long = lost(clock), lost(clock)._replace(expires_at=clock.wall() + 900)
    outbox.add([short])
    write = redis.write

    async def lengthen(revocations: Sequence[Revocation], epoch: str) -> Written:
        outbox.add([long])
        return await write(revocations, epoch)

    redis.write = lengthen  # type: ignore[method-assign,assignment]  # as if a request came
    await outbox.save(store, "e")
    assert outbox.get(long.target) == long
