"""Short subscriptions, to the answers of others, that share one connection."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from revokebus.connection.loss import noticing_loss
from revokebus.errors import StoreError
from revokebus.tasks import end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio.connection import AbstractConnection

_KIND, _CHANNEL, _DATA = range(3)


class Inbox:
    """What is published on one channel, as an async iterator.

    Attributes:
        is_subscribed: Set once Redis has confirmed the subscription, or it has failed.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | StoreError] = asyncio.Queue()
        self._error: StoreError | None = None
        self.is_subscribed = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Add what was published."""
        self._queue.put_nowait(data)

    def fail(self, error: StoreError) -> None:
        """End it."""
        self._error = error
        self._queue.put_nowait(error)
        self.is_subscribed.set()

    async def ready(self) -> None:
        """Wait until the subscription is confirmed.

        Raises:
            StoreError: It has failed.
        """
        await self.is_subscribed.wait()
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what is published.

        Raises:
            StoreError: The connection is lost.
        """
        while True:
            item = await self._queue.get()
            if isinstance(item, StoreError):
                raise item
            yield item


class Channels:
    """Subscriptions on one connection, which there is while somebody is subscribed.

    Args:
        make: Makes a connection, and does not connect it.
        deadline: Seconds within which Redis must confirm a subscription.
    """

    def __init__(self, make: Callable[[], AbstractConnection], deadline: float) -> None:
        self._make = make
        self._deadline = deadline
        self._inboxes: dict[str, Inbox] = {}
        self._connection: AbstractConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._is_changing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[Inbox]:
        """Subscribe to a channel that nobody else here is subscribed to.

        Raises:
            StoreError: Redis has not confirmed it, in time.
        """
        inbox = Inbox()
        self._inboxes[channel] = inbox
        try:
            try:
                async with asyncio.timeout(self._deadline):
                    await self._send("SUBSCRIBE", channel)
                    await inbox.ready()
            except TimeoutError:
                raise StoreError("Redis did not confirm the subscription in time") from None
            except (RedisError, OSError) as error:
                raise _lost(error) from error
            yield inbox
        finally:
            del self._inboxes[channel]
            await self._unsubscribe(channel)

    async def _send(self, command: str, channel: str) -> None:
        async with self._is_changing:
            if self._connection is None:
                connection = self._make()
                try:
                    with noticing_loss():
                        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py has no annotation here
                except BaseException:
                    await connection.disconnect(nowait=True)
                    raise
                self._connection = connection
                self._reading = asyncio.create_task(
                    self._read(connection), name="revokebus-channels"
                )
            with noticing_loss():
                await self._connection.send_command(command, channel)

    async def _unsubscribe(self, channel: str) -> None:
        if not self._inboxes:
            await self.close()
        elif self._connection is not None:
            with contextlib.suppress(RedisError, OSError):
                await self._send("UNSUBSCRIBE", channel)

    async def _read(self, connection: AbstractConnection) -> None:
        try:
            while True:
                reply = await connection.read_response(disable_decoding=True)
                inbox = self._inboxes.get(reply[_CHANNEL].decode())
                if inbox is None:
                    continue
                if reply[_KIND] == b"subscribe":
                    inbox.is_subscribed.set()
                elif reply[_KIND] == b"message":
                    inbox.put(reply[_DATA])
        except (RedisError, OSError) as error:
            for inbox in self._inboxes.values():
                inbox.fail(_lost(error))
        finally:
            if self._connection is connection:
                self._connection = None
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """End the connection, and every subscription with it."""
        reading, self._reading = self._reading, None
        self._connection = None
        for inbox in self._inboxes.values():
            inbox.fail(StoreError("the connections have been closed"))
        if reading is not None:
            await end([reading])


def _lost(error: Exception) -> StoreError:
    return StoreError(f"Redis: {error}".rstrip("."))
