"""Redis that is away: at the start, later, or there but frozen."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from revokebus import AccessToken, RefreshToken
from revokebus.engine.engine import Engine
from revokebus.errors import NotDurableError, RevokedTokenError, StaleError, StoreError
from revokebus.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings


def at_once(check: Coroutine[Any, Any, Any]) -> object:
    """Return what `check` returns, and fail if it waits for anything."""
    with pytest.raises(StopIteration) as finished:
        check.send(None)
    return finished.value.value


async def test_away_at_the_start(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An application would not start without Redis, or start and accept what is revoked."""
    settings = make_settings(redis_server.url, startup_timeout=0.2)
    async with Engine(settings) as engine:
        before = engine.issue("alice")
        await engine.revoke(before.access_token)
    redis_server.stop()
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(5), Engine(settings) as engine:
            status = engine.status()
            assert status.state == "starting"
            assert status.staleness is None
            assert "connect" in (status.last_error or "").lower()
            for encoded in (before.access_token, engine.issue("bob").access_token):
                with pytest.raises(StaleError):
                    await engine.authenticate(encoded, AccessToken)
            # On the same port but empty: what was there is gone, which is for a later promise.
            redis_server.start()
            await eventually(lambda: engine.status().state == "fresh")
            await engine.authenticate(engine.issue("bob").access_token, AccessToken)
            await eventually(lambda: engine.status().last_error is None)
    assert "startup_timeout of 0.2 s" in caplog.text


async def test_away_later(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """An outage of Redis would be an outage of every service, or forget what was revoked."""
    clock = ManualClock()
    settings = make_settings(redis_server.url, max_staleness=30.0)
    async with Engine(settings, clock=clock) as engine:
        revoked, good, late = (engine.issue(name) for name in ("a", "b", "c"))
        await engine.revoke(revoked.access_token)
        redis_server.stop()
        await eventually(lambda: engine.status().last_error)

        # Up to the bound the local copy decides, and nothing waits for the network.
        clock.advance(29.0)
        assert at_once(engine.authenticate(good.access_token, AccessToken))
        with pytest.raises(RevokedTokenError):
            at_once(engine.authenticate(revoked.access_token, AccessToken))

        # Revoking works here, and says that it is not durable.
        with pytest.raises(NotDurableError, match="applied here, not durable"):
            await engine.revoke(late.access_token)
        with pytest.raises(RevokedTokenError):
            at_once(engine.authenticate(late.access_token, AccessToken))
        assert engine.status().unsaved == 1

        # A refresh cannot be decided here.
        refresh = await engine.authenticate(good.refresh_token, RefreshToken)
        with pytest.raises(StoreError):
            await engine.rotate(refresh)

        # Past the bound nobody knows, except where it is known.
        clock.advance(1.5)
        assert engine.status().state == "stale"
        with pytest.raises(StaleError):
            await engine.authenticate(good.access_token, AccessToken)
        with pytest.raises(RevokedTokenError):
            at_once(engine.authenticate(revoked.access_token, AccessToken))

        # Redis is back: fresh, and what was not durable is written.
        redis_server.start()
        await eventually(lambda: engine.status().state == "fresh")
        await eventually(lambda: engine.status().unsaved == 0)
        await engine.authenticate(good.access_token, AccessToken)
        with redis_server.client() as client:
            token = engine._verifier.verify_signature(late.access_token)
            assert 0 < client.ttl(f"{{revokebus}}:r:jti:{token.jti}") <= 901
        async with Engine(settings, clock=clock) as other:
            with pytest.raises(RevokedTokenError):
                await other.authenticate(late.access_token, AccessToken)


async def test_frozen(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that hangs would hang every request, or look healthy for ever."""
    settings = make_settings(
        redis_server.url, max_staleness=0.5, tick_interval=0.1, redis_timeout=0.2
    )
    async with Engine(settings) as engine:
        good = engine.issue("alice")
        redis_server.freeze()
        assert at_once(engine.authenticate(good.access_token, AccessToken))
        await eventually(lambda: engine.status().state == "stale")
        await eventually(lambda: "copy: stale" in (engine.status().last_error or ""))
        await eventually(lambda: "did not answer within" in (engine.status().last_error or ""))
        assert "no proof for more than 0.125 s" in (engine.status().last_error or "")
        await eventually(lambda: not engine.status().subscribed)
        redis_server.thaw()
        await eventually(lambda: engine.status().state == "fresh")
        await eventually(lambda: engine.status().subscribed)
        await eventually(lambda: engine.status().last_error is None)
    assert "fresh again" in caplog.text


async def test_a_stalled_event_loop_is_stale_by_itself(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A process that was suspended would decide by what it knew before."""
    clock = ManualClock()
    async with Engine(make_settings(redis_server.url), clock=clock) as engine:
        good, revoked = (engine.issue(name) for name in ("alice", "bob"))
        clock.advance(5.5)  # no other task has run meanwhile
        assert engine.status().state == "stale"
        check = asyncio.create_task(engine.authenticate(good.access_token, AccessToken))
        await asyncio.sleep(0)
        assert not check.done()  # it waits for the proof that is overdue
        await engine.revoke(revoked.access_token)
        with pytest.raises(RevokedTokenError):
            at_once(engine.authenticate(revoked.access_token, AccessToken))
        assert (await check).subject == "alice"
        assert engine.status().state == "fresh"
