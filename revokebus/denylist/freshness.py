"""How old the copy is, and whether it may decide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from revokebus.clock import NOTICED_STEP

if TYPE_CHECKING:
    from revokebus.clock import Clock, ExpiryClock


class Freshness:
    """The age of the copy, against the bound that it must not exceed.

    The age is computed when it is read: a copy becomes stale without anything having to happen.

    Args:
        clock: Tells the time, and how much of it has passed.
        expiry_clock: The one that the copy goes by.
        bound: The greatest age of a copy that decides, in seconds (``max_staleness``).

    Attributes:
        bound: As above.
        proven_at: The moment for which the copy was last proven complete, in elapsed seconds. Minus
            infinity before the first proof; infinity where the copy is the original.
        least_ahead: By how many seconds the wall clock must be ahead of the elapsed time. Where it
            is less, the clock was set back since the proof, and what was taken for expired, and is
            not in the copy, may be alive.
    """

    __slots__ = ("_clock", "_expiry_clock", "bound", "least_ahead", "proven_at")

    def __init__(self, clock: Clock, expiry_clock: ExpiryClock, bound: float) -> None:
        self._clock = clock
        self._expiry_clock = expiry_clock
        self.bound = bound
        self.proven_at = self.least_ahead = -math.inf

    def prove(self, moment: float) -> None:
        """Note that the copy was complete at `moment`, in elapsed seconds."""
        self.proven_at = moment
        self.least_ahead = self._expiry_clock.ahead - NOTICED_STEP

    def forget(self) -> None:
        """Note that nothing is known of the copy."""
        self.proven_at = -math.inf

    def be_original(self) -> None:
        """Note that the copy is the original, and never ages."""
        self.proven_at, self.least_ahead = math.inf, -math.inf

    @property
    def age(self) -> float | None:
        """Seconds since the copy was last proven complete; None before the first proof."""
        if math.isinf(self.proven_at):
            return 0.0 if self.proven_at > 0 else None
        return self._clock.elapsed() - self.proven_at

    @property
    def is_fresh(self) -> bool:
        """Whether the copy may decide."""
        elapsed = self._clock.elapsed()
        return (
            elapsed - self.proven_at <= self.bound
            and self._clock.wall() - elapsed >= self.least_ahead
        )

    @property
    def state(self) -> Literal["starting", "fresh", "stale"]:
        """``starting`` before the first proof, then ``fresh`` or ``stale``."""
        if self.proven_at == -math.inf:
            return "starting"
        return "fresh" if self.is_fresh else "stale"

    @property
    def seconds_left(self) -> float:
        """For how many seconds the copy stays fresh without another proof; 0 if it is not."""
        return max(0.0, self.bound - (self._clock.elapsed() - self.proven_at))
