"""Reads everything that is recorded: record by record, or from the log where that has it all."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from redis.exceptions import MovedError

from revokebus.errors import StoreError
from revokebus.protocol.wire import encode_entry_id
from revokebus.scripts import data_set
from revokebus.tasks import end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from revokebus.connection.primary import Server
    from revokebus.connection.requests import Requests
    from revokebus.connection.script import Argument
    from revokebus.protocol.continuity import Position
    from revokebus.protocol.names import Names
    from revokebus.settings.settings import Settings

# Few enough not to have Python's collector look at everything that the application has.
PAGE_ENTRIES = 200
_SCAN_COUNT = 500

_CLOCKS_APART = 60.0

FEW = 20_000
"""How many entries any number of instances may list at once."""

MOST_AT_ONCE = 4
"""How many instances list more than `FEW` at once when they start."""

_TURN_MILLISECONDS, _RENEWED_EVERY = 3_000, 1.0


def covered_by_log(settings: Settings) -> float:
    """Return for how many seconds the log must go back, to have all revocations that live."""
    return settings.longest_life + _CLOCKS_APART


class Listing:
    """Walks over what Redis has, some hundreds at a time.

    A walk stays on the connection that it began on, because another server, or the same one after
    a restart, would understand its cursor otherwise. Each ends with a `StoreError` if the server
    might not have had everything from its beginning to its end.

    Args:
        requests: Sends them to the server that is listed.
        names: The names of what is read.
        settings: How long tokens live.
        primary: Sends them to the primary, where that is another one.
    """

    def __init__(
        self,
        requests: Requests,
        names: Names,
        settings: Settings,
        primary: Requests | None = None,
    ) -> None:
        self._requests = requests
        self._primary = primary or requests
        self._names = names
        self._covered = covered_by_log(settings)

    @contextlib.asynccontextmanager
    async def turn(self, *, may_wait: bool) -> AsyncIterator[bool]:
        """Be one of the few instances that list at once, if there is much to be listed.

        Yields whether the log has every live revocation, and is the shorter way to them. It has, if
        its first entry is older than any revocation that lives: entries go from its beginning only,
        and a log that was lost begins anew. It is the shorter way where other things are in the
        same Redis.

        Args:
            may_wait: Whether it lists only if few enough others do.

        Raises:
            StoreError: Too many others do.
        """
        age, entries, names = await self._requests.run(data_set.COVERAGE, [self._names.log], [])
        log_is_better = float(age) > self._covered and 0 <= entries <= names
        # Otherwise both are read. -1 is what may not be asked for.
        count = entries if log_is_better else max(0, entries) + max(0, names)
        if count <= FEW or not may_wait:
            yield log_is_better
            return
        if not await self._may_list():
            raise StoreError("waits while other instances list the revocations")
        renewing = asyncio.create_task(self._renew(), name="revokebus-turn")
        try:
            yield log_is_better
        finally:
            await end([renewing])
        with contextlib.suppress(StoreError):  # it ends by itself
            await self._primary.call("HDEL", self._names.starts, self._names.instance)

    async def _may_list(self) -> bool:
        args: list[Argument] = [self._names.instance, MOST_AT_ONCE, _TURN_MILLISECONDS]
        return bool(await self._primary.run(data_set.START, [self._names.starts], args))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEWED_EVERY)
            with contextlib.suppress(StoreError):
                await self._may_list()

    async def records(self, since: Position | None = None) -> AsyncGenerator[list[bytes | None]]:
        """Yield the records' payloads, some at a time; None for a key that holds no string.

        Args:
            since: From where the log will be read: everything up to there must be listed. A replica
                is listed only so.
        """
        requests = self._requests
        async with requests.deadline():
            server = await requests.primary.server()
            await requests.primary.check_whole(server)
        walk = _Walk(requests, server)
        await self._check_has(since, walk)
        cursor: bytes | None = None
        while cursor != b"0":
            cursor, payloads = await self._some_records(walk, cursor or b"0")
            yield payloads
        async with requests.deadline():
            await requests.primary.check_whole(server)
        await self._check_has(since, walk)
        walk.check()

    async def _check_has(self, position: Position | None, walk: _Walk) -> None:
        """Check that a replica has the log up to `position`, and so everything that is recorded.

        Raises:
            StoreError: It is behind, or has another data set.
        """
        if self._primary is self._requests:
            return
        if position is None:
            raise ValueError("a replica is listed up to a position")
        at = encode_entry_id(position.entry.id)
        epoch = await walk.call("HGET", self._names.meta, "epoch")
        rows = await walk.call("XRANGE", self._names.log, at, at)
        shown = [payload_of(fields) for _, fields in rows]
        if epoch != position.epoch.encode() or shown != [position.entry.payload]:
            raise StoreError("the replica is behind the primary, so it cannot be listed yet")

    async def _some_records(self, walk: _Walk, cursor: bytes) -> tuple[bytes, list[bytes | None]]:
        words = ("SCAN", cursor, "MATCH", self._names.records, "COUNT", _SCAN_COUNT)
        after, keys = await walk.call(*words)
        return after, await walk.call("MGET", *keys) if keys else []

    async def history(self, until: Position) -> AsyncGenerator[list[bytes]]:
        """Yield the payloads of the log, from its beginning to `until`, some at a time."""
        requests, end_at = self._requests, encode_entry_id(until.entry.id)
        async with requests.deadline():
            server = await requests.primary.server()
        walk = _Walk(requests, server)
        await self._check_has(until, walk)

        def next_page(after: bytes) -> asyncio.Task[Any]:
            words = ("XRANGE", self._names.log, after, end_at, "COUNT", PAGE_ENTRIES)
            return asyncio.create_task(walk.call(*words), name="revokebus-history")

        reading: asyncio.Task[Any] | None = next_page(b"-")
        try:
            while reading is not None:
                entries = await reading
                is_last = len(entries) < PAGE_ENTRIES
                # Redis reads on while these are applied.
                reading = None if is_last else next_page(b"(" + entries[-1][0])
                payloads = [
                    fields[1] if fields[0] == b"r" else payload_of(fields) for _, fields in entries
                ]
                # Freed before they are applied: hundreds of lists at a time would have Python's
                # collector look at everything that the application has, for 50 ms.
                del entries
                yield payloads
        finally:
            if reading is not None:
                await end([reading])
        await self._check_has(until, walk)


class _Walk:
    """Asks one server, on one connection, from the beginning of a walk to its end."""

    def __init__(self, requests: Requests, server: Server) -> None:
        self._requests = requests
        self._server = server
        self._connection: int | None = None

    async def call(self, *words: bytes | str | float) -> Any:
        redis = self._server.redis
        async with self._requests.deadline():
            try:
                answer = await redis.call(words)
            except MovedError:
                self._requests.primary.doubt()  # the walk is over, and the next is elsewhere
                raise
        self.check()
        return answer

    def check(self) -> None:
        """Raise `StoreError` if another server, or another connection, may have answered."""
        if not self._requests.primary.is_current(self._server):
            raise StoreError("the primary has changed while the revocations were listed")
        times = self._server.redis.times_connected
        if self._connection not in (None, times):
            raise StoreError("the connection was lost while the revocations were listed")
        self._connection = times


def payload_of(fields: Sequence[bytes]) -> bytes:
    """Return the payload of an entry, whose fields are names and values in turn."""
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(b"r", b"")
