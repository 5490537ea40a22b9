"""Revocations as they reach this process, for whoever watches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from revokebus.errors import WireError
from revokebus.protocol.wire import decode_payload, encode_entry_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from revokebus.clock import Clock
    from revokebus.protocol.revocation import Revocation, Value
    from revokebus.protocol.wire import EntryId

_MOST_WAITING = 1000


@dataclass(frozen=True, slots=True)
class Heard:
    """One revocation that has reached this process.

    Attributes:
        claim: What it is about: ``jti``, ``sid``, ``sub`` or another claim;
            ``revokebus:everything`` for all tokens.
        value: Of that claim.
        issuer: The ``iss`` of the tokens; empty where they need none.
        issued_before: Only tokens from before this moment, in seconds since the epoch; None for
            all.
        at: When it was recorded in Redis, by Redis's clock; when it came, on ``memory://``.
        position: Its entry in the log; None where it has none.
        seconds: From the record until it was applied here, by two clocks, in whole milliseconds;
            None where there is no record.
        missed: How many others this watcher was too slow for, just before.
        kept: The ``sid`` of the session that goes on; None where all end.
    """

    claim: str
    value: Value
    issuer: str
    issued_before: float | None
    at: float
    position: str | None
    seconds: float | None
    missed: int = 0
    kept: str | None = None


class Feed:
    """Hands what comes to all who watch; what nobody watches costs nothing.

    Args:
        clock: Tells how old a revocation is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watchers: set[_Watcher] = set()

    def notify(self, entry: EntryId, payload: bytes) -> None:
        """Notify watchers of an entry that was applied."""
        if not self._watchers:
            return
        try:
            revocations = decode_payload(payload)
        except WireError:
            return
        written_at = entry[0] / 1000
        self.notify_of(revocations, encode_entry_id(entry) if written_at else None, written_at)

    def notify_of(
        self, revocations: Sequence[Revocation], position: str | None = None, written_at: float = 0
    ) -> None:
        """Notify watchers of revocations, wherever they come from."""
        if not self._watchers:
            return
        now = self._clock.wall()
        for each in revocations:
            heard = Heard(
                claim=each.claim,
                value=each.value,
                issuer=each.issuer,
                issued_before=each.issued_before,
                at=written_at or now,
                position=position,
                seconds=max(0.0, now - written_at) if written_at else None,
                kept=each.kept and each.kept.session_id,
            )
            for watcher in self._watchers:
                watcher.put(heard)

    async def listen(self) -> AsyncGenerator[Heard]:
        """Yield what comes from now on, until `close`."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            while (heard := await watcher.queue.get()) is not None:
                yield watcher.counted(heard)
        finally:
            self._watchers.discard(watcher)

    def close(self) -> None:
        """End everybody's watch."""
        for watcher in self._watchers:
            watcher.end()


class _Watcher:
    """Holds what one has not read yet; the oldest go where there is too much."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Heard | None] = asyncio.Queue()
        self._missed = 0

    def put(self, heard: Heard) -> None:
        if self.queue.qsize() >= _MOST_WAITING:
            self.queue.get_nowait()
            self._missed += 1
        self.queue.put_nowait(heard)

    def end(self) -> None:
        self.queue.put_nowait(None)

    def counted(self, heard: Heard) -> Heard:
        if not self._missed:
            return heard
        missed, self._missed = self._missed, 0
        return replace(heard, missed=missed)
