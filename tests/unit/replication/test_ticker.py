"""What a tick notes, and when the next one comes."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, cast

import pytest

from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist
from revokebus.denylist.freshness import Freshness
from revokebus.errors import ConfigurationError, StoreError, UnsettledError
from revokebus.protocol.continuity import Break
from revokebus.protocol.revocation import Revocation
from revokebus.replication.outbox import Outbox
from revokebus.replication.repair import Comparison, Repair
from revokebus.replication.run import Run
from revokebus.replication.ticker import Ticker
from revokebus.settings.settings import Settings
from revokebus.store.exchanges import Exchanges
from revokebus.tasks import end
from revokebus.telemetry.counters import Counters
from tests.support import SECRET

if TYPE_CHECKING:
    from revokebus.replication.log_reader import LogReader
    from revokebus.store.store import Store
    from revokebus.testing import ManualClock


class Reader:
    """Proves, or fails, as told."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.error: Exception | None = None
        self.listing: Exception | None = None
        self.wants: Break | None = None
        self.suspicion: Break | None = None
        self.lists = 0
        self.is_refused = False
        self.instances = 1

    async def prove(self) -> float:
        if self.error is not None:
            raise self.error
        return self._clock.elapsed()

    def use_of_listing(self) -> Break | None:
        return self.wants

    async def list_again(self, _reason: Break) -> None:
        self.lists += 1
        if self.listing is not None:
            raise self.listing


@pytest.fixture
def reader(clock: ManualClock) -> Reader:
    return Reader(clock)


@pytest.fixture
def ticker(clock: ManualClock, reader: Reader) -> Ticker:
    denylist = Denylist(ExpiryClock(clock))
    run = Run(clock, Counters())
    repair = Repair(denylist, Exchanges(clock), run.counters)
    return Ticker(
        run=run,
        reader=cast("LogReader", reader),
        outbox=Outbox(repair, clock),
        comparison=Comparison(denylist, repair, clock, 0.5),  # of an empty copy
        store=cast("Store", None),  # nothing is owed
        denylist=denylist,
        freshness=Freshness(clock, ExpiryClock(clock), 30.0),
        settings=Settings(redis_url="memory://", secret_key=SECRET, max_staleness=30),
    )


async def test_it_is_said_before_there_is_no_room(
    ticker: Ticker, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A fleet would ask Redis about every token from one moment to the next."""
    ticker.denylist = Denylist(ExpiryClock(clock), 10)
    for number in range(10):
        ticker._note_state()
        told = [each.getMessage() for each in caplog.records]
        assert ["holds 9 of max_entries" in each for each in told] == [True] * (number > 8)
        ticker.denylist.add(Revocation("jti", str(number), clock.wall() + 60))
    ticker._note_state()
    assert len(caplog.records) == 1


async def test_redis_that_hangs_is_said_while_a_tick_waits_for_it(
    ticker: Ticker, clock: ManualClock
) -> None:
    """Half of max_staleness would pass in silence."""
    ticker.freshness.prove(clock.elapsed())
    clock.advance(7.4)
    ticker._note_delay()
    assert not str(ticker.run.conditions)
    clock.advance(0.2)
    ticker._note_delay()
    assert "no proof for more than 7.5 s" in str(ticker.run.conditions)
    await ticker._tick()
    assert not str(ticker.run.conditions)


async def test_after_errors_not_all_come_at_once(reader: Reader, ticker: Ticker) -> None:
    """A server that comes back would be kept away by a fleet that waits for it."""
    reader.error = StoreError("gone")
    pauses = [await ticker._tick() for _ in range(4)]
    assert all(0.25 <= pause <= 0.51 for pause in pauses)
    assert len(set(pauses)) > 1
    reader.instances = 10_000
    assert 0.75 <= await ticker._tick() <= 1.5


async def test_the_pause_after_an_error_is_taken(
    reader: Reader, ticker: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each instance of a fleet would come back at the same pace as if nothing had happened."""
    reader.error, reader.instances = StoreError("gone"), 10_000
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(ticker, "_pause", pause)
    with pytest.raises(asyncio.CancelledError):
        await ticker.tick_forever()
    assert max(pauses) > 0.55


async def test_a_large_fleet_ticks_at_longer_intervals(reader: Reader, ticker: Ticker) -> None:
    """Ten thousand instances would need more than Redis can do."""
    for instances, interval in ((1, 0.5), (1_000, 0.5), (5_000, 2.5), (100_000, 30 / 8)):
        reader.instances = instances
        assert 0.9 * interval <= ticker._interval() <= 1.1 * interval


async def test_a_listing_that_goes_on_failing_stays_said(reader: Reader, ticker: Ticker) -> None:
    """The status would call all well for five seconds of six, and the log repeat itself."""
    reader.wants, reader.listing = Break.ROOM_AGAIN, StoreError("not allowed")
    await ticker._tick()
    reader.wants = None  # not again so soon
    await ticker._tick()
    assert str(ticker.run.conditions) == "listing: not allowed"
    reader.wants, reader.listing = Break.ROOM_AGAIN, None
    await ticker._tick()
    assert (str(ticker.run.conditions), reader.lists) == ("", 2)


async def test_a_tick_that_fails_proves_nothing(
    clock: ManualClock, reader: Reader, ticker: Ticker
) -> None:
    """The copy would stay fresh while Redis is away."""
    await ticker._tick()
    assert ticker.run.decided.is_set()
    clock.advance(31)
    reader.error = StoreError("away")
    await ticker._tick()
    ticker._note_state()
    assert ticker.freshness.state == "stale"
    assert "stale, no proof within 30 s" in str(ticker.run.conditions)
    assert dict(ticker.run.counters.ticks) == {"proven": 1, "failed": 1}
    reader.error = None
    await ticker._tick()
    ticker._note_state()
    assert str(ticker.run.conditions) == ""


async def test_a_bus_that_closes_is_not_fresh_again(
    clock: ManualClock, ticker: Ticker, caplog: pytest.LogCaptureFixture
) -> None:
    """The last line of a process in trouble would say that all is well."""
    ticker.freshness.prove(clock.elapsed() - 40)
    ticker._note_state()
    ticker.freshness.forget()
    ticker._note_state()
    assert "fresh again" not in caplog.text


async def test_a_redis_that_is_refused_decides_the_start(reader: Reader, ticker: Ticker) -> None:
    """A start would wait for its time-out, where it could have said at once what is wrong."""
    reader.error = ConfigurationError("maxmemory-policy is allkeys-lru")
    await ticker._tick()
    assert ticker.run.decided.is_set()
    assert ticker.freshness.state == "starting"


async def test_a_hold_is_looked_at_again_when_it_ends(reader: Reader, ticker: Ticker) -> None:
    """A start after a restart of Redis would take an interval longer than it has to."""
    reader.error = UnsettledError("new", seconds=0.1)
    assert await ticker._tick() == 0.1
    assert not ticker.run.decided.is_set()


async def test_waiters_are_woken_by_each_tick_that_read(reader: Reader, ticker: Ticker) -> None:
    """A write that was refused by another data set would wait for its time-out."""
    notified: list[bool] = []
    ticker.run.on_read.append(lambda: notified.append(True))
    read = ticker.run.read
    task = asyncio.create_task(ticker.tick_forever())
    async with asyncio.timeout(5):
        await read.wait()
    assert notified == [True]
    reader.error = StoreError("away")
    ticker.run.wake.set()
    await end([task])


async def test_after_an_error_the_next_tick_does_not_take_its_time(
    reader: Reader, ticker: Ticker
) -> None:
    """Where instances tick every five seconds, one lost request would make the fleet stale."""
    reader.error = StoreError("gone")
    assert await ticker._tick() <= 0.5
    reader.error = None
    assert await ticker._tick() == math.inf


def test_only_what_comes_too_late_is_waited_for(clock: ManualClock, ticker: Ticker) -> None:
    """In an outage every request would wait for one more tick before it is refused."""
    run = ticker.run
    assert run.longest_wait(1.0) == 0  # before the first
    run.begin_tick()
    for _ in range(240):  # it hangs
        clock.advance(0.25)
        run.look()
    assert run.longest_wait(1.0) == 0
    run.end_tick(clock.elapsed() + 0.5)
    clock.advance(0.6)
    assert run.longest_wait(1.0) == 0
    clock.advance(10)  # the process is suspended
    assert not run.wake.is_set()
    assert run.longest_wait(1.0) == 1.0
    assert run.wake.is_set()
    known = run.known
    run.begin_tick()
    assert run.longest_wait(1.0) == 1.0  # which those that come now may wait for
    for wait in (0.75, 0.5, 0.25, 0, 0):  # it lists, say
        clock.advance(0.25)
        run.look()
        assert run.longest_wait(1.0) == wait
    run.know()
    assert known.is_set()
    assert run.longest_wait(1.0) == 0


def test_what_was_asked_before_a_pause_is_not_waited_for(
    clock: ManualClock, ticker: Ticker
) -> None:
    """Of the first requests after a pause those would be refused that met a tick in its midst."""
    run = ticker.run
    run.begin_tick()
    known = run.known
    clock.advance(10)  # the process is suspended
    assert run.longest_wait(1.0) == 1.0
    run.know()
    run.end_tick(clock.elapsed() + 0.02)
    assert run.was_suspended
    assert not known.is_set()
    assert run.longest_wait(1.0) == 1.0
    run.begin_tick()
    assert run.longest_wait(1.0) == 1.0
    run.know()
    assert known.is_set()
    assert run.longest_wait(1.0) == 0


async def test_after_a_pause_in_its_midst_another_tick_begins_at_once(
    clock: ManualClock, reader: Reader, ticker: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would come half a second later, and requests are refused so long."""
    reader.error = StoreError("gone")
    pauses: list[float] = []

    async def sleep_through() -> float:
        clock.advance(10)
        raise StoreError("gone")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(reader, "prove", sleep_through)
    monkeypatch.setattr(ticker, "_pause", pause)
    with pytest.raises(asyncio.CancelledError):
        await ticker.tick_forever()
    assert pauses == [-10]


async def test_in_an_outage_no_tick_comes_too_late(
    clock: ManualClock, reader: Reader, ticker: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick that hangs is longer than its rest, and the next one would count as overdue."""
    reader.error = StoreError("gone")
    waits: list[float] = []

    async def hang() -> float:
        for _ in range(4):
            clock.advance(0.25)
            ticker.run.look()
        raise StoreError("gone")

    async def pause(_seconds: float) -> None:
        clock.advance(0.02)
        waits.append(ticker.run.longest_wait(1.0))
        if len(waits) == 5:
            raise asyncio.CancelledError

    monkeypatch.setattr(reader, "prove", hang)
    monkeypatch.setattr(ticker, "_pause", pause)
    with pytest.raises(asyncio.CancelledError):
        await ticker.tick_forever()
    ticker.run.begin_tick()
    waits.append(ticker.run.longest_wait(1.0))
    assert waits == [0] * 6
