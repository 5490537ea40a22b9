"""Whatever comes where a token is expected, only a decision comes out (RFC 8725)."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import random
import re
from typing import TYPE_CHECKING, Annotated, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st

from revokebus import AccessToken, RevokeBus, Settings, require_access
from revokebus.engine.engine import Engine
from revokebus.errors import InvalidTokenError, RevokedTokenError
from tests.hostile import b64, good_claims, hostile_tokens, signed, with_claims
from tests.keys import SUITABLE, private_pem, public_pem
from tests.support import SECRET, make_issuer, make_verifier, verify

if TYPE_CHECKING:
    from revokebus.testing import ManualClock
    from revokebus.tokens.verifier import Verifier
    from tests.support import MakeSettings


@pytest.fixture
def verifier(make_settings: MakeSettings) -> Verifier:
    return Engine(make_settings())._verifier


def test_the_tokens_that_the_hostile_ones_are_made_of_are_good(verifier: Verifier) -> None:
    """The other tests of this file could pass because everything is refused."""
    assert verify(verifier, with_claims(SECRET)).subject == "alice"
    tenant = ["\U0001f600", "\\u0000 \\ud800"]
    assert verify(verifier, with_claims(SECRET, tenant=tenant)).claims["tenant"] == tenant
    assert verify(verifier, with_claims(SECRET, deep={"a": [1, {"b": None}]})).claims["deep"]


@pytest.mark.parametrize("name", hostile_tokens(SECRET))
def test_each_hostile_token_is_refused(verifier: Verifier, name: str) -> None:
    """An attacker would be let in, or bring the request to an exception of another library."""
    with pytest.raises(InvalidTokenError) as caught:
        verify(verifier, hostile_tokens(SECRET)[name])
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("algorithm", SUITABLE)
@pytest.mark.parametrize("confused", ["none", "HS256", "HS384", "HS512", *SUITABLE])
def test_no_algorithm_but_the_key_s_own(algorithm: str, confused: str, clock: ManualClock) -> None:
    """A header would choose how its own signature is checked (CVE-2015-9235, CVE-2022-23539)."""
    settings = Settings(
        redis_url="memory://",
        private_key=private_pem(SUITABLE[algorithm]),
        algorithms=[algorithm],
    )
    token = make_issuer(settings, clock).issue("a").access_token
    verifier = make_verifier(settings, clock)
    verify(verifier, token)
    if confused == algorithm:
        return
    _, payload, signature = token.split(".")
    head = b64(json.dumps({"alg": confused}).encode())
    secret = public_pem(SUITABLE[algorithm])
    forged = signed(secret, json.dumps({"alg": confused}).encode(), b"{}").split(".")[2]
    for last in (signature, forged, ""):
        with pytest.raises(InvalidTokenError):
            verify(verifier, f"{head}.{payload}.{last}")


async def test_no_other_form_of_a_token_is_a_way_round_its_revocation(
    make_settings: MakeSettings,
) -> None:
    """A revoked token would work again with one more character (CVE-2026-102269, 62995)."""
    async with Engine(make_settings()) as engine:
        token = engine.issue("alice").access_token
        await engine.revoke(token)
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        forms = [token, token + "=", token + "==", f" {token}", f"{token}\n", token + "."]
        forms += [token[:-1] + letter for letter in letters]
        for form in forms:
            with pytest.raises(InvalidTokenError):
                await engine.authenticate(form, AccessToken)


async def test_the_second_form_of_an_es256_signature_is_revoked_too() -> None:
    """Anyone can make (r, n-s) of (r, s): the same token with another signature."""
    settings = Settings(redis_url="memory://", private_key=private_pem("p256"))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    async with Engine(settings) as engine:
        token = engine.issue("alice").access_token
        text, _, signature = token.rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        assert decode_dss_signature(encode_dss_signature(r, s)) == (r, s)
        second = f"{text}.{b64(raw[:32] + (order - s).to_bytes(32, 'big'))}"
        assert second != token
        assert (await engine.authenticate(second, AccessToken)).jti
        await engine.revoke(token)
        for form in (token, second):
            with pytest.raises(RevokedTokenError):
                await engine.authenticate(form, AccessToken)


def test_nothing_of_a_hostile_token_is_logged(
    verifier: Verifier, caplog: pytest.LogCaptureFixture
) -> None:
    """An attacker could write into the log, or fill it (CVE-2025-65015)."""
    caplog.set_level(logging.DEBUG)
    for token in hostile_tokens(SECRET).values():
        with pytest.raises(InvalidTokenError) as caught:
            verify(verifier, token)
        assert len(str(caught.value)) < 100
        assert token[:50] not in str(caught.value)
    for record in caplog.records:
        assert record.levelno == logging.DEBUG
        assert len(record.getMessage()) < 150
        assert not any(claim in record.getMessage() for claim in ("alice", "admin", "127.0.0.1"))


def test_the_log_says_why_a_token_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A slash at the end of an issuer's name would be looked for in every other place."""
    caplog.set_level(logging.DEBUG)
    strict = Engine(Settings(redis_url="memory://", secret_key=SECRET, issuer="a", audience="b"))
    for token, word in (
        (with_claims(SECRET, iss="a/", aud="b"), "iss"),
        (with_claims(SECRET, iss="a", aud="c"), "aud"),
        (with_claims(SECRET, iss="a", aud="b", sid=...), "sid"),
        (with_claims(SECRET[::-1], iss="a", aud="b"), "no key"),
    ):
        with pytest.raises(InvalidTokenError) as caught:
            verify(strict._verifier, token)
        assert str(caught.value) == "Invalid token"  # the client is told nothing
        assert word in caplog.records[-1].getMessage()


# The path from the bytes of a header to the decision

app = FastAPI()
bus = RevokeBus.attach(app, Settings(redis_url="memory://", secret_key=SECRET))


@app.get("/")
async def whoami(token: Annotated[AccessToken, Depends(require_access())]) -> str:
    return token.subject


async def status_of(header: bytes) -> int:
    """Return how the application answers, with no server that could sort something out before."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"authorization", header)],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])


def mutated(token: str, seed: int) -> bytes:
    """Return `token` with a few bytes changed, added, taken away or doubled."""
    chance = random.Random(seed)  # noqa: S311 - not a secret
    data = bytearray(token.encode())
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        change = chance.choice(["set", "insert", "delete", "double", "swap"])
        if change == "set":
            data[at] = chance.randrange(256)
        elif change == "insert":
            data.insert(at, chance.randrange(256))
        elif change == "delete" and len(data) > 1:
            del data[at]
        elif change == "double":
            data[at:at] = data[at : at + chance.randint(1, 50)]
        else:
            data[at] = data[chance.randrange(len(data))]
    return bytes(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)
names = st.sampled_from(["sub", "jti", "sid", "type", "exp", "iat", "nbf", "scope", "aud", "iss"])
headers = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x"]), json_values, max_size=3
)


@given(st.binary(max_size=200))
async def test_any_bytes_of_a_header_are_decided_upon(header: bytes) -> None:
    """Some header would end in a 500."""
    async with bus:
        assert await status_of(header) == 401
        assert await status_of(b"Bearer " + header) in (400, 401)


@given(st.integers(0, 2**32))
async def test_a_good_token_with_some_bytes_changed_is_decided_upon(seed: int) -> None:
    """One wrong byte would end in a 500, or be let in."""
    async with bus:
        token = bus.issue("alice").access_token
        header = mutated(f"Bearer {token}", seed)
        status = await status_of(header)
        same = re.fullmatch(rb"\s*(?i:bearer) +" + re.escape(token.encode()) + rb"\s*", header)
        assert status == 200 if same else status in (400, 401)


@given(st.dictionaries(names, json_values, max_size=3))
async def test_any_claims_are_decided_upon(claims: dict[str, Any]) -> None:
    """A genuine token with odd claims would end in a 500 (RFC 8725 §2.4)."""
    async with bus:
        payload = json.dumps({**good_claims(), **claims}).encode()
        token = signed(SECRET, b'{"alg":"HS256"}', payload)
        assert await status_of(b"Bearer " + token.encode()) in (200, 401)
        with contextlib.suppress(InvalidTokenError):
            await bus.revoke(token)
            assert await status_of(b"Bearer " + token.encode()) == 401


@given(headers, st.sampled_from(["HS256", "none", "RS256", None]))
async def test_any_header_is_decided_upon(header: dict[str, Any], algorithm: str | None) -> None:
    """A genuine signature over an odd header would end in a 500."""
    async with bus:
        whole = {"alg": algorithm, **header} if algorithm else header
        token = signed(SECRET, json.dumps(whole).encode(), json.dumps(good_claims()).encode())
        assert await status_of(b"Bearer " + token.encode()) in (200, 401)


@given(json_values)
def test_any_claims_can_be_asked_about(value: object) -> None:
    """`is_revoked` would raise for claims that come from elsewhere."""
    for name in ("jti", "sid", "sub", "iss", "iat", "auth_time"):
        assert bus.is_revoked({name: value}) in (True, False)


def test_pyjwt_itself_verifies_what_we_issue(make_settings: MakeSettings) -> None:
    """Services in other languages could not read our tokens."""
    pair = Engine(make_settings()).issue("alice")
    claims = jwt.decode(pair.access_token, SECRET, algorithms=["HS256"])
    assert claims["sub"] == "alice"
    assert 0 <= claims["iat"] - claims["auth_time"] < 1
