"""Writes revocations: those that come together in one script, and in one row of the log."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from revokebus.errors import OtherDataSetError
from revokebus.protocol.continuity import Entry
from revokebus.protocol.revocation import Revocation
from revokebus.protocol.wire import (
    DATA_VERSION,
    MAX_BYTES,
    Message,
    decode_entry_id,
    encode_message,
    encode_rows,
    payload_of_rows,
)
from revokebus.scripts import writing
from revokebus.store.group_commit import GroupCommit
from revokebus.store.settling import settling_milliseconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Sequence

    from revokebus.clock import Clock
    from revokebus.connection.requests import Requests
    from revokebus.connection.script import Argument
    from revokebus.protocol.names import Names
    from revokebus.protocol.revocation import Target
    from revokebus.protocol.unseen_writes import UnseenWrites
    from revokebus.settings.settings import Settings

_BATCH_ROWS, _BATCH_BYTES = 500, MAX_BYTES // 2
# A character takes 12 bytes at most (two escaped surrogates), a row's syntax less than 96.
_CHARACTER_BYTES, _ROW_BYTES = 12, 96
_WAIT_SHARE = 0.5
_NOTHING = payload_of_rows([])


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write.

    Attributes:
        position: The last entry of the log that was written; None where there is no log.
        epoch: The data set that it is in; empty where there is none.
        unheard: Why it could not be published, or nothing.
        replicas: How many replicas have acknowledged it; None where nobody asked.
    """

    position: str | None = None
    epoch: str = ""
    unheard: str = ""
    replicas: int | None = None


@dataclass(eq=False, slots=True)
class _Write:
    revocations: Sequence[Revocation]
    epoch: str
    min_replicas: int


class Writes:
    """Writes to the log, the records and the channel, for one event loop.

    Args:
        settings: The deadlines.
        clock: Tells the time.
        requests: Sends them.
        names: The names of keys and of the channel.
        unseen: Remembers what was written here until the log shows it.
        retention: For how many seconds the log keeps an entry.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        requests: Requests,
        names: Names,
        unseen: UnseenWrites,
        retention: float,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._requests = requests
        self._names = names
        self._unseen_writes = unseen
        self._retention = retention
        self._simple = self._group(is_single=False)
        # WAIT blocks the connection that it comes on.
        self._replicated = self._group(is_single=True)

    def _group(self, *, is_single: bool) -> GroupCommit[_Write, Written]:
        return GroupCommit(
            self._write_together,
            size=lambda write: sum(map(longest, write.revocations)),
            together=_are_alike,
            most_rows=_BATCH_ROWS,
            most_bytes=_BATCH_BYTES,
            is_single=is_single,
        )

    def write(
        self, revocations: Sequence[Revocation], epoch: str, min_replicas: int = 0
    ) -> Awaitable[Written]:
        """Record, log and publish `revocations`. Doing it again changes nothing but the log.

        Args:
            revocations: What to write.
            epoch: The data set that they are meant for; any where it is empty.
            min_replicas: For how many replicas to wait, half of ``redis_timeout`` at most.

        Raises:
            OtherDataSetError: Redis has another data set: it has lost this one, or another
                server answers. Nothing was written.
            StoreError: Redis refuses, or does not answer in time.
        """
        group = self._replicated if min_replicas else self._simple
        return group.ask(_Write(revocations, epoch, min_replicas), len(revocations))

    async def _write_together(self, writes: Sequence[_Write]) -> list[Written]:
        first, written = writes[0], Written()
        together = [each for write in writes for each in write.revocations]
        for revocations, rows in batches(together):
            payload = payload_of_rows(rows)
            keys, args = self._arguments(revocations, rows, payload, first.epoch)
            answer, replicas = await self._run(keys, args, first.min_replicas)
            entry, outcome, unheard, *data_set = answer
            self._remember(entry, outcome, revocations, payload)
            if written.replicas is not None and replicas is not None:
                replicas = min(written.replicas, replicas)
            written = Written(entry.decode(), data_set[0].decode(), unheard.decode(), replicas)
        return [written] * len(writes)

    def _remember(
        self, entry: bytes, outcome: bytes, revocations: Sequence[Revocation], payload: bytes
    ) -> None:
        if outcome == b"other":
            raise OtherDataSetError
        if outcome == b"granted":
            written = Entry(decode_entry_id(entry), payload)
            self._unseen_writes.remember(written, self._clock.elapsed(), revocations)

    async def _run(
        self, keys: list[bytes | str], args: list[Argument], min_replicas: int
    ) -> tuple[Any, int | None]:
        if not min_replicas:
            return await self._requests.run(writing.WRITE, keys, args, again=True), None
        milliseconds = math.ceil(_WAIT_SHARE * self._settings.redis_timeout * 1000)
        return await self._requests.run_and_wait(
            writing.WRITE, keys, args, min_replicas, milliseconds
        )

    def _arguments(
        self, revocations: Sequence[Revocation], rows: Sequence[str], payload: bytes, epoch: str
    ) -> tuple[list[bytes | str], list[Argument]]:
        now, record = self._clock.wall(), self._names.record
        keys: list[bytes | str] = [*self._names.data_set]
        args = data_set_arguments(self._settings, self._names, epoch)
        args += [self._retention, payload]
        for revocation, row in zip(revocations, rows, strict=True):
            expires_at = revocation.expires_at
            keys.append(record(revocation.target))
            # Where there is one, its record is what the log has.
            args += [payload_of_rows([row]) if len(rows) > 1 else b"", expires_at, expires_at - now]
        return keys, args

    async def push(self, epoch: str, revocations: Sequence[Revocation]) -> None:
        """Publish `revocations` that Redis would not record; nothing is proven by it.

        Raises:
            StoreError: It does not take them.
        """
        for _, rows in batches(revocations):
            # Before every entry of the log: who hears it applies it and expects nothing after it.
            message = encode_message(Message(epoch, (0, 0), (0, 0), payload_of_rows(rows)))
            await self._requests.call("PUBLISH", self._names.channel, message)

    async def close(self) -> None:
        """End what is on its way for several callers."""
        await self._simple.close()
        await self._replicated.close()


def data_set_arguments(settings: Settings, names: Names, epoch: str = "") -> list[Argument]:
    """Return what a script needs to make a data set where there is none.

    Args:
        settings: For how long a new one is held.
        names: Where it is announced.
        epoch: The one that must be there; any, or none, where it is empty.
    """
    settling = settling_milliseconds(settings)
    new: list[Argument] = [secrets.token_hex(16), str(DATA_VERSION), _NOTHING, settling]
    return [*new, epoch, names.channel]


def longest(about: Revocation | Target) -> int:
    """Return how many bytes a row about these tokens takes at most."""
    if isinstance(about, Revocation):
        texts = [str(about.value), about.kept.session_id if about.kept else ""]
    else:
        texts = [about.text]
    length = sum(map(len, (about.issuer, about.claim, *texts)))
    return _CHARACTER_BYTES * length + _ROW_BYTES


def batches(
    revocations: Sequence[Revocation],
) -> Iterator[tuple[Sequence[Revocation], Sequence[str]]]:
    """Yield `revocations` in parts, and the rows of each: no payload is too long for a reader."""
    for at in range(0, len(revocations), _BATCH_ROWS):
        part = revocations[at : at + _BATCH_ROWS]
        rows = encode_rows(part)
        since, size = 0, 0
        for number, row in enumerate(rows):
            size += len(row) + 1
            if size > _BATCH_BYTES and number > since:
                yield part[since:number], rows[since:number]
                since, size = number, len(row) + 1
        yield part[since:], rows[since:]


def _are_alike(one: _Write, other: _Write) -> bool:
    return one.epoch == other.epoch and one.min_replicas == other.min_replicas
