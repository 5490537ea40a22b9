"""How old the copy is, and whether it may decide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from revokebus.clock import Clock


class Freshness:
    """The age of the copy, against the bound that it must not exceed.

    The age is computed when it is read: a copy becomes stale without anything having to happen.

    Args:
        clock: Tells how much time has passed.
        bound: The greatest age of a copy that decides, in seconds (``max_staleness``).

    Attributes:
        bound: As above.
        proven_at: The moment for which the copy was last proven complete, in elapsed seconds. Minus
            infinity before the first proof; infinity where the copy is the original.
    """

    __slots__ = ("_clock", "bound", "proven_at")

    def __init__(self, clock: Clock, bound: float) -> None:
        self._clock = clock
        self.bound = bound
        self.proven_at = -math.inf

    def prove(self, moment: float) -> None:
        """Note that the copy was complete at `moment`, in elapsed seconds."""
        self.proven_at = moment

    def forget(self) -> None:
        """Note that nothing is known of the copy."""
        self.proven_at = -math.inf

    def be_original(self) -> None:
        """Note that the copy is the original, and never ages."""
        self.proven_at = math.inf

    @property
    def age(self) -> float | None:
        """Seconds since the copy was last proven complete; None before the first proof."""
        if math.isinf(self.proven_at):
            return 0.0 if self.proven_at > 0 else None
        return self._clock.elapsed() - self.proven_at

    @property
    def is_fresh(self) -> bool:
        """Whether the copy may decide."""
        return self._clock.elapsed() - self.proven_at <= self.bound

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
