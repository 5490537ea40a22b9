"""The two clocks that a revocation depends on, behind one seam for tests."""

from __future__ import annotations

import time
from functools import partial
from typing import Protocol

NOTICED_STEP = 1.0
"""By how many seconds a wall clock must be set back for that to be noticed."""


class Clock(Protocol):
    """What time it is, and how much of it has passed."""

    def wall(self) -> float:
        """Return seconds since the epoch, the unit of ``exp`` and ``iat`` (RFC 7519 §2)."""

    def elapsed(self) -> float:
        """Return seconds since an arbitrary moment; never steps, counts suspend where it can."""


class SystemClock:
    """The machine's clocks."""

    # CLOCK_MONOTONIC stands still while a laptop or a virtual machine is suspended; a copy
    # that slept for an hour must not believe that it is half a second old.
    _ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    # Asked in every request, so there is nothing between the caller and the machine.
    wall = staticmethod(time.time)
    elapsed = staticmethod(partial(time.clock_gettime, _ELAPSED))


class ExpiryClock:
    """A wall clock that decides when a record may be dropped: it never runs ahead.

    It advances with `Clock.elapsed` from the smallest offset to the wall clock ever seen.
    A wall clock stepped forward does not move it, so the step drops nothing; one stepped back
    takes it along. Records are therefore held too long rather than too short.

    Args:
        clock: The clocks to read.

    Attributes:
        ahead: By how many seconds the wall clock was ahead of the elapsed time at the least.
        times_set_back: How often the wall clock was found set back by more than a second. What
            was taken for expired before may be alive then.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead = clock.wall() - clock.elapsed()
        self.times_set_back = 0

    def now(self) -> float:
        """Return seconds since the epoch by the cautious reckoning."""
        elapsed = self._clock.elapsed()
        ahead = self._clock.wall() - elapsed
        if ahead < self.ahead:
            self.times_set_back += self.ahead - ahead > NOTICED_STEP
            self.ahead = ahead
        return elapsed + self.ahead
