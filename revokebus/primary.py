"""The server that is written to at the moment, and the clients for it.

Where Sentinel or a cluster decides who that is, it is asked again after every error and, because
a deposed primary that is cut off from the others answers as before, every now and then. What is
known stays in use while nobody can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import MovedError, ReadOnlyError, RedisError

from revokebus.connection import client
from revokebus.discovery import make_discovery
from revokebus.redis_url import parse_redis_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from revokebus.clock import Clock
    from revokebus.redis_url import Address
    from revokebus.settings import Settings

logger = logging.getLogger("revokebus")

_ASKED_AGAIN_PER_BOUND = 3
_SHARE_OF_DEADLINE = 0.5
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, eq=False)
class Clients:
    """The clients of one server.

    Attributes:
        address: The server's; None where the URL names it.
        reader: Fails at the first error: a hidden retry hides an outage.
        writer: Tries again: every write is idempotent.
    """

    address: Address | None
    reader: Redis
    writer: Redis

    async def close(self) -> None:
        """End every connection."""
        for each in (self.reader, self.writer):
            # A peer that does not answer cannot be said goodbye to.
            with contextlib.suppress(RedisError, OSError):
                await each.aclose()


class Primary:
    """Hands out the clients of the server that is primary at the moment.

    Args:
        settings: The URL and the deadlines.
        clock: Tells when to ask again.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._url = parse_redis_url(settings.redis_url)
        self._deadline = settings.redis_timeout
        self._ask_again_after = settings.max_staleness / _ASKED_AGAIN_PER_BOUND
        self._clock = clock
        self._discovery = make_discovery(
            self._url, settings.namespace, _SHARE_OF_DEADLINE * settings.redis_timeout
        )
        self._clients: Clients | None = None
        self._retired: list[tuple[float, Clients]] = []
        self._ask_at = -math.inf
        self._asking = asyncio.Lock()
        self._unanswered = ""

    async def clients(self) -> Clients:
        """Return the clients to use.

        Raises:
            redis.RedisError: The primary cannot be found, and none is known from before.
        """
        if self._clients is None or self._clock.elapsed() >= self._ask_at:
            async with self._asking:  # the first to come asks, the others take its answer
                await self._ask()
        assert self._clients is not None  # noqa: S101 - for the type checker
        return self._clients

    def is_current(self, clients: Clients) -> bool:
        """Return whether `clients` are still those to use."""
        return clients is self._clients

    async def run(self, work: Callable[[Clients], Awaitable[Answer]]) -> Answer:
        """Return what `work` returns; where another server has to be asked, do it there.

        Raises:
            redis.RedisError: The primary cannot be found, or the work has failed.
        """
        try:
            return await work(await self.clients())
        except MovedError as error:
            async with self._asking:
                self._use(self._moved_to(error))
        except ReadOnlyError:
            self._doubt()
        except BaseException:  # a deadline comes as a cancellation
            self._doubt()
            raise
        return await work(await self.clients())

    async def check_whole(self, clients: Clients) -> None:
        """Check that a walk over all keys of `clients` finds every one of ours.

        Raises:
            redis.RedisError: It might not.
        """
        await self._discovery.check_whole(clients.reader)

    async def close(self) -> None:
        """End every connection."""
        clients, self._clients = self._clients, None
        retired, self._retired = self._retired, []
        for each in [*(old for _, old in retired), *([clients] if clients else [])]:
            await each.close()

    def _doubt(self) -> None:
        self._ask_at = -math.inf

    async def _ask(self) -> None:
        now = self._clock.elapsed()
        if self._clients is not None and now < self._ask_at:
            return
        try:
            address = await self._discovery.find()
        except RedisError as error:
            if self._clients is None:
                raise
            if self._unanswered != str(error):
                logger.warning("revokebus: %s; it goes on with the server known before", error)
            self._unanswered = str(error)
        else:
            self._unanswered = ""
            self._use(address)
        self._ask_at = self._clock.elapsed() + self._ask_again_after
        await self._close_retired()

    def _use(self, address: Address | None) -> None:
        if self._clients is not None:
            if self._clients.address == address:
                return
            logger.warning("revokebus: another server of redis_url is the primary now")
            # Not at once: requests that are under way end by their deadline.
            self._retired.append((self._clock.elapsed() + 2 * self._deadline, self._clients))
        options = self._url.options
        self._clients = Clients(
            address,
            reader=client(options, address, self._deadline),
            writer=client(options, address, self._deadline, again=True),
        )

    def _moved_to(self, error: MovedError) -> Address:
        known = self._clients.address if self._clients else None
        # An empty host means the one that has answered.
        return (str(error.host) or (known[0] if known else ""), int(error.port))

    async def _close_retired(self) -> None:
        now = self._clock.elapsed()
        due = [clients for at, clients in self._retired if at <= now]
        self._retired = [(at, clients) for at, clients in self._retired if at > now]
        for clients in due:
            await clients.close()
