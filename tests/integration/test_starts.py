"""How many instances list everything at once when they start."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from revokebus.engine.engine import Engine
from revokebus.errors import NotDurableError, StoreError
from revokebus.protocol.wire import encode_payload
from revokebus.store import listing
from tests.support import opened, settle

if TYPE_CHECKING:
    import redis

    from revokebus.store.parts import StoreParts
    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings

STARTS = "{revokebus}:starts"


@pytest.fixture
def much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything is much to be listed, and no turn ends by itself."""
    monkeypatch.setattr(listing, "FEW", -1)
    monkeypatch.setattr(listing, "_TURN_MILLISECONDS", 60_000)


def others_list(client: redis.Redis) -> None:
    """Let as many instances list as may."""
    until = int(time.time() * 1000) + 50_000
    names = map(str, range(listing.MOST_AT_ONCE))
    client.hset(STARTS, mapping=dict.fromkeys(names, until))


@pytest.mark.usefixtures("much")
async def test_few_instances_list_at_once(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """A deployment of a hundred would slow every other instance down."""
    settings = make_settings(redis_server.url)
    async with AsyncExitStack() as stack:
        many = [await stack.enter_async_context(opened(settings)) for _ in range(5)]
        async with AsyncExitStack() as turns:
            for each in many[:4]:
                await turns.enter_async_context(each.listing.turn(may_wait=True))
            with pytest.raises(StoreError, match="waits while other instances list"):
                await turns.enter_async_context(many[4].listing.turn(may_wait=True))
            await turns.enter_async_context(many[0].listing.turn(may_wait=True))  # it has its turn
            await turns.enter_async_context(many[4].listing.turn(may_wait=False))
        assert not client.exists(STARTS)
        async with many[4].listing.turn(may_wait=True):
            assert client.hlen(STARTS) == 1


@pytest.mark.usefixtures("much")
async def test_an_instance_that_died_while_it_listed_keeps_no_other_waiting(
    parts: StoreParts, client: redis.Redis
) -> None:
    """After a crash of some instances none would ever start."""
    now = int(time.time() * 1000)
    client.hset(STARTS, mapping=dict.fromkeys(map(str, range(4)), now - 1))
    client.hset(STARTS, mapping={"far": str(now + 10**9), "text": "x"})
    async with parts.listing.turn(may_wait=True):
        assert client.hlen(STARTS) == 1  # and the others have gone
    client.set(STARTS, "not a hash")
    async with parts.listing.turn(may_wait=True):
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
    async with parts.listing.turn(may_wait=True):
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
    others_list(client)
    async with Engine(make_settings(redis_server.url, startup_timeout=0.2)) as engine:
        said = "ticker: waits while other instances list"
        await eventually(lambda: said in str(engine.status().last_error))
        assert engine.status().state == "starting"
        client.delete(STARTS)
        await eventually(lambda: engine.status().state == "fresh")
        assert engine.status().last_error is None


@pytest.mark.usefixtures("much")
async def test_one_that_owes_something_does_not_wait(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
) -> None:
    """A log-out at an instance that starts would be lost with it, minutes later."""
    settle(redis_server)
    others_list(client)
    client.xadd("{revokebus}:log", {"r": encode_payload([])})
    client.execute_command("ACL SETUSER", "default", "-xadd")  # type: ignore[no-untyped-call]  # redis-py has no annotation here
    async with Engine(make_settings(redis_server.url, startup_timeout=0.2)) as engine:
        with pytest.raises(NotDurableError):
            await engine.revoke_session("s")
        await eventually(lambda: engine.status().state == "fresh")
        client.execute_command("ACL SETUSER", "default", "+xadd")  # type: ignore[no-untyped-call]  # likewise
        await eventually(lambda: client.exists("{revokebus}:r:sid:s"))


@pytest.mark.usefixtures("much")
@pytest.mark.parametrize("refusal", ["writes", "rights"])
async def test_where_nothing_can_be_noted_nothing_limits(
    parts: StoreParts, client: redis.Redis, refusal: str
) -> None:
    """No instance would start for as long as Redis is full, or after an upgrade without a right."""
    others_list(client)
    if refusal == "writes":
        client.delete(STARTS)
        client.config_set("min-replicas-to-write", 1)
    else:
        client.execute_command("ACL SETUSER", "default", "-hgetall")  # type: ignore[no-untyped-call]  # redis-py has no annotation here
    async with parts.listing.turn(may_wait=True):
        pass


async def test_a_log_of_another_type_keeps_none_from_starting(
    redis_server: RedisServer, make_settings: MakeSettings, client: redis.Redis
) -> None:
    """After a slip of an operator no instance would start until another one writes."""
    settle(redis_server)
    client.set("{revokebus}:log", "x")
    async with Engine(make_settings(redis_server.url)) as engine:
        assert engine.status().state == "fresh"
        assert client.type("{revokebus}:log") == b"stream"


async def test_a_long_log_counts_where_the_records_are_few(
    parts: StoreParts, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start reads it as well, if it does not reach back far enough."""
    monkeypatch.setattr(listing, "FEW", 20)
    for _ in range(30):
        client.xadd("{revokebus}:log", {"r": encode_payload([])})
    async with parts.listing.turn(may_wait=True) as log_is_better:
        assert not log_is_better
        assert client.hlen(STARTS) == 1
