from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from revokebus.connection.client import client
from revokebus.connection.subscription import Subscription
from revokebus.errors import StoreError
from revokebus.settings.redis_url import parse_redis_url

if TYPE_CHECKING:
    from revokebus.testing import RedisServer

DEADLINE = 0.2


@pytest.fixture
def subscription(redis_server: RedisServer) -> Subscription:
    options = parse_redis_url(redis_server.url).options
    pool = client(options, None, 0.5).connection_pool
    return Subscription(pool, "channel", deadline=DEADLINE, patience=DEADLINE)


async def test_what_is_published_arrives_in_order(
    redis_server: RedisServer, subscription: Subscription
) -> None:
    """No revocation would be pushed."""
    with redis_server.client() as client:
        async with subscription, asyncio.timeout(5):
            for number in range(100):
                client.publish("channel", number)
            messages = aiter(subscription)
            heard = [await anext(messages) for _ in range(100)]
    assert heard == [b"%d" % number for number in range(100)]


async def test_a_quiet_channel_stays_open(
    redis_server: RedisServer, subscription: Subscription
) -> None:
    """A fleet that revokes nothing for a while would reconnect all the time."""
    with redis_server.client() as client:
        async with subscription, asyncio.timeout(5):
            asyncio.get_running_loop().call_later(
                3 * DEADLINE, client.publish, "channel", "at last"
            )
            assert await anext(aiter(subscription)) == b"at last"


async def test_a_killed_connection_is_an_error(
    redis_server: RedisServer, subscription: Subscription
) -> None:
    """redis-py would reconnect without a word, and what was sent meanwhile would be missing."""
    async with subscription:
        with redis_server.client() as client:
            client.client_kill_filter(_type="pubsub")
        with pytest.raises(StoreError):
            async with asyncio.timeout(5):
                await anext(aiter(subscription))


async def test_a_frozen_server_is_an_error(
    redis_server: RedisServer, subscription: Subscription
) -> None:
    """A server that hangs without closing would never be noticed."""
    async with subscription:
        redis_server.freeze()
        with pytest.raises(StoreError, match="PING"):
            async with asyncio.timeout(5):
                await anext(aiter(subscription))


async def test_a_frozen_server_does_not_hold_up_the_start(
    redis_server: RedisServer, subscription: Subscription
) -> None:
    """Subscribing to a server that hangs would wait for ever."""
    redis_server.freeze()
    with pytest.raises(StoreError):
        async with asyncio.timeout(5), subscription:
            pytest.fail("subscribed to a frozen server")


async def test_a_subscription_that_is_not_allowed_is_an_error(
    redis_server: RedisServer, subscription: Subscription
) -> None:
    """An instance without rights on the channel would believe that it listens."""
    with redis_server.client() as client:
        client.acl_setuser("default", enabled=True, reset_channels=True)
    with pytest.raises(StoreError, match=r"(?i)permission"):
        async with subscription:
            pytest.fail("subscribed without the right to")


async def test_rights_withdrawn_later_are_an_error(
    redis_server: RedisServer, subscription: Subscription
) -> None:
    """An instance whose rights were withdrawn would stay deaf and believe that it listens."""
    with redis_server.client() as client:
        async with subscription:
            client.acl_setuser("default", enabled=True, reset_channels=True)
            with pytest.raises(StoreError):
                async with asyncio.timeout(5):
                    await anext(aiter(subscription))


async def test_one_to_a_server_that_is_no_longer_the_primary_ends(
    redis_server: RedisServer,
) -> None:
    """After a failover an instance would listen to the old primary, where nobody publishes."""
    in_place = True
    pool = client(parse_redis_url(redis_server.url).options, None, 0.5).connection_pool
    old = Subscription(
        pool, "channel", deadline=DEADLINE, patience=DEADLINE, in_place=lambda: in_place
    )
    async with old, asyncio.timeout(5):
        in_place = False
        with pytest.raises(StoreError, match="another server"):
            await anext(aiter(old))
