"""A clock that a test moves by hand."""

from __future__ import annotations

import time


class ManualClock:
    """Stands still until told otherwise; begins at the present.

    Implements `revokebus.clock.Clock`.
    """

    def __init__(self) -> None:
        self._wall = time.time()
        self._elapsed = 1000.0

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return self._wall

    def elapsed(self) -> float:
        """Return seconds since some moment."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._wall += seconds
        self._elapsed += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back, without any time passing."""
        self._wall += seconds
