"""Follows the log at a replica, as far as bookmarks prove that it is up to date."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from revokebus.errors import StoreError
from revokebus.protocol.bookmark import PrimaryClock, decode_bookmark
from revokebus.protocol.continuity import Break
from revokebus.protocol.wire import DATA_VERSION, encode_entry_id
from revokebus.scripts import bookmarks
from revokebus.store.listing import PAGE_ENTRIES
from revokebus.store.settling import LATE_SECONDS, replica_deadline
from revokebus.store.store import PAGE_BYTES, entry_of, named_row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from revokebus.clock import Clock
    from revokebus.connection.primary import Server
    from revokebus.connection.requests import Requests
    from revokebus.connection.script import Argument
    from revokebus.protocol.bookmark import Bookmark
    from revokebus.protocol.continuity import Continuity, Entry, Position
    from revokebus.protocol.names import Names
    from revokebus.settings.settings import Settings
    from revokebus.store.listing import Listing
    from revokebus.store.store import Page

    Take = Callable[[Sequence[Entry]], Awaitable[None]]

_OLD_SHARE = 1 / 2
_SHORTEST_REST, _LONGEST_REST = 1.0, 10.0
_LOOKS, _LOOKS_EVERY = 10, 0.1
_FEW = 2


@dataclass(frozen=True, slots=True)
class ReplicaPage:
    """A part of the log as a replica has it, and what it knows of the rest.

    Attributes:
        epoch: The data set's name; empty where there is none.
        version: The version of the data.
        bookmark: The last one that the replica has; None where it has none.
        server: Which process is noted as the primary.
        entries: The entries.
        more: Whether there are more of them.
        is_held: Whether a hold is set, or an instance writes back what Redis has lost.
        wants_heartbeat: Whether this instance must send a heartbeat before anything is proven.
        time: What time it is at the replica, in seconds since the epoch.
    """

    epoch: str
    version: bytes
    bookmark: Bookmark | None
    server: str
    entries: Sequence[Entry]
    more: bool
    is_held: bool
    wants_heartbeat: bool
    time: float


class Follower:
    """Proves the copy by what a replica has, until the primary has to be asked.

    It has to be asked before the first bookmark is known, and wherever a replica shows anything
    but the log going on: what that means only the primary can tell.

    Args:
        settings: How old a proof may be.
        clock: Tells how much time has passed.
        requests: Sends them to the replica.
        names: The names of what is read.
        listing: Lists what the replica has.

    Attributes:
        listing: As above.
        trouble: Why the replica is of no use at the moment; empty where it is.
        instances: How many instances there were at the last look.
        missed: Set while the primary has no bookmark that was written lately.
    """

    def __init__(
        self, settings: Settings, clock: Clock, requests: Requests, names: Names, listing: Listing
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._requests = requests
        self._names = names
        self.listing = listing
        self._primary_clock = PrimaryClock()
        self._read_at: int | None = None
        self._proven_at = -math.inf
        self._shown: ReplicaPage | None = None
        self._asked: Server | None = None
        self._rest, self._not_before = _SHORTEST_REST, -math.inf
        self.trouble = ""
        self.instances = 1
        self.missed = asyncio.Event()

    def note_primary(self, page: Page, sent: float) -> None:
        """Note what the primary said, whose log was read to its end.

        Args:
            page: The end of the log.
            sent: When the primary was asked, in elapsed seconds.
        """
        shown, self._shown = self._shown, None
        bookmark = page.bookmark
        if bookmark is None:
            self._read_at = 0
            self.missed.set()
            return
        self._read_at = bookmark.number
        self._primary_clock.measure(bookmark, sent, page.time)
        if page.time - bookmark.written > LATE_SECONDS:
            self.missed.set()
        else:
            self.missed.clear()
        if shown is None or page.unsettled:
            return
        if shown.epoch != page.epoch or shown.bookmark is None:
            self._leave("has another data set than the primary")
        elif bookmark.number > shown.bookmark.number + _FEW:
            self._leave("is behind the primary")

    def forget(self) -> None:
        """Let the primary be asked next: where the copy stands is not known any more."""
        self._read_at = None

    async def follow(self, continuity: Continuity, server: str, take: Take) -> float | None:
        """Read the log of the replica to its end.

        Args:
            continuity: Where the copy stands.
            server: Which process was the primary when that was asked last.
            take: Applies entries.

        Returns:
            The moment for which that proves the copy, in elapsed seconds; None where the primary
            has to be asked.
        """
        if self._read_at is None or self._clock.elapsed() < self._not_before:
            return None
        try:
            moment = await self._read_to_end(continuity, server, take)
        except StoreError as error:
            self._leave(str(error))
            return None
        if moment is None:
            return None
        self._shown = None
        self._proven_at = max(self._proven_at, moment)
        self.trouble, self._rest = "", _SHORTEST_REST
        too_old = self._clock.elapsed() - moment > _OLD_SHARE * self._settings.max_staleness
        return None if too_old else self._proven_at

    async def _read_to_end(self, continuity: Continuity, server: str, take: Take) -> float | None:
        while (position := continuity.position) is not None:
            now = self._clock.elapsed()
            page = self._shown = await self._read(position)
            bookmark, moment = page.bookmark, self._moment(page, now)
            if bookmark is None or moment is None or not self._is_as_known(page, server):
                return None
            if not continuity.continues(page.epoch, page.entries):
                # Where its bookmark is no newer than one that the copy goes beyond, it is behind.
                is_behind = bookmark.number <= (self._read_at or 0)
                return self._proven_at if is_behind else None
            entries = continuity.read(page.epoch, page.entries)
            if isinstance(entries, Break):
                return None
            await take(entries)
            self._read_at = bookmark.number
            if not page.more:
                # A replica has the bookmark after all that is before it, or is no replica of it.
                return moment if page.entries[-1].id >= bookmark.last else None
        return None

    def _moment(self, page: ReplicaPage, now: float) -> float | None:
        """Return what the page proves; None where that is not known, or the replica is too late."""
        if page.bookmark is None:
            return None
        moment = self._primary_clock.moment(page.bookmark)
        written = self._primary_clock.written(page.bookmark)
        if moment is None or written is None:
            return None
        # One that is later than now is of a clock that has jumped.
        return moment if moment <= now and now - written <= LATE_SECONDS else None

    def _is_as_known(self, page: ReplicaPage, server: str) -> bool:
        is_same = page.version == b"%d" % DATA_VERSION and page.server == server
        return is_same and not page.is_held and not page.wants_heartbeat

    def _leave(self, reason: str) -> None:
        """Ask another replica, after a rest, the longer the more often; until then the primary."""
        self.trouble = reason
        self._not_before = self._clock.elapsed() + self._rest
        if self._asked is not None:
            is_long = self._rest >= _LONGEST_REST
            self._requests.primary.leave(self._asked, renew=is_long)
        self._rest = min(2 * self._rest, _LONGEST_REST)

    async def _read(self, after: Position) -> ReplicaPage:
        names = self._names
        keys = [names.meta, names.log, names.hold, names.repair, names.instances]
        args: list[Argument] = [encode_entry_id(after.entry.id), PAGE_ENTRIES, PAGE_BYTES]
        args += [named_row(after.entry.payload), names.instance]
        async with self._requests.deadline(replica_deadline(self._settings)):
            self._asked = await self._requests.primary.server()
            answer = await self._requests.primary.run(
                lambda redis: bookmarks.FOLLOW.run(redis, keys, args)
            )
        (epoch, version, bookmark, server), rows, more, held, wanted, counted, time = answer
        self.instances = max(1, counted)
        seconds, microseconds = time.split()
        return ReplicaPage(
            epoch=epoch.decode(),
            version=version,
            bookmark=decode_bookmark(bookmark),
            server=server.decode(),
            entries=[entry_of(*row) if row[1] else after.entry for row in rows],
            more=bool(more),
            is_held=bool(held),
            wants_heartbeat=bool(wanted),
            time=int(seconds) + int(microseconds) / 1e6,
        )

    async def can_list(self, position: Position) -> bool:
        """Return whether a replica has everything up to `position`, or gets it in a moment.

        Whether the one that is then listed has it, the listing finds out. Records are written
        together with their entries, so that it has them as well. In a cluster only the primary
        knows whether keys are being moved to another one. And where the clock of a replica is
        ahead, records that live seem to have expired.
        """
        if self._settings.is_cluster:
            return False
        try:
            for _ in range(_LOOKS):
                page = await self._read(position)
                has_it = page.epoch == position.epoch and page.entries[:1] == [position.entry]
                if has_it and page.version == b"%d" % DATA_VERSION:
                    return page.time <= self._clock.wall() + self._settings.leeway
                await asyncio.sleep(_LOOKS_EVERY)
        except StoreError as error:
            self._leave(str(error))
        return False
