"""Requests to the primary: each with a deadline, each failure as one of this project's errors."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import RedisError, ResponseError

from revokebus.connection.primary import Primary
from revokebus.connection.subscription import Subscription
from revokebus.errors import RefusedError, StoreError
from revokebus.tasks import end, retrieve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from types import TracebackType

    from revokebus.clock import Clock
    from revokebus.connection.channels import Inbox
    from revokebus.connection.client import Client
    from revokebus.connection.credentials import CredentialProvider
    from revokebus.connection.primary import Place
    from revokebus.connection.script import Argument, Script
    from revokebus.settings.settings import Settings

Answer = TypeVar("Answer")

_SHORT, _MORE = 0.01, 0.25
_PATIENCE = 1 / 8


class Requests:
    """Sends requests to the primary, for one event loop.

    Args:
        settings: Where Redis is, and the deadlines.
        clock: Tells the time.
        credentials: Has the password of the moment, where the settings do not say it.
        place: Which server is asked, and who knows it; by default the one that is written to.

    Attributes:
        primary: Knows which server it is.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        credentials: CredentialProvider | None = None,
        place: Place | None = None,
    ) -> None:
        self._seconds = settings.redis_timeout
        self._patience = max(self._seconds, _PATIENCE * settings.max_staleness)
        self.primary = Primary(settings, clock, credentials, place)

    async def close(self) -> None:
        """End every connection, whatever state it is in."""
        await self.primary.close()

    async def run(
        self,
        script: Script,
        keys: Sequence[bytes | str],
        args: Sequence[Argument],
        *,
        again: bool = False,
    ) -> Any:
        """Return what a script returns.

        Args:
            script: The script.
            keys: The keys that it touches.
            args: Its other arguments.
            again: Whether to try again after a lost connection: right for what is idempotent.

        Raises:
            RefusedError: Redis refuses.
            StoreError: It does not answer in time, or cannot be reached.
        """
        return await self.ask(lambda redis: script.run(redis, keys, args), again=again)

    async def run_and_wait(
        self,
        script: Script,
        keys: Sequence[bytes | str],
        args: Sequence[Argument],
        replicas: int,
        milliseconds: int,
    ) -> tuple[Any, int]:
        """Return what a script returns, and how many replicas have what it wrote.

        It is tried again after a lost connection.

        Args:
            script: The script.
            keys: The keys that it touches.
            args: Its other arguments.
            replicas: For how many replicas to wait.
            milliseconds: For how long.

        Raises:
            StoreError: As for `run`.
        """
        words = ("EVAL", script.text, len(keys), *keys, *args)
        return await self.ask(
            lambda redis: redis.call_and_wait(words, replicas, milliseconds), again=True
        )

    async def call(self, *words: bytes | str | float) -> Any:
        """Return the answer to one command, as Redis sends it.

        Args:
            words: Its name, and its arguments.

        Raises:
            StoreError: As for `run`.
        """
        return await self.ask(lambda redis: redis.call(words))

    async def ask(
        self,
        work: Callable[[Client], Awaitable[Answer]],
        *,
        again: bool = False,
    ) -> Answer:
        """Return what `work` returns, done with a client of the primary; the rest as for `run`."""
        async with self.deadline():
            return await self.primary.run(work, again=again)

    async def ask_patiently(
        self,
        work: Callable[[Client], Awaitable[Answer]],
        *,
        deadline: float,
        doubted_after: float,
    ) -> Answer:
        """Return what `work` returns, however long that takes, as long as the primary is the same.

        Args:
            work: As for `ask`.
            deadline: For how many seconds to wait.
            doubted_after: After how many seconds it is looked up who is primary; and then again and
                again, after twice as long each time. Another one is asked anew.

        Raises:
            StoreError: As for `run`.
        """
        async with self.deadline(deadline):
            while True:
                server = await self.primary.server()
                asking = asyncio.create_task(self.primary.run(work), name="revokebus-ask")
                asking.add_done_callback(retrieve)
                try:
                    pause = doubted_after
                    while self.primary.is_current(server):
                        if (await asyncio.wait([asking], timeout=pause))[0]:
                            answer = asking.result()
                            if self.primary.is_current(server):
                                return answer
                            break  # another one was found while it came
                        pause *= 2
                        self.primary.doubt()
                        await self.primary.server()
                finally:
                    await end([asking])

    def deadline(self, seconds: float | None = None) -> Deadline:
        """Return what ends its body after ``redis_timeout``, or after `seconds`."""
        return Deadline(self._seconds if seconds is None else seconds)

    @contextlib.asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[Subscription]:
        """Subscribe at the primary, on a connection of its own.

        The subscription ends with an error when another server becomes the primary.

        Raises:
            StoreError: It cannot be made, or has ended.
        """
        async with self.deadline():
            server = await self.primary.server()
        async with Subscription(
            server.redis.connection_pool,
            channel,
            deadline=self._seconds * server.redis.times,
            patience=self._patience * max(1, server.redis.times // 2),
            in_place=lambda: self.primary.is_current(server),
        ) as subscription:
            yield subscription

    @contextlib.asynccontextmanager
    async def answers(self, channel: str) -> AsyncIterator[Inbox]:
        """Subscribe to a channel for a moment, on a connection that such subscriptions share.

        Raises:
            StoreError: It cannot be made, or the connection is lost.
        """
        async with self.deadline():
            server = await self.primary.server()
        async with server.redis.channels.subscribe(channel) as inbox:
            yield inbox


class Deadline:
    """An async context manager for what is asked of Redis.

    Where the event loop was held up itself, answers may be here that nobody has read yet: the body
    then gets a little more time.

    It raises `RefusedError` for an error that Redis has answered with, and `StoreError` for any
    other of its errors, and when the time is up.

    Args:
        seconds: When to end the body.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)
        self._last_look: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        loop = asyncio.get_running_loop()
        self._last_look = loop.call_later(self._seconds - _SHORT, self._look_at_loop)

    def _look_at_loop(self) -> None:
        now = asyncio.get_running_loop().time()
        due = self._timeout.when()
        if due is not None and now > due + _SHORT and not self._timeout.expired():
            self._timeout.reschedule(now + _MORE * self._seconds)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._last_look is not None:
            self._last_look.cancel()
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            error = late
        if isinstance(error, TimeoutError):
            raise StoreError(f"Redis did not answer within {self._seconds:g} s") from None
        if isinstance(error, ResponseError):
            raise RefusedError(f"Redis: {error}".rstrip(".")) from error
        if isinstance(error, RedisError | OSError):
            message = f"Redis: {error}".rstrip(".")
            if isinstance(error.__context__, FileNotFoundError):
                message += "; is each file that redis_url (REVOKEBUS_REDIS_URL) names there?"
            raise StoreError(message) from error
