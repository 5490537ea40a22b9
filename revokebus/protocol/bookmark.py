"""What a bookmark proves: whoever sees it sees all that the primary had done before.

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

_DRIFT = 0.001
_FORM = re.compile(rb"(\d{1,15}) (\d{1,12}\.\d{1,6}) ([0-9a-f]{16}) (\d{1,20}-\d{1,20})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bookmark:
    """What was known of the primary at a moment.

    Attributes:
        number: How many bookmarks the data set has had. After a failover that lost some of them a
            number can come twice.
        time: The moment, in seconds since the epoch by the primary's clock.
        clock: Names that clock. Where it has jumped, or another server is the primary, it has
            another name.
        last: The last entry of the log then.
    """

    number: int
    time: float
    clock: str
    last: EntryId


def decode_bookmark(text: bytes | None) -> Bookmark | None:
    """Return a bookmark; None where there is none, or something else."""
    match = _FORM.fullmatch(text or b"")
    if match is None:
        return None
    number, time, clock, last = match.groups()
    return Bookmark(int(number), float(time), clock.decode(), decode_entry_id(last))


class PrimaryClock:
    """The primary's clock, measured by one of this process."""

    def __init__(self) -> None:
        self._clock = ""
        self._sent = self._time = 0.0

    def measure(self, clock: str, sent: float, time: float) -> None:
        """Note what time it was at the primary.

        Args:
            clock: The name of its clock.
            sent: When it was asked, in elapsed seconds.
            time: What it said, in seconds since the epoch.
        """
        self._clock, self._sent, self._time = clock, sent, time

    def moment(self, bookmark: Bookmark) -> float | None:
        """Return when a bookmark was made, in elapsed seconds; never later than it was.

        None where its clock was not measured. The answer to the measurement may have taken its time
        to come, and the two clocks may drift apart by a thousandth since then.
        """
        if bookmark.clock != self._clock:
            return None
        since = bookmark.time - self._time
        return self._sent + since - _DRIFT * abs(since)
