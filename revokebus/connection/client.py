"""How this project connects to Redis: the options that redis-py's defaults get wrong for it."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import hiredis

# The parser is private to redis-py and has to be subclassed all the same, see SafeParser;
# tests/integration/test_connection.py fails if a release changes what is relied on here.
from redis._parsers import _AsyncHiredisParser
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from revokebus.connection.channels import Channels
from revokebus.connection.loss import noticing_loss
from revokebus.connection.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from revokebus.settings.redis_url import Address


# That a client says who it is would take a way there and back more with each connection.
_ANONYMOUS: dict[str, None] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection).parameters
    else {"lib_name": None, "lib_version": None}  # redis-py before 7.2
)
_PATIENCE = 0.4
_BLOCKING_PATIENCE = 0.9
_LONGEST_PATIENCE = 4.0
_SPREAD = 1 / 4
_TIMES_OVER_TLS = 8


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
    """redis-py's client, with everything that it asks on one connection.

    However many questions come at once, they share it. Commands that block have a second
    one, and short subscriptions share a third. Like redis-py's, a client is for one event loop.

    Attributes:
        times: How many times longer than usual a new connection may take.
        channels: The short subscriptions.
        scripts_sent: The digests of scripts whose text is on its way.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        pool = self.connection_pool
        ready_within = pool.connection_kwargs["socket_connect_timeout"]
        self.times = _times(pool.connection_class)
        self._line = self._pipeline(ready_within, _PATIENCE)
        self._blocking_line = self._pipeline(ready_within, _BLOCKING_PATIENCE)
        self.scripts_sent: set[str] = set()
        self.channels = Channels(pool.make_connection, ready_within)

    def _pipeline(self, ready_within: float, share: float) -> Pipeline:
        deadline, is_usual = ready_within / self.times, self.times == 1
        patience = deadline * (share if is_usual else 1.0)
        return Pipeline(
            self.connection_pool.make_connection,
            deadline=ready_within,
            patience=patience,
            longest=_LONGEST_PATIENCE * deadline,
            spread=patience * (_SPREAD if is_usual else self.times),
        )

    async def session(self) -> tuple[int, str]:
        """Make the connection for questions, if there is none.

        Returns:
            Which one it is, by number, and what `note_server` was told of the process at its other
            end; empty where it was told nothing.

        Raises:
            redis.RedisError: It cannot be made.
        """
        await self._line.connect()
        return self._line.times_connected, self._line.server

    def note_server(self, number: int, server: str) -> bool:
        """Note which process answers on the connection of that number, if that is still in use."""
        is_in_use = self._line.times_connected == number
        if is_in_use:
            self._line.server = server
        return is_in_use

    @property
    def times_connected(self) -> int:
        """How many connections were made for questions: another one is another session."""
        return self._line.times_connected

    async def call(self, words: tuple[bytes | str | float, ...]) -> Any:
        """Return the answer to a command, as it comes.

        Args:
            words: Its name, and its arguments.

        Raises:
            redis.RedisError: The server refuses, or is away.
        """
        (answer,) = await self._line.ask(_packed(words))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def call_and_wait(
        self, words: tuple[bytes | str | float, ...], replicas: int, milliseconds: int
    ) -> tuple[Any, int]:
        """Return the answer to a command, and how many replicas have what it wrote.

        WAIT speaks of the connection that it comes on, and blocks it.

        Args:
            words: The command.
            replicas: For how many replicas to wait.
            milliseconds: For how long.

        Raises:
            redis.RedisError: The server refuses, or is away.
        """
        packed = _packed(words) + _packed(("WAIT", replicas, milliseconds))
        answer, acknowledged = await self._blocking_line.ask(packed, 2)
        for each in (answer, acknowledged):
            if isinstance(each, Exception):
                raise each
        return answer, acknowledged

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Return the answer to a command, in redis-py's form of it."""
        name, *rest = args
        answer = await self.call((*name.split(), *rest))
        callback = self.response_callbacks.get(name)
        return callback(answer, **options) if callback else answer

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - redis-py's
        """End every connection."""
        await self.channels.close()
        await self._line.close()
        await self._blocking_line.close()
        await super().aclose(close_connection_pool)


def _times(connection_class: type[AbstractConnection]) -> int:
    """Return how many times longer than usual a new connection may take.

    To agree upon keys takes the server as long as twenty ticks. A fleet that gives up, and begins
    anew, would have it do nothing else.
    """
    return _TIMES_OVER_TLS if issubclass(connection_class, SSLConnection) else 1


def connects_within(options: Mapping[str, Any], deadline: float) -> float:
    """Return for how many seconds a new connection is waited for.

    Args:
        options: What the URL says.
        deadline: Seconds within which the server must answer.
    """
    return deadline * _times(options.get("connection_class", AbstractConnection))


def _packed(words: tuple[bytes | str | float, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # of any length, not of one
    return packed


def client(options: Mapping[str, Any], address: Address | None, deadline: float) -> Client:
    """Return a client with a pool of its own, which it closes; an async context manager.

    It fails at the first error: a hidden retry hides an outage. It waits for answers as long as
    whoever asks.

    Args:
        options: What the URL says.
        address: The server, where the URL does not name it.
        deadline: Seconds within which the server must take a connection; longer over TLS.
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
        "socket_connect_timeout": connects_within(options, deadline),
        "health_check_interval": 0,
        **_ANONYMOUS,
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
        deadline: Seconds within which it must take a connection, and then answer.
        commands: Each one's name, and its arguments.

    Raises:
        redis.RedisError: An answer does not come in time, or is an error.
    """
    redis = client(options, address, deadline)
    connection = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no annotation here
    answers = []
    try:
        with noticing_loss():
            await connection.connect()
        async with asyncio.timeout(deadline):
            with noticing_loss():
                for words in commands:
                    await connection.send_command(*words)
            for name, *_ in commands:
                answer = await connection.read_response()
                callback = redis.response_callbacks.get(name)
                answers.append(callback(answer) if callback else answer)
    except TimeoutError:
        raise RedisConnectionError(f"no answer within {deadline:g} s") from None
    finally:
        await connection.disconnect(nowait=True)
    return answers
