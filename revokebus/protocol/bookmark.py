"""What a bookmark proves: a replica that shows it has all that the primary had done before.

A primary writes bookmarks into its data one after another. Its replicas do what it has done, in the
same order. One that shows a bookmark therefore has every revocation that was acknowledged before
the bookmark's moment. That moment is told by the primary's clock; this process measures it against
its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from revokebus.protocol.wire import decode_entry_id

if TYPE_CHECKING:
    from revokebus.protocol.wire import EntryId

_DRIFT, _KEPT_SECONDS = 0.001, 60.0
_FORM = re.compile(
    rb"(\d{1,15}) (\d{1,12}\.\d{1,6}) (\d{1,12}\.\d{1,6}) ([0-9a-f]{16}) (\d{1,20}-\d{1,20})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Bookmark:
    """What was known of the primary at a moment.

    Attributes:
        number: How many bookmarks the data set has had. After a failover that lost some of them a
            number can come twice.
        written: When it was written, in seconds since the epoch by the primary's clock.
        time: The moment for which it proves, likewise.
        clock: Names that clock. Where it has jumped, or another server is the primary, it has
            another name.
        last: The last entry of the log then.
    """

    number: int
    written: float
    time: float
    clock: str
    last: EntryId


def decode_bookmark(text: bytes | None) -> Bookmark | None:
    """Return a bookmark; None where there is none, or something else."""
    match = _FORM.fullmatch(text or b"")
    if match is None:
        return None
    number, written, time, clock, last = match.groups()
    entry = decode_entry_id(last)
    return Bookmark(int(number), float(written), float(time), clock.decode(), entry)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What time it was at the primary: by which clock, and after which bookmark."""

    clock: str
    number: int
    sent: float
    time: float

    @property
    def ahead(self) -> float:
        """By how much this process's clock was ahead: less where the other one was later."""
        return self.sent - self.time

    def moment(self, time: float) -> float:
        since = time - self.time
        return self.sent + since - _DRIFT * abs(since)


class PrimaryClock:
    """The primary's clock, measured by one of this process."""

    def __init__(self) -> None:
        self._last: _Measured | None = None
        self._others: list[_Measured] = []

    def measure(self, bookmark: Bookmark, sent: float, time: float) -> None:
        """Note what time it was at the primary.

        Args:
            bookmark: The last one at that moment.
            sent: When it was asked, in elapsed seconds.
            time: What it said, in seconds since the epoch.
        """
        known = [*self._others, *([self._last] if self._last else [])]
        # The one by which a bookmark is oldest, and the last one before this.
        known = [each for each in known if each.clock == bookmark.clock]
        lasting = [each for each in known if each.sent > sent - _KEPT_SECONDS]
        oldest = min(lasting, key=lambda each: each.ahead, default=None)
        self._others = [each for each in (oldest, *known[-1:]) if each is not None]
        self._last = _Measured(bookmark.clock, bookmark.number, sent, time)

    def moment(self, bookmark: Bookmark) -> float | None:
        """Return for when a bookmark proves, in elapsed seconds; never later than it was.

        None where its clock was not measured. The answer to the measurement may have taken its time
        to come, and the two clocks may drift apart by a thousandth since then.
        """
        return self._elapsed(bookmark, bookmark.time)

    def written(self, bookmark: Bookmark) -> float | None:
        """Return likewise when a bookmark was written."""
        return self._elapsed(bookmark, bookmark.written)

    def _elapsed(self, bookmark: Bookmark, time: float) -> float | None:
        last = self._last
        if last is None or bookmark.clock != last.clock:
            return None
        if bookmark.number > last.number:
            return last.moment(time)
        # The clock may have been set back after it was written, and before it was measured.
        if not self._others:
            return None
        return min(each.moment(time) for each in (last, *self._others))
