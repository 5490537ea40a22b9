"""What the log has yet to show, because Redis has acknowledged it or has been heard to publish it.

A server that restarts from a snapshot between two ticks, or is replaced by a replica, has the old
position and lacks the new entry. Its writer can tell, and if that is gone, those that heard it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from revokebus.errors import WireError
from revokebus.protocol.wire import decode_payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from revokebus.protocol.continuity import Entry
    from revokebus.protocol.revocation import Revocation
    from revokebus.protocol.wire import EntryId

_MOST, _MOST_REVOCATIONS = 10_000, 50_000
_MOST_HEARD_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class _Write:
    """One entry.

    Attributes:
        at: When it was acknowledged or heard, in elapsed seconds.
        revocations: What it says; None where that was heard, and has to be read.
        heard_bytes: How much of the room for what was heard it takes.
    """

    at: float
    revocations: Sequence[Revocation] | None
    heard_bytes: int = 0


class UnseenWrites:
    """What must be in the log when it is next read to its end.

    Attributes:
        complete: Whether all own writes were remembered since the last comparison. While the log
            cannot be read, there may be too many; and where a million are written back at once.
    """

    def __init__(self) -> None:
        # By the whole entry: after a loss, Redis gives the same ids out again.
        self._writes: dict[Entry, _Write] = {}
        self._heard_bytes = self._own = 0
        self._read_to: EntryId = (0, 0)
        self.complete = True

    def remember(self, entry: Entry, at: float, revocations: Sequence[Revocation]) -> None:
        """Note that `entry` was acknowledged.

        Args:
            entry: The entry.
            at: When, in elapsed seconds.
            revocations: What it says.
        """
        if entry.id <= self._read_to:
            return  # the answer came after the log was read
        if entry in self._writes:
            return  # it was heard, and can be read
        if len(self._writes) < _MOST and self._own + len(revocations) <= _MOST_REVOCATIONS:
            self._own += len(revocations)
            self._writes[entry] = _Write(at, revocations)
        else:
            self.complete = False

    def hear(self, entry: Entry, at: float) -> None:
        """Note that `entry` was published `at`; of many, or long ones, not all are remembered."""
        if entry.id <= self._read_to or entry in self._writes:
            return
        size = self._heard_bytes + len(entry.payload)
        if len(self._writes) < _MOST and size <= _MOST_HEARD_BYTES:
            self._heard_bytes = size
            self._writes[entry] = _Write(at, None, len(entry.payload))

    def compared(self, began: float, read_to: EntryId) -> Iterator[Sequence[Revocation]]:
        """Note that everything acknowledged before `began` was compared with what Redis has.

        Args:
            began: The moment, in elapsed seconds.
            read_to: From which entry on the log will be read.

        Returns:
            What came in between: the log will not be read for it, and it may not have been listed.
        """
        before = [entry for entry, write in self._writes.items() if write.at < began]
        for entry in before:
            self._forget(entry)
        self._read_to = read_to
        self.complete = True
        return self._taken([entry for entry in self._writes if entry.id <= read_to])

    def seen(self, entries: Sequence[Entry]) -> None:
        """Note that the log shows `entries`."""
        for entry in entries:
            self._forget(entry)
        if entries:
            self._read_to = entries[-1].id

    def missed(self, sent: float) -> Iterator[Sequence[Revocation]]:
        """Return what a log that was asked for at `sent` should have shown; each is forgotten."""
        return self._taken([entry for entry, write in self._writes.items() if write.at < sent])

    def _taken(self, entries: Sequence[Entry]) -> Iterator[Sequence[Revocation]]:
        for entry in entries:
            write = self._forget(entry)
            if write is None:
                continue  # meanwhile
            revocations = write.revocations
            try:
                yield decode_payload(entry.payload) if revocations is None else revocations
            except WireError:
                continue  # a stranger's

    def _forget(self, entry: Entry) -> _Write | None:
        write = self._writes.pop(entry, None)
        if write is not None:
            self._heard_bytes -= write.heard_bytes
            self._own -= len(write.revocations or ())
        return write
