"""What was acknowledged and what was answered, and whether the one follows from the other.

The model is etcd's way of testing its watch: every acknowledged write and every answer is
recorded with its time, faults are injected, and each promise is checked over what was recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random

_SAMPLED = 50


class Observed(Protocol):
    """An instance, as an observer sees it."""

    generation: int
    """Changes when it begins anew, knowing nothing, as a restarted process does."""

    def knows(self, jti: str) -> bool:
        """Return whether it would refuse the token."""

    def staleness(self) -> float | None:
        """Return the age that it claims for its copy, None if it claims nothing."""


@dataclass
class Verdict:
    """What one instance got wrong.

    Attributes:
        bound: Tokens that it would have accepted, calling itself fresh, longer than the bound
            after their revocation was acknowledged (G1).
        forgotten: Tokens that it refused once and then did not (G2).
        lies: Tokens acknowledged before the moment that it claimed to be complete for, and not
            in its copy (G3).
    """

    bound: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    lies: set[str] = field(default_factory=set)

    @property
    def violations(self) -> int:
        """How many promises were broken."""
        return len(self.bound) + len(self.forgotten) + len(self.lies)


class Witness:
    """Watches one instance.

    Args:
        instance: The instance.
        acknowledged: When each revocation was acknowledged, in elapsed seconds; shared.
        bound: ``max_staleness``.
        rng: Chooses what is looked at once more.
    """

    def __init__(
        self, instance: Observed, acknowledged: dict[str, float], bound: float, rng: random.Random
    ) -> None:
        self.instance = instance
        self.verdict = Verdict()
        self.stale_seconds = 0.0
        self._acknowledged = acknowledged
        self._bound = bound
        self._rng = rng
        self._seen: list[str] = []
        self._unseen: dict[str, None] = {}
        self._taken = 0
        self._generation = instance.generation
        self._last: float | None = None

    def look(self, now: float) -> None:
        """Take one answer for each token that matters, at `now`."""
        if self._generation != self.instance.generation:
            self._generation, self._seen, self._unseen, self._taken = (
                self.instance.generation,
                [],
                {},
                0,
            )
        new = islice(reversed(self._acknowledged), len(self._acknowledged) - self._taken)
        self._unseen |= dict.fromkeys(new)
        self._taken = len(self._acknowledged)
        staleness = self.instance.staleness()
        fresh = staleness is not None and staleness <= self._bound
        if self._last is not None and not fresh:
            self.stale_seconds += now - self._last
        self._last = now
        for jti in list(self._unseen):
            if self.instance.knows(jti):
                del self._unseen[jti]
                self._seen.append(jti)
            elif fresh and staleness is not None:
                self._judge(jti, now, staleness)
        self._look_again(min(_SAMPLED, len(self._seen)))

    def _judge(self, jti: str, now: float, staleness: float) -> None:
        acknowledged = self._acknowledged[jti]
        if acknowledged + self._bound < now:
            self.verdict.bound.add(jti)
        if acknowledged < now - staleness:
            self.verdict.lies.add(jti)

    def _look_again(self, count: int) -> None:
        for jti in self._rng.sample(self._seen, count):
            if not self.instance.knows(jti):
                self.verdict.forgotten.add(jti)

    def finish(self) -> int:
        """Look at everything once more and return how many acknowledged tokens are missing."""
        self._look_again(len(self._seen))
        return sum(not self.instance.knows(jti) for jti in self._acknowledged)
