"""Puts what comes from Redis into the copy; what is not ours is counted and left."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

from revokebus.errors import WireError
from revokebus.protocol.wire import decode_payload, plain_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from revokebus.denylist.denylist import Denylist
    from revokebus.protocol.continuity import Entry
    from revokebus.protocol.revocation import Revocation
    from revokebus.protocol.wire import EntryId, Message
    from revokebus.replication.feed import Feed
    from revokebus.replication.repair import Repair
    from revokebus.telemetry.conditions import Conditions

    PayloadSource = Literal["message", "row", "record"]

# Few enough not to have Python's collector look at everything that the application has.
_APPLIED_AT_ONCE = 200
_BYTES_AT_ONCE = 32 * 1024
_MOST_HEARD = 10_000


class Applier:
    """Decodes payloads and adds their revocations.

    Args:
        denylist: The copy.
        repair: Is told what Redis has.
        conditions: Counts what is not ours.
        feed: Is told what was applied as it happened.
    """

    def __init__(
        self, denylist: Denylist, repair: Repair, conditions: Conditions, feed: Feed
    ) -> None:
        self._denylist = denylist
        self._repair = repair
        self._conditions = conditions
        self._feed = feed
        self._hearing: set[EntryId] = set()
        self._reading = 0
        self._heard: dict[EntryId, bytes] = {}  # the digests of payloads, which may be long

    @property
    def is_busy(self) -> bool:
        """Whether a message or a page of the log is being applied: the position is ahead."""
        return bool(self._hearing) or self._reading > 0

    async def hear(self, message: Message) -> bool:
        """Apply a message of the channel, which is no proof that Redis has it.

        Returns:
            Whether other tasks ran meanwhile, because it is long.
        """
        denylist = self._denylist
        not_held = denylist.passed_over, denylist.left_out
        self._hearing.add(message.entry)
        try:
            is_long = await self._apply("message", [message.payload], listed=False)
        finally:
            self._hearing.discard(message.entry)
        self._feed.notify(message.entry, message.payload)
        if not_held != (denylist.passed_over, denylist.left_out):
            return is_long  # by the clock at the time of the tick it may have to be
        if len(self._heard) >= _MOST_HEARD:
            self._heard.clear()
        self._heard[message.entry] = _digest(message.payload)
        return is_long

    async def apply_entries(self, entries: Sequence[Entry]) -> None:
        """Apply rows of the log; what was heard is in the copy, and is not read once more."""
        heard = self._heard
        new = [entry for entry in entries if heard.pop(entry.id, None) != _digest(entry.payload)]
        wanted = entries if self._repair.is_interested else new
        self._reading += 1
        try:
            await self.apply_all("row", [entry.payload for entry in wanted])
        finally:
            self._reading -= 1
        for entry in new:
            if entry.id not in self._hearing:
                self._feed.notify(entry.id, entry.payload)

    async def apply_all(
        self, source: PayloadSource, payloads: Iterable[bytes | None], *, listed: bool = False
    ) -> None:
        """Apply many, letting requests through in between.

        Args:
            source: Where they come from.
            payloads: The bytes; None for a record that is no string.
            listed: Whether they are part of a listing, with which the copy will be compared.
        """
        for some in _portions(payloads):
            await self._apply(source, some, listed=listed)
            await asyncio.sleep(0)

    async def _apply(
        self, source: PayloadSource, payloads: Sequence[bytes | None], *, listed: bool
    ) -> bool:
        """Apply `payloads`, and return whether that took more than one part."""
        is_long = False
        for _ in self._parts(source, payloads, listed=listed):
            is_long = True
            await asyncio.sleep(0)
        return is_long

    def _parts(
        self, source: PayloadSource, payloads: Sequence[bytes | None], *, listed: bool
    ) -> Iterator[None]:
        """Apply `payloads` in parts; yield between two parts, so that requests can be served."""
        others = payloads
        if source == "message" or not self._repair.is_interested:
            rows, others = plain_rows(payloads)
            for at in range(0, len(rows), _APPLIED_AT_ONCE):
                if at:
                    yield
                if not self._denylist.add_plain(rows[at : at + _APPLIED_AT_ONCE]):
                    others = payloads  # adding some of them again changes nothing
                    break
        decoded: list[Revocation] = []
        for payload in others:
            decoded += self._decode(source, payload)
            at = 0
            while len(decoded) - at > _APPLIED_AT_ONCE:
                self._take(source, decoded[at : at + _APPLIED_AT_ONCE], listed=listed)
                at += _APPLIED_AT_ONCE
                yield
            decoded = decoded[at:]
        self._take(source, decoded, listed=listed)

    def _decode(self, source: PayloadSource, payload: bytes | None) -> Sequence[Revocation]:
        try:
            return decode_payload(payload if payload is not None else b"")
        except WireError as error:
            self._conditions.ignore(source, error.kind)
            return ()

    def _take(
        self, source: PayloadSource, revocations: Sequence[Revocation], *, listed: bool
    ) -> None:
        self._denylist.add_all(revocations)
        if listed:
            self._repair.listed(revocations)
        if source != "message":
            self._repair.has(revocations)


def _portions(payloads: Iterable[bytes | None]) -> Iterator[list[bytes | None]]:
    """Cut `payloads` so that none takes long to apply; each may carry many revocations."""
    some: list[bytes | None] = []
    size = 0
    for payload in payloads:
        some.append(payload)
        size += len(payload or b"")
        if len(some) == _APPLIED_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some


def _digest(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=16).digest()
