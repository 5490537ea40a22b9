"""How this project connects to Redis: the options that redis-py's defaults get wrong for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The parser is private to redis-py and has to be subclassed all the same, see SafeParser;
# tests/integration/test_connection.py fails if a release changes what is relied on here.
from redis._parsers import _AsyncHiredisParser
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from revokebus.settings import Settings

_WRITE_RETRIES = 3


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


def writing_pool(settings: Settings) -> ConnectionPool:
    """Return a pool whose requests are tried again: every write is idempotent."""
    retry = Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), _WRITE_RETRIES)
    return ConnectionPool(**_options(settings), retry=retry)


def reading_pool(settings: Settings) -> ConnectionPool:
    """Return a pool whose requests fail at the first error: a hidden retry hides an outage."""
    return ConnectionPool(**_options(settings), retry=Retry(NoBackoff(), 0))


def _options(settings: Settings) -> dict[str, Any]:
    # Last wins: an option in the URL must not change what the protocol relies on.
    return {
        **parse_url(settings.redis_url),
        "protocol": 2,  # RESP3 reads pub/sub several times slower
        "decode_responses": False,
        "encoding": "utf-8",
        "parser_class": SafeParser,
        "socket_timeout": settings.redis_timeout,
        "socket_connect_timeout": settings.redis_timeout,
        "health_check_interval": 0,
        "driver_info": None,
    }
