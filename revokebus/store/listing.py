"""Reads everything that is recorded: record by record, or from the log where that has it all."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from revokebus.errors import StoreError
from revokebus.protocol.wire import encode_entry_id
from revokebus.store import scripts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from redis.asyncio.connection import AbstractConnection

    from revokebus.protocol.continuity import Position
    from revokebus.protocol.names import Names
    from revokebus.settings.settings import Settings
    from revokebus.store.primary import Server
    from revokebus.store.requests import Requests

# Few enough not to have Python's collector look at everything that the application has.
PAGE_ENTRIES = 200
_SCAN_COUNT = 500

_CLOCKS_APART = 60.0


def covered_by_log(settings: Settings) -> float:
    """Return for how many seconds the log must go back, to have all revocations that live."""
    return settings.longest_life + _CLOCKS_APART


class Listing:
    """Walks over what Redis has, some hundreds at a time.

    A walk stays on the connection that it began on, because another server, or the same one after
    a restart, would understand its cursor otherwise. Each ends with a `StoreError` if the server
    might not have had everything from its beginning to its end.

    Args:
        requests: Sends them to the primary.
        names: The names of what is read.
        settings: How long tokens live.
    """

    def __init__(self, requests: Requests, names: Names, settings: Settings) -> None:
        self._requests = requests
        self._names = names
        self._covered = covered_by_log(settings)

    async def log_is_better(self) -> bool:
        """Return whether the log has every live revocation, and is the shorter way to them.

        It has, if its first entry is older than any revocation that lives: entries go from its
        beginning only, and a log that was lost begins anew. It is the shorter way where other
        things are in the same Redis.
        """
        keys = [self._names.log]
        age, entries, names = await self._requests.run(scripts.COVERAGE, keys, [])
        return float(age) > self._covered and 0 <= entries <= names

    async def records(self) -> AsyncGenerator[list[bytes | None]]:
        """Yield the records' payloads, some at a time; None for a key that holds no string."""
        requests = self._requests
        async with requests.deadline():
            server = await requests.primary.server()
            await requests.primary.check_whole(server)
        async with self._connection(server) as connection:
            cursor: bytes | None = None
            while cursor != b"0":
                async with requests.deadline():
                    cursor, payloads = await self._some_records(connection, cursor or b"0")
                self._check_current(server)
                yield payloads
        async with requests.deadline():
            await requests.primary.check_whole(server)
        self._check_current(server)

    async def _some_records(
        self, connection: AbstractConnection, cursor: bytes
    ) -> tuple[bytes, list[bytes | None]]:
        words = ("SCAN", cursor, "MATCH", self._names.records, "COUNT", _SCAN_COUNT)
        await connection.send_command(*words)
        after, keys = await connection.read_response(disable_decoding=True)
        if not keys:
            return after, []
        await connection.send_command("MGET", *keys)
        return after, await connection.read_response(disable_decoding=True)

    async def history(self, until: Position) -> AsyncGenerator[list[bytes]]:
        """Yield the payloads of the log, from its beginning to `until`, some at a time."""
        requests, after, end = self._requests, b"-", encode_entry_id(until.entry.id)
        async with requests.deadline():
            server = await requests.primary.server()
        async with self._connection(server) as connection:
            await self._ask_for_rows(connection, after, end)
            while after:
                async with requests.deadline():
                    entries = await connection.read_response(disable_decoding=True)
                self._check_current(server)
                after = b"(" + entries[-1][0] if len(entries) == PAGE_ENTRIES else b""
                if after:  # Redis reads on while these are applied
                    await self._ask_for_rows(connection, after, end)
                payloads = [
                    fields[1] if fields[0] == b"r" else payload_of(fields) for _, fields in entries
                ]
                # Freed before they are applied: hundreds of lists at a time would have Python's
                # collector look at everything that the application has, for 50 ms.
                del entries
                yield payloads

    async def _ask_for_rows(self, connection: AbstractConnection, after: bytes, end: str) -> None:
        async with self._requests.deadline():
            await connection.send_command(
                "XRANGE", self._names.log, after, end, "COUNT", PAGE_ENTRIES
            )

    @asynccontextmanager
    async def _connection(self, server: Server) -> AsyncIterator[AbstractConnection]:
        connection = server.redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no annotation here
        try:
            async with self._requests.deadline():
                await connection.connect()
            yield connection
        finally:
            await connection.disconnect(nowait=True)

    def _check_current(self, server: Server) -> None:
        if not self._requests.primary.is_current(server):
            raise StoreError("the primary has changed while the revocations were listed")


def payload_of(fields: Sequence[bytes]) -> bytes:
    """Return the payload of an entry, whose fields are names and values in turn."""
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(b"r", b"")
