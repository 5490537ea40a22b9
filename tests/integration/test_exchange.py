"""The exchange of refresh tokens, on real servers."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from revokebus import RefreshToken
from revokebus.engine.engine import Engine
from revokebus.errors import ReplayedTokenError, RevokedTokenError, StoreError
from revokebus.protocol.exchange import MOST_TIMES, Exchange, SessionRecord, decide, encode_session
from revokebus.scripts import exchanging
from tests.support import until_quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from revokebus import TokenPair
    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings

NEVER, ALWAYS = -1, 10**12
META, HOLD, REPAIR = "{x}:meta", "{x}:hold", "{x}:repair"
STEPS = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.sampled_from([NEVER, ALWAYS]),
        st.sampled_from([NEVER, ALWAYS]),
        st.sampled_from([1.0, 4e9]),
        st.sampled_from([b'["a"]', b'["b"]', b""]),
        st.sampled_from(["a", "b"]),
        st.booleans(),
    ),
    max_size=30,
)


@given(steps=STEPS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_redis_decides_as_the_page_says(
    client: redis.Redis,
    steps: list[tuple[int, int, int, float, bytes, str, bool]],
) -> None:
    """The script and `memory://` would each have rules of their own."""
    session = f"{{x}}:s:{secrets.token_hex(8)}"
    client.hset(META, "epoch", "e")
    exchange = client.register_script(exchanging.EXCHANGE.text)
    delivered = client.register_script(exchanging.DELIVERED.text)
    record: SessionRecord | None = None
    for generation, grace, in_flight, issued_at, note, jti, is_delivered in steps:
        args: list[str | float | bytes] = [0, 0, "e", generation, issued_at, 1.5, "0"]
        args += [grace, in_flight, 60_000, note]
        outcome, number, told = exchange([META, HOLD, REPAIR, session], [*args, MOST_TIMES, jti])
        seconds, micros = client.time()
        now = 1000 * seconds + micros // 1000
        mine = Exchange(generation, jti, issued_at, 1.5, 60.0, note)
        expected, record = decide(record, mine, now, grace, in_flight)
        assert (outcome.decode(), number) == (expected.outcome.value, expected.generation)
        assert told == expected.note
        if is_delivered and record is not None:
            done = delivered([session], [record.generation])
            assert done == (not record.is_delivered)
            if done:
                record = record.delivered(now)
        assert shape(client.get(session)) == shape(record and encode_session(record))


def shape(encoded: object) -> object:
    """Return a record without its times, which two clocks do not agree upon."""
    if not isinstance(encoded, bytes):
        return None
    generation, state, times, note = encoded.split(b" ", 3)
    return generation, state, times.count(b","), note


async def refresh_of(engine: Engine, pair: TokenPair) -> RefreshToken:
    return await engine.authenticate(pair.refresh_token, RefreshToken)


def held(client: redis.Redis, key: bytes | str) -> list[bytes]:
    """Return the parts of a session's record."""
    record = client.get(key)
    assert isinstance(record, bytes)
    return record.split(b" ", 3)


async def test_200_refreshes_leave_nothing_in_any_copy(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """10,000 users who stay signed in would fill every copy in a day."""
    settings = make_settings(redis_server.url)
    async with Engine(settings) as here, Engine(settings) as there:
        await until_quiet(here)
        position, rows = here.status().position, client.xlen("{revokebus}:log")
        pair = here.issue("alice")
        for _ in range(200):
            pair = await there.rotate(await refresh_of(here, pair))
        await until_quiet(there)
        assert (here.status().entries, there.status().entries) == (0, 0)
        assert client.xlen("{revokebus}:log") == rows
        assert here.status().position == position
        assert len(client.keys("{revokebus}:s:*")) == 1


@pytest.mark.parametrize("grace", [0, 30])
async def test_a_stall_of_redis_signs_nobody_out(
    redis_server: RedisServer, make_settings: MakeSettings, grace: float
) -> None:
    """Twenty users who obey the 503 would be taken for thieves."""
    settings = make_settings(redis_server.url, rotation_grace=grace, redis_timeout=0.3)
    async with Engine(settings) as here, Engine(settings) as there:
        tokens = [await refresh_of(here, here.issue(f"user-{n}")) for n in range(20)]
        redis_server.freeze()
        lost = await asyncio.gather(*map(here.rotate, tokens), return_exceptions=True)
        assert all(isinstance(each, StoreError) for each in lost)
        redis_server.thaw()
        for token in tokens:
            pair = await retried(lambda token=token: there.rotate(token))  # type: ignore[misc]  # mypy does not infer a lambda's default
            await there.rotate(await refresh_of(there, pair))
        assert here.counts.replays + there.counts.replays == 0


async def retried(attempt: Callable[[], object]) -> TokenPair:
    """Repeat `attempt` until Redis answers, and return its result."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await attempt()  # type: ignore[no-any-return, misc]  # a coroutine of a pair
            except StoreError:
                await asyncio.sleep(0.05)


async def test_an_answer_that_nobody_had_is_repeated_however_late(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """Who was cut off for longer than the grace would come back signed out."""
    settings = make_settings(redis_server.url, rotation_grace=1)
    async with Engine(settings) as engine:
        token = await refresh_of(engine, engine.issue("alice"))
        pair = await engine.rotate(token)
        (key,) = client.keys("{revokebus}:s:*")
        generation, _, _, note = held(client, key)
        long_ago = 1000 * (client.time()[0] - 3600)
        client.set(key, b" ".join((generation, b"p", b"%d" % long_ago, note)), px=60_000)
        late = await engine.rotate(token)  # a new pair: that of then may have expired
        assert late.access_token != pair.access_token
        assert held(client, key)[1] == b"d"
        assert await engine.rotate(token) == late


async def test_a_replay_ends_the_session_everywhere(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A stolen refresh token would buy a session of its own (RFC 9700 §4.14.2)."""
    settings = make_settings(redis_server.url, rotation_grace=0)
    async with Engine(settings) as here, Engine(settings) as there:
        token = await refresh_of(here, here.issue("alice"))
        pair = await here.rotate(token)
        with pytest.raises(ReplayedTokenError):
            await there.rotate(token)
        assert await there.is_spent(token)
        with pytest.raises(RevokedTokenError):
            await there.rotate(replace(token, jti="another"))
        claims = (await here.verify(pair.access_token)).claims
        await eventually(lambda: here.is_revoked(claims))


async def test_what_redis_lost_is_written_back(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """After FLUSHALL every refresh token that was ever used could be used again."""
    settings = make_settings(redis_server.url, rotation_grace=0)
    async with Engine(settings) as engine:
        token = await refresh_of(engine, engine.issue("alice"))
        await engine.rotate(token)
        client.flushall()
        await eventually(lambda: bool(client.keys("{revokebus}:s:*")))
        with pytest.raises(ReplayedTokenError):
            await retried(lambda: engine.rotate(token))


async def test_where_nobody_remembers_the_newer_token_tells(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """A thief and the user would share a session for good, after Redis has lost its record."""
    async with Engine(make_settings(redis_server.url, rotation_grace=30)) as engine:
        old = await refresh_of(engine, engine.issue("alice"))
        newer = await refresh_of(engine, await engine.rotate(old))
        newest = await refresh_of(engine, await engine.rotate(newer))
        client.delete(*client.keys("{revokebus}:s:*"))
        await engine.rotate(old)  # by a thief
        with pytest.raises(ReplayedTokenError):
            await engine.rotate(newest)


async def test_where_nobody_remembers_the_token_of_the_same_generation_tells(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """The session would go on in the thief's hands, and the user's next refresh be the replay."""
    async with Engine(make_settings(redis_server.url, rotation_grace=30)) as engine:
        old = await refresh_of(engine, engine.issue("alice"))
        newest = await refresh_of(engine, await engine.rotate(old))
        client.delete(*client.keys("{revokebus}:s:*"))
        await engine.rotate(old)  # by a thief
        with pytest.raises(ReplayedTokenError):
            await engine.rotate(newest)


async def test_sessions_are_written_back_to_a_server_that_lost_nothing_else(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """After a failover that lost no revocation every used refresh token could be used again."""
    async with Engine(make_settings(redis_server.url)) as engine:
        token = await refresh_of(engine, engine.issue("alice"))
        await engine.rotate(token)
        await until_quiet(engine)
        client.delete(*client.keys("{revokebus}:s:*"))
        client.hset("{revokebus}:meta", "server", "0" * 40)  # as of another server
        await eventually(lambda: bool(client.keys("{revokebus}:s:*")))
        with pytest.raises(ReplayedTokenError):
            await retried(lambda: engine.rotate(token))


async def test_a_lost_report_of_a_delivery_is_sent_again(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The used token would be good until the session's next refresh."""
    async with Engine(make_settings(redis_server.url)) as engine:
        token = await refresh_of(engine, engine.issue("alice"))
        sessions = engine._backend._started.redis.store.sessions  # type: ignore[attr-defined]  # a RedisBackend's
        with monkeypatch.context() as patch:
            patch.setattr(sessions, "delivered", never_arrives)
            await engine.rotate(token)
        (key,) = client.keys("{revokebus}:s:*")
        await eventually(lambda: held(client, key)[1] == b"d")
        with pytest.raises(ReplayedTokenError):
            await engine.rotate(token)


async def test_a_cancelled_refresh_counts_as_not_delivered(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that hangs up in the midst would be signed out at its next attempt."""
    async with Engine(make_settings(redis_server.url)) as engine:
        token = await refresh_of(engine, engine.issue("alice"))
        sessions = engine._backend._started.redis.store.sessions  # type: ignore[attr-defined]  # a RedisBackend's
        reached = asyncio.Event()

        async def waits(*_: object) -> None:
            reached.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(sessions, "delivered", waits)
            refreshing = asyncio.create_task(engine.rotate(token))
            await reached.wait()
            refreshing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await refreshing
        engine._backend._exchanges.lost()  # type: ignore[attr-defined]  # likewise
        await until_quiet(engine)  # and a tick has written back what is remembered
        (key,) = client.keys("{revokebus}:s:*")
        assert held(client, key)[1] == b"p"
        await retried(lambda: engine.rotate(token))


async def never_arrives(*_: object) -> None:
    """Stand for a command whose connection is lost."""
    raise StoreError("lost")


async def test_an_older_snapshot_signs_nobody_out(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """After a restore every user who has refreshed since would be signed out."""
    async with Engine(make_settings(redis_server.url, rotation_grace=30)) as engine:
        token = await refresh_of(engine, engine.issue("alice"))
        newer = await engine.rotate(token)
        (key,) = client.keys("{revokebus}:s:*")
        snapshot = b" ".join(held(client, key))
        newest = await engine.rotate(await refresh_of(engine, newer))
        client.set(key, snapshot, px=60_000)
        pair = await engine.rotate(await refresh_of(engine, newest))
        await engine.rotate(await refresh_of(engine, pair))


async def test_a_fleet_of_an_older_format_is_taken_over(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """An upgrade would fail, or old instances would exchange tokens without generations."""
    settings = make_settings(redis_server.url)
    async with Engine(settings) as before:
        await before.revoke_session("x")
    client.hset("{revokebus}:meta", "format", "2")
    async with Engine(settings) as engine:
        await until_quiet(engine)
        assert engine.status().entries == 1
        assert client.hget("{revokebus}:meta", "format") == b"3"
