"""The writes of this instance that Redis has acknowledged and the log has yet to show.

A server that restarts from a snapshot between two ticks has the old position and lacks the new
row; nothing but the writer can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from revokebus.continuity import Row
    from revokebus.revocation import Revocation
    from revokebus.wire import RowId


@dataclass(frozen=True, slots=True)
class _Write:
    at: float
    revocations: Sequence[Revocation]


class Acknowledged:
    """What must be in the log when it is next read to its end."""

    def __init__(self) -> None:
        self._writes: dict[RowId, _Write] = {}

    def remember(self, row: RowId, at: float, revocations: Sequence[Revocation]) -> None:
        """Note that `row` was acknowledged `at`, in elapsed seconds."""
        self._writes[row] = _Write(at, revocations)

    def clear(self) -> None:
        """Forget all: everything was compared with what Redis has."""
        self._writes.clear()

    def seen(self, rows: Iterable[Row]) -> None:
        """Note that the log shows `rows`."""
        for row in rows:
            self._writes.pop(row.id, None)

    def missed(self, sent: float) -> list[Revocation]:
        """Return, and forget, what a log that was asked for at `sent` should have shown."""
        rows = [row for row, write in self._writes.items() if write.at < sent]
        return [each for row in rows for each in self._writes.pop(row).revocations]
