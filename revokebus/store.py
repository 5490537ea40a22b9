"""Redis: the write script, the records, the log and the heartbeat.

All keys share the hash tag ``{namespace}``, so that one script may touch them on a cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from redis.asyncio import Redis
from redis.exceptions import LockError, RedisError

from revokebus import scripts
from revokebus.connection import reading_pool, writing_pool
from revokebus.continuity import Position, Row
from revokebus.errors import StoreError, WireError
from revokebus.revocation import Spending
from revokebus.subscription import Subscription
from revokebus.wire import (
    FORMAT_VERSION,
    MAX_BYTES,
    decode_payload,
    decode_row_id,
    encode_payload,
    encode_row_id,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from revokebus.clock import Clock
    from revokebus.revocation import Revocation
    from revokebus.settings import Settings

PAGE_ROWS = 1000
_BATCH_ROWS = 500
# A character takes 12 bytes at most (two escaped surrogates), a row's syntax less than 64.
_BATCH_BYTES, _CHARACTER_BYTES, _ROW_BYTES = MAX_BYTES // 2, 12, 64
_SCAN_COUNT = 1000
_TURN_SECONDS = 10.0
_SETTLING_TICKS = 4
_HEARTBEAT_TICKS = 20
_HEARTBEAT_LEAST = 10.0


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the log, and the data set that it belongs to."""

    epoch: str
    rows: Sequence[Row]
    more: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write.

    Attributes:
        position: The last row of the log that was written.
        unheard: Why it could not be published, or nothing.
    """

    position: str
    unheard: str


class Store:
    """The project's side of Redis, for one event loop.

    Every method raises `StoreError` when Redis refuses, or does not answer in time.

    Args:
        settings: Where Redis is, the namespace and the deadlines.
        clock: Tells the wall time.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._tag = f"{{{settings.namespace}}}"
        self._meta, self._log = f"{self._tag}:meta", f"{self._tag}:log"
        self._channel = f"{self._tag}:ch"
        self._repair = f"{self._tag}:repair"
        self._heartbeat = f"{self._tag}:hb:{secrets.token_hex(8)}"
        self._heartbeat_life = math.ceil(
            max(_HEARTBEAT_LEAST, _HEARTBEAT_TICKS * settings.tick_interval)
        )
        self._retention = settings.log_retention or settings.longest_life
        self._reader = Redis(connection_pool=reading_pool(settings))
        self._writer = Redis(connection_pool=writing_pool(settings))
        self._open_script = self._reader.register_script(scripts.OPEN)
        self._read_script = self._reader.register_script(scripts.READ)
        self._unsettled_script = self._reader.register_script(scripts.UNSETTLED)
        self._write_script = self._writer.register_script(scripts.WRITE)
        self._spend_script = self._reader.register_script(scripts.WRITE)

    async def close(self) -> None:
        """Withdraw the heartbeat and end every connection, whatever state they are in."""
        with contextlib.suppress(StoreError):  # the heartbeat expires by itself
            async with self._deadline():
                await self._reader.delete(self._heartbeat)
        for client in (self._reader, self._writer):
            # A peer that does not answer cannot be said goodbye to.
            with contextlib.suppress(RedisError, OSError):
                await client.aclose(close_connection_pool=True)

    def record_key(self, revocation: Revocation) -> bytes:
        """Return the key of a revocation's record.

        The claim's name is quoted, because a name may contain the colon that ends it.
        """
        key = f"{self._tag}:r:{quote(revocation.claim, safe='')}:{revocation.value}"
        return key.encode("utf-8", "surrogatepass")

    async def write(self, revocations: Sequence[Revocation]) -> Written:
        """Record, log and publish `revocations`. Doing it again changes nothing but the log."""
        written = Written("", "")
        for batch in _batches(revocations):
            keys, args = self._write_arguments(batch, single_use=False)
            async with self._deadline():
                reply = await self._write_script(keys=keys, args=args)
            written = Written(reply[0].decode(), reply[2].decode())
        return written

    async def spend(self, spent: Revocation, unless: Sequence[Revocation]) -> Spending:
        """Write `spent` if neither it nor any of `unless` is recorded, in one step.

        Not tried again after an error: a lost answer would look like somebody else's attempt.
        """
        keys, args = self._write_arguments([spent], single_use=True)
        keys += [self.record_key(revocation) for revocation in unless]
        async with self._deadline():
            reply = await self._spend_script(keys=keys, args=args)
        return Spending(reply[1].decode())

    def _write_arguments(
        self, revocations: Sequence[Revocation], *, single_use: bool
    ) -> tuple[list[bytes | str], list[bytes | str | float]]:
        now = self._clock.wall()
        keys: list[bytes | str] = [self._meta, self._log]
        args: list[bytes | str | float] = [
            *self._data_set_arguments(),
            self._channel,
            "1" if single_use else "0",
            self._retention,
            encode_payload(revocations),
        ]
        for revocation in revocations:
            keys.append(self.record_key(revocation))
            args += [encode_payload([revocation]), revocation.expires_at]
            args.append(revocation.expires_at - now)
        return keys, args

    def _data_set_arguments(self) -> list[bytes | str | float]:
        return [secrets.token_hex(16), str(FORMAT_VERSION), encode_payload([])]

    async def position(self) -> Position:
        """Return the end of the log; make a data set where there is none."""
        async with self._deadline():
            epoch, last = await self._open_script(
                keys=[self._meta, self._log], args=self._data_set_arguments()
            )
        return Position(epoch.decode(), _row(*last))

    async def unsettled(self) -> str:
        """Return why a process that knows nothing must not rely on the records yet, or nothing.

        A Redis that has just lost its data looks like one that never had any. Those who know
        better need a few ticks to notice and to write it back.
        """
        settled = _SETTLING_TICKS * self._settings.tick_interval
        async with self._deadline():
            age, repairing = await self._unsettled_script(keys=[self._meta, self._repair])
        if float(age) < settled:
            return f"the data is new; instances that know more get {settled:g} s to write it back"
        return "another instance is writing back what Redis has lost" if repairing else ""

    async def records(self) -> AsyncIterator[list[bytes | None]]:
        """Yield the records' payloads, some at a time; None for a key that holds no string."""
        cursor = 0
        while True:
            async with self._deadline():
                cursor, keys = await self._reader.scan(
                    cursor, match=f"{self._tag}:r:*", count=_SCAN_COUNT
                )
                payloads = await self._reader.mget(keys) if keys else []
            yield cast("list[bytes | None]", payloads)  # decode_responses is off
            if cursor == 0:
                return

    async def read(self, after: Position) -> Page:
        """Return the log from `after`, that row included, and show that this instance lives."""
        async with self._deadline():
            (epoch, version), entries, alive = await self._read_script(
                keys=[self._meta, self._log, self._heartbeat],
                args=[encode_row_id(after.row.id), PAGE_ROWS, self._heartbeat_life],
            )
        if epoch and version != b"%d" % FORMAT_VERSION:
            raise StoreError(f"the data has format {version!r}, this is format {FORMAT_VERSION}")
        if not alive:
            await self._begin_heartbeat()
        rows = [_row(*entry) for entry in entries]
        return Page(epoch.decode() if epoch else "", rows, more=len(rows) == PAGE_ROWS)

    async def _begin_heartbeat(self) -> None:
        with contextlib.suppress(StoreError):  # presence is a help to operators, not a proof
            async with self._deadline():
                await self._reader.set(self._heartbeat, "1", ex=self._heartbeat_life)

    async def has_record(self, revocations: Sequence[Revocation]) -> bool:
        """Return whether any of `revocations` has a record, readable or not."""
        async with self._deadline():
            return bool(await self._reader.exists(*map(self.record_key, revocations)))

    async def missing(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Return those of `revocations` that have no record, or one that ends before they do."""
        if not revocations:
            return []
        async with self._deadline():
            payloads = await self._reader.mget([self.record_key(each) for each in revocations])
        return [
            each
            for each, payload in zip(revocations, payloads, strict=True)
            if not _covers(cast("bytes | None", payload), each)
        ]

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Yield whether it is this instance's turn to repair; no other has it meanwhile."""
        lock = self._reader.lock(self._repair, timeout=_TURN_SECONDS)
        async with self._deadline():
            granted = await lock.acquire(blocking=False)
        try:
            yield granted
        finally:
            if granted:
                # It may have run out; another one's turn is not to be ended.
                with contextlib.suppress(LockError, StoreError):
                    async with self._deadline():
                        await lock.release()

    def subscribe(self) -> Subscription:
        """Return a subscription to the channel, on a connection of its own."""
        return Subscription(
            self._reader.connection_pool, self._channel, deadline=self._settings.redis_timeout
        )

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.redis_timeout):
                yield
        except TimeoutError:
            seconds = self._settings.redis_timeout
            raise StoreError(f"Redis did not answer within {seconds:g} s") from None
        except (RedisError, OSError) as error:
            raise StoreError(f"Redis: {error}".rstrip(".")) from error


def _row(row_id: bytes, fields: Sequence[bytes]) -> Row:
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    return Row(decode_row_id(row_id), pairs.get(b"r", b""))


def _covers(payload: bytes | None, revocation: Revocation) -> bool:
    try:
        (held,) = decode_payload(payload or b"")
    except (WireError, ValueError):
        return False
    same = (held.claim, held.value) == (revocation.claim, revocation.value)
    return same and held.expires_at >= revocation.expires_at


def _batches(revocations: Sequence[Revocation]) -> Iterator[list[Revocation]]:
    """Cut `revocations` so that no payload is longer than a reader accepts."""
    batch: list[Revocation] = []
    size = 0
    for revocation in revocations:
        needed = _CHARACTER_BYTES * (len(revocation.claim) + len(revocation.value)) + _ROW_BYTES
        if batch and (len(batch) == _BATCH_ROWS or size + needed > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(revocation)
        size += needed
    if batch:
        yield batch
