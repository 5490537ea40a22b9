from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from revokebus import AccessToken, RefreshToken
from revokebus.engine.engine import Engine
from revokebus.errors import NotDurableError, ReplayedTokenError, RevokedTokenError, StaleError
from tests.support import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis

    from revokebus import Settings, TokenPair
    from revokebus.settings.settings import OnStale
    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings

LIMIT = 3


@pytest.fixture
def settings(redis_server: RedisServer, make_settings: MakeSettings) -> Settings:
    settle(redis_server)
    return make_settings(redis_server.url, max_entries=LIMIT)


@asynccontextmanager
async def full(settings: Settings) -> AsyncIterator[tuple[Engine, list[TokenPair]]]:
    """An engine with as many revocations as it can hold, and their tokens."""
    async with Engine(settings) as engine:
        pairs = [engine.issue(f"user-{number}") for number in range(LIMIT)]
        for pair in pairs:
            await engine.revoke(pair.access_token)
        assert engine.status().complete
        yield engine, pairs


async def test_redis_is_asked_where_the_copy_has_no_room(
    settings: Settings, redis_server: RedisServer
) -> None:
    """What the copy cannot hold would be accepted; or all would be refused."""
    async with full(settings) as (engine, pairs):
        last = engine.issue("mallory")
        await engine.revoke(last.access_token)
        status = engine.status()
        assert (status.entries, status.complete, status.state) == (LIMIT, False, "fresh")
        assert status.left_out >= 1
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(last.access_token, AccessToken)
        await engine.authenticate(engine.issue("bob").access_token, AccessToken)
        redis_server.freeze()
        with pytest.raises(RevokedTokenError):  # what it holds needs no asking
            await engine.authenticate(pairs[0].access_token, AccessToken)
        with pytest.raises(StaleError, match="not complete"):
            await engine.authenticate(engine.issue("bob").access_token, AccessToken)


async def test_a_session_that_was_left_out_is_asked_for_too(settings: Settings) -> None:
    """Only the token's own revocation would be looked up."""
    async with full(settings) as (engine, _):
        last = engine.issue("mallory")
        await engine.revoke_session(last.session_id)
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(last.access_token, AccessToken)


async def test_what_could_neither_be_held_nor_written_is_refused_here(
    settings: Settings, client: redis.Redis
) -> None:
    """A log-out that was reported as applied here would not be."""
    async with full(settings) as (engine, _):
        client.config_set("maxmemory", 1)
        last = engine.issue("mallory")
        with pytest.raises(NotDurableError):
            await engine.revoke(last.access_token)
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(last.access_token, AccessToken)
        client.config_set("maxmemory", 0)


@pytest.mark.parametrize("on_stale", ["reject", "ask_redis", "accept"])
async def test_no_policy_accepts_what_a_fresh_copy_had_no_room_for(
    settings: Settings, on_stale: OnStale
) -> None:
    """A choice that is about age would open the door to whom an attacker has pushed out."""
    async with full(settings.model_copy(update={"on_stale": on_stale})) as (engine, _):
        last = engine.issue("mallory")
        await engine.revoke(last.access_token)
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(last.access_token, AccessToken)


async def test_it_is_said_once_with_the_setting_and_when_it_is_over(
    settings: Settings,
    client: redis.Redis,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An operator would see latency rise and not know why; or read it twice a second."""
    short = settings.model_copy(update={"access_ttl": 1.2})
    async with full(short) as (engine, _):
        last = engine.issue("mallory")
        await engine.revoke_session(last.session_id)
        await eventually(lambda: "REVOKEBUS_MAX_ENTRIES" in (engine.status().last_error or ""))
        ticks = client.info("commandstats")["cmdstat_xrange"]["calls"]
        await eventually(lambda: client.info("commandstats")["cmdstat_xrange"]["calls"] > ticks + 3)
        assert caplog.text.count("(REVOKEBUS_MAX_ENTRIES) of 3 is reached") == 1
        # The short ones expire, and what was left out is listed again.
        await eventually(lambda: engine.status().complete)
        assert engine.is_revoked({"sid": last.session_id})
        await eventually(lambda: engine.status().last_error is None)
        assert caplog.text.count("the copy is complete again") == 1
        assert caplog.text.count("has room again") == 1


async def test_a_cold_start_finds_more_than_it_can_hold(
    settings: Settings, make_settings: MakeSettings, redis_server: RedisServer
) -> None:
    """A process with a smaller limit would take what it could load for everything."""
    async with Engine(make_settings(redis_server.url)) as roomy:
        pairs = [roomy.issue(f"user-{number}") for number in range(4 * LIMIT)]
        for pair in pairs:
            await roomy.revoke(pair.access_token)
        async with Engine(settings) as small:
            # The secret is shared, so that it can read the other's tokens.
            assert (small.status().entries, small.status().complete) == (LIMIT, False)
            for pair in pairs:
                with pytest.raises(RevokedTokenError):
                    await small.authenticate(pair.access_token, AccessToken)


async def test_rotation_stays_single_use_at_the_limit(settings: Settings) -> None:
    """A refresh token could be used twice where the copy has no room for the first use."""
    async with full(settings) as (engine, _):
        refresh = await engine.authenticate(engine.issue("bob").refresh_token, RefreshToken)
        renewed = await engine.rotate(refresh)
        with pytest.raises(ReplayedTokenError):
            await engine.rotate(refresh)
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(renewed.access_token, AccessToken)


async def test_memory_has_no_limit(make_settings: MakeSettings) -> None:
    """Without a Redis to ask, a limit could only forget or refuse everybody."""
    async with Engine(make_settings(max_entries=1)) as engine:
        tokens = [engine.issue("alice").access_token for _ in range(3)]
        for token in tokens:
            await engine.revoke(token)
        assert engine.status().complete
        for token in tokens:
            with pytest.raises(RevokedTokenError):
                await engine.authenticate(token, AccessToken)


async def test_what_redis_never_got_is_held_beyond_the_limit(
    settings: Settings, client: redis.Redis, eventually: Eventually
) -> None:
    """A listing that does not bring it would make the copy complete, and the token valid."""
    short = settings.model_copy(update={"access_ttl": 1.2})
    async with full(short) as (engine, _):
        client.config_set("maxmemory", 1)
        last = engine.issue("mallory")
        with pytest.raises(NotDurableError):
            await engine.revoke_session(last.session_id)
        assert engine.is_revoked({"sid": last.session_id})
        await eventually(lambda: engine.status().complete)
        refresh = await engine_accepts(engine, last)
        assert not refresh
        client.config_set("maxmemory", 0)


async def engine_accepts(engine: Engine, pair: TokenPair) -> bool:
    try:
        await engine.authenticate(pair.refresh_token, RefreshToken)
    except RevokedTokenError:
        return False
    return True


async def test_a_listing_that_fails_costs_no_proof(
    settings: Settings, client: redis.Redis, eventually: Eventually
) -> None:
    """A copy that can be proven would go stale, because something optional does not work."""
    short = settings.model_copy(update={"access_ttl": 1.2, "max_staleness": 1.0})
    async with full(short) as (engine, _):
        await engine.revoke_session(engine.issue("mallory").session_id)
        client.execute_command("ACL SETUSER", "default", "-scan")  # type: ignore[no-untyped-call]  # redis-py has no annotation
        await eventually(lambda: "listing" in (engine.status().last_error or ""))
        ticks = client.info("commandstats")["cmdstat_xrange"]["calls"]
        await eventually(
            lambda: client.info("commandstats")["cmdstat_xrange"]["calls"] > ticks + 25
        )
        assert engine.status().state == "fresh"


async def test_what_was_left_out_and_lost_is_said(
    settings: Settings,
    client: redis.Redis,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After FLUSHALL the copy would call itself complete without what nobody holds."""
    async with full(settings) as (engine, _):
        await engine.revoke(engine.issue("mallory").access_token)
        client.flushall()
        await eventually(lambda: "had no room for all of it" in caplog.text)
        await eventually(lambda: (engine.status().staleness or 9) < 0.1)
        assert not engine.status().complete


async def test_accept_is_accept_at_the_limit_too(
    settings: Settings, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator who prefers availability would have it only once the copy is stale."""
    lenient = settings.model_copy(update={"on_stale": "accept"})
    async with full(lenient) as (engine, _):
        await engine.revoke(engine.issue("mallory").access_token)
        redis_server.freeze()
        await engine.authenticate(engine.issue("bob").access_token, AccessToken)
        assert caplog.text.count("on_stale=accept") == 1


async def test_a_sign_in_after_a_sign_out_works_at_the_limit(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A cut-off that there was no room for would refuse those who sign in after it."""
    async with Engine(make_settings(redis_server.url, max_entries=1, leeway=30)) as engine:
        await engine.revoke_session("fill")
        await engine.revoke_subject("alice")
        token = engine.issue("alice").access_token
        assert (await engine.authenticate(token, AccessToken)).subject == "alice"


async def test_a_used_refresh_token_is_known_to_be_used_at_the_limit(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """Introspection would call it active, because the copy had no room for it."""
    async with Engine(make_settings(redis_server.url, max_entries=1)) as engine:
        await engine.revoke_session("fill")
        pair = engine.issue("alice")
        token = await engine.authenticate(pair.refresh_token, RefreshToken)
        assert not await engine.is_spent(token)
        await engine.rotate(token)
        assert await engine.is_spent(token)
