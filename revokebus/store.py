"""Redis: the write script, the records, the log and the heartbeat."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis.exceptions import LockError, RedisError, ResponseError

from revokebus import scripts
from revokebus.continuity import Position, Row
from revokebus.errors import OtherDataSetError, RefusedError, StoreError, UnsettledError, WireError
from revokebus.keys import Keys
from revokebus.primary import Primary
from revokebus.revocation import Spending
from revokebus.subscription import Subscription
from revokebus.wire import (
    FORMAT_VERSION,
    MAX_BYTES,
    Message,
    decode_payload,
    decode_row_id,
    encode_message,
    encode_payload,
    encode_row_id,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from redis.asyncio import Redis

    from revokebus.clock import Clock
    from revokebus.revocation import Revocation
    from revokebus.scripts import Argument
    from revokebus.settings import Settings

Answer = TypeVar("Answer")

PAGE_ROWS = 1000
_BATCH_ROWS = 500
# A character takes 12 bytes at most (two escaped surrogates), a row's syntax less than 64.
_BATCH_BYTES, _CHARACTER_BYTES, _ROW_BYTES = MAX_BYTES // 2, 12, 64
_SCAN_COUNT = 1000
_TURN_SECONDS = 10.0
_SETTLING_TICKS = 3
_HEARTBEAT_TICKS = 20
_HEARTBEAT_LEAST = 10.0
_WAIT_SHARE = 0.5


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
        replicas: How many replicas have acknowledged it; None where nobody asked.
    """

    position: str
    unheard: str
    replicas: int | None = None


class Store:
    """The project's side of Redis, for one event loop.

    Every method raises `StoreError` when Redis refuses, or does not answer in time.

    Args:
        settings: Where Redis is, the namespace and the deadlines.
        clock: Tells the time.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._keys = Keys(settings.namespace)
        self._primary = Primary(settings, clock)
        self._heartbeat_life = math.ceil(
            max(_HEARTBEAT_LEAST, _HEARTBEAT_TICKS * settings.tick_interval)
        )
        self._retention = settings.log_retention or settings.longest_life

    async def close(self) -> None:
        """Withdraw the heartbeat and end every connection, whatever state they are in."""
        with contextlib.suppress(StoreError):  # the heartbeat expires by itself
            await self._ask(lambda redis: redis.delete(self._keys.heartbeat))
        await self._primary.close()

    async def write(
        self, revocations: Sequence[Revocation], epoch: str, *, min_replicas: int = 0
    ) -> Written:
        """Record, log and publish `revocations`. Doing it again changes nothing but the log.

        Args:
            revocations: What to write.
            epoch: The data set that they are meant for; any where it is empty.
            min_replicas: For how many replicas to wait, half of ``redis_timeout`` at most.

        Raises:
            OtherDataSetError: Redis has another data set: it has lost this one, or another
                server answers. Nothing was written.
        """
        written = Written("", "")
        for batch in _batches(revocations):
            (row, _, unheard), replicas = await self._write_batch(batch, epoch, min_replicas)
            if written.replicas is not None:
                replicas = min(written.replicas, replicas)
            written = Written(row.decode(), unheard.decode(), replicas)
        return written

    async def _write_batch(self, batch: Sequence[Revocation], epoch: str, min_replicas: int) -> Any:
        keys, args = self._write_arguments(batch, epoch, single_use=False)
        if not min_replicas:
            return await self._ask(
                lambda redis: scripts.WRITE.run(redis, keys, args), again=True
            ), None
        milliseconds = math.ceil(_WAIT_SHARE * self._settings.redis_timeout * 1000)

        async def write_and_wait(redis: Redis) -> Any:
            # WAIT speaks of the connection that it comes on, so both go in one pipeline.
            async with redis.pipeline(transaction=False) as pipe:
                pipe.eval(scripts.WRITE.text, len(keys), *keys, *args)
                pipe.wait(min_replicas, milliseconds)
                return await pipe.execute()

        return await self._ask(write_and_wait, again=True)

    async def spend(self, spent: Revocation, unless: Sequence[Revocation], epoch: str) -> Spending:
        """Write `spent` if neither it nor any of `unless` is recorded, in one step.

        Not tried again after an error: a lost answer would look like somebody else's attempt.

        Raises:
            OtherDataSetError: As for `write`.
        """
        keys, args = self._write_arguments([spent], epoch, single_use=True)
        keys += [self._keys.record(revocation) for revocation in unless]
        reply = await self._ask(lambda redis: scripts.WRITE.run(redis, keys, args))
        return Spending(reply[1].decode())

    async def push(self, epoch: str, revocations: Sequence[Revocation]) -> None:
        """Publish `revocations` that Redis would not record; nothing is proven by it."""
        for batch in _batches(revocations):
            # Before every row of the log: who hears it applies it and expects nothing after it.
            message = encode_message(Message(epoch, (0, 0), (0, 0), encode_payload(batch)))
            await self._publish(message)

    async def _publish(self, message: bytes) -> None:
        await self._ask(lambda redis: redis.publish(self._keys.channel, message))

    def _write_arguments(
        self, revocations: Sequence[Revocation], epoch: str, *, single_use: bool
    ) -> tuple[list[bytes | str], list[Argument]]:
        now = self._clock.wall()
        keys: list[bytes | str] = [self._keys.meta, self._keys.log]
        args: list[Argument] = [
            *self._data_set_arguments(),
            epoch,
            self._keys.channel,
            "1" if single_use else "0",
            self._retention,
            encode_payload(revocations),
        ]
        for revocation in revocations:
            keys.append(self._keys.record(revocation))
            args += [encode_payload([revocation]), revocation.expires_at]
            args.append(revocation.expires_at - now)
        return keys, args

    def _data_set_arguments(self) -> list[Argument]:
        return [secrets.token_hex(16), str(FORMAT_VERSION), encode_payload([])]

    async def position(self) -> Position:
        """Return the end of the log; make a data set where there is none."""
        keys, args = [self._keys.meta, self._keys.log], self._data_set_arguments()
        epoch, last = await self._ask(lambda redis: scripts.OPEN.run(redis, keys, args))
        return Position(epoch.decode(), _row(*last))

    async def check_settled(self) -> None:
        """Check that a process that knows nothing may rely on the records.

        A Redis that has just lost its data looks like one that never had any. Those who know
        better need some ticks to notice and to write it back.

        Raises:
            UnsettledError: It may not, yet.
        """
        settled = _SETTLING_TICKS * self._settings.tick_interval
        keys = [self._keys.meta, self._keys.repair]
        age, repairing = await self._ask(lambda redis: scripts.UNSETTLED.run(redis, keys, []))
        if (missing := settled - float(age)) > 0:
            raise UnsettledError(
                "the data set, or the server that holds it, is new; instances that know more get "
                f"{settled:g} s to write it back",
                seconds=missing,
            )
        if repairing:
            raise UnsettledError("another instance is writing back what Redis has lost")

    async def records(self) -> AsyncIterator[list[bytes | None]]:
        """Yield the records' payloads, some at a time; None for a key that holds no string.

        The walk stays on the server that it began on, and ends with an error if that one might
        not have had every record from its beginning to its end.
        """
        async with self._deadline():
            server = await self._primary.server()
            await self._primary.check_whole(server)
        redis, cursor = server.redis, 0
        while True:
            async with self._deadline():
                cursor, keys = await redis.scan(cursor, match=self._keys.records, count=_SCAN_COUNT)
                payloads = await redis.mget(keys) if keys else []
            yield cast("list[bytes | None]", payloads)  # decode_responses is off
            if cursor == 0:
                break
        async with self._deadline():
            await self._primary.check_whole(server)
        if not self._primary.is_current(server):
            raise StoreError("the primary has changed while the revocations were listed")

    async def read(self, after: Position) -> Page:
        """Return the log from `after`, that row included, and show that this instance lives."""
        keys = [self._keys.meta, self._keys.log, self._keys.heartbeat]
        args: list[Argument] = [encode_row_id(after.row.id), PAGE_ROWS, self._heartbeat_life]
        (epoch, version), entries, alive = await self._ask(
            lambda redis: scripts.READ.run(redis, keys, args)
        )
        if epoch and version != b"%d" % FORMAT_VERSION:
            raise StoreError(f"the data has format {version!r}, this is format {FORMAT_VERSION}")
        if not alive:
            await self._begin_heartbeat()
        rows = [_row(*entry) for entry in entries]
        return Page(epoch.decode() if epoch else "", rows, more=len(rows) == PAGE_ROWS)

    async def _begin_heartbeat(self) -> None:
        with contextlib.suppress(StoreError):  # presence is a help to operators, not a proof
            await self._ask(
                lambda redis: redis.set(self._keys.heartbeat, "1", ex=self._heartbeat_life)
            )

    async def has_record(self, revocations: Sequence[Revocation]) -> bool:
        """Return whether any of `revocations` has a record, readable or not."""
        keys = [self._keys.record(each) for each in revocations]
        return bool(await self._ask(lambda redis: redis.exists(*keys)))

    async def missing(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Return those of `revocations` that have no record, or one that ends before they do."""
        if not revocations:
            return []
        keys = [self._keys.record(each) for each in revocations]
        payloads = await self._ask(lambda redis: redis.mget(keys))
        return [
            each
            for each, payload in zip(revocations, payloads, strict=True)
            if not _covers(cast("bytes | None", payload), each)
        ]

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Yield whether it is this instance's turn to repair; no other has it meanwhile."""
        async with self._deadline():
            server = await self._primary.server()
            lock = server.redis.lock(self._keys.repair, timeout=_TURN_SECONDS)
            granted = await lock.acquire(blocking=False)
        try:
            yield granted
        finally:
            if granted:
                # It may have run out; another one's turn is not to be ended.
                with contextlib.suppress(LockError, StoreError):
                    async with self._deadline():
                        await lock.release()

    @contextlib.asynccontextmanager
    async def subscribe(self) -> AsyncIterator[Subscription]:
        """Subscribe to the channel at the primary, on a connection of its own.

        It ends with an error when another server becomes the primary.
        """
        async with self._deadline():
            server = await self._primary.server()
        async with Subscription(
            server.redis.connection_pool,
            self._keys.channel,
            deadline=self._settings.redis_timeout,
            in_place=lambda: self._primary.is_current(server),
        ) as subscription:
            yield subscription

    def doubt_primary(self) -> None:
        """Ask who is primary before the next request."""
        self._primary.doubt()

    async def ask(self, question: Callable[[Redis], Awaitable[Answer]]) -> Answer:
        """Return what the primary answers to a `question` that changes nothing."""
        return await self._ask(question)

    async def _ask(
        self, work: Callable[[Redis], Awaitable[Answer]], *, again: bool = False
    ) -> Answer:
        async with self._deadline():
            return await self._primary.run(work, again=again)

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.redis_timeout):
                yield
        except TimeoutError:
            seconds = self._settings.redis_timeout
            raise StoreError(f"Redis did not answer within {seconds:g} s") from None
        except ResponseError as error:
            if scripts.OTHER_DATA_SET in str(error):
                raise OtherDataSetError from None
            raise RefusedError(f"Redis: {error}".rstrip(".")) from error
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
