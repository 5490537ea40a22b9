from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jwt
import pytest

from tests.support import SECRET, make_issuer

if TYPE_CHECKING:
    from revokebus.testing import ManualClock
    from tests.support import MakeSettings


def decode(token: str) -> dict[str, object]:
    return dict(jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_aud": False}))


def test_a_pair_is_two_tokens_of_one_session(
    make_settings: MakeSettings, clock: ManualClock
) -> None:
    """A session could not be revoked as one."""
    pair = make_issuer(make_settings(), clock).issue("alice", scopes=["a", "b"], claims={"team": 7})
    access, refresh = decode(pair.access_token), decode(pair.refresh_token)
    assert (access["type"], refresh["type"]) == ("access", "refresh")
    assert access["sid"] == refresh["sid"] == pair.session_id
    assert access["jti"] != refresh["jti"]
    assert access["sub"] == refresh["sub"] == "alice"
    assert access["scope"] == refresh["scope"] == "a b"
    assert access["team"] == refresh["team"] == 7
    assert access["iat"] == clock.wall()
    assert "fresh" not in access


def test_lifetimes_are_as_set(make_settings: MakeSettings, clock: ManualClock) -> None:
    """Tokens would live shorter than promised to the client."""
    pair = make_issuer(make_settings(access_ttl=60, refresh_ttl=120), clock).issue("alice")
    for token, ttl in ((pair.access_token, 60), (pair.refresh_token, 120)):
        expires_at = decode(token)["exp"]
        assert isinstance(expires_at, int)
        assert 0 <= expires_at - (clock.wall() + ttl) < 1
    assert pair.expires_in == 60


def test_issuer_and_audience_are_written(make_settings: MakeSettings, clock: ManualClock) -> None:
    """The application would refuse its own tokens."""
    pair = make_issuer(make_settings(issuer="me", audience="api"), clock).issue("alice", fresh=True)
    access = decode(pair.access_token)
    assert (access["iss"], access["aud"], access["fresh"]) == ("me", "api", True)
    assert "fresh" not in decode(pair.refresh_token)


@pytest.mark.parametrize(
    "arguments",
    [
        {"subject": ""},
        {"subject": 7},
        {"subject": "x" * 5000},
        {"subject": "\ud800"},
        {"subject": "a", "claims": {"long": "x" * 20_000}},
        {"subject": "a", "claims": {"exp": 1}},
        {"subject": "a", "claims": {"sid": "x", "jti": "y"}},
        {"subject": "a", "scopes": ["a b"]},
        {"subject": "a", "scopes": [""]},
        {"subject": "a", "scopes": [1]},
        {"subject": "a", "claims": {"revokebus": "x"}},
        {"subject": "a", "claims": {"csrf": "x"}},
        {"subject": "a", "claims": {"name": "\ud800"}},
        {"subject": "a", "claims": {"name": "a\0"}},
        {"subject": "a", "claims": {"name": float("nan")}},
        {"subject": "a", "claims": {"name": {1: 2, "1": 3}}},
        {"subject": "a", "claims": {"name": json.loads("[" * 70 + "]" * 70)}},
    ],
)
def test_wrong_arguments_are_refused(
    make_settings: MakeSettings, clock: ManualClock, arguments: dict[str, object]
) -> None:
    """A caller would make tokens that cannot be revoked, or that allow what was not meant."""
    with pytest.raises(ValueError, match=r"subject|claims|scope"):
        make_issuer(make_settings(), clock).issue(**arguments)  # type: ignore[arg-type]  # on purpose


def test_the_callers_claims_are_left_alone(make_settings: MakeSettings, clock: ManualClock) -> None:
    """A dictionary used for two users would carry the first one's identity."""
    claims: dict[str, object] = {"team": 7}
    make_issuer(make_settings(), clock).issue("alice", claims=claims)
    assert claims == {"team": 7}


def test_repr_shows_no_token(make_settings: MakeSettings, clock: ManualClock) -> None:
    """Both tokens would stand in any log that shows the pair."""
    pair = make_issuer(make_settings(), clock).issue("alice")
    assert pair.access_token not in f"{pair!r} {pair}"
    assert pair.refresh_token not in f"{pair!r} {pair}"
