"""The latest cut-off, which new sign-ins and new cut-offs are put after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from revokebus.protocol.revocation import just_after

if TYPE_CHECKING:
    from revokebus.clock import Clock
    from revokebus.protocol.revocation import Revocation

_SLACK = 1.0


class CutOffs:
    """What is known of cut-offs that are a little ahead of this machine's clock.

    The clock of their author may be ahead, and he has added the leeway to it. One that is further
    ahead is a mistake, and does not count.

    Args:
        clock: Tells the wall time.
        leeway: By how many seconds the clocks of instances may differ.
    """

    def __init__(self, clock: Clock, leeway: float) -> None:
        self._clock = clock
        self._ahead = 2 * leeway + _SLACK
        self._latest = 0.0

    def note(self, revocation: Revocation) -> None:
        """Take notice of a revocation, whatever it is about."""
        if self._latest < revocation.cut_off <= self._clock.wall() + self._ahead:
            self._latest = revocation.cut_off

    def after(self, moment: float) -> float:
        """Return `moment`, or one after the latest cut-off, whichever is later."""
        if self._latest > self._clock.wall() + self._ahead:
            return moment  # the clock was set back
        return max(moment, just_after(self._latest))
