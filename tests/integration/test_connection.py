from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from redis.asyncio.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError

from revokebus.clock import SystemClock
from revokebus.connection.client import SafeParser, client
from revokebus.connection.requests import Requests
from revokebus.engine.engine import Engine
from revokebus.errors import NotDurableError, RefusedError
from revokebus.settings.redis_url import parse_redis_url
from revokebus.testing import Link

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings


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
    assert connection.socket_timeout is None  # whoever asks has the deadline
    assert not connection.encoder.decode_responses


async def test_the_short_way_leaves_no_answer_behind(redis_server: RedisServer) -> None:
    """A tick would be given the answer of a write that was given up, and prove the wrong thing."""
    async with client(parse_url(redis_server.url), None, 5.0) as redis:
        for number in range(200):
            task = asyncio.create_task(redis.call(("ECHO", "cancelled")))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert await redis.call(("ECHO", str(number))) == str(number).encode()
        together = await asyncio.gather(*(redis.call(("ECHO", str(n))) for n in range(20)))
        assert together == [str(n).encode() for n in range(20)]


async def test_a_connection_that_was_closed_costs_no_request(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """After a quiet hour each instance would answer its first refresh with 503."""
    requests = Requests(make_settings(redis_server.url), SystemClock())
    try:
        for _ in range(5):
            number = await requests.call("CLIENT", "ID")
            with redis_server.client() as other:
                other.client_kill_filter(_id=number)
            assert await requests.call("ECHO", "here") == b"here"
        with pytest.raises(RefusedError):
            await requests.call("NONSENSE")
        assert await requests.call("ECHO", "here") == b"here"
    finally:
        await requests.close()


async def test_a_half_open_connection_costs_no_request(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A balancer that forgot an idle connection swallows what comes on it: a 503 for a user."""
    with Link("127.0.0.1", redis_server.port) as link:
        requests = Requests(make_settings(link.url), SystemClock())
        try:
            assert await requests.call("ECHO", "before") == b"before"
            link.forget()
            asking = [requests.call("ECHO", str(number)) for number in range(3)]
            assert await asyncio.gather(*asking) == [b"0", b"1", b"2"]
        finally:
            await requests.close()


async def test_a_thousand_questions_at_once_take_one_connection(redis_server: RedisServer) -> None:
    """A burst of log-outs would open hundreds, and lock other programs out of Redis."""
    async with client(parse_url(redis_server.url), None, 5.0) as redis:
        asked = [redis.call(("ECHO", str(number))) for number in range(1000)]
        assert await asyncio.gather(*asked) == [str(number).encode() for number in range(1000)]
        with redis_server.client() as other:
            assert len(other.client_list(_type="normal")) == 2  # this one's own included


async def test_nothing_stays_open_after_the_end(
    redis_server: RedisServer, eventually: Eventually
) -> None:
    """Each deployment would leave connections behind in the old process."""
    redis = client(parse_url(redis_server.url), None, 5.0)
    task = asyncio.create_task(redis.call(("BLPOP", "nothing", "1")))
    await redis.call(("PING",))
    await redis.aclose()
    await asyncio.wait([task])
    with redis_server.client() as other:
        await eventually(lambda: len(other.client_list(_type="normal")) == 1)


async def test_cve_2023_28858_cve_2023_28859_a_cancelled_command_leaves_no_answer_behind(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """The next command on the connection would be given the answer of the cancelled one."""
    async with Engine(make_settings(redis_server.url)) as engine:
        requests = engine._backend._running().redis.requests  # type: ignore[attr-defined]  # a RedisBackend
        for number in range(200):
            task = asyncio.create_task(requests.ask(lambda redis: redis.echo("cancelled")))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            answer = await requests.ask(lambda redis, number=number: redis.echo(str(number)))
            assert answer == str(number).encode()


@pytest.fixture
def slamming() -> Iterator[int]:
    """A port where each connection is told off, and reset."""
    listener = socket.create_server(("127.0.0.1", 0))

    def slam() -> None:
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as taken:
                    taken.send(b"-DENIED not today\r\n")
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    thread = threading.Thread(target=slam)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize("url", ["redis://{}/0", "redis+sentinel://{}/main", "redis+cluster://{}"])
async def test_a_connection_that_is_reset_at_once_is_a_lost_one(
    slamming: int, make_settings: MakeSettings, url: str
) -> None:
    """A revocation would raise what only a mistake in the program raises (CPython issue 136234)."""
    settings = make_settings(url.format(f"127.0.0.1:{slamming}"), startup_timeout=0.1)
    async with Engine(settings) as engine:
        for number in range(30):
            with pytest.raises(NotDurableError):
                await engine.revoke_session(str(number))
            assert "NoneType" not in str(engine.status().last_error)
