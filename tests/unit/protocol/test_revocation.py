from __future__ import annotations

import json
import math
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.clock import ExpiryClock
from revokebus.denylist.denylist import Denylist
from revokebus.protocol.revocation import (
    Kept,
    Revocation,
    everything,
    is_refused,
    just_after,
    kind_and_text,
    plain,
    targets_of,
    values_of,
)
from revokebus.protocol.wire import decode_payload, encode_payload
from revokebus.testing import ManualClock

if TYPE_CHECKING:
    import random

moments = st.floats(min_value=1e9, max_value=2e9) | st.integers(10**9, 2 * 10**9).map(float)
scalars = (
    st.text(max_size=5) | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.none()
)


@pytest.mark.parametrize(
    ("since", "cut_off", "refused"),
    [
        (100.25, 100.5, True),
        (100.5, 100.5, False),
        (100.75, 100.5, False),
        (100.0, 100.5, True),  # a whole second may have been any moment of it
        (100.0, 100.0, True),
        (101.0, 100.5, False),
        (100.5, math.inf, True),
    ],
)
def test_a_cut_off_refuses_what_is_before_it(
    since: float, cut_off: float, *, refused: bool
) -> None:
    """A new sign-in would be refused, or a stolen token be accepted, within the same second."""
    assert is_refused(since, cut_off) is refused


@given(moments, moments, moments)
def test_the_latest_of_several_cut_offs_wins(since: float, one: float, other: float) -> None:
    """A second, earlier cut-off would bring tokens back to life."""
    merged = Revocation("sub", "a", 3e9, one).merged(Revocation("sub", "a", 2e9, other))
    assert is_refused(since, merged.cut_off) == (is_refused(since, one) or is_refused(since, other))
    assert merged.expires_at == 3e9


@given(st.lists(st.tuples(moments, st.none() | moments), min_size=1, max_size=4))
def test_merging_never_weakens(parts: list[tuple[float, float | None]]) -> None:
    """What two instances have revoked would depend on the order in which a third hears of it."""
    revocations = [Revocation("sid", "a", at, cut_off) for at, cut_off in parts]
    merged = revocations[0]
    for each in revocations[1:]:
        merged = each.merged(merged)
    assert all(merged.covers(each) for each in revocations)
    assert merged.expires_at == max(at for at, _ in parts)


cut_offs = st.integers(2, 7).map(lambda half: half / 2)
sessions = st.sampled_from(["a", "b", "c"])


@given(
    st.lists(
        st.builds(
            Revocation,
            claim=st.just("sub"),
            value=st.just("alice"),
            expires_at=st.just(9.0),
            issued_before=st.none() | cut_offs,
            issuer=st.just(""),
            kept=st.none() | st.builds(Kept, sessions, st.just(0.0)),
        ).map(lambda each: each if each.issued_before else each._replace(kept=None)),
        min_size=1,
        max_size=5,
    ),
    cut_offs.map(lambda moment: moment - 0.25),
    st.randoms(use_true_random=False),
)
def test_merging_is_exact_with_sessions_that_are_kept(
    each_one: list[Revocation], since: float, rng: random.Random
) -> None:
    """Of two password changes at once one would bring back a device, or end both."""
    parts = list(each_one)
    while len(parts) > 1:  # in any order, and of any two
        rng.shuffle(parts)
        parts.append(parts.pop().merged(parts.pop()))
    (merged,) = parts
    for session in ("a", "b", "c", None):
        claims = {"sub": "alice", "sid": session}
        wanted = any(each.refuses(claims, issuer="", since=since) for each in each_one)
        assert merged.refuses(claims, issuer="", since=since) == wanted
    assert all(merged.covers(each) for each in each_one)
    assert decode_payload(encode_payload([merged])) == [merged]


def test_what_refuses_less_does_not_cover() -> None:
    """A record that lacks an earlier sign-out of a session that is kept would not be repaired."""
    keeping = Revocation("sub", "alice", 9.0, 5.0, "", Kept("a"))
    assert not keeping.covers(keeping._replace(kept=None))
    assert not keeping.covers(Revocation("sub", "alice", 9.0, 2.0))
    assert keeping._replace(kept=Kept("a", 2.0)).covers(Revocation("sub", "alice", 9.0, 2.0))
    assert keeping.covers(keeping._replace(issued_before=4.0))
    assert not keeping.covers(keeping._replace(issued_before=4.0, kept=Kept("b")))
    assert keeping._replace(kept=None).covers(keeping)


@given(moments)
def test_there_is_a_moment_after_each(moment: float) -> None:
    """A sign-in right after a cut-off would fall before it."""
    later = just_after(moment)
    assert moment < later < moment + 1e-5
    assert not is_refused(later, later)
    assert is_refused(moment, later)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1, "1", False),
        (1, True, False),
        (True, "true", False),
        (0, False, False),
        (10**16, 1e16, True),  # an issuer may write a long id so
        (2**53 + 2, 2.0**53 + 2, True),
        (10**30, 1e30, False),  # which is 19,884,624,838,656 more
        (-0.0, 0, True),
        ("a", "A", False),
        ("\u00e9", "e\u0301", False),
    ],
)
def test_values_are_compared_as_json_has_them(one: Any, other: Any, *, same: bool) -> None:
    """Revoking tenant 1 would hit tenant "1", or miss the tokens that say 1.0."""
    assert (kind_and_text(one) == kind_and_text(other)) is same


@pytest.mark.parametrize("value", [None, [], {}, [1], float("nan"), float("inf"), b"a"])
def test_what_is_put_together_is_no_value(value: object) -> None:
    """A list would be compared with what it can never be equal to."""
    assert kind_and_text(value) is None


def test_a_list_is_meant_by_each_of_its_members() -> None:
    """Tokens with several groups, clients or audiences could not be revoked by one of them."""
    assert list(values_of({"g": ["a", 2, None, ["b"]]}, "g")) == [("string", "a"), ("number", "2")]
    assert list(values_of({}, "g")) == []


@given(
    st.dictionaries(st.sampled_from("abc"), scalars | st.lists(scalars, max_size=3)),
    st.sampled_from("abc"),
    scalars.filter(lambda value: value != "" and kind_and_text(value) is not None),
    st.sampled_from(["", "x"]),
    moments,
    st.none() | moments,
)
def test_the_copy_and_the_revocation_agree(
    claims: dict[str, object], claim: str, value: Any, issuer: str, since: float, cut: float | None
) -> None:
    """An open WebSocket would end when requests pass, or stay when they are refused."""
    clock = ManualClock()
    revocation = Revocation(claim, value, clock.wall() + 60, cut, issuer)
    told: list[Revocation] = []
    denylist = Denylist(ExpiryClock(clock), on_add=told.append)
    assert denylist.add(revocation)
    for of in ("", "x"):
        found = denylist.matches(claims, issuer=of, since=since)
        assert found == revocation.refuses(claims, issuer=of, since=since)
        asked = revocation.target in targets_of(claims, of, ["a", "b", "c"])
        assert found == (asked and is_refused(since, revocation.cut_off))
    assert told == [revocation]


def test_everything_means_every_issuer() -> None:
    """A key leaks, everybody is signed out, and the tokens of another issuer go on working."""
    clock = ManualClock()
    denylist = Denylist(ExpiryClock(clock))
    denylist.add(everything(clock.wall() + 60, 1000.5))
    for issuer in ("", "https://idp"):
        assert denylist.matches({}, issuer=issuer, since=1000.25)
        assert not denylist.matches({}, issuer=issuer, since=1000.75)


def test_the_same_id_of_another_issuer_is_another_token() -> None:
    """Anybody who runs an issuer could have our users signed out, or spare his own."""
    clock = ManualClock()
    denylist = Denylist(ExpiryClock(clock))
    denylist.add(Revocation("jti", "a", clock.wall() + 60, issuer="https://one"))
    assert denylist.matches({"jti": "a"}, issuer="https://one")
    assert not denylist.matches({"jti": "a"}, issuer="https://two")
    assert not denylist.matches({"jti": "a"})


class Level(int, Enum):
    HIGH = 42


class Role(str, Enum):  # noqa: UP042 - also what people have
    ADMIN = "admin"


@pytest.mark.parametrize(
    ("value", "meant"), [(Level.HIGH, 42), (Role.ADMIN, "admin"), (1.0, 1), (-0.0, 0), (True, True)]
)
def test_a_value_is_what_json_makes_of_it(value: Any, meant: Any) -> None:
    """A member of an Enum would be revoked under its name, which no token has."""
    assert repr(plain(value)) == repr(meant)
    assert kind_and_text(plain(value)) == kind_and_text(json.loads(json.dumps(value)))
