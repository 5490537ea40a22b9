"""What an instance counts, for whoever exports it as metrics.

Plain numbers, because a request has no time for more. Threads may lose one now and then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

PROPAGATION_BOUNDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
"""The upper bounds of the histogram of propagation times, in seconds."""


class Histogram:
    """How many values were at most each bound.

    Args:
        bounds: In ascending order.

    Attributes:
        bounds: Likewise.
        total: The sum of all values.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counters = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counters[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[int]:
        """Return how many values were at most each bound, and at last how many there were."""
        sums, so_far = [], 0
        for count in self._counters:
            so_far += count
            sums.append(so_far)
        return sums


@dataclass(eq=False, slots=True)
class Counters:
    """What was counted since the bus was made.

    Attributes:
        recalled: Checks of tokens that were accepted in the quick way.
        checks: All other checks, by outcome.
        cache_hits: How many of the latter needed no check of a signature.
        ticks: Looks at the log, by outcome: ``proven``, ``unsettled`` or ``failed``.
        gaps: Messages of the channel that did not follow the one before.
        resyncs: Listings after the first one, by reason.
        replays: Refresh tokens that were used again, each of which ended a session.
        repaired: Revocations written back that Redis had lost.
        subscriptions: How often a subscription was made.
        write_failures: Writes that did not become durable when they were asked for.
        propagation: From a row's time, by Redis's clock in whole milliseconds, until its message
            was applied here, by this machine's clock.
    """

    recalled: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    cache_hits: int = 0
    ticks: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    resyncs: Counter[str] = field(default_factory=Counter)
    replays: int = 0
    repaired: int = 0
    subscriptions: int = 0
    write_failures: int = 0
    propagation: Histogram = field(default_factory=lambda: Histogram(PROPAGATION_BOUNDS))
