from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from revokebus.errors import ExpiredTokenError, InvalidTokenError
from revokebus.testing import ManualClock
from revokebus.tokens.claims import MAX_TOKEN_LENGTH
from tests.support import SECRET, make_issuer, make_verifier, verify

if TYPE_CHECKING:
    from revokebus.tokens.verifier import Verifier
    from tests.support import MakeSettings


def b64(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims(clock: ManualClock, **changes: Any) -> dict[str, Any]:
    now = int(clock.wall())
    base = {"sub": "a", "jti": "j", "sid": "s", "iat": now, "exp": now + 60, "type": "access"}
    return {**base, **changes}


def sign(payload: dict[str, Any], *, key: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(payload, key, algorithm=algorithm)


@pytest.fixture
def verifier(make_settings: MakeSettings, clock: ManualClock) -> Verifier:
    return make_verifier(make_settings(), clock)


def test_an_issued_token_is_genuine(
    verifier: Verifier, make_settings: MakeSettings, clock: ManualClock
) -> None:
    """Nobody could sign in."""
    pair = make_issuer(make_settings(), clock).issue("alice")
    assert verify(verifier, pair.access_token).subject == "alice"
    assert verify(verifier, pair.access_token) is verify(verifier, pair.access_token)


def test_expiry_counts_also_for_a_token_in_the_cache(
    verifier: Verifier, clock: ManualClock
) -> None:
    """A token seen once would be good for ever."""
    token = sign(claims(clock))
    verify(verifier, token)
    clock.advance(60)
    with pytest.raises(ExpiredTokenError):
        verify(verifier, token)
    assert verifier.verify_signature(token).jti == "j"


def test_leeway_lengthens_the_life(make_settings: MakeSettings, clock: ManualClock) -> None:
    """Instances whose clocks differ would disagree on a token."""
    verifier = make_verifier(make_settings(leeway=10), clock)
    token = sign(claims(clock))
    clock.advance(65)
    verify(verifier, token)
    clock.advance(5)
    with pytest.raises(ExpiredTokenError):
        verify(verifier, token)


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_a_token_of_the_future_is_refused(
    verifier: Verifier, clock: ManualClock, name: str
) -> None:
    """A token would work before the moment that its issuer has set."""
    token = sign(claims(clock, **{name: clock.wall() + 30}))
    with pytest.raises(InvalidTokenError):
        verify(verifier, token)
    clock.advance(30)
    verify(verifier, token)


def test_issuer_and_audience_are_demanded(make_settings: MakeSettings, clock: ManualClock) -> None:
    """A token that another service's users have would be accepted here."""
    settings = make_settings(issuer="https://here", audience="api")
    verifier = make_verifier(settings, clock)
    verify(verifier, make_issuer(settings, clock).issue("alice").access_token)
    right = claims(clock, iss="https://here", aud="api")
    verify(verifier, sign(right))
    for wrong in ({"iss": "https://there"}, {"aud": "web"}, {"aud": ["web"]}):
        with pytest.raises(InvalidTokenError):
            verify(verifier, sign({**right, **wrong}))
    for missing in ("iss", "aud"):
        with pytest.raises(InvalidTokenError):
            verify(verifier, sign({k: v for k, v in right.items() if k != missing}))


def test_an_audience_that_nobody_asked_for_is_refused(
    verifier: Verifier, clock: ManualClock
) -> None:
    """A token made for another audience would be accepted where none is configured."""
    with pytest.raises(InvalidTokenError):
        verify(verifier, sign(claims(clock, aud="somebody-else")))


def test_forgeries_are_refused(verifier: Verifier, clock: ManualClock) -> None:
    """Anybody could write his own token."""
    good = claims(clock)
    header, payload, signature = sign(good).split(".")
    forged = [
        sign(good, key=SECRET + "x"),
        sign(good, algorithm="HS512"),
        f"{b64({'alg': 'none'})}.{payload}.",
        f"{b64({'alg': 'HS256', 'crit': ['x'], 'x': 1})}.{payload}.{signature}",
        f"{b64({'alg': ['HS256']})}.{payload}.{signature}",
        f"{b64({'alg': {}})}.{payload}.{signature}",
        f"{header}.{b64({**good, 'sub': 'root'})}.{signature}",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{payload}.{signature}.{signature}",
        "",
        "...",
        "é.é.é",
        "a" * (MAX_TOKEN_LENGTH + 1),
    ]
    for token in forged:
        with pytest.raises(InvalidTokenError):
            verify(verifier, token)


def signed(payload: bytes) -> str:
    return jwt.api_jws.encode(payload, SECRET, algorithm="HS256")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 6000,
        b'{"exp":1e400}',
        b'{"sub":"a","jti":"j","sid":"s","type":"access","iat":1,"exp":1' + b"0" * 400 + b"}",
        b'{"sub":"a","jti":"\\ud800","sid":"s","type":"access","iat":1,"exp":9999999999}',
        b'{"sub":"a","jti":["j"],"sid":"s","type":"access","iat":1,"exp":9999999999}',
        b'{"sub":"a","jti":"j","sid":"s","type":"access","iat":NaN,"exp":9999999999}',
        b'{"sub":"a","jti":"j","sid":"s","type":"access","iat":1,"nbf":[],"exp":9999999999}',
    ],
)
def test_a_rightly_signed_absurdity_is_refused(verifier: Verifier, payload: bytes) -> None:
    """A token of an issuer with a bug would end in a 500."""
    with pytest.raises(InvalidTokenError):
        verify(verifier, signed(payload))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "jti", "sid", "iat", "exp", "nbf", "type", "aud", "iss", "scope"]),
        st.sampled_from(["access", "a", 10**10, 1]) | json_values,
    )
)
def test_any_claims_end_in_a_decision(payload: dict[str, Any]) -> None:
    """Some combination of claims would end in a 500."""
    from revokebus import Settings  # noqa: PLC0415 - fixtures do not mix with @given

    verifier = make_verifier(Settings(secret_key=SECRET, redis_url="memory://"), ManualClock())
    try:
        token = verify(verifier, signed(json.dumps(payload).encode()))
    except InvalidTokenError:
        return
    assert token.jti == payload["jti"]


@given(st.text(max_size=200))
def test_any_text_ends_in_a_decision(text: str) -> None:
    """Some header would end in a 500."""
    from revokebus import Settings  # noqa: PLC0415 - likewise

    verifier = make_verifier(Settings(secret_key=SECRET, redis_url="memory://"), ManualClock())
    with pytest.raises(InvalidTokenError):
        verify(verifier, text)


def test_bad_tokens_do_not_enter_the_cache(
    make_settings: MakeSettings, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker could displace every good token, and so make each request slow."""
    verifier = make_verifier(make_settings(verified_cache_size=65_536), clock)
    good = sign(claims(clock))
    verify(verifier, good)
    for number in range(500):
        with pytest.raises(InvalidTokenError):
            verify(verifier, f"{good}{number}")
    monkeypatch.setattr(verifier, "_decode", lambda _: pytest.fail("verified again"))
    verify(verifier, good)


def test_a_token_in_use_is_kept(
    make_settings: MakeSettings, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever signs in again and again would have everybody's tokens verified again."""
    verifier = make_verifier(make_settings(verified_cache_size=65_536), clock)
    good = sign(claims(clock))
    for number in range(500):
        verify(verifier, good)
        verify(verifier, sign(claims(clock, jti=f"another {number}")))
    monkeypatch.setattr(verifier, "_decode", lambda _: pytest.fail("verified again"))
    verify(verifier, good)


def test_the_cache_can_be_off(make_settings: MakeSettings, clock: ManualClock) -> None:
    """A setting of zero would end in an exception."""
    verifier = make_verifier(make_settings(verified_cache_size=0), clock)
    token = sign(claims(clock))
    assert verify(verifier, token) == verify(verifier, token)


def test_the_error_does_not_quote_the_token(verifier: Verifier, clock: ManualClock) -> None:
    """A token would stand in the log of every refused request."""
    token = sign(claims(clock, sub=5))
    with pytest.raises(InvalidTokenError) as caught:
        verify(verifier, token)
    assert caught.value.__cause__ is None
    assert token not in str(caught.value)
