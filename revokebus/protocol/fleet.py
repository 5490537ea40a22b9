"""What instances have to agree on to revoke each other's tokens: the time, and how long those live.

Sign-ins and cut-offs are compared across machines whose clocks differ. All of them can ask one
clock, that of Redis; each answer of it is from a moment between the question and the answer. So the
time is an interval, and a sign-in is dated at its beginning and a cut-off at its end: what came
first is dated first. Nothing is added for clocks that might be off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from revokebus.clock import Clock

_DRIFT = 0.001
_SHORTEST, _WIDEST = 0.001, 1.0
_STEADY_SECONDS = 10.0
_STEP = 1.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """By how much a clock was ahead of the elapsed time, give or take `error`."""

    ahead: float
    error: float
    at: float

    def error_at(self, elapsed: float) -> float:
        return self.error + _DRIFT * abs(elapsed - self.at)

    def agrees(self, other: _Sample) -> bool:
        return abs(self.ahead - other.ahead) <= self.error_at(other.at) + other.error


class Fleet:
    """The time of the fleet, and the longest life of a token in it.

    Redis's clock is believed while it is steady and no further from this machine's than the
    leeway. Where it, or this machine's, has jumped, the interval is as wide as what other instances
    may go by: both reckonings of Redis's clock, until 10 s after it has been steady for 10 s, and
    this machine's, give or take the leeway, where Redis's is not believed.

    Args:
        clock: This machine's.
        leeway: By how many seconds clocks may differ.
        longest_life: For how many seconds a token may live here.
        is_alone: Whether there is no Redis, and this machine's clock is the fleet's.

    Attributes:
        longest_life: For how many seconds a token may live anywhere.
        skew: By how many seconds, at least, Redis's clock is ahead of this machine's; None where
            that is not known.
    """

    def __init__(
        self, clock: Clock, *, leeway: float, longest_life: float, is_alone: bool = False
    ) -> None:
        self._clock = clock
        self._leeway = leeway
        self._own_life = longest_life
        self._is_alone = is_alone
        self._known: _Sample | None = None
        self._former: tuple[_Sample, float] | None = None
        self._other: tuple[_Sample, float] | None = None
        self._wall_ahead = 0.0
        self.longest_life = longest_life
        self.skew: float | None = None

    @property
    def disagreement(self) -> str:
        """What is wrong with the clocks, in words; empty where nothing is known to be."""
        if self.skew is None or abs(self.skew) <= self._leeway + _SHORTEST:
            return ""
        which = "ahead of" if self.skew > 0 else "behind"
        return f"Redis's clock is {which} this machine's by more than leeway (REVOKEBUS_LEEWAY)"

    def note_life(self, seconds: float) -> None:
        """Take notice of the longest life of a token at any instance that was lately alive."""
        self.longest_life = max(self._own_life, seconds)

    def note_time(self, sent: float, received: float, time: float) -> float:
        """Take notice of what Redis has answered, in seconds since the epoch.

        Args:
            sent: When it was asked, in elapsed seconds.
            received: When the answer was here.
            time: The answer.

        Returns:
            By how many seconds its clock has jumped since the last answer; 0 where it has not.
        """
        error = (received - sent) / 2 + _SHORTEST
        sample = _Sample(time - (sent + received) / 2, error, received)
        wall = self._clock.wall() - self._clock.elapsed()
        self._wall_ahead = wall
        apart = sample.ahead - wall
        self.skew = math.copysign(max(0.0, abs(apart) - error), apart)
        is_near = abs(apart) <= self._leeway + error
        if self._known is None:
            if is_near:
                self._known = sample
            return self._expect(sample)
        if self._known.agrees(sample):
            self._other = None
            if sample.error <= self._known.error_at(received):
                self._known = sample
            return 0.0
        jump = self._expect(sample)
        if self._other is not None and is_near:
            steady, since = self._other
            if received - since >= _STEADY_SECONDS:
                self._former = self._known, received + _STEADY_SECONDS
                self._known, self._other = steady, None
        return jump

    def _expect(self, sample: _Sample) -> float:
        """Compare a sample that is not believed with those before it."""
        before = self._other[0] if self._other is not None else self._known
        if self._other is not None and self._other[0].agrees(sample):
            if sample.error <= self._other[0].error_at(sample.at):
                self._other = sample, self._other[1]
            return 0.0
        if sample is not self._known:
            self._other = sample, sample.at
        return 0.0 if before is None or before is sample else sample.ahead - before.ahead

    def earliest(self) -> float:
        """Return the earliest moment that it can be, in seconds since the epoch: for sign-ins."""
        return self._interval()[0]

    def latest(self) -> float:
        """Return the latest moment that it can be, in seconds since the epoch: for cut-offs."""
        return self._interval()[1]

    def least(self) -> float:
        """Return what time it is by the clock that is behind, believed or not: for what expires."""
        return min(self.earliest(), self._clock.wall() + min(0.0, self.skew or 0.0))

    def middle(self) -> float:
        """Return about what time it is, in seconds since the epoch: for what others date."""
        begins, ends = self._interval()
        return (begins + ends) / 2

    def _interval(self) -> tuple[float, float]:
        now = self._clock.elapsed()
        if self._known is None or self._known.error_at(now) > max(self._leeway, _WIDEST):
            wall, error = self._clock.wall(), 0.0 if self._is_alone else self._leeway
            return wall - error, wall + error
        samples = [self._known]
        wall = self._clock.wall()
        # While it is not known which reckoning others go by, all of them count.
        in_doubt = abs(wall - now - self._wall_ahead) > _STEP
        if self._former is not None and now < self._former[1]:
            samples.append(self._former[0])
        if self._other is not None:
            other = self._other[0]
            if abs(now + other.ahead - wall) <= self._leeway + other.error_at(now):
                samples.append(other)
            else:
                in_doubt = True
        begins = [now + each.ahead - each.error_at(now) for each in samples]
        ends = [now + each.ahead + each.error_at(now) for each in samples]
        if in_doubt:
            begins.append(wall - self._leeway)
            ends.append(wall + self._leeway)
        return min(begins), max(ends)
