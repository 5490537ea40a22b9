"""Whether the copy may decide, told in one place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from revokebus.clock import ExpiryClock
from revokebus.denylist.freshness import Freshness
from revokebus.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_nothing_is_known_at_first() -> None:
    """A process would accept every token before it has read anything."""
    freshness = Freshness(ManualClock(), ExpiryClock(ManualClock()), 30.0)
    assert (freshness.state, freshness.is_fresh, freshness.age) == ("starting", False, None)
    assert freshness.seconds_left == 0


def test_an_original_never_ages() -> None:
    """On `memory://` a service would answer 503 after half a minute."""
    clock = ManualClock()
    freshness = Freshness(clock, ExpiryClock(clock), 30.0)
    freshness.be_original()
    clock.advance(10**6)
    assert (freshness.state, freshness.is_fresh, freshness.age) == ("fresh", True, 0.0)


@given(st.lists(st.floats(0, 20) | st.just(None), max_size=20))
@example([None, 30.0])
@example([None, 30.000001])
def test_a_proof_counts_for_the_bound(steps: Sequence[float | None]) -> None:
    """A copy would decide for longer than was promised (G1), or stop before."""
    clock, proven_at = ManualClock(), -math.inf
    freshness = Freshness(clock, ExpiryClock(clock), 30.0)
    for step in steps:
        if step is None:
            proven_at = clock.elapsed()
            freshness.prove(proven_at)
        else:
            clock.advance(step)
        age = clock.elapsed() - proven_at
        assert freshness.is_fresh == (age <= 30.0)
        assert freshness.seconds_left == max(0.0, 30.0 - age)
        assert freshness.age == (None if age == math.inf else age)
        expected = "starting" if age == math.inf else "fresh" if age <= 30.0 else "stale"
        assert freshness.state == expected
    freshness.forget()
    assert freshness.state == "starting"


def test_a_clock_that_is_set_back_drops_the_proof() -> None:
    """What was taken for expired, and left out, would be accepted until the next tick."""
    clock = ManualClock()
    clock.step(3600)  # an instance that starts with its clock an hour ahead
    expiry_clock = ExpiryClock(clock)
    freshness = Freshness(clock, expiry_clock, 30.0)
    freshness.prove(clock.elapsed())
    states = []
    clock.step(-0.5)
    states.append(freshness.state)
    clock.step(-3599.5)
    states.append(freshness.state)
    expiry_clock.now()  # whoever adds a revocation notices the step, and nothing was listed yet
    states.append(freshness.state)
    freshness.prove(clock.elapsed())
    states.append(freshness.state)
    clock.step(+3600)
    clock.step(-3600)  # nothing was taken for expired meanwhile
    states.append(freshness.state)
    assert states == ["fresh", "stale", "stale", "fresh", "fresh"]


def test_an_original_outlives_a_step_of_the_clock() -> None:
    """On `memory://` nothing is ever proven again: the service would answer 503 for good."""
    clock = ManualClock()
    freshness = Freshness(clock, ExpiryClock(clock), 30.0)
    freshness.be_original()
    clock.step(-3600)
    assert freshness.state == "fresh"
