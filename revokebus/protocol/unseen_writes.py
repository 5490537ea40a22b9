"""The writes of this instance that Redis has acknowledged and the log has yet to show.

A server that restarts from a snapshot between two ticks, or is replaced by a replica, has the old
position and lacks the new row; nothing but the writer can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.protocol.continuity import Row
    from revokebus.protocol.revocation import Revocation
    from revokebus.protocol.wire import RowId

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class _Write:
    at: float
    row: Row
    revocations: Sequence[Revocation]


class Acknowledged:
    """What must be in the log when it is next read to its end.

    Attributes:
        complete: Whether all were remembered since the last comparison. While the log cannot be
            read, there may be too many.
    """

    def __init__(self) -> None:
        self._writes: dict[RowId, _Write] = {}
        self._read_to: RowId = (0, 0)
        self.complete = True

    def remember(self, row: Row, at: float, revocations: Sequence[Revocation]) -> None:
        """Note that `row` was acknowledged `at`, in elapsed seconds."""
        if row.id <= self._read_to:
            return  # the answer came after the log was read
        if len(self._writes) >= _MOST:
            self.complete = False
            return
        self._writes[row.id] = _Write(at, row, revocations)

    def compared(self, began: float, read_to: RowId) -> None:
        """Note that everything acknowledged before `began` was compared with what Redis has."""
        self._writes = {row: write for row, write in self._writes.items() if write.at >= began}
        self._read_to = read_to
        self.complete = True

    def seen(self, rows: Sequence[Row]) -> None:
        """Note that the log shows `rows`."""
        for row in rows:
            write = self._writes.get(row.id)
            # Ids are handed out again after a loss; the same id is not the same row.
            if write is not None and write.row == row:
                del self._writes[row.id]
        if rows:
            self._read_to = rows[-1].id

    def missed(self, sent: float) -> list[Revocation]:
        """Return, and forget, what a log that was asked for at `sent` should have shown."""
        rows = [row for row, write in self._writes.items() if write.at < sent]
        return [each for row in rows for each in self._writes.pop(row).revocations]
