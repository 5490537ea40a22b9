"""Bookmarks, and by which clock they are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.protocol.bookmark import Bookmark, PrimaryClock, decode_bookmark

CLOCK = "0f" * 8


def test_a_bookmark_is_read() -> None:
    """A replica would prove nothing, and every tick would go to the primary."""
    text = b"17 1795500088.250000 %s 1795500088598-2" % CLOCK.encode()
    assert decode_bookmark(text) == Bookmark(17, 1795500088.25, CLOCK, (1795500088598, 2))


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"",
        b"17",
        b"x 1.0 %s 1-1" % CLOCK.encode(),
        b"1 1e9 %s 1-1" % CLOCK.encode(),
        b"1 1.0 %s 1" % CLOCK.encode(),
        b"1 nan %s 1-1" % CLOCK.encode(),
        b"1 1.0 short 1-1",
        b"1 1.0 %s 1-1 more" % CLOCK.encode(),
    ],
)
def test_what_is_no_bookmark_proves_nothing(text: bytes | None) -> None:
    """Another hand, or another version, could make copies young that are not."""
    assert decode_bookmark(text) is None


seconds = st.floats(0, 60)


@given(
    ahead=st.floats(-1e6, 1e6),
    rate=st.floats(-0.001, 0.001),
    way=seconds,
    at=st.floats(0, 1),
    since=st.floats(-60, 60),
)
def test_the_moment_is_never_too_late(
    ahead: float, rate: float, way: float, at: float, since: float
) -> None:
    """A copy would claim to be younger than it is."""
    sent, made = 1000.0, 1000.0 + way * at + since
    measured = sent + way * at  # when the primary read its clock
    clock = PrimaryClock()
    clock.measure(CLOCK, sent, measured + ahead)
    shown = measured + ahead + since * (1 + rate)
    moment = clock.moment(Bookmark(1, shown, CLOCK, (1, 1)))
    assert moment is not None
    assert moment <= made + 1e-6
    assert moment >= made - way - 0.002 * abs(since) - 1e-6


def test_another_clock_says_nothing() -> None:
    """After a failover, ages would be wrong by as much as the two clocks differ."""
    clock = PrimaryClock()
    assert clock.moment(Bookmark(1, 5.0, CLOCK, (1, 1))) is None
    clock.measure("other", 1000.0, 5.0)
    assert clock.moment(Bookmark(1, 5.0, CLOCK, (1, 1))) is None
