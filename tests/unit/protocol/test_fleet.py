"""Sign-ins and cut-offs are dated alike on machines whose clocks differ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.protocol.fleet import Fleet
from revokebus.testing import ManualClock

LEEWAY = 30.0


class Machine:
    """One whose clock is off, and that is so many seconds away from Redis."""

    def __init__(self, off: float, there: float = 0.001, back: float = 0.001) -> None:
        self.clock = ManualClock()
        self.true = ManualClock().wall()
        self.clock.step(off)
        self.there, self.back = there, back
        self.fleet = Fleet(self.clock, leeway=LEEWAY, longest_life=100.0)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.true += seconds

    def tick(self, redis_off: float = 0.0) -> float:
        sent = self.clock.elapsed()
        self.pass_time(self.there)
        time = self.true + redis_off
        self.pass_time(self.back)
        return self.fleet.note_time(sent, self.clock.elapsed(), time)


offsets = st.floats(-LEEWAY, LEEWAY)
delays = st.floats(0.0, 0.3)


@given(offsets, offsets, delays, delays, delays, delays, st.floats(0, 5))
def test_what_came_first_is_dated_first(
    one: float, two: float, a: float, b: float, c: float, d: float, between: float
) -> None:
    """A token from before a sign-out would survive it, because of clocks that differ."""
    signs_in, signs_out = Machine(one, a, b), Machine(two, c, d)
    for machine in (signs_in, signs_out):
        for _ in range(3):
            machine.tick()
            machine.pass_time(0.5)
    later = max(signs_in.true, signs_out.true)
    for machine in (signs_in, signs_out):
        machine.pass_time(later - machine.true)
    sign_in = signs_in.fleet.earliest()
    signs_out.pass_time(between)
    assert sign_in <= signs_out.fleet.latest()


def test_the_interval_is_as_wide_as_the_way_to_redis() -> None:
    """Who signs in again a moment after he was signed out would be refused for half a minute."""
    machine = Machine(20.0)
    machine.tick()
    machine.pass_time(0.5)
    assert machine.fleet.latest() - machine.fleet.earliest() < 0.01
    assert machine.fleet.earliest() == pytest.approx(machine.true, abs=0.01)


def test_a_clock_that_jumps_dates_nothing() -> None:
    """A sign-in that is dated forty days ahead would survive every cut-off."""
    machine = Machine(0.0)
    for _ in range(3):
        assert machine.tick() == 0.0
        machine.pass_time(0.5)
    forty_days = 40 * 86_400.0
    assert machine.tick(forty_days) == pytest.approx(forty_days)
    for _ in range(100):
        assert machine.tick(forty_days) == 0.0  # it is told once
        machine.pass_time(0.5)
    assert machine.fleet.latest() == pytest.approx(machine.true + LEEWAY, abs=0.2)
    assert machine.fleet.disagreement.startswith("Redis's clock is ahead")
    assert machine.tick() == 0.0
    assert machine.fleet.disagreement == ""


def test_another_server_is_believed_once_it_is_steady_and_both_reckonings_count_meanwhile() -> None:
    """After a failover, instances that go by one server would sign out those that go by another."""
    machine = Machine(0.0)
    machine.tick()
    assert machine.tick(-3.0) == pytest.approx(-3.0, abs=0.01)
    for _ in range(21):
        machine.pass_time(0.5)
        assert machine.tick(-3.0) == 0.0
    assert machine.fleet.earliest() == pytest.approx(machine.true - 3, abs=0.1)
    assert machine.fleet.latest() == pytest.approx(machine.true, abs=0.1)
    for _ in range(21):
        machine.pass_time(0.5)
        machine.tick(-3.0)
    assert machine.fleet.latest() == pytest.approx(machine.true - 3, abs=0.1)


@given(st.floats(-20, 20), st.floats(0, 25), st.floats(0, 5))
def test_after_a_failover_old_and_new_instances_agree(
    off: float, signs_in_after: float, then: float
) -> None:
    """A sign-in by the new server's clock would survive a sign-out by the former one's."""
    old, new = Machine(0.0), None
    for _ in range(4):
        old.tick()
        old.pass_time(0.5)
    passed, sign_in = 0.0, None
    while passed < signs_in_after + then:
        old.tick(off)
        if new is None:
            new = Machine(0.0)
            new.true, new.clock = old.true, old.clock
            new.fleet = Fleet(old.clock, leeway=LEEWAY, longest_life=1.0)
            new.tick(off)
            old.true = new.true
        if sign_in is None and passed >= signs_in_after:
            sign_in = max(new.fleet.earliest(), old.fleet.earliest())
        old.pass_time(0.5)
        passed += 0.5
    if sign_in is not None:
        assert sign_in <= old.fleet.latest()


def test_a_machine_that_was_paused_is_in_doubt_until_it_has_asked() -> None:
    """What is revoked as it wakes would be dated by the time before the pause."""
    machine = Machine(0.0)
    machine.tick()
    machine.true += 600  # the hypervisor has stopped both clocks, and sets one right
    machine.clock.step(600)
    assert machine.fleet.latest() >= machine.true
    machine.tick()
    assert machine.fleet.latest() >= machine.true


def test_where_the_clock_of_redis_is_out_of_bounds_the_leeway_counts() -> None:
    """A pod that is an hour off would date its sign-ins after everybody's sign-outs."""
    machine = Machine(3600.0)
    for _ in range(50):
        machine.tick()
        machine.pass_time(0.5)
    assert machine.fleet.latest() == pytest.approx(machine.clock.wall() + LEEWAY)
    assert machine.fleet.earliest() == pytest.approx(machine.clock.wall() - LEEWAY)
    assert machine.fleet.skew == pytest.approx(-3600, abs=0.1)
    assert "behind" in machine.fleet.disagreement


def test_the_longest_life_is_never_shorter_than_the_own() -> None:
    """A revocation would end before the token."""
    fleet = Fleet(ManualClock(), leeway=0.0, longest_life=100.0)
    fleet.note_life(50.0)
    assert fleet.longest_life == 100.0
    fleet.note_life(500.0)
    assert fleet.longest_life == 500.0
