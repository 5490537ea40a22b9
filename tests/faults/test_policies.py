"""A copy that is too old, under each policy."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from revokebus import AccessToken, RevokeBus, require_access
from revokebus.engine.engine import Engine
from revokebus.errors import RevokedTokenError, StaleError
from revokebus.tasks import end
from revokebus.testing import ManualClock
from tests.support import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from revokebus.settings.settings import OnStale
    from revokebus.testing import RedisServer
    from tests.support import MakeSettings

NEVER = 600.0


@asynccontextmanager
async def stale(
    redis_server: RedisServer, make_settings: MakeSettings, on_stale: OnStale
) -> AsyncIterator[Engine]:
    """An engine whose last proof is older than the bound, beside a Redis that is well."""
    settle(redis_server)
    clock = ManualClock()
    settings = make_settings(
        redis_server.url,
        tick_interval=NEVER,
        max_staleness=3 * NEVER,
        on_stale=on_stale,
        access_ttl=10 * NEVER,
    )
    async with Engine(settings, clock=clock) as engine:
        # Without its ticker nothing can prove the copy again.
        await end([t for t in asyncio.all_tasks() if t.get_name() == "revokebus-ticker"])
        clock.advance(3 * NEVER + 1)
        assert engine.status().state == "stale"
        yield engine


@pytest.mark.parametrize("on_stale", ["reject", "ask_redis", "accept"])
async def test_what_is_known_to_be_revoked_is_refused_under_each(
    redis_server: RedisServer, make_settings: MakeSettings, on_stale: OnStale
) -> None:
    """A choice for availability would let in what is known to be revoked."""
    async with stale(redis_server, make_settings, on_stale) as engine:
        pair = engine.issue("alice")
        await engine.revoke(pair.access_token)
        redis_server.freeze()
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(pair.access_token, AccessToken)


async def test_reject(redis_server: RedisServer, make_settings: MakeSettings) -> None:
    """A copy that proves nothing would decide."""
    async with stale(redis_server, make_settings, "reject") as engine:
        with pytest.raises(StaleError):
            await engine.authenticate(engine.issue("alice").access_token, AccessToken)


async def test_ask_redis(redis_server: RedisServer, make_settings: MakeSettings) -> None:
    """An instance cut off from the channel would refuse everybody, or accept what is revoked."""
    async with stale(redis_server, make_settings, "ask_redis") as engine:
        good, gone, left = (engine.issue(name) for name in ("a", "b", "c"))
        with redis_server.client() as client:  # as others would, unheard here
            jti = (await engine.authenticate(gone.access_token, AccessToken)).jti
            client.set(f"{{revokebus}}:r:jti:{jti}", "1 []", ex=60)
            client.set(f"{{revokebus}}:r:sid:{left.session_id}", "1 []", ex=60)
        await engine.authenticate(good.access_token, AccessToken)
        for pair in (gone, left):
            with pytest.raises(RevokedTokenError):
                await engine.authenticate(pair.access_token, AccessToken)
        redis_server.freeze()
        async with asyncio.timeout(5):
            with pytest.raises(StaleError, match="cannot be asked"):
                await engine.authenticate(good.access_token, AccessToken)


async def test_a_redis_that_has_just_lost_its_data_is_not_believed(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A process started after FLUSHALL would ask an empty Redis and accept what was revoked."""
    settle(redis_server)
    settings = make_settings(redis_server.url, on_stale="ask_redis", startup_timeout=0)
    with redis_server.client() as client:
        client.set("{revokebus}:repair", "somebody", ex=60)  # who has noticed the loss
        async with Engine(settings) as engine:
            assert engine.status().state == "starting"
            with pytest.raises(StaleError, match="cannot be asked"):
                await engine.authenticate(engine.issue("alice").access_token, AccessToken)


async def test_accept(
    redis_server: RedisServer, make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator who prefers availability would not get it, or not be told that it is in use."""
    async with stale(redis_server, make_settings, "accept") as engine:
        with caplog.at_level(logging.ERROR):
            for _ in range(5):
                await engine.authenticate(engine.issue("alice").access_token, AccessToken)
    assert caplog.text.count("on_stale=accept") == 1


async def test_accept_needs_something_that_was_known(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A process that never loaded anything would accept everything."""
    redis_server.stop()
    settings = make_settings(redis_server.url, on_stale="accept", startup_timeout=0)
    async with Engine(settings) as engine:
        with pytest.raises(StaleError, match="not been loaded"):
            await engine.authenticate(engine.issue("alice").access_token, AccessToken)


def test_a_route_can_choose(make_settings: MakeSettings) -> None:
    """A health report and a money transfer would have to share one policy."""
    app = FastAPI()
    bus = RevokeBus.attach(app, make_settings())
    guards = {
        "/default": require_access(),
        "/ask": require_access(on_stale="ask_redis"),
        "/accept": require_access(on_stale="accept"),
    }
    for path, guard in guards.items():
        app.get(path, dependencies=[Depends(guard)])(lambda: None)
    with TestClient(app) as client:
        bus._freshness.prove(bus._clock.elapsed() - 999.0)
        header = {"Authorization": f"Bearer {bus.issue('alice').access_token}"}
        answers = {path: client.get(path, headers=header).status_code for path in guards}
    assert answers == {"/default": 503, "/ask": 200, "/accept": 200}
    assert require_access() != require_access(on_stale="accept")
