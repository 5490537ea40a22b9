"""How many instances list everything at once when they start."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from revokebus.clock import SystemClock
from revokebus.engine.engine import Engine
from revokebus.store import listing
from revokebus.store.parts import StoreParts
from tests.support import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis

    from revokebus.settings.settings import Settings
    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings

STARTS = "{revokebus}:starts"


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[StoreParts]:
    parts = StoreParts.of(settings, SystemClock())
    try:
        yield parts
    finally:
        await parts.close()


@pytest.fixture
async def parts(
    redis_server: RedisServer, make_settings: MakeSettings
) -> AsyncIterator[StoreParts]:
    async with opened(make_settings(redis_server.url)) as parts:
        yield parts


@pytest.fixture
def much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything is much to be listed."""
    monkeypatch.setattr(listing, "FEW", -1)
    monkeypatch.setattr(listing, "_ASKED_AGAIN", (0.01, 0.02))


@pytest.mark.usefixtures("much")
async def test_few_instances_list_at_once(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """A deployment of a hundred would slow every other instance down."""
    most = 0
    waited: list[int] = []

    async def start(parts: StoreParts) -> None:
        nonlocal most
        async with parts.listing.turn(lambda: waited.append(1)):
            most = max(most, client.hlen(STARTS))
            await asyncio.sleep(0.02)

    settings = make_settings(redis_server.url)
    async with AsyncExitStack() as stack:
        many = [await stack.enter_async_context(opened(settings)) for _ in range(12)]
        await asyncio.gather(*map(start, many))
    assert most == listing.MOST_AT_ONCE
    assert waited
    assert not client.exists(STARTS)


@pytest.mark.usefixtures("much")
async def test_an_instance_that_died_while_it_listed_keeps_no_other_waiting(
    parts: StoreParts, client: redis.Redis
) -> None:
    """After a crash of some instances none would ever start."""
    now = int(time.time() * 1000)
    client.hset(STARTS, mapping=dict.fromkeys(map(str, range(4)), now + 400))
    client.hset(STARTS, mapping={"far": str(now + 10**9), "text": "x"})
    waited: list[int] = []
    async with asyncio.timeout(5), parts.listing.turn(lambda: waited.append(1)):
        assert waited
    client.set(STARTS, "not a hash")
    async with asyncio.timeout(5), parts.listing.turn(pytest.fail):
        assert client.type(STARTS) == b"hash"


@pytest.mark.usefixtures("much")
async def test_a_turn_lasts_as_long_as_the_listing(
    parts: StoreParts,
    client: redis.Redis,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long one would be counted for its first seconds only."""
    monkeypatch.setattr(listing, "_RENEWED_EVERY", 0.01)
    async with parts.listing.turn(pytest.fail):
        first = client.hvals(STARTS)
        await eventually(lambda: client.hvals(STARTS) != first)
    assert not client.exists(STARTS)


@pytest.mark.usefixtures("much")
async def test_who_waits_says_so_and_starts_in_the_end(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """A start that takes longer than usual would look like one that hangs."""
    settle(redis_server)
    now = int(time.time() * 1000)
    client.hset(STARTS, mapping=dict.fromkeys("abcd", now + 700))
    async with Engine(make_settings(redis_server.url, startup_timeout=0.2)) as engine:
        assert "start: waits while other instances list" in str(engine.status().last_error)
        await eventually(lambda: engine.status().state == "fresh")
        assert engine.status().last_error is None


@pytest.mark.usefixtures("much")
async def test_a_redis_that_accepts_no_writes_limits_no_start(
    parts: StoreParts, client: redis.Redis
) -> None:
    """Nothing would be listed for as long as it is full."""
    client.config_set("min-replicas-to-write", 1)
    async with asyncio.timeout(5), parts.listing.turn(pytest.fail):
        assert not client.exists(STARTS)
