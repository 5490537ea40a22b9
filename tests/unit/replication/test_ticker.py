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
from revokebus.replication.outbox import Outbox
from revokebus.replication.repair import Comparison, Repair
from revokebus.replication.run import Run
from revokebus.replication.ticker import Ticker
from revokebus.store.exchanges import Exchanges
from revokebus.tasks import end
from revokebus.telemetry.counters import Counters

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
        interval=0.5,
    )


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
