from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.errors import WireError
from revokebus.protocol.heartbeat import (
    Heartbeat,
    Instance,
    decode_heartbeat,
    describe,
    encode_heartbeat,
)

names = st.text(max_size=10)
seconds = st.floats(0, 1e6)
heartbeats = st.builds(
    Heartbeat,
    version=names,
    host=names,
    pid=st.integers(0, 2**31),
    state=st.sampled_from(["starting", "fresh", "stale"]),
    staleness=st.none() | seconds,
    bound=seconds,
    accepts_stale=st.booleans(),
    interval=seconds,
    longest_life=seconds,
    issuer=names,
    checked_types=st.lists(names),
    claims=st.lists(names),
    epoch=names,
    position=st.none() | st.builds("{}-{}".format, st.integers(0, 2**63), st.integers(0, 9)),
    entries=st.integers(0, 10**9),
    complete=st.booleans(),
)


def heartbeat(**changes: Any) -> Heartbeat:
    usual = {"version": "1", "host": "h", "pid": 1, "state": "fresh", "staleness": 0.5}
    usual |= {
        "bound": 30.0,
        "accepts_stale": False,
        "interval": 0.5,
        "issuer": "",
        "checked_types": ["access"],
        "claims": [],
        "longest_life": 9.0,
        "epoch": "e",
        "position": "5000-0",
    }
    return Heartbeat(**{**usual, "entries": 3, "complete": True, **changes})


@given(heartbeats)
def test_a_beat_comes_back(sent: Heartbeat) -> None:
    """Nobody could see how another instance is."""
    assert decode_heartbeat(encode_heartbeat(sent)) == sent


@given(st.binary(max_size=50))
def test_any_bytes_are_a_beat_or_none(junk: bytes) -> None:
    """Whoever may write one key would end the page that shows the fleet."""
    with pytest.raises(WireError):
        decode_heartbeat(junk)


@pytest.mark.parametrize(
    "wrong",
    [{"position": "x"}, {"state": "well"}, {"pid": "1"}, {"entries": 1.5}, {"host": "h" * 70_000}],
)
def test_a_beat_of_another_kind_is_refused(wrong: dict[str, Any]) -> None:
    """A position that is none would raise where it is compared."""
    with pytest.raises(WireError):
        decode_heartbeat(encode_heartbeat(heartbeat(**wrong)))


def test_silence_makes_stale() -> None:
    """A dead instance would be shown as fresh until its heartbeat expires."""
    lively, quiet, dead = describe(
        [
            Instance("a", heartbeat(host="1"), 0.2),
            Instance("b", heartbeat(host="2"), 3.0),
            Instance("c", heartbeat(host="3"), 30.0),
        ],
        own="a",
    )
    assert (lively.state, lively.is_silent, lively.is_self) == ("fresh", False, True)
    assert (quiet.state, quiet.is_silent, quiet.staleness) == ("fresh", True, 3.5)
    assert (dead.state, dead.is_silent, dead.is_self) == ("stale", True, False)


def test_one_that_was_never_proven_is_starting() -> None:
    """A deployment would look like an outage."""
    (new,) = describe([Instance("a", heartbeat(state="starting", staleness=None), 0.1)], own="")
    assert (new.state, new.staleness, new.lag) == ("starting", None, 0)


def test_the_lag_is_no_longer_than_the_staleness() -> None:
    """After a quiet night each revocation would make every instance look hours behind."""
    first, behind = describe(
        [
            Instance("a", heartbeat(host="1", position="9000000-0"), 0.1),
            Instance("b", heartbeat(host="2", position="5000-0", staleness=0.5), 0.1),
        ],
        own="",
    )
    assert first.lag == 0
    assert behind.lag == pytest.approx(0.6)


def test_a_position_counts_in_its_own_data_set_only() -> None:
    """After a FLUSHALL an old position would confirm what the instance has never seen."""
    present = Instance("a", heartbeat(), 0.0)
    assert present.has("e", (5000, 0))
    assert not present.has("e", (5000, 1))
    assert not present.has("f", (1, 0))
    assert not Instance("a", heartbeat(position=None), 0.0).has("e", (1, 0))


def test_one_that_accepts_by_a_stale_copy_is_waited_for() -> None:
    """A receipt would say that nobody accepts the token, of a service that was told to."""
    assert not Instance("a", heartbeat(), 31.0).may_accept
    assert Instance("a", heartbeat(accepts_stale=True), 31.0).may_accept
