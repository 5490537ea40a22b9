"""Decides what the log and the channel prove. No I/O, no clock.

The position is the last entry of the log that the local copy is known to include. A page of the
log read from that entry *inclusive* proves that nothing was lost if it comes from the same data
set (the epoch) and begins with the very entry that is remembered: ids alone are not enough,
because a replica promoted with a shorter log hands the same ids out again.

A push proves nothing. It names the entry before it, so that a missing one shows at once, and it
never moves the position: a stranger on the channel can cause an early look at the log, not
more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.protocol.wire import EntryId, Message


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log."""

    id: EntryId
    payload: bytes


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log of one data set.

    Attributes:
        epoch: The random name of the data set.
        entry: The last entry included. An empty log is given an entry that revokes nothing, because
            a log that is empty once and empty again proves nothing.
    """

    epoch: str
    entry: Entry


class Push(Enum):
    """What a message of the channel calls for."""

    APPLY = auto()
    APPLY_AND_TICK = auto()
    TICK = auto()


class Break(Enum):
    """Why a page does not continue the copy, so that everything must be listed again."""

    NOT_LISTED = "nothing was listed yet"
    EPOCH_CHANGED = "Redis has another data set than before"
    ROW_MISSING = "the log no longer has the entry that was read last"
    ROOM_AGAIN = "the copy has room again for what it had to leave out"
    WRITES_FORGOTTEN = "more was written than could be remembered until the log is read"
    SERVER_CHANGED = "another server answers, or the same one was started again"
    SERVER_CLOCK_JUMPED = "Redis's clock has jumped, so records may have expired too early"
    CLOCK_SET_BACK = "the wall clock was set back, so records may have been taken for expired"


@dataclass(slots=True)
class Continuity:
    """Where the local copy stands."""

    position: Position | None = None
    _last_heard: EntryId = (0, 0)
    _unbroken: bool = False
    _is_broken: bool = False

    @property
    def epoch(self) -> str:
        """The data set that is known; empty where none is."""
        return self.position.epoch if self.position else ""

    def restart(self, position: Position) -> None:
        """Take `position` as included, because everything up to it was listed."""
        self.position = position
        self._last_heard = position.entry.id
        self._unbroken, self._is_broken = True, False

    def hear(self, message: Message) -> Push:
        """Judge a message of the channel."""
        if self.position is None or message.epoch != self.position.epoch:
            return Push.TICK
        if message.entry <= self.position.entry.id or message.entry == self._last_heard:
            return Push.APPLY
        in_order = message.previous == self._last_heard
        # The latest message, not the greatest: an invented entry far ahead must not end the chain.
        self._last_heard = message.entry
        self._unbroken = self._unbroken and in_order
        return Push.APPLY if in_order else Push.APPLY_AND_TICK

    def covers(self, epoch: str, entry: EntryId) -> bool:
        """Return whether everything up to `entry` was read, or heard without a gap."""
        if self.position is None or epoch != self.position.epoch or self._is_broken:
            return False
        return entry <= self.position.entry.id or (self._unbroken and entry <= self._last_heard)

    def forget(self) -> None:
        """Know no position, so that everything is listed."""
        self.position = None

    def continues(self, epoch: str, entries: Sequence[Entry]) -> bool:
        """Return whether a page of the log goes on from the position."""
        position = self.position
        return position is not None and epoch == position.epoch and entries[:1] == [position.entry]

    def read(self, epoch: str, entries: Sequence[Entry]) -> Sequence[Entry] | Break:
        """Judge a page of the log that was read from the position inclusive.

        Returns:
            The entries to apply; or why the page does not continue the copy.
        """
        if self.position is None:
            return Break.NOT_LISTED
        # Until all was listed, ids say nothing: a server may give them out a second time.
        if epoch != self.position.epoch:
            self._is_broken = True
            return Break.EPOCH_CHANGED
        if not entries or entries[0] != self.position.entry:
            self._is_broken = True
            return Break.ROW_MISSING
        self.position = Position(epoch, entries[-1])
        self._last_heard = max(self._last_heard, entries[-1].id)
        self._unbroken = self._unbroken or self._last_heard == entries[-1].id
        return entries[1:]
