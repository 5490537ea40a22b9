"""The server that is written to at the moment.

Where Sentinels or a cluster decide who that is, they are asked again after every error and,
because a deposed primary that is cut off from the others answers as before, every now and then.
What is known stays in use while nobody can be asked; but nothing is proven by it then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeVar

from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from revokebus.connection.client import client
from revokebus.connection.credentials import url_with_credentials
from revokebus.connection.discovery import make_discovery
from revokebus.connection.pipeline import LostConnectionError
from revokebus.connection.replicas import make_replica_discovery, say_read_only
from revokebus.tasks import end, retrieve
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from revokebus.clock import Clock
    from revokebus.connection.client import Client
    from revokebus.connection.credentials import CredentialProvider
    from revokebus.connection.discovery import Configuration, Discovery, Found
    from revokebus.settings.redis_url import Address, RedisUrl
    from revokebus.settings.settings import Settings

logger = logging.getLogger("revokebus")

LONGEST_WAIT = 0.25
"""For which share of ``redis_timeout`` a request waits to hear who is primary, if one is known."""

_ASKED_AGAIN_AFTER, _ASKED_AGAIN_AFTER_ERROR = 2.0, 0.5
_ASKED_AGAIN_PER_BOUND = 6
_REPLICA_ASKED_AGAIN_AFTER = 10.0
_TRIED_AGAIN = 3
_SLOW_SECONDS, _SLOWER_THAN_USUAL = 0.1, 4.0
_WAYS_TO_ASK, _FORGETTING, _LONGER_WAY = 4, 1.05, 2.0
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class Server:
    """One server, and the client for it.

    Attributes:
        address: Where it is; None where the URL says so.
        redis: The client.
        quickest: How many seconds its quickest answer took lately; 0 before the first.
        was_late: Whether an answer took long since it was last confirmed to be the primary.
    """

    address: Address | None
    redis: Client
    quickest: float = 0.0
    was_late: bool = False

    def answered(self, seconds: float) -> bool:
        """Note how long an answer took; return whether that is long, for one so far away."""
        is_late = seconds > max(_SLOW_SECONDS, _SLOWER_THAN_USUAL * self.quickest)
        # Forgotten by and by, or every answer would be late where the way has become longer.
        self.quickest = min(_FORGETTING * self.quickest or seconds, seconds)
        self.was_late = self.was_late or is_late
        return is_late

    def confirmed(self) -> None:
        """Note that it was late, and was the primary all the same: the way may be longer now."""
        self.quickest *= _LONGER_WAY
        self.was_late = False

    async def close(self) -> None:
        """End every connection."""
        # A peer that does not answer cannot be said goodbye to.
        with contextlib.suppress(RedisError, OSError):
            await self.redis.aclose()


@dataclass(frozen=True, slots=True)
class Place:
    """Which server is meant.

    Attributes:
        url: How to connect to it.
        discovery: Finds it.
        is_replica: Whether it is one that is only read from.
    """

    url: RedisUrl
    discovery: Discovery
    is_replica: bool

    @classmethod
    def to_write(cls, settings: Settings, credentials: CredentialProvider | None) -> Self:
        """Return the place to write to."""
        url = url_with_credentials(settings, credentials, settings.redis_url)
        discovery = make_discovery(url, settings.namespace, settings.redis_timeout)
        return cls(url, discovery, is_replica=False)

    @classmethod
    def to_read(cls, settings: Settings, credentials: CredentialProvider | None) -> Self:
        """Return the place to read from, where that is not the primary."""
        is_found = settings.read_from == "replica"
        text = settings.redis_url if is_found else settings.read_from
        url = url_with_credentials(settings, credentials, text)
        if settings.is_cluster:
            url = replace(url, options={**url.options, "redis_connect_func": say_read_only})
        discovery = make_replica_discovery(url, settings.namespace, settings.redis_timeout)
        return cls(url, discovery, is_replica=True)


class Primary:
    """Knows the server that is primary at the moment, or the replica that is read from.

    Args:
        settings: The URL and the deadlines.
        clock: Tells when to ask again.
        credentials: Has the password of the moment, where the settings do not say it.
        place: Which server it is, and who knows it; by default the one that is written to.

    Attributes:
        confirmed_at: The moment of the last question, in elapsed seconds, to which Sentinels or
            the cluster named the server in use; infinite where the URL does.
        configuration: What they said then; None where the URL names the server.
        agreed_at: The moment of the last question to which more than half of all voters gave that
            answer; minus infinity where there was none.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        credentials: CredentialProvider | None = None,
        place: Place | None = None,
    ) -> None:
        self._place = place or Place.to_write(settings, credentials)
        self._url = self._place.url
        self._deadline = settings.redis_timeout
        self._ask_again_after = min(
            _ASKED_AGAIN_AFTER, settings.max_staleness / _ASKED_AGAIN_PER_BOUND
        )
        if self._place.is_replica:
            self._ask_again_after = _REPLICA_ASKED_AGAIN_AFTER
        if self._url.kind == "single":
            self._ask_again_after = math.inf
        self._clock = clock
        self._discovery = self._place.discovery
        self._server: Server | None = None
        self._retired: dict[Server, asyncio.Task[None]] = {}
        self._asked_at = self._due_at = -math.inf
        self._renewed_at = -math.inf
        self._doubts = 0
        self._asking: asyncio.Task[None] | None = None
        self._unanswered = ""
        self._closed = False
        self.confirmed_at = math.inf if self._url.kind == "single" else -math.inf
        self.configuration: Configuration | None = None
        self.agreed_at = -math.inf

    @property
    def elected(self) -> int:
        """The number of the election of the server in use; 0 where there are none."""
        return self.configuration[0] if self.configuration is not None else 0

    async def server(self, *, confirmed: bool = False) -> Server:
        """Return the server to use.

        Args:
            confirmed: Whether to wait where it is to be confirmed without a reason to doubt.

        Raises:
            redis.RedisError: The primary cannot be found, and none is known from before.
        """
        self._require_open()
        came_at = self._clock.elapsed()
        asking = self._ask_soon() if came_at >= self._due_at else None
        if self._server is not None and (self._doubts or (confirmed and asking)):
            # Who is known stays in use where no answer comes; but nothing is proven by it then.
            patience = max(LONGEST_WAIT * self._deadline, _WAYS_TO_ASK * self._server.quickest)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    if asking is not None:
                        await asyncio.wait([asking])
                    # The first to come asks, the others take its answer, whatever was doubted
                    # since: of many who fail at once, each would have to wait for all before it.
                    while self._doubts and self._asked_at < came_at:
                        await self._asked()
        while self._server is None:
            await self._asked()
        return self._server

    def _ask_soon(self) -> asyncio.Task[None]:
        """Return what asks: one task, which goes on where a request that waits is given up."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="revokebus-find-primary")
            self._asking.add_done_callback(retrieve)
        return self._asking

    async def _asked(self) -> None:
        self._require_open()
        asking = self._ask_soon()
        await asyncio.wait([asking])
        self._require_open()
        asking.result()

    def _require_open(self) -> None:
        if self._closed:
            raise RedisConnectionError("the connections have been closed")

    def is_current(self, server: Server) -> bool:
        """Return whether `server` is still the one to use."""
        return server is self._server

    async def run(
        self, work: Callable[[Client], Awaitable[Answer]], *, again: bool = False
    ) -> Answer:
        """Return what `work` returns; where another server has to be asked, do it there.

        Args:
            work: The request.
            again: Whether it is tried again and again after a lost connection, and not once: right
                for what is idempotent, wrong for what is to notice an outage. The primary is
                looked up anew each time: a server that has come back may have been deposed.

        Raises:
            redis.RedisError: The primary cannot be found, or the work has failed.
        """

        async def attempt() -> Answer:
            return await self._run_once(work)

        async def failed(_: Exception) -> None:
            pass

        try:
            return await attempt()
        except LostConnectionError:
            if not again:
                return await attempt()
        except (RedisConnectionError, RedisTimeoutError):
            if not again:
                raise
        backoff = ExponentialWithJitterBackoff(base=0.01, cap=0.1)
        return await Retry(backoff, _TRIED_AGAIN).call_with_retry(attempt, failed)

    async def _run_once(self, work: Callable[[Client], Awaitable[Answer]]) -> Answer:
        server = await self.server()
        try:
            return await self._answer(server, work)
        except MovedError as error:
            if self._place.is_replica:
                message = "the replica sends to another node of the cluster"
                raise RedisConnectionError(message) from error
            if self._asking is not None:
                await asyncio.wait([self._asking])  # or its older answer would come after this one
            self._use(self._moved_to(error))
            self.doubt()  # by the next look-up it is known under which election
        except ReadOnlyError:
            # For as long as the connections live. A new one has the name resolved again, behind
            # which another server may be the primary by now.
            self._renew(server)
            self.doubt()
        return await self._answer(await self.server(), work)

    def _renew(self, server: Server) -> None:
        now = self._clock.elapsed()
        if self._server is server and now >= self._renewed_at + 2 * self._deadline:
            self._renewed_at = now
            self._replace(server.address)

    async def _answer(self, server: Server, work: Callable[[Client], Awaitable[Answer]]) -> Answer:
        began = self._clock.elapsed()
        try:
            answer = await work(server.redis)
        except BaseException:  # a deadline comes as a cancellation
            self.doubt()
            raise
        if server.answered(self._clock.elapsed() - began) and self._url.kind != "single":
            # One that was frozen may have been deposed meanwhile, and answers as it wakes.
            self.doubt()
            await self.server()
        if self._server is not None and self._server.address != server.address:
            raise RedisConnectionError("the server that has answered was deposed meanwhile")
        return answer

    def doubt(self) -> None:
        """Ask who is primary before the next request."""
        self._doubts += 1

    def leave(self, server: Server, *, renew: bool) -> None:
        """Use another replica than `server` from the next request on, if there is another.

        Args:
            server: The one that is of no use; nothing is done if it is not in use any more.
            renew: Whether to connect anew where the URL names it: it may stand for several.
        """
        if self._server is not server:
            return
        if self._url.kind != "single":
            self._discovery.avoid(server.address)
            self.doubt()
        elif renew:
            self._replace(None)

    async def check_whole(self, server: Server) -> None:
        """Check that a walk over all keys of `server` finds every one of ours.

        Raises:
            redis.RedisError: It might not.
        """
        await self._discovery.check_whole(server.redis)

    async def close(self) -> None:
        """End every connection; no new one is made."""
        self._closed = True
        server, self._server = self._server, None
        retired, self._retired = self._retired, {}
        await end([*retired.values(), *([self._asking] if self._asking else [])])
        for each in [*retired, *([server] if server else [])]:
            await each.close()

    async def _ask(self) -> None:
        doubts, asked_at = self._doubts, self._clock.elapsed()
        known = self._server.address if self._server else None
        late = self._server if self._server and self._server.was_late else None
        try:
            found = await self._discovery.find(known)
        except RedisError as error:
            if self._server is None:
                raise
            if self._unanswered != str(error):
                logger.warning(
                    "revokebus: %s; it goes on with the server known before",
                    error,
                    extra=event("primary_unconfirmed"),
                )
            self._unanswered = str(error)
            self._due_at = asked_at + min(self._ask_again_after, _ASKED_AGAIN_AFTER_ERROR)
        else:
            self._due_at = asked_at + self._ask_again_after
            self._unanswered = ""
            self._use(found.claim.address if found else None)
            if late is not None and late is self._server:
                late.confirmed()
            if found is not None:
                self._note_found(found, asked_at)
        self._asked_at = asked_at
        self._doubts -= doubts  # those that came meanwhile remain

    def _note_found(self, found: Found, asked_at: float) -> None:
        self.confirmed_at = asked_at
        if self.configuration != found.claim.configuration:
            self.configuration, self.agreed_at = found.claim.configuration, -math.inf
        if found.is_agreed:
            self.agreed_at = asked_at

    def _use(self, address: Address | None) -> None:
        if self._closed or (self._server is not None and self._server.address == address):
            return
        if self._server is not None and self._place.is_replica:
            logger.warning(
                "revokebus: the copy is read from another replica of redis_url now",
                extra=event("replica_changed"),
            )
        elif self._server is not None:
            logger.warning(
                "revokebus: another server of redis_url is the primary now",
                extra=event("primary_changed"),
            )
        self.configuration, self.agreed_at = None, -math.inf
        self._replace(address)

    def _replace(self, address: Address | None) -> None:
        if self._server is not None:
            self._retired[self._server] = asyncio.create_task(
                self._retire(self._server), name="revokebus-retired-server"
            )
        self._server = Server(address, client(self._url.options, address, self._deadline))

    async def _retire(self, server: Server) -> None:
        # Not at once: requests that are under way end by their deadline.
        await asyncio.sleep(2 * self._deadline)
        await server.close()
        self._retired.pop(server, None)

    def _moved_to(self, error: MovedError) -> Address:
        known = self._server.address if self._server else None
        # An empty host means the one that has answered.
        return (str(error.host) or (known[0] if known else ""), int(error.port))
