from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.errors import WireError
from revokebus.protocol.heartbeat import (
    UNKNOWN,
    Facts,
    Heartbeat,
    Instance,
    decode_facts,
    decode_heartbeat,
    describe,
    encode_facts,
    encode_heartbeat,
)

names = st.text(max_size=10)
seconds = st.floats(0, 1e6)
every_facts = st.builds(
    Facts,
    version=names,
    host=names,
    pid=st.integers(0, 2**31),
    bound=seconds,
    accepts_stale=st.booleans(),
    interval=seconds,
    longest_life=seconds,
    issuer=names,
    checked_types=st.lists(names),
    claims=st.lists(names),
    leeway=seconds,
)
heartbeats = st.builds(
    Heartbeat,
    state=st.sampled_from(["starting", "fresh", "stale", "closed"]),
    staleness=st.none() | st.integers(0, 10**9).map(lambda each: each / 1000),
    epoch=st.text("0123456789abcdef", max_size=16),
    position=st.none() | st.builds("{}-{}".format, st.integers(0, 2**63), st.integers(0, 9)),
    entries=st.integers(0, 10**9),
    complete=st.booleans(),
    owed=st.integers(0, 10**9),
)


def facts(**changes: Any) -> Facts:
    usual = {"version": "1", "host": "h", "pid": 1, "bound": 30.0, "accepts_stale": False}
    usual |= {"interval": 0.5, "issuer": "", "checked_types": ["access"], "claims": []}
    return Facts(**{**usual, "longest_life": 9.0, "leeway": 0.0, **changes})


def instance(name: str, silence: float, host: str = "h", **changes: Any) -> Instance:
    usual = {"state": "fresh", "staleness": 0.5, "epoch": "e", "position": "5000-0"}
    said = Heartbeat(**{**usual, "entries": 3, "complete": True, "owed": 0, **changes})
    return Instance(name, said, facts(host=host), silence)


@given(heartbeats)
def test_a_beat_comes_back(sent: Heartbeat) -> None:
    """Nobody could see how another instance is."""
    assert decode_heartbeat(encode_heartbeat(sent)) == sent


@given(every_facts)
def test_facts_come_back(sent: Facts) -> None:
    """A service with other settings than the rest of its fleet could not be found."""
    assert decode_facts(encode_facts(sent)) == sent


def test_a_heartbeat_is_small() -> None:
    """Of 10,000 instances each byte is written a thousand times a second, to disk and replicas."""
    longest = Heartbeat(
        "starting", 86_400.0, "f" * 32, f"{10**13}-99999", 10**9, complete=False, owed=10**6
    )
    sent = f"{10**13} 86430 ".encode() + encode_heartbeat(longest)
    assert len(sent) <= 100


@given(st.binary(max_size=50))
def test_any_bytes_are_a_beat_or_none(junk: bytes) -> None:
    """Whoever may write one key would end the page that shows the fleet."""
    with pytest.raises(WireError):
        decode_heartbeat(junk)


@given(st.binary(max_size=50))
def test_any_bytes_are_facts_or_none(junk: bytes) -> None:
    """Whoever may write one key would end the page that shows the fleet."""
    with pytest.raises(WireError):
        decode_facts(junk)


@pytest.mark.parametrize(
    "wrong",
    [b"f 1 e x 3 1 0", b"w 1 e - 3 1 0", b"f 1.5 e - 3 1 0", b"f 1 e 1-1 3 1 0 " + b"9" * 99],
)
def test_a_beat_of_another_kind_is_refused(wrong: bytes) -> None:
    """A position that is none would raise where it is compared."""
    with pytest.raises(WireError):
        decode_heartbeat(wrong)


@pytest.mark.parametrize("wrong", [{"pid": "1"}, {"host": "h" * 70_000}, {"bound": math.inf}])
def test_facts_of_another_kind_are_refused(wrong: dict[str, Any]) -> None:
    """A bound without an end would have every confirmation wait for a stranger."""
    with pytest.raises(WireError):
        decode_facts(encode_facts(facts(**wrong)))


def test_silence_makes_stale() -> None:
    """A dead instance would be shown as fresh until its heartbeat expires."""
    lively, quiet, dead = describe(
        [instance("a", 0.2, host="1"), instance("b", 3.0, host="2"), instance("c", 30.0, host="3")],
        own="a",
    )
    assert (lively.state, lively.is_silent, lively.is_self) == ("fresh", False, True)
    assert (quiet.state, quiet.is_silent, quiet.staleness) == ("fresh", True, 3.5)
    assert (dead.state, dead.is_silent, dead.is_self) == ("stale", True, False)


def test_one_of_a_large_fleet_is_not_silent_while_it_waits_for_its_turn() -> None:
    """Of ten thousand instances, which tick every four seconds, most would be called silent."""
    fleet = [instance(f"{number:016x}", 6.0) for number in range(10_000)]
    assert not describe(fleet, own="")[0].is_silent
    assert describe(fleet[:100], own="")[0].is_silent


def test_one_that_was_never_proven_is_starting() -> None:
    """A deployment would look like an outage."""
    (new,) = describe([instance("a", 0.1, state="starting", staleness=None)], own="")
    assert (new.state, new.staleness, new.lag) == ("starting", None, 0)


def test_the_lag_is_no_longer_than_the_staleness() -> None:
    """After a quiet night each revocation would make every instance look hours behind."""
    first, behind = describe(
        [
            instance("a", 0.1, host="1", position="9000000-0"),
            instance("b", 0.1, host="2", position="5000-0", staleness=0.5),
        ],
        own="",
    )
    assert first.lag == 0
    assert behind.lag == pytest.approx(0.6)


def test_a_position_counts_in_its_own_data_set_only() -> None:
    """After a FLUSHALL an old position would confirm what the instance has never seen."""
    present = instance("a", 0.0)
    assert present.has("e", (5000, 0))
    assert not present.has("e", (5000, 1))
    assert not present.has("f", (1, 0))
    assert not instance("a", 0.0, position=None).has("e", (1, 0))


def test_one_without_room_counts_only_where_it_is_known_to_ask() -> None:
    """A receipt would count on an instance that accepts what it has no room for."""
    full = instance("a", 0.0, complete=False)
    assert full.has("e", (5000, 0))
    assert not Instance("a", full.heartbeat, UNKNOWN, 0.0).has("e", (5000, 0))


def test_what_is_still_owed_is_told() -> None:
    """An operator could not see that a repair waits for a Redis that is full."""
    (told,) = describe([instance("a", 0.1, owed=7)], own="")
    assert told.owed == 7
