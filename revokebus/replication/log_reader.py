"""Proves the copy: reads the log from the position to its end, or lists everything.

A log that was read to its end, and that continues what is known, proves that the copy was complete
when the request was sent. Where the log does not continue, everything is listed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import TYPE_CHECKING, Protocol

from revokebus.errors import RefusedError, StoreError
from revokebus.protocol.continuity import Break
from revokebus.replication.outbox import HOLD_SECONDS
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from revokebus.bookmarks.follower import Follower
    from revokebus.denylist.denylist import Denylist
    from revokebus.protocol.continuity import Entry, Position
    from revokebus.protocol.fleet import Fleet
    from revokebus.protocol.unseen_writes import UnseenWrites
    from revokebus.replication.applier import Applier
    from revokebus.replication.repair import Repair
    from revokebus.replication.run import Run
    from revokebus.store.heartbeats import Heartbeats, Told
    from revokebus.store.store import Page

logger = logging.getLogger("revokebus")

_RESYNCS_PER_READ = 3
_LIST_AGAIN_SECONDS, _SUSPECT_AGAIN_SECONDS = 5.0, 2.0
_JUMP_SECONDS = 1.0
_LOST_AT_ONCE = 200
_LOSSES = frozenset(
    {
        Break.EPOCH_CHANGED,
        Break.ROW_MISSING,
        Break.SERVER_CHANGED,
        Break.SERVER_CLOCK_JUMPED,
    }
)
# The log between the last page and now was not read.
_UNREAD = frozenset(
    {Break.NOT_LISTED, Break.EPOCH_CHANGED, Break.ROW_MISSING, Break.CLOCK_SET_BACK}
)


class Log(Protocol):
    """The log and the primary, as the reader needs them; `Store` is one."""

    async def position(self) -> Position:
        """Return the end of the log; make a data set where there is none."""

    async def read(self, after: Position, told: Told | None) -> Page:
        """Return the log from `after`, that entry included; send a heartbeat by the way."""

    async def is_as_read(self) -> bool:
        """Return whether the primary is the one whose log was read last, as far as is known."""

    def doubt_primary(self) -> None:
        """Look up the primary before the next request."""


class Records(Protocol):
    """Everything that is recorded; `Listing` is one."""

    def turn(self, *, may_wait: bool) -> AbstractAsyncContextManager[bool]:
        """Be one of the few that list at once; raise `StoreError` where too many others do.

        It yields whether the log has every live revocation, and is the shorter way to them.
        """

    def records(self, since: Position) -> AsyncGenerator[list[bytes | None]]:
        """Yield the payloads of all records; the log will be read from `since` on."""

    def history(self, until: Position) -> AsyncGenerator[list[bytes]]:
        """Yield the payloads of the log, up to `until`."""


class Audit(Protocol):
    """What is found out about Redis before it is believed; `StartAudit` is one."""

    may_evict: bool

    async def once(self) -> None:
        """Raise `ConfigurationError` if this Redis must not be used."""


class LogReader:
    """Reads the log and the records into the copy.

    Args:
        run: The position, and what is counted.
        log: The log.
        records: The records.
        audit: Is asked before the first read.
        denylist: The copy.
        applier: Applies what was read.
        repair: Finds what Redis lacks.
        unseen_writes: What the log must show, because it was acknowledged.
        fleet: Is told the time at Redis, and how long tokens live.
        heartbeats: Show that this instance lives, before anything is proven.
        follower: Proves it by a replica, where the copy is read from one.
        hold: Keeps other instances from a proof for `HOLD_SECONDS`.
        owes: Returns whether something made here is still to be written.

    Attributes:
        instances: How many there were at the last tick, this one included.
        is_refused: Whether Redis accepted no writes at the last tick, and answered all the same.
    """

    def __init__(  # noqa: PLR0913 - what it reads, what it applies to, what it compares
        self,
        run: Run,
        log: Log,
        records: Records,
        *,
        audit: Audit,
        denylist: Denylist,
        applier: Applier,
        repair: Repair,
        unseen_writes: UnseenWrites,
        fleet: Fleet,
        heartbeats: Heartbeats,
        follower: Follower | None = None,
        hold: Callable[[], Awaitable[None]],
        owes: Callable[[], bool],
    ) -> None:
        self._run = run
        self._continuity = run.continuity
        self._log = log
        self._records = records
        self._audit = audit
        self._denylist = denylist
        self._applier = applier
        self._repair = repair
        self._unseen_writes = unseen_writes
        self._fleet = fleet
        self._heartbeats = heartbeats
        self._follower = follower
        self._hold = hold
        self._owes = owes
        self._was_listed = bool(len(denylist))
        self._times_set_back = denylist.clock.times_set_back
        self._list_not_before = -math.inf
        self._server = ""
        self._proven_at = -math.inf
        self.instances = 1
        self.is_refused = False
        self._suspicion: Break | None = None
        self._suspicion_not_before = -math.inf

    async def prove(self) -> float:
        """Read the log to its end, and return the moment for which that proves the copy.

        Returns:
            The moment, in elapsed seconds.

        Raises:
            UnsettledError: It proves nothing, because Redis may lack what others know.
            StoreError: It could not be read.
            ConfigurationError: This Redis must not be used.
        """
        await self._audit.once()
        while reason := self._reason_to_list():
            seen = self._denylist.clock.times_set_back  # one more while it lists is another reason
            await self._list(reason)
            self._times_set_back = seen
        moment = await self._follow()
        if moment is None:
            moment = await self._read_primary()
        # A replica proves what was a moment ago, and the primary may have been asked since.
        self._proven_at = max(self._proven_at, moment)
        return self._proven_at

    async def _read_primary(self) -> float:
        breaks = 0
        while True:
            sent = self._run.clock.elapsed()
            page = await self._read()
            entries = self._continuity.read(page.epoch, page.entries) if page else Break.NOT_LISTED
            if isinstance(entries, Break):
                breaks += 1
                if breaks > _RESYNCS_PER_READ:
                    raise StoreError("the log does not stay the same while it is read")
                self._log.doubt_primary()  # one that was deposed may have come back
                if page is not None and page.refusal:  # nothing can be held, or written back
                    raise RefusedError(f"Redis: {page.refusal}".rstrip("."))
                await self._list(entries)
                continue
            await self._take(entries)
            if page is not None:
                self._note_server(page, sent)
            if page is not None and not page.more:
                if self._follower is not None:
                    self._follower.note_primary(page, sent)
                    self._run.conditions.note_or_over("replica", self._follower.trouble)
                await self._beat_if_wanted(page)
                await self._look_for_lost_writes(sent)
                self._check_settled(page)
                return min(sent, page.confirmed_at)

    async def _follow(self) -> float | None:
        """Return the moment for which a replica proves the copy; None to ask the primary."""
        follower, position = self._follower, self._continuity.position
        if follower is None or position is None or self._suspicion or self._run.wants_primary:
            return None
        if self._heartbeats.due(position) is not None or not await self._log.is_as_read():
            return None
        moment = await follower.follow(self._continuity, self._server, self._take)
        if moment is None:
            return None
        self._run.conditions.over("replica")
        self.instances = follower.instances
        await self._look_for_lost_writes(moment)
        if self._reason_to_list():
            raise StoreError("the wall clock was set back while the log was read")
        return moment

    async def _take(self, entries: Sequence[Entry]) -> None:
        self._unseen_writes.seen(entries)
        await self._apply(entries)

    async def _beat_if_wanted(self, page: Page) -> None:
        position = self._continuity.position
        if page.wants_heartbeat and position is not None:
            await self._heartbeats.beat(position)

    def _check_settled(self, page: Page) -> None:
        if page.unsettled:
            raise page.unsettled
        if self._reason_to_list():
            raise StoreError("the wall clock was set back while the log was read")

    @property
    def suspicion(self) -> Break | None:
        """Why Redis may lack what the copy holds, although the log goes on; None for not now."""
        is_due = self._run.clock.elapsed() >= self._suspicion_not_before
        return self._suspicion if is_due else None

    def use_of_listing(self) -> Break | None:
        """Return why to list again although no proof depends on it; None for not now."""
        if (suspicion := self.suspicion) is not None:
            return suspicion
        if self._run.clock.elapsed() < self._list_not_before:
            return None
        if not self._unseen_writes.complete:
            return Break.WRITES_FORGOTTEN
        if not self._denylist.complete and self._denylist.has_room:
            return Break.ROOM_AGAIN
        return None

    async def list_again(self, reason: Break) -> None:
        """List again for a reason that `use_of_listing` has given; not too often where it fails.

        Raises:
            StoreError: Redis could not be listed.
        """
        self._list_not_before = self._run.clock.elapsed() + _LIST_AGAIN_SECONDS
        if reason is self._suspicion:
            # Others are held meanwhile; not all the time, where it fails again and again.
            self._suspicion_not_before = self._run.clock.elapsed() + _SUSPECT_AGAIN_SECONDS
        await self._list(reason)
        if reason is self._suspicion:
            self._suspicion = None

    def _note_server(self, page: Page, sent: float) -> None:
        """Look for what may have let records expire, or be lost, that the log still shows."""
        jump = self._fleet.note_time(sent, self._run.clock.elapsed(), page.time)
        self._fleet.note_life(page.longest_life)
        self.instances = max(1, page.instances)
        self._run.conditions.note_or_over("clock", self._fleet.disagreement)
        self._run.conditions.note_or_over("writes", page.refusal)
        if self._server and page.server != self._server:
            self._suspect(Break.SERVER_CHANGED)
        elif abs(jump) > _JUMP_SECONDS:
            self._suspect(Break.SERVER_CLOCK_JUMPED)
        self._server = page.server
        self._run.sees_restarts = bool(page.server)

    def _suspect(self, reason: Break) -> None:
        self._heartbeats.renew()
        if self._suspicion is None:
            self._suspicion_not_before = -math.inf
        self._suspicion = reason

    def _reason_to_list(self) -> Break | None:
        self._denylist.clock.now()  # notices a step
        if self._times_set_back != self._denylist.clock.times_set_back:
            return Break.CLOCK_SET_BACK
        return None

    async def _read(self) -> Page | None:
        position = self._continuity.position
        if position is None:
            return None
        now = self._run.clock.elapsed()
        self._run.wants_primary = False
        told = None if self.is_refused else self._heartbeats.due(position)
        try:
            page = await self._log.read(position, told)
        except RefusedError:
            self._run.refused_at = self._run.clock.elapsed()
            raise
        self.is_refused = bool(page.refusal)
        if self.is_refused:
            self._run.refused_at = self._run.clock.elapsed()
        elif told is not None:
            self._heartbeats.sent(now)
        return page

    async def _apply(self, entries: Sequence[Entry]) -> None:
        try:
            await self._applier.apply_entries(entries)
        except Exception:
            self._continuity.forget()  # or the next page would be taken to follow them
            raise

    async def _look_for_lost_writes(self, sent: float) -> None:
        count = 0
        for count, revocations in enumerate(self._unseen_writes.missed(sent), start=1):
            self._repair.lost(revocations)
            if count % _LOST_AT_ONCE == 0:
                await asyncio.sleep(0)  # let requests through
        if count:
            logger.warning(
                "revokebus: the log lacks %d writes that Redis has acknowledged or published",
                count,
                extra=event("writes_lost"),
            )

    async def _list(self, reason: Break) -> None:
        """Add every record that Redis has; what is here already stays."""
        self._heartbeats.renew()
        self._note_reason(reason)
        began, left_out = self._run.clock.elapsed(), self._denylist.left_out
        if reason in _LOSSES:
            await self._hold()
        # The position first: what comes after it is read from the log.
        position = await self._log.position()
        reason = await self._worse(reason, position)
        records = await self._source(position, reason)
        async with self._turn(records, reason) as from_log:
            await self._list_up_to(records, position, reason, from_log=from_log)
        for revocations in self._unseen_writes.compared(began, position.entry.id):
            self._repair.lacks(revocations)
        self._continuity.restart(position)
        self._was_listed = True
        if self._denylist.left_out == left_out and reason not in _LOSSES:
            self._denylist.completed()
        elif reason in _LOSSES and not self._denylist.complete:
            logger.error(
                "revokebus: Redis has lost data, and this copy had no room for all of it; what "
                "no other instance holds is lost: raise max_entries (REVOKEBUS_MAX_ENTRIES)",
                extra=event("loss_not_covered"),
            )

    async def _source(self, position: Position, reason: Break) -> Records:
        """Return what lists everything up to `position`."""
        if self._follower is None:
            return self._records
        self._follower.forget()
        # What the primary lacks, and this instance knows, only the primary can tell.
        knows_nothing = reason is Break.NOT_LISTED and not self._was_listed and not self._owes()
        if knows_nothing and await self._follower.can_list(position):
            return self._follower.listing
        return self._records

    def _turn(self, records: Records, reason: Break) -> AbstractAsyncContextManager[bool]:
        if reason is not Break.NOT_LISTED:
            return contextlib.nullcontext(enter_result=False)
        # Others may need what this instance knows.
        return records.turn(may_wait=not self._was_listed and not self._owes())

    async def _list_up_to(
        self, records: Records, position: Position, reason: Break, *, from_log: bool
    ) -> None:
        may_evict = self._audit.may_evict
        self._repair.begin(may_lack=may_evict)
        if not from_log or may_evict:
            await self._apply_records(records.records(position), reason)
        if reason in _UNREAD or may_evict:
            # Records may have been evicted, deleted, or expired by a wrong clock; the log has what
            # was revoked since it began.
            async with contextlib.aclosing(records.history(position)) as pages:
                async for payloads in pages:
                    listed = from_log and not may_evict  # or records would seem to have it
                    await self._applier.apply_all("row", payloads, listed=listed)
        await self._repair.compare(is_loss=reason is Break.NOT_LISTED or reason in _LOSSES)

    async def _worse(self, reason: Break, position: Position) -> Break:
        """Return why to list: a data set that is new would not show on the next page any more."""
        if reason in _LOSSES or self._continuity.epoch in ("", position.epoch):
            return reason
        await self._hold()
        return Break.EPOCH_CHANGED

    def _note_reason(self, reason: Break) -> None:
        if reason is not Break.NOT_LISTED:
            self._run.counters.resyncs[reason.name.lower()] += 1
            logger.warning(
                "revokebus lists all revocations again: %s", reason.value, extra=event("resync")
            )

    async def _apply_records(
        self, records: AsyncGenerator[list[bytes | None]], reason: Break
    ) -> None:
        held_at = -math.inf
        async with contextlib.aclosing(records) as pages:
            async for payloads in pages:
                await self._applier.apply_all("record", payloads, listed=True)
                if reason in _LOSSES and self._run.clock.elapsed() - held_at > HOLD_SECONDS / 2:
                    held_at = self._run.clock.elapsed()
                    await self._hold()
