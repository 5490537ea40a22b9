from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist
from revokebus.errors import StoreError
from revokebus.protocol.exchange import Exchanged, Outcome
from revokebus.protocol.revocation import Revocation, Target
from revokebus.replication import repair as module
from revokebus.replication.repair import Repair
from revokebus.store.exchanges import Exchanges
from revokebus.telemetry.counters import Counters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from revokebus.store.store import Store
    from revokebus.testing import ManualClock


class FakeStore:
    """Grants the turn or not, and lacks what it is told."""

    def __init__(self, *, granted: bool = True) -> None:
        self.granted = granted
        self.writes = self  # a store's part that writes
        self.held: set[Revocation] = set()
        self.written: list[Revocation] = []

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        async def is_ours() -> bool:
            return self.granted

        yield is_ours

    async def missing(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        return [each for each in revocations if each not in self.held]

    async def write(self, revocations: Sequence[Revocation], _epoch: str) -> None:
        self.written += revocations


@pytest.fixture
def denylist(clock: ManualClock) -> Denylist:
    return Denylist(ExpiryClock(clock))


def some(clock: ManualClock, *values: str, life: float = 60) -> list[Revocation]:
    return [Revocation("jti", value, math.ceil(clock.wall() + life)) for value in values]


async def prepared(denylist: Denylist, clock: ManualClock) -> Repair:
    """Return a repair that found b listed, a and c not."""
    for each in some(clock, "a", "b", "c"):
        denylist.add(each)
    repair = Repair(denylist, Exchanges(clock), Counters())
    repair.begin()
    repair.listed(some(clock, "b"))
    await repair.compare()
    return repair


async def test_what_was_not_listed_is_written_back(denylist: Denylist, clock: ManualClock) -> None:
    """A record that Redis lost would be lost for every instance that starts from now on."""
    repair, store = await prepared(denylist, clock), FakeStore()
    await repair.write_back(cast("Store", store), "")
    assert set(store.written) == set(some(clock, "a", "c"))
    assert len(repair) == 0


async def test_a_record_that_ends_early_is_written_back(
    denylist: Denylist, clock: ManualClock
) -> None:
    """A record from an old snapshot would end before its token does."""
    repair = await prepared(denylist, clock)
    denylist.add(some(clock, "b", life=90)[0])
    repair.begin()
    repair.listed(some(clock, "a", "b", "c"))
    await repair.compare()
    store = FakeStore()
    await repair.write_back(cast("Store", store), "")
    assert some(clock, "b", life=90)[0] in store.written


async def test_without_the_turn_nothing_is_written(denylist: Denylist, clock: ManualClock) -> None:
    """Every instance of a fleet would write everything."""
    repair, store = await prepared(denylist, clock), FakeStore(granted=False)
    await repair.write_back(cast("Store", store), "")
    assert store.written == []
    assert len(repair) == 2


async def test_what_another_has_written_is_crossed_off(
    denylist: Denylist, clock: ManualClock
) -> None:
    """The second instance to have the turn would write everything again."""
    repair, store = await prepared(denylist, clock), FakeStore()
    repair.has(some(clock, "a"))
    store.held = set(some(clock, "c"))
    await repair.write_back(cast("Store", store), "")
    assert store.written == []
    assert len(repair) == 0


async def test_not_all_that_was_lost_is_listed_at_once(
    denylist: Denylist, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet that has lost a million would hold each of them twice, 300 bytes a piece."""
    monkeypatch.setattr(module, "_LISTED_AT_ONCE", 10)
    monkeypatch.setattr(module, "_COMPARED_AT_ONCE", 3)
    monkeypatch.setattr(module, "_WRITTEN_AT_ONCE", 5)
    names = [str(number) for number in range(100)]
    denylist.add_all(some(clock, *names))
    repair = Repair(denylist, Exchanges(clock), Counters())
    repair.begin()
    repair.listed(some(clock, *names[:20]))
    await repair.compare()
    assert len(repair._lost) < 10 + 3
    assert repair.is_owed
    repair.has(some(clock, *names[20:70]))  # another instance has written these meanwhile
    assert repair.is_owed
    store = FakeStore()
    await repair.write_back(cast("Store", store), "")
    assert set(store.written) == set(some(clock, *names[70:]))
    assert len(store.written) == 30
    assert len(repair) == 0
    assert not repair.is_interested


async def test_a_walk_that_takes_long_is_continued(
    denylist: Denylist, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn, and the hold of the others, would run out while the rest is looked for."""
    monkeypatch.setattr(module, "_COMPARED_AT_ONCE", 10)
    names = [str(number) for number in range(100)]
    denylist.add_all(some(clock, *names))
    moments = iter(range(10_000))
    repair = Repair(denylist, Exchanges(clock), Counters(), elapsed=lambda: float(next(moments)))
    repair.begin()
    repair.listed(some(clock, *names[1:]))
    await repair.compare()
    asked = 0

    class Store(FakeStore):
        @asynccontextmanager
        async def turn(self) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
            async def is_ours() -> bool:
                nonlocal asked
                asked += 1
                return True

            yield is_ours

    store = Store()
    rounds = 0
    while repair.is_owed:  # others must not do without it
        rounds += 1
        await repair.write_back(cast("Any", store), "")
    assert store.written == some(clock, "0")
    assert rounds + asked >= 10  # each time it walks a little, and then what holds is renewed


async def test_a_walk_that_fails_begins_anew(
    denylist: Denylist, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had not come to would never be written back."""
    monkeypatch.setattr(module, "_COMPARED_AT_ONCE", 3)
    names = [str(number) for number in range(20)]
    denylist.add_all(some(clock, *names))
    repair, fails = Repair(denylist, Exchanges(clock), Counters()), True
    lacking = denylist.lacking

    def broken(other: Denylist, at_once: int) -> Iterator[Sequence[Revocation]]:
        nonlocal fails
        for number, part in enumerate(lacking(other, at_once)):
            if fails and number == 2:
                fails = False
                raise MemoryError
            yield part

    monkeypatch.setattr(denylist, "lacking", broken)
    repair.begin()
    with pytest.raises(MemoryError):
        await repair.compare()
    assert repair.is_owed
    store = FakeStore()
    await repair.write_back(cast("Store", store), "")
    assert set(store.written) == set(some(clock, *names))
    assert len(repair) == 0


async def test_what_no_loss_has_taken_holds_no_second_copy(
    denylist: Denylist, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Redis is full each instance would keep everything twice, for hours."""
    monkeypatch.setattr(module, "_LISTED_AT_ONCE", 5)
    monkeypatch.setattr(module, "_COMPARED_AT_ONCE", 1)
    denylist.add_all(some(clock, *map(str, range(20))))
    repair = Repair(denylist, Exchanges(clock), Counters())
    repair.begin()
    await repair.compare(is_loss=False)
    assert not repair.is_owed
    assert len(repair._gaps) == 5
    assert repair._walk is None


async def test_a_listing_in_the_midst_of_a_comparison_begins_it_anew(
    denylist: Denylist, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first one had not come to yet would never be written back."""
    monkeypatch.setattr(module, "_LISTED_AT_ONCE", 1)
    monkeypatch.setattr(module, "_COMPARED_AT_ONCE", 1)
    names = [str(number) for number in range(20)]
    denylist.add_all(some(clock, *names))
    repair = Repair(denylist, Exchanges(clock), Counters())
    for is_loss in (True, False):
        repair.begin()
        await repair.compare(is_loss=is_loss)
        assert repair.is_owed
    store = FakeStore()
    await repair.write_back(cast("Store", store), "")
    assert set(store.written) == set(some(clock, *names))
    assert len(repair) == 0


async def test_the_expired_is_not_missed(denylist: Denylist, clock: ManualClock) -> None:
    """Redis, which drops what has expired, would be repaired without end."""
    for each in some(clock, "a", "b"):
        denylist.add(each)
    clock.advance(61)
    repair = Repair(denylist, Exchanges(clock), Counters())
    repair.begin()
    await repair.compare()
    assert len(repair) == 0


async def test_of_two_losses_the_longer_one_is_written_back(
    denylist: Denylist, clock: ManualClock
) -> None:
    """A record would come back with a shorter life than the token's."""
    repair, store = Repair(denylist, Exchanges(clock), Counters()), FakeStore()
    repair.lost(some(clock, "a", life=500))
    repair.lost(some(clock, "a", life=50))
    await repair.write_back(cast("Store", store), "")
    assert store.written == some(clock, "a", life=500)


class StoreWithoutSessions(FakeStore):
    """Takes revocations and no sessions."""

    @property
    def sessions(self) -> StoreWithoutSessions:
        return self

    async def restore(self, _sessions: object) -> None:
        raise StoreError("refused")


async def test_revocations_are_written_back_though_sessions_cannot_be(
    denylist: Denylist, clock: ManualClock
) -> None:
    """A record that Redis refuses would keep revoked tokens good elsewhere."""
    exchanges, store = Exchanges(clock), StoreWithoutSessions()
    session = Target("", "sid", "string", "s")
    exchanges.note(session, Exchanged(Outcome.GRANTED, 1, b'["a"]'), 60.0)
    repair = Repair(denylist, exchanges, Counters())
    repair.unsettled(is_unsettled=True)
    repair.lost(some(clock, "a"))
    with pytest.raises(StoreError):
        await repair.write_back(cast("Store", store), "")
    assert store.written == some(clock, "a")


async def test_a_gap_keeps_nobody_from_a_proof(denylist: Denylist, clock: ManualClock) -> None:
    """Each log-out that is being written could look like a loss, and others answer 503."""
    repair, store = Repair(denylist, Exchanges(clock), Counters()), FakeStore(granted=False)
    repair.lacks(some(clock, "a", "b"))
    assert not repair
    await repair.write_back(cast("Store", store), "")
    assert store.written == some(clock, "a", "b")
    assert not repair.is_interested


async def test_what_redis_evicts_again_is_not_written_again_and_again(
    denylist: Denylist, clock: ManualClock
) -> None:
    """For each record that comes back Redis would evict another one, and the log would grow."""
    repair, store = Repair(denylist, Exchanges(clock), Counters()), FakeStore()
    evicted = some(clock, "a", life=10_000)
    for _ in range(10):
        repair.lacks(evicted)
        await repair.write_back(cast("Store", store), "")
    assert store.written == evicted
    clock.advance(module.FILLED_SECONDS + 1)
    repair.lacks(evicted)
    await repair.write_back(cast("Store", store), "")
    assert store.written == evicted * 2


async def test_what_is_there_after_all_is_no_gap(denylist: Denylist, clock: ManualClock) -> None:
    """A log-out that was being written would not be written back once it is evicted."""
    repair, store = Repair(denylist, Exchanges(clock), Counters()), FakeStore()
    store.held = set(some(clock, "a"))
    repair.lacks(store.held)
    await repair.write_back(cast("Store", store), "")
    assert not store.written
    store.held = set()
    repair.lacks(some(clock, "a"))
    await repair.write_back(cast("Store", store), "")
    assert store.written == some(clock, "a")


async def test_a_gap_waits_for_a_loss(denylist: Denylist, clock: ManualClock) -> None:
    """After FLUSHALL each of fifty instances would write what one of them has the turn to write."""
    repair, store = Repair(denylist, Exchanges(clock), Counters()), FakeStore(granted=False)
    repair.lacks(some(clock, "a"))
    repair.lost(some(clock, "b"))
    await repair.write_back(cast("Store", store), "")
    assert not store.written
    repair.has(some(clock, "b"))
    repair.unsettled(is_unsettled=True)
    await repair.write_back(cast("Store", store), "")
    assert not store.written
    repair.unsettled(is_unsettled=False)
    await repair.write_back(cast("Store", store), "")
    assert store.written == some(clock, "a")
