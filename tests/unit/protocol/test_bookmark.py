"""Bookmarks, and by which clock they are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.protocol.bookmark import Bookmark, PrimaryClock, decode_bookmark

CLOCK = "0f" * 8


def made(number: int, time: float, clock: str = CLOCK) -> Bookmark:
    return Bookmark(number, time, time, clock, (1, 1))


def test_a_bookmark_is_read() -> None:
    """A replica would prove nothing, and every tick would go to the primary."""
    text = b"17 1795500088.500000 1795500088.250000 %s 1795500088598-2" % CLOCK.encode()
    expected = Bookmark(17, 1795500088.5, 1795500088.25, CLOCK, (1795500088598, 2))
    assert decode_bookmark(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"",
        b"17",
        b"x 1.0 1.0 %s 1-1" % CLOCK.encode(),
        b"1 1e9 1.0 %s 1-1" % CLOCK.encode(),
        b"1 1.0 %s 1-1" % CLOCK.encode(),
        b"1 1.0 1.0 %s 1" % CLOCK.encode(),
        b"1 nan 1.0 %s 1-1" % CLOCK.encode(),
        b"1 1.0 1.0 short 1-1",
        b"1 1.0 1.0 %s 1-1 more" % CLOCK.encode(),
    ],
)
def test_what_is_no_bookmark_proves_nothing(text: bytes | None) -> None:
    """Another hand, or another version, could make copies young that are not."""
    assert decode_bookmark(text) is None


seconds = st.floats(0, 60)


@given(
    ahead=st.floats(-1e6, 1e6),
    rate=st.floats(-0.00099, 0.00099),
    way=seconds,
    at=st.floats(0, 1),
    since=st.floats(-60, 60),
)
def test_the_moment_is_never_too_late(
    ahead: float, rate: float, way: float, at: float, since: float
) -> None:
    """A copy would claim to be younger than it is."""
    sent, at_that_time = 1000.0, 1000.0 + way * at + since
    measured = sent + way * at  # when the primary read its clock
    clock = PrimaryClock()
    clock.measure(made(1, 0.0), sent, measured + ahead)
    shown = measured + ahead + since * (1 + rate)
    moment = clock.moment(made(2, shown))
    assert moment is not None
    assert moment <= at_that_time + 1e-6
    assert moment >= at_that_time - way - 0.0021 * abs(since) - 1e-6


def test_another_clock_says_nothing() -> None:
    """After a failover, ages would be wrong by as much as the two clocks differ."""
    clock = PrimaryClock()
    assert clock.moment(made(1, 5.0)) is None
    clock.measure(made(1, 5.0, "other"), 1000.0, 5.0)
    assert clock.moment(made(2, 5.0)) is None


def test_a_clock_that_was_set_back_makes_no_bookmark_younger() -> None:
    """What was written before the step would seem to be written after it."""
    clock = PrimaryClock()
    clock.measure(made(6, 50.0), 1000.0, 50.0)
    set_back = 46.0
    clock.measure(made(8, 51.0), 1001.5, set_back + 1.5)
    assert (clock.moment(made(8, 51.0)) or 0) <= 1001.0  # written a second after the first look
    known_to_none = PrimaryClock()
    known_to_none.measure(made(8, 51.0), 1001.5, set_back + 1.5)
    assert known_to_none.moment(made(8, 51.0)) is None
    assert known_to_none.moment(made(9, set_back + 2.0)) == pytest.approx(1002.0, abs=0.01)
