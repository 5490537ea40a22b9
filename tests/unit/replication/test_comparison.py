"""What the copy holds and Redis lacks is found without a reason to look."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import pytest

from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist
from revokebus.protocol.revocation import Revocation
from revokebus.replication import repair as module
from revokebus.replication.repair import Comparison, Repair
from revokebus.store.exchanges import Exchanges
from revokebus.telemetry.counters import Counters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.store.store import Store
    from revokebus.testing import ManualClock


class Records:
    """Lacks what it is told, and counts what it is asked about."""

    def __init__(self) -> None:
        self.lacks: set[Revocation] = set()
        self.asked: list[int] = []

    async def missing(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        self.asked.append(len(revocations))
        return [each for each in revocations if each in self.lacks]


class Fleet:
    """A copy, what it is compared with, and the comparison."""

    def __init__(self, clock: ManualClock, interval: float = 0.5) -> None:
        self.clock = clock
        self.denylist = Denylist(ExpiryClock(clock))
        self.repair = Repair(self.denylist, Exchanges(clock), Counters())
        self.records = Records()
        self.interval = interval
        self._comparison = Comparison(self.denylist, self.repair, clock, interval)

    def hold(self, count: int, life: float = 3600) -> list[Revocation]:
        expires_at = float(math.ceil(self.clock.wall() + life))
        made = [Revocation("jti", f"{life}-{number}", expires_at) for number in range(count)]
        self.denylist.add_all(made)
        return made

    async def tick(self, times: int, instances: int = 1) -> None:
        for _ in range(times):
            await self._comparison.go_on(cast("Store", self.records), instances)
            self.clock.advance(self.interval)


@pytest.fixture
def fleet(clock: ManualClock) -> Fleet:
    return Fleet(clock)


async def test_a_record_that_was_deleted_is_found(fleet: Fleet) -> None:
    """Whoever starts later would accept the token for as long as it lives."""
    held = fleet.hold(50)
    await fleet.tick(12)
    assert not fleet.repair.is_interested
    fleet.records.lacks = {held[17]}
    await fleet.tick(12)
    assert list(fleet.repair._gaps.values()) == [held[17]]
    assert not fleet.repair  # nobody is held for it


async def test_a_small_copy_is_not_asked_for_all_the_time(fleet: Fleet) -> None:
    """A fleet of a thousand would do nothing else."""
    fleet.hold(50)
    await fleet.tick(100)  # 50 seconds
    assert sum(fleet.records.asked) <= 50 * (50 / module.SHORTEST_ROUND + 1)


@pytest.mark.parametrize("instances", [1, 10, 1000])
async def test_what_redis_is_asked_for_is_bounded(fleet: Fleet, instances: int) -> None:
    """Comparing would cost Redis more than the requests that it was spared."""
    fleet.hold(5000)
    await fleet.tick(20, instances)  # ten seconds
    assert max(fleet.records.asked) <= module.MOST_AT_ONCE
    assert sum(fleet.records.asked) * instances <= 10 * max(module.FLEET_RATE, 2 * instances)


async def test_what_ends_soon_is_left_alone(fleet: Fleet) -> None:
    """Records that Redis has just let expire would be written again and again."""
    fleet.records.lacks = set(fleet.hold(50, life=30))
    await fleet.tick(30)
    assert not fleet.repair.is_interested


async def test_a_redis_that_is_far_away_is_not_waited_for(fleet: Fleet) -> None:
    """The next proof would come two seconds later, and later the larger the copy."""
    fleet.hold(5000)
    missing = fleet.records.missing

    async def slow(revocations: Sequence[Revocation]) -> list[Revocation]:
        fleet.clock.advance(0.4)
        return await missing(revocations)

    fleet.records.missing = slow  # type: ignore[method-assign]  # 200 ms there, 200 ms back
    await fleet.tick(1)  # begins a round
    began = fleet.clock.elapsed()
    await fleet.tick(1)
    assert fleet.clock.elapsed() - began <= 0.4 + fleet.interval
