"""Asks the primary: each request with a deadline, each failure as one of this project's errors."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import RedisError, ResponseError

from revokebus.errors import RefusedError, StoreError
from revokebus.store.primary import Primary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from revokebus.clock import Clock
    from revokebus.settings.settings import Settings
    from revokebus.store.client import Client

Answer = TypeVar("Answer")


class PrimaryClient:
    """The way to the primary, for one event loop.

    Args:
        settings: Where Redis is, and the deadlines.
        clock: Tells the time.

    Attributes:
        primary: Knows which server it is.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._seconds = settings.redis_timeout
        self.primary = Primary(settings, clock)

    async def ask(
        self,
        work: Callable[[Client], Awaitable[Answer]],
        *,
        again: bool = False,
        deadline: float | None = None,
    ) -> Answer:
        """Return what `work` returns, done with a client of the primary.

        Args:
            work: The request.
            again: Whether to try again after a lost connection: right for what is idempotent.
            deadline: For how many seconds to wait; ``redis_timeout`` by default.

        Raises:
            RefusedError: Redis refuses.
            StoreError: It does not answer in time, or cannot be reached.
        """
        async with self.deadline(deadline):
            return await self.primary.run(work, again=again)

    def deadline(self, seconds: float | None = None) -> Deadline:
        """Return what ends its body after ``redis_timeout``, or after `seconds`."""
        return Deadline(self._seconds if seconds is None else seconds)


class Deadline:
    """An async context manager for what is asked of Redis.

    It raises `RefusedError` for an error that Redis has answered with, and `StoreError` for any
    other of its errors, and when the time is up.

    Args:
        seconds: When to end the body.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
