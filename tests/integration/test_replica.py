"""Engines on one real server: what one revokes the others refuse."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from revokebus import AccessToken, RefreshToken, TokenPair
from revokebus.engine.engine import Engine
from revokebus.errors import (
    NotDurableError,
    ReplayedTokenError,
    RevokedTokenError,
    UnsettledError,
)
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.wire import encode_payload
from revokebus.replication import outbox as outbox_module
from revokebus.testing import ManualClock, RedisServer
from revokebus.testing.process import wait_until
from revokebus.testing.redis_server import follows
from tests.support import settle, until_quiet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import redis

    from revokebus.protocol.continuity import Position
    from tests.support import Eventually, MakeSettings

NEVER = 3600.0


def knows(engine: Engine, token: AccessToken | RefreshToken) -> bool:
    return engine.is_revoked(token.claims)


async def access(engine: Engine, subject: str = "alice") -> AccessToken:
    return await engine.authenticate(engine.issue(subject).access_token, AccessToken)


async def test_a_revocation_reaches_every_instance(
    fleet: list[Engine], eventually: Eventually
) -> None:
    """A token revoked on one instance would work on the others."""
    alice, bob = await access(fleet[0]), await access(fleet[0], "bob")
    receipt = await fleet[1].revoke(alice)
    await eventually(lambda: all(knows(engine, alice) for engine in fleet))
    assert not any(knows(engine, bob) for engine in fleet)
    await eventually(lambda: {e.status().position for e in fleet} == {receipt.position})


async def test_the_push_alone_brings_it(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """A revocation would take as long as the next tick, half a second and not milliseconds."""
    settle(redis_server)
    settings = make_settings(redis_server.url, tick_interval=NEVER, max_staleness=3 * NEVER)
    async with Engine(settings) as one, Engine(settings) as two:
        await until_quiet(two)
        ticks = client.info("commandstats")["cmdstat_xrange"]["calls"]
        token = await access(one)
        await one.revoke(token)
        await eventually(lambda: knows(two, token))
        assert client.info("commandstats")["cmdstat_xrange"]["calls"] == ticks


async def test_the_tick_alone_brings_it(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """An instance that may not subscribe would never hear of a revocation."""
    client.acl_setuser("default", enabled=True, reset_channels=True)
    settings = make_settings(redis_server.url)
    async with Engine(settings) as engine:
        status = engine.status()
        assert (status.state, status.subscribed) == ("fresh", False)
        assert "ermission" in (status.last_error or "")
        token = await access(engine)
        client.xadd(
            "{revokebus}:log",
            {"r": encode_payload([Revocation("jti", token.jti, token.expires_at)])},
        )
        await eventually(lambda: knows(engine, token))


async def test_a_late_starter_knows_before_it_is_fresh(
    fleet: list[Engine], redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A restarted instance would accept what was revoked while it was down."""
    token = await access(fleet[0])
    await fleet[0].revoke(token)
    async with Engine(make_settings(redis_server.url)) as late:
        assert late.status().state == "fresh"
        assert knows(late, token)


async def test_a_start_does_not_have_python_look_at_everything(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """A start would stop the event loop for 50 ms, again and again: a full collection each time."""
    asyncio.get_running_loop().set_debug(False)  # which keeps a traceback for each callback
    settle(redis_server)
    client.xadd("{revokebus}:log", {"r": encode_payload([])}, id="1-0")
    pipe = client.pipeline(transaction=False)
    last = time.time() // 1 + 600
    for number in range(20_000):  # a hundred pages
        payload = encode_payload([Revocation("jti", f"token-{number}", last)])
        pipe.xadd("{revokebus}:log", {"r": payload})
        pipe.set(f"{{revokebus}}:r:jti:token-{number}", payload)
    pipe.execute()
    collections: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collections.append(info["generation"])

    settings = make_settings(redis_server.url, startup_timeout=30)
    engine = Engine(settings)
    gc.collect()
    gc.callbacks.append(note)
    try:
        await engine.start()
    finally:
        gc.callbacks.remove(note)
    assert engine.status().entries == 20_000
    await engine.close()
    assert 2 not in collections
    assert len(collections) < 20


async def test_the_records_alone_suffice_for_a_cold_start(
    fleet: list[Engine],
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
) -> None:
    """A log that was lost or trimmed would make every start forget."""
    token = await access(fleet[0])
    await fleet[0].revoke(token)
    client.delete("{revokebus}:log")
    async with Engine(make_settings(redis_server.url)) as late:
        assert knows(late, token)


async def test_a_log_that_is_old_enough_suffices_for_a_cold_start(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """Each start would walk over the millions of keys that others have in the same Redis."""
    settle(redis_server)
    then = int(time.time() - 366 * 86_400) * 1000
    client.xadd("{revokebus}:log", {"r": encode_payload([])}, id=f"{then}-0")
    settings = make_settings(redis_server.url)
    async with Engine(settings) as engine:
        tokens = [await access(engine) for _ in range(450)]
        for token in tokens:
            await engine.revoke(token)
        await engine.revoke_subject("bob")
    client.config_resetstat()
    async with Engine(settings) as late:
        assert all(knows(late, token) for token in tokens)
        assert late.is_revoked({"sub": "bob", "iat": 1})
        assert not late.is_revoked({"sub": "carol", "iat": 1, "jti": "x"})
        assert late.status().entries == 451
    assert "cmdstat_scan" not in client.info("commandstats")


async def test_a_lost_subscription_is_renewed_and_its_gap_filled(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """Revocations sent while a connection was down would be missing for ever."""
    await eventually(lambda: all(engine.status().subscribed for engine in fleet))
    tokens = []
    for _ in range(5):
        client.client_kill_filter(_type="pubsub")
        tokens.append(await access(fleet[0]))
        await fleet[0].revoke(tokens[-1])
    await eventually(lambda: all(knows(engine, token) for engine in fleet for token in tokens))
    await eventually(lambda: all(engine.status().subscribed for engine in fleet))
    assert all(engine.status().state == "fresh" for engine in fleet)


async def test_a_flushed_server_costs_no_instance_its_copy(
    fleet: list[Engine],
    client: redis.Redis,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """FLUSHALL would make revoked tokens valid, or leave every instance stale."""
    old = await access(fleet[0])
    await fleet[0].revoke(old)
    await eventually(lambda: all(knows(engine, old) for engine in fleet))
    with caplog.at_level(logging.WARNING):
        client.flushall()
        new = await access(fleet[0])
        await fleet[0].revoke(new)
        await eventually(lambda: all(knows(engine, new) for engine in fleet))
    await eventually(lambda: all(engine.status().last_error is None for engine in fleet))
    assert all(knows(engine, old) for engine in fleet)
    assert all(engine.status().state == "fresh" for engine in fleet)
    assert "another data set" in caplog.text


async def test_a_refresh_token_is_used_once_by_the_whole_fleet(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A copied refresh token would be exchanged at another instance."""
    async with AsyncExitStack() as stack:
        settings = make_settings(redis_server.url, redis_timeout=10)  # for thirty at once
        fleet = [await stack.enter_async_context(Engine(settings)) for _ in range(3)]
        await check_that_it_is_used_once(fleet, eventually)


async def check_that_it_is_used_once(fleet: list[Engine], eventually: Eventually) -> None:
    pair = fleet[0].issue("alice")
    token = await fleet[0].authenticate(pair.refresh_token, RefreshToken)
    outcomes = await asyncio.gather(
        *(engine.rotate(token) for engine in fleet * 10), return_exceptions=True
    )
    assert len([o for o in outcomes if isinstance(o, TokenPair)]) == 1
    # Those that came before it was known whether the first was answered are to try again.
    refused = [
        o
        for o in outcomes
        if isinstance(o, ReplayedTokenError | RevokedTokenError | UnsettledError)
    ]
    assert len(refused) == len(outcomes) - 1
    with pytest.raises((ReplayedTokenError, RevokedTokenError)):
        await fleet[1].rotate(token)
    await eventually(lambda: all(knows(engine, token) for engine in fleet))
    await eventually(lambda: all(engine.is_revoked({"sid": token.session_id}) for engine in fleet))
    for engine in fleet:
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(pair.access_token, AccessToken)


async def test_what_is_revoked_already_is_not_written_again(
    fleet: list[Engine], client: redis.Redis
) -> None:
    """One client that repeats itself would fill the log, and wake every instance each time."""
    token = await access(fleet[0])
    first = await fleet[0].revoke(token)
    rows = client.xlen("{revokebus}:log")
    for engine in fleet:
        await until_quiet(engine)
        receipt = await engine.revoke(token, confirm="fleet")
        assert (receipt.revocations, receipt.position) == (1, first.position)
    assert client.xlen("{revokebus}:log") == rows
    client.delete(f"{{revokebus}}:r:jti:{token.jti}")  # and what is not there is written
    await fleet[0].revoke(token)
    assert client.xlen("{revokebus}:log") == rows + 1


async def test_a_cancelled_request_still_revokes(
    fleet: list[Engine], redis_server: RedisServer, eventually: Eventually, client: redis.Redis
) -> None:
    """A client that hangs up during its log-out would stay signed in elsewhere."""
    token = await access(fleet[0])
    redis_server.freeze()
    request = asyncio.create_task(fleet[0].revoke(token))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    redis_server.thaw()
    await eventually(lambda: all(knows(engine, token) for engine in fleet))
    await eventually(lambda: client.exists(f"{{revokebus}}:r:jti:{token.jti}"))


async def test_what_could_not_be_written_is_tried_at_the_end(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A revocation made in the seconds before a deployment would be lost without a word."""
    settle(redis_server)
    settings = make_settings(redis_server.url, tick_interval=NEVER, max_staleness=3 * NEVER)
    async with Engine(settings) as engine:
        kept, lost = await access(engine), await access(engine)
        redis_server.freeze()
        with pytest.raises(NotDurableError):
            await engine.revoke(kept)
        redis_server.thaw()
    assert client.exists(f"{{revokebus}}:r:jti:{kept.jti}")
    async with engine:
        redis_server.kill()
        with pytest.raises(NotDurableError):
            await engine.revoke(lost)
    assert "ends with 1 revocations that Redis does not hold" in caplog.text


async def test_an_instance_started_with_its_clock_ahead_looks_again(
    fleet: list[Engine],
    redis_server: RedisServer,
    make_settings: MakeSettings,
    eventually: Eventually,
) -> None:
    """What it took for expired would be accepted when its clock is set right."""
    token = await access(fleet[0])
    await fleet[0].revoke(token)
    clock = ManualClock()
    clock.step(+3600)
    async with Engine(make_settings(redis_server.url), clock=clock) as ahead:
        assert not knows(ahead, token)
        clock.step(-3600)
        await eventually(lambda: knows(ahead, token))


async def test_a_clock_that_is_set_back_twice_is_noticed_twice(
    fleet: list[Engine],
    redis_server: RedisServer,
    make_settings: MakeSettings,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was taken for expired while it listed for the first step would be accepted."""
    token = await access(fleet[0])
    await fleet[0].revoke(token)
    clock = ManualClock()
    clock.step(+7200)
    async with Engine(make_settings(redis_server.url), clock=clock) as ahead:
        listing = ahead._backend._running().redis.listing  # type: ignore[attr-defined]  # a RedisBackend
        records = listing.records
        walks = 0

        async def stepping(since: Position) -> AsyncGenerator[list[bytes | None]]:
            nonlocal walks
            walks += 1
            async for page in records(since):
                yield page
            if walks == 1:
                clock.step(-3600)
                yield [b"noticed with this page"]

        monkeypatch.setattr(listing, "records", stepping)
        clock.step(-3600)
        await eventually(lambda: walks == 2)
        await eventually(lambda: knows(ahead, token))


async def test_an_instance_that_may_not_publish_says_so(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """Its revocations would be called lost, written for ever, or be slow without a word."""
    token = await access(fleet[0])
    client.acl_setuser("default", enabled=True, reset_channels=True)
    receipt = await fleet[0].revoke(token)
    assert receipt.revocations == 1
    status = fleet[0].status()
    assert "publisher" in (status.last_error or "")
    assert status.unsaved == 0
    await eventually(lambda: all(knows(engine, token) for engine in fleet))
    client.acl_setuser("default", enabled=True, channels=["*"])
    await fleet[0].revoke(token)
    await eventually(lambda: fleet[0].status().last_error is None)


async def test_a_full_redis_is_no_outage_of_the_fleet(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """A Redis that refuses writes would make every instance answer 503."""
    token = await access(fleet[0])
    client.config_set("maxmemory", 1)
    with pytest.raises(NotDurableError, match=r"(?i)memory"):
        await fleet[0].revoke(token)
    await eventually(lambda: fleet[0].status().last_error)
    await eventually(lambda: all((e.status().staleness or 9) < 0.1 for e in fleet))
    client.config_set("maxmemory", 0)
    await eventually(lambda: all(knows(engine, token) for engine in fleet))
    await eventually(lambda: fleet[0].status().last_error is None)
    assert fleet[0].status().unsaved == 0


async def test_a_close_that_is_cancelled_still_ends_the_connections(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """A server that stops in a hurry would leave connections and tasks behind."""
    tasks = asyncio.all_tasks()
    engine = Engine(make_settings(redis_server.url))
    await engine.start()
    close = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    close.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await close
    assert engine.status().state == "closed"
    await eventually(lambda: asyncio.all_tasks() == tasks)
    await eventually(lambda: len(client.client_list()) == 1)


async def test_a_close_during_the_start_leaves_nothing(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """An application that is stopped while it starts would go on in the background."""
    redis_server.freeze()
    tasks = asyncio.all_tasks()
    engine = Engine(make_settings(redis_server.url, startup_timeout=0.3))
    start = asyncio.create_task(engine.start())
    await asyncio.sleep(0)
    await engine.close()
    await start
    assert engine.status().state == "closed"
    assert asyncio.all_tasks() == tasks


async def test_nothing_is_left_behind(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """Each reload of an application would leave tasks and connections behind."""
    tasks = asyncio.all_tasks()
    for _ in range(3):
        async with Engine(make_settings(redis_server.url)) as engine:
            await engine.revoke(await access(engine))
    gc.collect()  # an unclosed connection would now warn, and a warning is an error
    assert asyncio.all_tasks() == tasks
    client.ping()
    assert len(client.client_list()) == 1


async def test_a_start_that_is_cancelled_leaves_nothing(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """Ctrl-C during the start would leave tasks behind that nobody ends."""
    redis_server.freeze()
    tasks = asyncio.all_tasks()
    engine = Engine(make_settings(redis_server.url, startup_timeout=60))
    start = asyncio.create_task(engine.start())
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert asyncio.all_tasks() == tasks
    assert engine.status().state == "starting"


async def test_a_broken_subscription_is_repaired_before_the_next_tick(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """What was published while a connection was broken would wait for the tick after."""
    settle(redis_server)
    settings = make_settings(redis_server.url, tick_interval=NEVER, max_staleness=3 * NEVER)
    async with Engine(settings) as engine:
        token = await access(engine)
        await until_quiet(engine)
        # In one go, so that nobody can subscribe again in between.
        client.client_kill_filter(_type="pubsub")
        client.xadd("{revokebus}:log", {"r": encode_payload([lasting(token)])})
        await eventually(lambda: knows(engine, token))
        assert engine.status().state == "fresh"


async def test_what_redis_will_not_record_is_pushed_all_the_same(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """While Redis is full a token would go on working at every other instance."""
    settle(redis_server)
    settings = make_settings(redis_server.url)
    async with Engine(settings) as here, Engine(settings) as there:
        token = await access(here)
        await eventually(lambda: there.status().subscribed)
        client.config_set("maxmemory", 1)
        with pytest.raises(NotDurableError):
            await here.revoke(token)
        await eventually(lambda: knows(there, token))
        assert not client.exists(f"{{revokebus}}:r:jti:{token.jti}")
        client.config_set("maxmemory", 0)
        await eventually(lambda: client.exists(f"{{revokebus}}:r:jti:{token.jti}"))


async def test_a_full_redis_can_be_started_on(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """A deployment while Redis is full would be an outage, although all is there to be read."""
    settings = make_settings(redis_server.url)
    async with Engine(settings) as engine:
        token = await access(engine)
        await engine.revoke(token)
        client.config_set("maxmemory", 1)
        async with Engine(settings) as late:
            assert late.status().state == "fresh"
            assert knows(late, token)


async def test_a_flush_is_not_noticed_by_who_revokes(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """A user who logs out just after FLUSHALL would get an error, or be logged in elsewhere."""
    settle(redis_server)
    settings = make_settings(redis_server.url, tick_interval=NEVER, max_staleness=3 * NEVER)
    async with Engine(settings) as engine:
        before, after = await access(engine), await access(engine)
        await engine.revoke(before)
        client.flushall()
        await engine.revoke(after)
        assert client.exists(f"{{revokebus}}:r:jti:{after.jti}")
        await eventually(lambda: client.exists(f"{{revokebus}}:r:jti:{before.jti}"))


async def test_a_restored_server_is_not_believed_at_once(
    redis_binary: str, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A process that starts on an old snapshot would miss what only the fleet still knows."""
    with RedisServer(redis_binary, {"save": "3600 1000"}) as server:
        settle(server)
        settings = make_settings(server.url, tick_interval=0.3)
        async with Engine(settings) as engine:
            with server.client() as client:
                client.save()
            token = await access(engine)
            await engine.revoke(token)
            server.kill()
            server.start()
            async with Engine(settings.model_copy(update={"startup_timeout": 0})) as late:
                waits = "what it holds, is new"
                await eventually(lambda: waits in (late.status().last_error or ""))
                assert late.status().state == "starting"
                await eventually(lambda: late.status().state == "fresh")
                assert knows(late, token)
            async with Engine(settings) as later:
                assert later.status().state == "fresh"  # the server is known now
                assert later.counts.ticks["unsettled"] == 0


def _reload(server: RedisServer, _: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("DEBUG", "RELOAD", "NOSAVE")


def _follow_for_a_moment(server: RedisServer, older: RedisServer) -> None:
    with server.client() as client:
        client.replicaof(older.host, older.port)
        wait_until(lambda: follows(server), "it has what the other one has")
        client.replicaof("NO", "ONE")


@pytest.mark.parametrize("take_back", [_reload, _follow_for_a_moment])
async def test_older_data_in_the_same_process_is_not_believed_at_once(
    redis_binary: str,
    make_settings: MakeSettings,
    eventually: Eventually,
    take_back: Callable[[RedisServer, RedisServer], None],
) -> None:
    """A process that starts just then would accept what was revoked, and call its copy fresh."""
    with RedisServer(redis_binary, {"enable-debug-command": "yes"}) as server:
        settle(server)
        settings = make_settings(server.url)
        with RedisServer(redis_binary, {"replicaof": f"{server.host} {server.port}"}) as older:
            async with Engine(settings) as engine:
                await engine.revoke(await access(engine))
                with server.client() as client, older.client() as other:
                    client.save()
                    wait_until(lambda: follows(older), "the other one has it, too")
                    other.replicaof("NO", "ONE")
                token = await access(engine)
                await engine.revoke(token)
                take_back(server, older)
                async with Engine(settings.model_copy(update={"startup_timeout": 0})) as late:
                    waits = "what it holds, is new"
                    await eventually(lambda: waits in (late.status().last_error or ""))
                    assert late.status().state == "starting"
                    await eventually(lambda: late.status().state == "fresh")
                    assert knows(late, token)


async def test_a_pause_of_redis_costs_neither_a_tick_nor_a_subscription(
    redis_server: RedisServer, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A fleet that Redis can just carry would connect anew at once, and never recover."""
    settle(redis_server)
    settings = make_settings(redis_server.url, redis_timeout=0.3, max_staleness=30)
    async with Engine(settings) as engine:
        redis_server.freeze()
        try:
            await eventually(lambda: (engine.status().staleness or 0) > 1.5)
        finally:
            redis_server.thaw()
        await eventually(lambda: (engine.status().staleness or 9) < 0.2)
        assert engine.counts.ticks["failed"] == 0
        assert engine.counts.subscriptions == 1
        assert engine.status().last_error is None


async def test_nothing_is_proven_while_others_may_know_more(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """After a failover an instance would be fresh before the writer has repaired a lost tail."""
    settle(redis_server)
    async with Engine(make_settings(redis_server.url)) as engine:
        client.set("{revokebus}:hold", "1", px=500)
        await eventually(lambda: "is new" in (engine.status().last_error or ""))
        await eventually(lambda: (engine.status().staleness or 0) > 0.3)
        await eventually(lambda: (engine.status().staleness or 9) < 0.1)
        await eventually(lambda: engine.status().last_error is None)


async def test_one_that_cannot_repair_does_not_hold_the_others_for_ever(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One broken instance would make the whole fleet stale."""
    monkeypatch.setattr(outbox_module, "_LONGEST_HOLD_SECONDS", 0.3)
    settle(redis_server)
    settings = make_settings(redis_server.url)
    async with Engine(settings) as broken, Engine(settings) as other:
        persist = asyncio.create_task(again_and_again(client, "{revokebus}:repair"))
        lost = lasting(await access(broken))
        broken._backend._repair.lost([lost])  # type: ignore[attr-defined]  # a RedisBackend
        await eventually(lambda: client.exists("{revokebus}:hold"))
        await eventually(lambda: not client.exists("{revokebus}:hold"))
        persist.cancel()
        client.delete("{revokebus}:repair")
        await eventually(lambda: (other.status().staleness or 9) < 0.1)


async def again_and_again(client: redis.Redis, key: str) -> None:
    while True:
        client.set(key, "another", px=9000)
        await asyncio.sleep(0.05)


async def test_what_is_left_of_a_repair_is_done_at_the_end_or_said(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The last instance that knows would be stopped, and take it along without a word."""
    settle(redis_server)
    async with Engine(make_settings(redis_server.url)) as engine:
        client.set("{revokebus}:repair", "another", px=9000)  # has the turn
        token = await access(engine)
        await engine.revoke(token)
        client.delete("{revokebus}:log")
        client.delete(f"{{revokebus}}:r:jti:{token.jti}")
        await eventually(lambda: len(engine._backend._repair))  # type: ignore[attr-defined]  # a RedisBackend
        client.delete("{revokebus}:repair")
    assert client.exists(f"{{revokebus}}:r:jti:{token.jti}")
    async with Engine(make_settings(redis_server.url)) as engine:
        client.set("{revokebus}:repair", "another", px=9000)
        client.delete("{revokebus}:log")
        client.delete(f"{{revokebus}}:r:jti:{token.jti}")
        await eventually(lambda: len(engine._backend._repair))  # type: ignore[attr-defined]  # a RedisBackend
    assert "ends with 1 revocations that Redis does not hold" in caplog.text


async def test_a_write_under_way_is_waited_for_at_the_end(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """A revocation in the last moment of a process would be lost without a word."""
    settle(redis_server)
    engine = Engine(make_settings(redis_server.url, redis_timeout=2.0))
    await engine.start()
    token = await access(engine)
    redis_server.freeze()
    revoke = asyncio.create_task(engine.revoke(token))
    await asyncio.sleep(0)
    close = asyncio.create_task(engine.close())
    await asyncio.sleep(0.05)
    redis_server.thaw()
    await close
    await revoke
    assert client.exists(f"{{revokebus}}:r:jti:{token.jti}")


async def test_what_was_evicted_is_found_in_the_log(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """The default of several managed services would cost each new instance revocations."""
    client.config_set("maxmemory-policy", "volatile-lru")
    settle(redis_server)
    settings = make_settings(redis_server.url)
    async with Engine(settings) as engine:
        token = await access(engine)
        await engine.revoke(token)
    client.delete(f"{{revokebus}}:r:jti:{token.jti}")  # as an eviction would
    async with Engine(settings) as late:
        assert knows(late, token)
        await eventually(lambda: client.exists(f"{{revokebus}}:r:jti:{token.jti}"))


async def test_a_replay_is_a_replay_where_redis_cannot_record_it(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """Who replays a refresh token would be told to try again later."""
    settle(redis_server)
    settings = make_settings(redis_server.url, min_replicas=1)
    async with Engine(settings) as engine:
        pair = engine.issue("alice")
        refresh = await engine.authenticate(pair.refresh_token, RefreshToken)
        await engine.rotate(refresh)
        with pytest.raises(ReplayedTokenError):
            await engine.rotate(refresh)
        assert engine.is_revoked({"sid": pair.session_id})


def lasting(token: AccessToken) -> Revocation:
    return Revocation("jti", token.jti, token.expires_at)
