"""One subscription on one connection, thrown away at the first sign of trouble.

redis-py's ``PubSub`` reconnects without a word and loses what was sent meanwhile. Here a
connection is subscribed once, counts only after Redis has confirmed it, answers PING within a
deadline, and ends with an error whenever it can no longer be trusted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError, ResponseError

from revokebus.connection.loss import noticing_loss
from revokebus.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from redis.asyncio import ConnectionPool
    from redis.asyncio.connection import AbstractConnection

_KIND, _CHANNEL, _DATA = range(3)
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
# The exponent outgrows a float after some minutes of outage.
_MOST_FAILURES = 10


def pause_after(failures: int) -> float:
    """Return for how many seconds to wait before the next subscription.

    Args:
        failures: How many have ended in a row.
    """
    backoff = ExponentialWithJitterBackoff(cap=_LONGEST_PAUSE, base=_SHORTEST_PAUSE)
    return float(backoff.compute(min(failures, _MOST_FAILURES)))


class Subscription:
    """An async context manager that subscribes, and an async iterator over what is published.

    Args:
        pool: Makes the connection; it is not taken from the pool, nor given back to it.
        channel: The channel's name.
        deadline: Seconds for the confirmation.
        patience: Seconds for the silence before a PING, and for its answer. A server that is slow
            would only become slower by subscriptions that are made anew.
        in_place: Whether the server is still the one to listen to.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        channel: str,
        *,
        deadline: float,
        patience: float,
        in_place: Callable[[], bool] = lambda: True,
    ) -> None:
        self._connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no annotation here
        self._channel = channel
        self._deadline = deadline
        self._patience = patience
        self._in_place = in_place

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._deadline):
                with noticing_loss():
                    await self._connection.connect()  # type: ignore[no-untyped-call]  # likewise
                    await self._connection.send_command("SUBSCRIBE", self._channel)
                reply = await self._connection.read_response(disable_decoding=True)
            if reply[:2] != [b"subscribe", self._channel.encode()]:
                raise StoreError("Redis did not confirm the subscription")
        except TimeoutError:
            await self._connection.disconnect(nowait=True)
            raise StoreError("Redis did not confirm the subscription in time") from None
        except (RedisError, OSError) as error:
            await self._connection.disconnect(nowait=True)
            raise _lost(error) from error
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connection.disconnect(nowait=True)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the data of each message.

        Raises:
            StoreError: The connection is lost, silent, no longer subscribed, or to a server that
                is no longer the primary.
        """
        asked = False
        while True:
            try:
                reply = await self._reply()
                if reply is None and not asked:
                    with noticing_loss():
                        await self._connection.send_command("PING")
            except (RedisError, OSError) as error:
                raise _lost(error) from error
            if not self._in_place():
                raise StoreError("another server is the primary now")
            if reply is None and asked:
                raise StoreError("no answer to PING")
            asked = reply is None
            if reply is None or reply[_KIND] == b"pong":
                continue
            if reply[_KIND] != b"message":
                raise StoreError("Redis has ended the subscription")
            yield reply[_DATA]

    async def _reply(self) -> Any:
        """Return what comes next, None where that is nothing for some time."""
        try:
            return await self._connection.read_response(
                disable_decoding=True, timeout=self._patience
            )
        except ResponseError as error:
            if "MISCONF" not in str(error):
                raise
            return [b"pong"]  # a server that cannot save answers so, and publishes all the same


def _lost(error: Exception) -> StoreError:
    return StoreError(f"Redis: {error}".rstrip("."))
