"""What Redis loses, the fleet writes back."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, cast

from revokebus import AccessToken
from revokebus.engine.engine import Engine
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.wire import decode_payload
from revokebus.replication import repair
from revokebus.replication.repair import Comparison
from tests.support import settle, until_quiet

if TYPE_CHECKING:
    import pytest
    import redis

    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings


async def revoke_some(engine: Engine, count: int, life: float = 600) -> list[Revocation]:
    now = time.time() // 1
    some = [Revocation("jti", str(number), now + life) for number in range(count)]
    await engine._revoker.revoke(some)
    return some


def recorded(client: redis.Redis) -> int:
    return len(client.keys("{revokebus}:r:*"))


def logged(client: redis.Redis) -> int:
    """Return how many revocations the log names, repetitions included."""
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange("{revokebus}:log"))
    return sum(len(decode_payload(fields[b"r"])) for _, fields in entries)


def all_know(fleet: list[Engine], revocations: list[Revocation]) -> bool:
    return all(engine._denylist.holds(each) for engine in fleet for each in revocations)


async def test_flushall_is_repaired(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """The next instance to start would accept everything that was ever revoked."""
    some = await revoke_some(fleet[0], 100)
    await eventually(lambda: all_know(fleet, some))
    client.flushall()
    await eventually(lambda: recorded(client) == 100)
    assert all(0 < client.ttl(key) <= 601 for key in client.keys("{revokebus}:r:*"))
    await eventually(lambda: all(len(engine._backend._repair) == 0 for engine in fleet))  # type: ignore[attr-defined]  # a RedisBackend
    assert logged(client) <= 110


async def test_an_old_data_set_is_repaired(
    redis_binary: str, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """A restart from yesterday's snapshot would forget today."""
    from revokebus.testing import RedisServer  # noqa: PLC0415 - the fixture has no snapshots

    with RedisServer(redis_binary, {"save": "3600 1"}) as server, server.client() as client:
        async with (
            Engine(make_settings(server.url)) as one,
            Engine(make_settings(server.url)) as two,
        ):
            old = await revoke_some(one, 10)
            client.save()
            new = [Revocation("sid", str(number), time.time() // 1 + 600) for number in range(10)]
            await one._revoker.revoke(new)
            await eventually(lambda: all_know([one, two], old + new))
            await eventually(lambda: one.status().position == two.status().position)
            server.kill()
            server.start()
            assert recorded(client) == 10
            await eventually(lambda: recorded(client) == 20)
            await eventually(lambda: one.status().state == two.status().state == "fresh")


async def test_a_write_that_is_lost_before_the_next_tick_is_missed(
    redis_binary: str, make_settings: MakeSettings, eventually: Eventually
) -> None:
    """An acknowledged revocation would be gone, and every instance call itself fresh."""
    from revokebus.testing import RedisServer  # noqa: PLC0415 - the fixture has no snapshots

    with RedisServer(redis_binary, {"save": "3600 1"}) as server, server.client() as client:
        settings = make_settings(server.url, tick_interval=1.0)
        async with Engine(settings) as engine:
            await until_quiet(engine)
            client.save()
            (lost,) = await revoke_some(engine, 1)
            server.kill()
            server.start()
            assert recorded(client) == 0
            await eventually(lambda: recorded(client) == 1)
            async with Engine(settings) as other:
                assert other._denylist.holds(lost)


async def test_records_that_vanish_with_the_log_are_repaired(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """A data set of which only a part was lost would be taken for whole."""
    some = await revoke_some(fleet[0], 20)
    await eventually(lambda: all_know(fleet, some))
    client.delete("{revokebus}:log", *client.keys("{revokebus}:r:jti:1*"))
    await eventually(lambda: recorded(client) == 20)


async def test_a_strangers_record_is_no_record(
    fleet: list[Engine], client: redis.Redis, eventually: Eventually
) -> None:
    """A value that nobody can read would count as the revocation that it replaced."""
    (mine,) = await revoke_some(fleet[0], 1)
    client.set("{revokebus}:r:jti:0", "stray", keepttl=True)
    client.delete("{revokebus}:log")
    await eventually(lambda: client.get("{revokebus}:r:jti:0") != b"stray")
    assert decode_payload(cast("bytes", client.get("{revokebus}:r:jti:0"))) == [mine]


async def test_fifty_instances_repair_once(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
) -> None:
    """A fleet that repairs would bury Redis under fifty copies of everything."""
    settings = make_settings(
        redis_server.url, redis_timeout=10, max_staleness=60, tick_interval=0.5
    )
    count = 10_000
    asyncio.get_running_loop().set_debug(False)
    async with AsyncExitStack() as stack:
        fleet = [await stack.enter_async_context(Engine(settings)) for _ in range(50)]
        for engine in fleet[1:]:  # as if each had heard of them; the log stays short
            for each in (Revocation("jti", str(n), time.time() // 1 + 600) for n in range(count)):
                engine._denylist.add(each)
            await asyncio.sleep(0)
        await revoke_some(fleet[0], count)
        client.flushall()
        async with asyncio.timeout(110):  # under coverage it takes a minute
            while recorded(client) < count:  # noqa: ASYNC110 - another process has no event
                await asyncio.sleep(0.05)
            while any(len(engine._backend._repair) for engine in fleet):  # type: ignore[attr-defined]  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert recorded(client) == count
        assert logged(client) <= 1.1 * count


async def test_a_process_that_starts_after_a_loss_waits_for_those_who_know(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """A deployment in the second after FLUSHALL would accept everything that was revoked."""
    settings = make_settings(redis_server.url, tick_interval=0.3)
    async with Engine(settings) as old:
        await eventually(lambda: (old.status().staleness or 0) > 0.05)
        (lost,) = await revoke_some(old, 1)
        client.flushall()
        async with Engine(settings) as new:
            assert new.status().state == "fresh"
            assert new._denylist.holds(lost)


async def test_a_repair_under_way_is_waited_for(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """A process that starts during a long repair would know a part and believe it is all."""
    settings = make_settings(redis_server.url, startup_timeout=0.1)
    async with Engine(settings) as engine:
        await eventually(lambda: engine.status().state == "fresh")
    client.set("{revokebus}:repair", "somebody", ex=60)
    async with Engine(settings) as engine:
        await eventually(lambda: "writing back" in (engine.status().last_error or ""))
        assert engine.status().state == "starting"
        client.delete("{revokebus}:repair")
        await eventually(lambda: engine.status().state == "fresh")


async def test_what_only_the_log_has_is_written_back_at_a_start(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bus that is started again in its process would take a row of the log for a record."""

    async def never(*_: object) -> None:
        """Find nothing without a reason to look."""

    monkeypatch.setattr(Comparison, "go_on", never)
    engine = Engine(make_settings(redis_server.url))
    async with engine:
        token = await engine.authenticate(engine.issue("alice").access_token, AccessToken)
        await engine.revoke(token)
    record = f"{{revokebus}}:r:jti:{token.jti}"
    assert client.delete(record)
    async with engine:
        await eventually(lambda: client.exists(record))


async def test_others_are_held_all_the_time_while_a_great_loss_is_written_back(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An instance that starts in between would be proven with a third of what was revoked."""
    for name, value in {"LISTED": 500, "COMPARED": 100, "WRITTEN": 100}.items():
        monkeypatch.setattr(repair, f"_{name}_AT_ONCE", value)
    monkeypatch.setattr(repair, "_WALKED_SECONDS", 0.01)
    settle(redis_server)
    count = 5_000
    async with Engine(make_settings(redis_server.url, redis_timeout=5.0)) as engine:
        for at in range(0, count, 500):
            await asyncio.gather(
                *(engine.revoke_session(f"s{number}") for number in range(at, at + 500))
            )
        client.flushall()
        held = unheld = 0
        async with asyncio.timeout(60):
            while client.dbsize() < count:
                if client.exists("{revokebus}:hold", "{revokebus}:repair"):
                    held += 1
                elif held and client.dbsize() < count:
                    unheld += 1
                await asyncio.sleep(0)
        assert held
        assert unheld == 0
