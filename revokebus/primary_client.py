"""Asks the primary: each request with a deadline, each failure as one of this project's errors."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import RedisError, ResponseError

from revokebus.errors import RefusedError, StoreError
from revokebus.primary import Primary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from revokebus.clock import Clock
    from revokebus.settings import Settings

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
        work: Callable[[Redis], Awaitable[Answer]],
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

    @contextlib.asynccontextmanager
    async def deadline(self, seconds: float | None = None) -> AsyncIterator[None]:
        """End the body after ``redis_timeout``, or after `seconds`.

        Raises:
            RefusedError: For an error that Redis has answered with.
            StoreError: For any other of its errors, and when the time is up.
        """
        seconds = self._seconds if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise StoreError(f"Redis did not answer within {seconds:g} s") from None
        except ResponseError as error:
            raise RefusedError(f"Redis: {error}".rstrip(".")) from error
        except (RedisError, OSError) as error:
            raise StoreError(f"Redis: {error}".rstrip(".")) from error
