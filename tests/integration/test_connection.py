from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import pytest
from redis.asyncio.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError

from revokebus.connection import SafeParser, client
from revokebus.engine import Engine
from revokebus.redis_url import parse_redis_url

if TYPE_CHECKING:
    from revokebus.testing import RedisServer
    from tests.support import MakeSettings


async def test_a_kernel_timeout_is_a_lost_connection(redis_server: RedisServer) -> None:
    """redis-py would spin on it: one dead TCP connection would freeze the whole application."""
    pool = client(parse_redis_url(redis_server.url).options, None, 0.5).connection_pool
    connection = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no annotation
    await connection.connect()
    try:
        reader = connection._reader
        assert reader is not None
        reader.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
        async with asyncio.timeout(5):
            with pytest.raises(RedisConnectionError, match="connection lost"):
                await connection.read_response(timeout=0.1)
    finally:
        await connection.disconnect(nowait=True)


async def test_the_url_cannot_change_what_the_protocol_relies_on(redis_server: RedisServer) -> None:
    """A copied URL with options would turn bytes into text, or hide outages behind retries."""
    url = f"{redis_server.url}?decode_responses=true&protocol=3&socket_timeout=99"
    options = parse_url(url)  # parse_redis_url refuses it, too
    redis = client(options, None, 0.5)
    connection = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no annotation
    assert isinstance(connection._parser, SafeParser)
    assert connection.protocol == 2
    assert connection.socket_timeout == 0.5
    assert not connection.encoder.decode_responses


async def test_cve_2023_28858_cve_2023_28859_a_cancelled_command_leaves_no_answer_behind(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """The next command on the connection would be given the answer of the cancelled one."""
    async with Engine(make_settings(redis_server.url)) as engine:
        store = engine._upstream._running().store  # type: ignore[attr-defined]  # a Replica
        for number in range(200):
            task = asyncio.create_task(store.ask(lambda redis: redis.echo("cancelled")))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            answer = await store.ask(lambda redis, number=number: redis.echo(str(number)))
            assert answer == str(number).encode()
