"""Follows the log at a replica, as far as bookmarks prove that it is up to date."""

from __future__ import annotations

import asyncio
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from revokebus.errors import StoreError
from revokebus.protocol.bookmark import PrimaryClock, decode_bookmark
from revokebus.protocol.continuity import Break
from revokebus.protocol.wire import DATA_VERSION, encode_entry_id
from revokebus.scripts import bookmarks
from revokebus.store.listing import PAGE_ENTRIES
from revokebus.store.settling import SILENT_SECONDS, replica_deadline
from revokebus.store.store import LONG_ROW, PAGE_BYTES, entry_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from revokebus.clock import Clock
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
        instances: How many there are, some that have ended included.
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
    instances: int
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
        trouble: Why the replica is of no use at the moment; empty where it is.
        instances: How many instances there were at the last look.
        seen: The last bookmark that was seen, and when that was, in elapsed seconds.
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
        self._shown = 0
        self._is_held = False
        self._rest, self._not_before = _SHORTEST_REST, -math.inf
        self.trouble = ""
        self.instances = 1
        self.seen: tuple[Bookmark | None, float] = (None, -math.inf)

    def note_primary(self, page: Page, sent: float) -> None:
        """Note what the primary said, whose log was read to its end.

        Args:
            page: The end of the log.
            sent: When the primary was asked, in elapsed seconds.
        """
        self._see(page.bookmark)
        if self._read_at is None:
            self.seen = self.seen[0], self._clock.elapsed()  # there may be none yet
        self._read_at = 0
        if page.bookmark is not None:
            self._read_at = page.bookmark.number
            self._primary_clock.measure(page.bookmark.clock, sent, page.time)
            if self.trouble and self._read_at > self._shown + _FEW:
                self._requests.primary.leave()  # the primary has new ones

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
            self._rest_from(str(error))
            self._requests.primary.leave()
            return None
        now = self._clock.elapsed()
        # There is none before the first, and no new one while all are held.
        may_be_silent = self.seen[0] is not None and not self._is_held
        if may_be_silent and now - self.seen[1] > SILENT_SECONDS:
            self._rest_from(f"has shown no new bookmark for {SILENT_SECONDS:g} s")
            return None
        self.trouble, self._rest = "", _SHORTEST_REST
        if moment is None or now - moment > _OLD_SHARE * self._settings.max_staleness:
            return None
        self._proven_at = moment
        return moment

    async def _read_to_end(self, continuity: Continuity, server: str, take: Take) -> float | None:
        while (position := continuity.position) is not None:
            now = self._clock.elapsed()
            page = await self._read(position)
            self._is_held = page.is_held
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
                return moment
        return None

    def _moment(self, page: ReplicaPage, now: float) -> float | None:
        """Return when the last bookmark was made; None where that is not known."""
        if page.bookmark is None:
            return None
        self._see(page.bookmark)
        self._shown = page.bookmark.number
        moment = self._primary_clock.moment(page.bookmark)
        return moment if moment is not None and moment <= now else None

    def _is_as_known(self, page: ReplicaPage, server: str) -> bool:
        is_same = page.version == b"%d" % DATA_VERSION and page.server == server
        return is_same and not page.is_held and not page.wants_heartbeat

    def _see(self, bookmark: Bookmark | None) -> None:
        if bookmark is not None and bookmark != self.seen[0]:
            self.seen = bookmark, self._clock.elapsed()

    def _rest_from(self, reason: str) -> None:
        """Let the primary be asked for a while, the longer the more often that is so."""
        self.trouble = reason
        self._not_before = self._clock.elapsed() + self._rest
        self._rest = min(2 * self._rest, _LONGEST_REST)

    async def _read(self, after: Position) -> ReplicaPage:
        names = self._names
        keys = [names.meta, names.log, names.hold, names.repair, names.instances]
        payload = known = after.entry.payload
        if len(payload) > LONG_ROW:
            known = hashlib.sha1(payload, usedforsecurity=False).hexdigest().encode()
        args: list[Argument] = [encode_entry_id(after.entry.id), PAGE_ENTRIES, PAGE_BYTES]
        args += [known, names.instance]
        async with self._requests.deadline(replica_deadline(self._settings)):
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
            instances=self.instances,
            time=int(seconds) + int(microseconds) / 1e6,
        )

    async def can_list(self, position: Position) -> bool:
        """Return whether the replica has everything up to `position`, or gets it in a moment.

        Records are written together with their entries, so that it has them as well. In a cluster
        only the primary knows whether keys are being moved to another one. And where the clock of
        a replica is ahead, records that live seem to have expired.
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
            self._rest_from(str(error))
            self._requests.primary.leave()
        return False
