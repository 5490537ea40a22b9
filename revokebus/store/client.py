"""How this project connects to Redis: the options that redis-py's defaults get wrong for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import hiredis

# The parser is private to redis-py and has to be subclassed all the same, see SafeParser;
# tests/integration/test_connection.py fails if a release changes what is relied on here.
from redis._parsers import _AsyncHiredisParser
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio.connection import AbstractConnection

    from revokebus.settings.redis_url import Address


class SafeParser(_AsyncHiredisParser):
    """hiredis, with the kernel's errors told apart from the end of a wait.

    Since Python 3.11 a kernel ETIMEDOUT is a ``TimeoutError``, which redis-py takes for the end
    of a poll: it returns at once, for ever, and the event loop never runs anything else.
    """

    async def read_from_socket(self) -> bool:
        """Read what the socket has.

        Raises:
            redis.ConnectionError: The connection is gone.
        """
        try:
            return bool(await super().read_from_socket())  # type: ignore[no-untyped-call]  # redis-py has no annotation here
        except OSError as error:
            raise RedisConnectionError(f"connection lost: {error}") from error


class Client(Redis):
    """redis-py's client, with a shorter way for what is asked all the time.

    What redis-py does beside sending a command and reading its answer takes as long as that, and
    longer for a command of many words. Like its own it is for one event loop.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._idle: list[AbstractConnection] = []
        self._is_closed = False

    async def call(self, words: tuple[bytes | str | float, ...]) -> Any:
        """Return the answer to a command, as it comes.

        Args:
            words: Its name, and its arguments.

        Raises:
            redis.RedisError: The server refuses, or is away.
        """
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]  # of any length, not of one
        connection = await self._take()
        try:
            await connection.send_packed_command(packed)
            return await connection.read_response()
        finally:
            await self._give_back(connection)

    async def _take(self) -> AbstractConnection:
        if not self._idle:
            connection: AbstractConnection = self.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no annotation here
        else:
            connection = self._idle.pop()
            if connection.is_connected and await connection.can_read():
                # The end, or an answer that nobody has waited for.
                await connection.disconnect(nowait=True)
        if not connection.is_connected:
            try:
                await connection.connect()  # type: ignore[no-untyped-call]  # likewise
            except BaseException:
                # redis-py leaves the socket open where a handshake is cancelled, by a deadline too.
                await connection.disconnect(nowait=True)
                raise
        return connection

    async def _give_back(self, connection: AbstractConnection) -> None:
        if self._is_closed:
            await connection.disconnect(nowait=True)
        else:
            self._idle.append(connection)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - redis-py's
        """End every connection."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)
        await super().aclose(close_connection_pool)


def client(options: Mapping[str, Any], address: Address | None, deadline: float) -> Client:
    """Return a client with a pool of its own, which it closes; an async context manager.

    It fails at the first error: a hidden retry hides an outage. It waits for answers as long as
    whoever asks.

    Args:
        options: What the URL says.
        address: The server, where the URL does not name it.
        deadline: Seconds within which the server must take a connection.
    """
    where = {"host": address[0], "port": address[1]} if address else {}
    # Last wins: an option in the URL must not change what the protocol relies on.
    fixed: dict[str, Any] = {
        "protocol": 2,  # RESP3 reads pub/sub several times slower
        "decode_responses": False,
        "encoding": "utf-8",
        "parser_class": SafeParser,
        # Whoever asks has a deadline for the whole. redis-py's would make a task for each write.
        "socket_timeout": None,
        "socket_connect_timeout": deadline,
        "health_check_interval": 0,
        "driver_info": None,
        "retry": Retry(NoBackoff(), 0),
    }
    made: Client = Client.from_pool(ConnectionPool(**{**options, **where, **fixed}))  # type: ignore[assignment]  # redis-py says Redis
    return made


async def ask(
    options: Mapping[str, Any], address: Address, deadline: float, *commands: Sequence[str]
) -> list[Any]:
    """Return the answers to some commands, on one connection that is made and ended for them.

    A pool would close its connections in tasks of its own, and leave them open where the caller
    is cancelled before these have begun.

    Args:
        options: As for `client`.
        address: The server.
        deadline: Seconds within which it must take a connection, and give each answer.
        commands: Each one's name, and its arguments.

    Raises:
        redis.RedisError: An answer does not come in time, or is an error.
    """
    redis = client(options, address, deadline)
    connection = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no annotation here
    answers = []
    try:
        await connection.connect()
        for name, *args in commands:
            async with asyncio.timeout(deadline):
                await connection.send_command(name, *args)
                answer = await connection.read_response()
            answers.append(redis.response_callbacks[name](answer))
    except TimeoutError:
        raise RedisConnectionError(f"no answer within {deadline:g} s") from None
    finally:
        await connection.disconnect(nowait=True)
    return answers
