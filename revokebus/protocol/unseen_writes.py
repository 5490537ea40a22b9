"""The writes of this instance that Redis has acknowledged and the log has yet to show.

A server that restarts from a snapshot between two ticks, or is replaced by a replica, has the old
position and lacks the new entry; nothing but the writer can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.protocol.continuity import Entry
    from revokebus.protocol.revocation import Revocation
    from revokebus.protocol.wire import EntryId

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class _Write:
    at: float
    revocations: Sequence[Revocation]


class UnseenWrites:
    """What must be in the log when it is next read to its end.

    Attributes:
        complete: Whether all were remembered since the last comparison. While the log cannot be
            read, there may be too many.
    """

    def __init__(self) -> None:
        # By the whole entry: after a loss, Redis gives the same ids out again.
        self._writes: dict[Entry, _Write] = {}
        self._read_to: EntryId = (0, 0)
        self.complete = True

    def remember(self, entry: Entry, at: float, revocations: Sequence[Revocation]) -> None:
        """Note that `entry` was acknowledged `at`, in elapsed seconds."""
        if entry.id <= self._read_to:
            return  # the answer came after the log was read
        if len(self._writes) >= _MOST:
            self.complete = False
            return
        self._writes[entry] = _Write(at, revocations)

    def compared(self, began: float, read_to: EntryId) -> None:
        """Note that everything acknowledged before `began` was compared with what Redis has."""
        self._writes = {entry: write for entry, write in self._writes.items() if write.at >= began}
        self._read_to = read_to
        self.complete = True

    def seen(self, entries: Sequence[Entry]) -> None:
        """Note that the log shows `entries`."""
        for entry in entries:
            self._writes.pop(entry, None)
        if entries:
            self._read_to = entries[-1].id

    def missed(self, sent: float) -> list[Revocation]:
        """Return, and forget, what a log that was asked for at `sent` should have shown."""
        entries = [entry for entry, write in self._writes.items() if write.at < sent]
        return [each for entry in entries for each in self._writes.pop(entry).revocations]
