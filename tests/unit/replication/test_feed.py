from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from revokebus.engine.engine import Engine
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.wire import encode_payload
from revokebus.replication.feed import _MOST_WAITING, Feed

if TYPE_CHECKING:
    from revokebus.replication.feed import Heard
    from revokebus.testing import ManualClock
    from tests.support import MakeSettings


def revocation(value: str = "a") -> Revocation:
    return Revocation("jti", value, 2e9)


async def begin(feed: Feed) -> tuple[asyncio.Task[list[Heard]], list[Heard]]:
    """Start a watcher, and return once it watches."""
    seen: list[Heard] = []

    async def watch() -> list[Heard]:
        async with contextlib.aclosing(feed.listen()) as heard:
            async for each in heard:
                seen.append(each)  # noqa: PERF401 - looked at meanwhile
        return seen

    task = asyncio.create_task(watch())
    while not feed._watchers:  # noqa: ASYNC110 - it begins when it first waits
        await asyncio.sleep(0)
    return task, seen


async def test_a_watcher_sees_what_comes_and_when(clock: ManualClock) -> None:
    """The page would show nothing, or times that are not so."""
    feed = Feed(clock)
    task, _ = await begin(feed)
    feed.notify((int(clock.wall() * 1000) - 250, 3), encode_payload([revocation()]))
    feed.notify((0, 0), encode_payload([revocation("unrecorded")]))
    feed.close()
    recorded, unrecorded = await task
    assert recorded.position == f"{int(clock.wall() * 1000) - 250}-3"
    assert recorded.seconds == pytest.approx(0.25, abs=0.002)
    assert (unrecorded.value, unrecorded.position, unrecorded.seconds) == ("unrecorded", None, None)


async def test_a_clock_that_is_behind_gives_no_negative_time(clock: ManualClock) -> None:
    """A histogram would be fed with times before the cause."""
    feed = Feed(clock)
    task, _ = await begin(feed)
    feed.notify((int(clock.wall() * 1000) + 5000, 0), encode_payload([revocation()]))
    feed.close()
    assert [each.seconds for each in await task] == [0.0]


async def test_a_slow_watcher_is_told_what_it_has_missed(clock: ManualClock) -> None:
    """A page in a background tab would take all memory, or hide that something is missing."""
    feed = Feed(clock)
    task, _ = await begin(feed)
    feed.notify_of([revocation(str(number)) for number in range(_MOST_WAITING + 10)])
    feed.close()
    seen = await task
    assert [each.value for each in seen[:2]] == ["10", "11"]
    assert [each.missed for each in seen[:2]] == [10, 0]
    assert len(seen) == _MOST_WAITING


async def test_junk_is_not_shown(clock: ManualClock) -> None:
    """A stranger's bytes would end every watch."""
    feed = Feed(clock)
    task, _ = await begin(feed)
    feed.notify((1, 0), b"\xff nonsense")
    feed.close()
    assert await task == []


async def test_whoever_leaves_is_forgotten(clock: ManualClock) -> None:
    """Each page that was ever open would cost each revocation a little more."""
    feed = Feed(clock)
    task, _ = await begin(feed)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not feed._watchers


async def test_a_bus_in_one_process_has_a_feed_too(make_settings: MakeSettings) -> None:
    """The page would stay empty in a test on ``memory://``."""
    async with Engine(make_settings()) as bus:
        task, _ = await begin(bus._feed)
        await bus.revoke_subject("alice")
    (heard,) = await task  # which ends with the bus
    assert (heard.claim, heard.value) == ("sub", "alice")
