import time

from revokebus.clock import ExpiryClock, SystemClock
from revokebus.testing import ManualClock


def test_a_forward_step_of_the_wall_clock_expires_nothing(clock: ManualClock) -> None:
    """An hour's step forward would drop revocations of tokens that are valid again after it."""
    expiry = ExpiryClock(clock)
    before = expiry.now()
    clock.step(3600)
    assert expiry.now() == before


def test_a_backward_step_is_followed(clock: ManualClock) -> None:
    """Tokens would outlive their revocation by the hour that the clock was set back."""
    expiry = ExpiryClock(clock)
    before = expiry.now()
    clock.step(-3600)
    assert expiry.now() == before - 3600


def test_a_step_forward_and_back_leaves_no_trace(clock: ManualClock) -> None:
    """A clock corrected twice would leave the copy expiring at the wrong time for good."""
    expiry = ExpiryClock(clock)
    before = expiry.now()
    clock.step(3600)
    expiry.now()
    clock.step(-3600)
    clock.advance(7)
    assert expiry.now() == before + 7


def test_steps_back_are_counted(clock: ManualClock) -> None:
    """An instance that started with its clock ahead would never look again for what it skipped."""
    expiry = ExpiryClock(clock)
    clock.step(-0.5)
    expiry.now()
    clock.step(+10)
    expiry.now()
    assert expiry.times_set_back == 0
    clock.step(-20)
    expiry.now()
    expiry.now()
    assert expiry.times_set_back == 1


def test_the_system_clock_counts_seconds_of_this_machine() -> None:
    """Every expiry would be off if the units or the epoch were others."""
    clock = SystemClock()
    assert abs(clock.wall() - time.time()) < 60
    assert clock.elapsed() <= clock.elapsed()
