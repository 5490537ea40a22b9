"""Proves the age of the copy: reads the log from the position, twice a second.

A log that was read to its end and continues what is known proves that the copy was complete at
the moment when the request was sent. Where it does not continue, everything is listed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import random
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from revokebus.errors import StoreError, UnsettledError
from revokebus.protocol.continuity import Break
from revokebus.protocol.heartbeat import VERSION, Heartbeat, encode_heartbeat
from revokebus.protocol.wire import encode_entry_id
from revokebus.store.audit import audit, refusal
from revokebus.store.store import LONGEST_PAUSE
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from revokebus.clock import Clock, ExpiryClock
    from revokebus.denylist.denylist import Denylist
    from revokebus.denylist.freshness import Freshness
    from revokebus.protocol.continuity import Continuity, Entry, Position
    from revokebus.replication.applier import Applier
    from revokebus.replication.confirmation import ConfirmationResponder
    from revokebus.replication.outbox import Outbox
    from revokebus.replication.repair import Repair
    from revokebus.results import State
    from revokebus.settings.settings import Settings
    from revokebus.store.store import Page, Store
    from revokebus.telemetry.conditions import Conditions
    from revokebus.telemetry.counters import Counters

logger = logging.getLogger("revokebus")

_SHORTEST_INTERVAL = 0.9
_SHORTEST_PAUSE = 0.02
_SWEPT_PER_TICK = 1000
_TICKS_PER_SWEEP = 200
MOST_SWEPT_PER_TICK = 2_500
_RESYNCS_PER_TICK = 3
_HOLD_SECONDS = 0.5
_LONGEST_HOLD_SECONDS = 30.0
_OWING_PAUSE = 0.2
_LIST_AGAIN_SECONDS = 5.0
_LOSSES = frozenset({Break.EPOCH_CHANGED, Break.ROW_MISSING})


@dataclass(eq=False, kw_only=True)
class Ticker:
    """Ticks until it is cancelled; whatever goes wrong is noted, and tried again.

    Attributes:
        settings: The intervals, and what the audit goes by.
        store: The log and the records.
        denylist: The copy.
        continuity: Judges pages of the log.
        applier: Applies them.
        responder: Is told when more was read.
        repair: What Redis lacks.
        outbox: What is still to be written.
        clock: Tells the age of the copy.
        expiry_clock: The one that the copy goes by.
        conditions: Is told what is wrong.
        wake: Set by others where the log should be read at once.
        freshness: Is told of each proof.
        counters: Is told of ticks and listings.
        decided: Set once the copy was proven, or Redis refused.
        read: Set when the log was read to its end, whether that proves the copy or not, and then
            replaced.
        refusal: Why the audit refuses this Redis; empty where it does not.
    """

    settings: Settings
    store: Store
    denylist: Denylist
    continuity: Continuity
    applier: Applier
    responder: ConfirmationResponder
    repair: Repair
    outbox: Outbox
    clock: Clock
    expiry_clock: ExpiryClock
    conditions: Conditions
    wake: asyncio.Event
    freshness: Freshness
    counters: Counters
    decided: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    read: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    refusal: str = field(default="", init=False)
    _audited: bool = field(default=False, init=False)
    _may_evict: bool = field(default=False, init=False)
    _owing_since: float | None = field(default=None, init=False)
    _list_not_before: float = field(default=-math.inf, init=False)
    _times_set_back: int = field(init=False)

    def __post_init__(self) -> None:
        self._times_set_back = self.expiry_clock.times_set_back

    async def run(self) -> None:
        """Tick, write back what is owed, rest, and tick again."""
        while True:
            self.wake.clear()
            began, rest = self.clock.elapsed(), self._interval()
            try:
                await self._audit_once()
                await self._prove()
            except UnsettledError as error:
                self.counters.ticks["unsettled"] += 1
                self.conditions.note("ticker", error)
                rest = min(rest, error.seconds or rest)
                self._notify_waiters()
                await self._write_back()
            except Exception as error:  # noqa: BLE001 - a silent end would be a silent gap
                self.counters.ticks["failed"] += 1
                self.conditions.note("ticker", error)
            else:
                self.counters.ticks["proven"] += 1
                self.conditions.over("ticker")
                self._notify_waiters()
                await self._write_back()
                await self._list_if_useful()
            if self.repair:
                rest = min(rest, _OWING_PAUSE)
            else:
                self._owing_since = None
            self._log_if_stale()
            swept = max(_SWEPT_PER_TICK, len(self.denylist) // _TICKS_PER_SWEEP)
            self.denylist.sweep(min(swept, MOST_SWEPT_PER_TICK))
            self._log_if_incomplete()
            await self._pause(began + rest - self.clock.elapsed())

    async def _prove(self) -> None:
        self.freshness.proven_at = await self._tick()
        self.decided.set()

    async def _write_back(self) -> None:
        """Write what is owed: what others must not do without is written while all wait for it."""
        await self._try("unsaved", self._save())
        await self._try("repair", self.repair.write_back(self.store, self.continuity.epoch))
        if self.repair:
            await self._try("repair", self._hold())

    async def _hold(self) -> None:
        """Keep the others from a proof; but not for ever, if this instance cannot repair."""
        now = self.clock.elapsed()
        if self._owing_since is None:
            self._owing_since = now
        if now - self._owing_since < _LONGEST_HOLD_SECONDS:
            await self.store.hold(_HOLD_SECONDS)

    def _notify_waiters(self) -> None:
        self.read.set()
        self.read = asyncio.Event()
        self.responder.look()

    async def _audit_once(self) -> None:
        if self._audited:
            return
        findings = await audit(self.store, self.settings, self.clock)
        self.refusal = refusal(findings)
        if self.refusal:
            self.decided.set()
            raise StoreError(self.refusal)
        self._may_evict = any(f.check == "eviction" and f.level != "ok" for f in findings)
        for finding in findings:
            if finding.level == "warning":
                logger.warning(
                    "revokebus audit: %s; %s",
                    finding.message,
                    finding.remedy,
                    extra=event("audit_finding"),
                )
        self._audited = True

    async def _tick(self) -> float:
        """Read the log to its end, and return the moment for which that proves the copy.

        Raises:
            UnsettledError: It proves nothing, because Redis may lack what others know.
            StoreError: It could not be read.
        """
        breaks = 0
        while reason := self._reason_to_list():
            seen = self.expiry_clock.times_set_back  # once more while it lists is another reason
            await self._list(reason)
            self._times_set_back = seen
        while True:
            sent = self.clock.elapsed()
            page = await self._read()
            entries = self.continuity.read(page.epoch, page.entries) if page else Break.NOT_LISTED
            if isinstance(entries, Break):
                breaks += 1
                if breaks > _RESYNCS_PER_TICK:
                    raise StoreError("the log does not stay the same while it is read")
                self.store.doubt_primary()  # one that was deposed may have come back
                await self._list(entries)
                continue
            self.store.unseen_writes.seen(entries)
            with self.responder.waiting():  # the position is ahead of the copy
                await self._apply(entries)
            if page is not None and not page.more:
                if missed := self.store.unseen_writes.missed(sent):
                    logger.warning(
                        "revokebus: Redis lost %d acknowledged writes",
                        len(missed),
                        extra=event("writes_lost"),
                    )
                    self.repair.lost(missed)
                if page.unsettled:
                    raise page.unsettled
                return self.store.confirmed(sent)

    async def _apply(self, entries: Sequence[Entry]) -> None:
        try:
            await self.applier.apply_entries(entries)
        except Exception:
            self.continuity.forget()  # or the next page would be taken to follow them
            raise

    def _reason_to_list(self) -> Break | None:
        self.expiry_clock.now()  # notices a step
        if self._times_set_back != self.expiry_clock.times_set_back:
            return Break.CLOCK_SET_BACK
        return None

    async def _list_if_useful(self) -> None:
        """List again where that is no condition of a proof, and not too often where it fails."""
        reason = None
        if not self.store.unseen_writes.complete:
            reason = Break.WRITES_FORGOTTEN
        elif not self.denylist.complete and self.denylist.has_room:
            reason = Break.ROOM_AGAIN
        if reason is None or self.clock.elapsed() < self._list_not_before:
            return
        self._list_not_before = self.clock.elapsed() + _LIST_AGAIN_SECONDS
        await self._try("listing", self._list(reason))

    async def _read(self) -> Page | None:
        position = self.continuity.position
        return (
            await self.store.read(position, encode_heartbeat(self._heartbeat(position)))
            if position
            else None
        )

    async def _list(self, reason: Break) -> None:
        """Add every record that Redis has; what is here already stays."""
        if reason is not Break.NOT_LISTED:
            self.counters.resyncs[reason.name.lower()] += 1
            logger.warning(
                "revokebus lists all revocations again: %s", reason.value, extra=event("resync")
            )
        began, left_out = self.clock.elapsed(), self.denylist.left_out
        # The position first: what comes after it is read from the log.
        position = await self.store.position()
        self.repair.begin(may_lack=self._may_evict)
        listing = self.store.listing
        from_log = reason is Break.NOT_LISTED and await listing.log_is_better()
        if not from_log or self._may_evict:
            await self._apply_records(reason)
        if from_log or self._may_evict:
            # The log, which cannot be evicted, has what records may have been dropped of.
            async with contextlib.aclosing(listing.history(position)) as pages:
                async for payloads in pages:
                    await self.applier.apply_all("row", payloads, listed=not self._may_evict)
        await self.repair.compare()
        self.store.unseen_writes.compared(began, position.entry.id)
        self.continuity.restart(position)
        if self.denylist.left_out == left_out and reason not in _LOSSES:
            self.denylist.completed()
        elif reason in _LOSSES and not self.denylist.complete:
            logger.error(
                "revokebus: Redis has lost data, and this copy had no room for all of it; what "
                "no other instance holds is lost: raise max_entries (REVOKEBUS_MAX_ENTRIES)",
                extra=event("loss_not_covered"),
            )

    async def _apply_records(self, reason: Break) -> None:
        held_at = -math.inf
        async with contextlib.aclosing(self.store.listing.records()) as pages:
            async for payloads in pages:
                await self.applier.apply_all("record", payloads, listed=True)
                if reason in _LOSSES and self.clock.elapsed() - held_at > _HOLD_SECONDS / 2:
                    held_at = self.clock.elapsed()
                    await self._hold()

    async def _save(self) -> None:
        if written := await self.outbox.save(self.store, self.continuity.epoch):
            self.conditions.note_or_over("publisher", written.unheard)

    async def _try(self, part: str, work: Awaitable[None]) -> None:
        try:
            await work
            self.conditions.over(part)
        except Exception as error:  # noqa: BLE001 - a silent end would be a silent gap
            self.conditions.note(part, error)

    def _log_if_stale(self) -> None:
        age = self.clock.elapsed() - self.freshness.proven_at
        if age == math.inf:
            return
        if age > self.settings.max_staleness:
            self.conditions.note(
                "copy", f"stale, no proof within {self.settings.max_staleness:g} s"
            )
        elif self.conditions.over("copy"):
            logger.warning("revokebus: the copy is fresh again", extra=event("fresh"))

    def _log_if_incomplete(self) -> None:
        if not self.denylist.complete:
            self.conditions.note(
                "limit",
                f"max_entries (REVOKEBUS_MAX_ENTRIES) of {self.settings.max_entries} is reached, "
                "so Redis is asked about every token that the copy does not refuse; raise it",
            )
        elif self.conditions.over("limit"):
            logger.warning("revokebus: the copy is complete again", extra=event("complete"))

    def _heartbeat(self, position: Position) -> Heartbeat:
        settings, age = self.settings, self.clock.elapsed() - self.freshness.proven_at
        state: State = "fresh" if age <= settings.max_staleness else "stale"
        return Heartbeat(
            version=VERSION,
            host=socket.gethostname(),
            pid=os.getpid(),
            state="starting" if age == math.inf else state,
            staleness=None if age == math.inf else age,
            bound=settings.max_staleness,
            accepts_stale=settings.on_stale == "accept",
            interval=settings.tick_interval,
            longest_life=settings.longest_life,
            issuer=settings.own_issuer,
            checked_types=sorted(settings.checked_token_types),
            claims=sorted(settings.revocable_claims),
            epoch=position.epoch,
            position=encode_entry_id(position.entry.id),
            entries=len(self.denylist),
            complete=self.denylist.complete,
        )

    def _interval(self) -> float:
        # With jitter, so that a fleet that was started at once does not tick at once.
        return self.settings.tick_interval * random.uniform(_SHORTEST_INTERVAL, LONGEST_PAUSE)  # noqa: S311 - not a secret

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(_SHORTEST_PAUSE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds - _SHORTEST_PAUSE):
                await self.wake.wait()
