"""How this project connects to Redis: the options that redis-py's defaults get wrong for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The parser is private to redis-py and has to be subclassed all the same, see SafeParser;
# tests/integration/test_connection.py fails if a release changes what is relied on here.
from redis._parsers import _AsyncHiredisParser
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from revokebus.redis_url import Address


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


def client(options: Mapping[str, Any], address: Address | None, deadline: float) -> Redis:
    """Return a client with a pool of its own, which it closes; an async context manager.

    It fails at the first error: a hidden retry hides an outage.

    Args:
        options: What the URL says.
        address: The server, where the URL does not name it.
        deadline: Seconds within which the server must take a connection, and answer.
    """
    where = {"host": address[0], "port": address[1]} if address else {}
    # Last wins: an option in the URL must not change what the protocol relies on.
    fixed: dict[str, Any] = {
        "protocol": 2,  # RESP3 reads pub/sub several times slower
        "decode_responses": False,
        "encoding": "utf-8",
        "parser_class": SafeParser,
        "socket_timeout": deadline,
        "socket_connect_timeout": deadline,
        "health_check_interval": 0,
        "driver_info": None,
        "retry": Retry(NoBackoff(), 0),
    }
    return Redis.from_pool(ConnectionPool(**{**options, **where, **fixed}))


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
            await connection.send_command(name, *args)
            answers.append(redis.response_callbacks[name](await connection.read_response()))
    finally:
        await connection.disconnect(nowait=True)
    return answers
