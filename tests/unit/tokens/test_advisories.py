"""A test for each published advisory of PyJWT, of a peer or of a library below, that applies.

Those about encryption (JWE), file serving, forms and OAuth redirects do not: there is none here.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import jwt
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError

from revokebus import (
    AccessToken,
    CookieSettings,
    OutsideIssuer,
    RefreshToken,
    RevokeBus,
    Settings,
    require_access,
)
from revokebus.engine.engine import Engine
from revokebus.errors import (
    ExpiredTokenError,
    InvalidTokenError,
    KeysUnavailableError,
    ReplayedTokenError,
    RevokedTokenError,
)
from revokebus.keys.key_set import published_keys
from revokebus.keys.remote_key_set import COOLDOWN_SECONDS
from revokebus.testing import ManualClock
from revokebus.testing.outside_issuer import StandInIssuer
from tests.hostile import HEADER, b64, good_claims, signed, with_claims, with_header
from tests.keys import SUITABLE, key, private_pem, public_pem
from tests.support import SECRET, make_verifier, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.tokens.verifier import Verifier
    from tests.support import MakeSettings


def refusal(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings(**{"redis_url": "memory://", **changes})
    return str(caught.value)


def refused(verifier: Verifier, token: str) -> bool:
    with pytest.raises(InvalidTokenError):
        verify(verifier, token)
    return True


@pytest.fixture
def verifier(make_settings: MakeSettings) -> Verifier:
    return Engine(make_settings())._verifier


@pytest.fixture
def issuer() -> Iterator[StandInIssuer]:
    with StandInIssuer() as server:
        yield server


def trusting(issuer: StandInIssuer, **changes: Any) -> Settings:
    whole = {"issuer": issuer.issuer, "jwks_url": issuer.jwks_url, "audience": "api", **changes}
    # The issuer goes by the machine's clock, and the tests' clocks stand still.
    issuers = [OutsideIssuer(**whole)]
    return Settings(redis_url="memory://", secret_key=SECRET, issuers=issuers, leeway=60)


# Keys: spellings of public keys as secrets are in test_keys.py, all together


@pytest.mark.parametrize("secret", ["", " " * 64, "\t\n" * 40, "short"])
def test_cve_2025_45768_cve_2026_49852_cve_2026_44351_a_weak_secret_is_refused(
    secret: str,
) -> None:
    """Anybody could sign: keys that are empty, blank or too short to resist guessing."""
    assert "secret_key" in refusal(secret_key=secret)


def test_cve_2025_45768_a_short_rsa_key_is_refused() -> None:
    """A key that can be factored would sign."""
    assert "1024 bits" in refusal(private_key=private_pem("rsa-short"))
    jwk = jwt.get_algorithm_by_name("RS256").to_jwk(key("rsa-short").public_key(), as_dict=True)
    assert published_keys({"keys": [{**jwk, "kid": "a"}]}, ["RS256"]) == []


@pytest.mark.parametrize("algorithm", SUITABLE)
def test_cve_2022_23539_a_key_serves_the_algorithms_of_its_kind_only(algorithm: str) -> None:
    """An EC key would verify what it is not meant for."""
    for name in sorted(set(SUITABLE.values())):
        if name == SUITABLE[algorithm]:
            Settings(redis_url="memory://", private_key=private_pem(name), algorithms=[algorithm])
        else:
            assert "algorithms" in refusal(private_key=private_pem(name), algorithms=[algorithm])


@pytest.mark.parametrize("algorithms", [[], ["none"], ["HS256", "none"], [""], ["HS257"]])
def test_cve_2020_15084_cve_2024_37568_cve_2022_23540_algorithms_are_named(
    algorithms: list[str],
) -> None:
    """Without a list of algorithms, or with `none` in it, the token chooses."""
    assert "algorithms" in refusal(secret_key=SECRET, algorithms=algorithms)


@pytest.mark.parametrize("leeway", [float("inf"), float("nan"), -1, 1e9])
def test_cve_2026_107721_a_tolerance_cannot_switch_expiry_off(leeway: float) -> None:
    """Tokens would live for ever."""
    assert "leeway" in refusal(secret_key=SECRET, leeway=leeway)


# Headers


@pytest.mark.parametrize("crit", [["exp"], [], "b64", ["b64"], [1], None, {"exp": 1}])
def test_cve_2026_32597_cve_2025_59420_cve_2026_35042_crit_is_refused(
    verifier: Verifier, crit: object
) -> None:
    """A token would be accepted by who does not understand what it makes a condition."""
    assert refused(verifier, with_header(SECRET, crit=crit))


@pytest.mark.parametrize("b64_value", [False, True, 0, "false"])
def test_cve_2026_48525_cve_2026_48990_b64_is_refused(
    verifier: Verifier, b64_value: object
) -> None:
    """A payload of any size would be read before it is known to be genuine (RFC 7797)."""
    assert refused(verifier, with_header(SECRET, b64=b64_value))


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
def test_cve_2015_9235_cve_2026_28802_cve_2025_61152_none_is_no_algorithm(
    verifier: Verifier, name: str
) -> None:
    """Anybody could write a token."""
    unsigned = (
        f"{b64(json.dumps({'alg': name}).encode())}.{b64(json.dumps(good_claims()).encode())}"
    )
    for token in (f"{unsigned}.", unsigned, f"{unsigned}.AAAA"):
        assert refused(verifier, token)


def test_cve_2026_27962_a_key_in_the_header_is_not_taken(
    verifier: Verifier, issuer: StandInIssuer
) -> None:
    """An attacker would bring the key that verifies his own token."""
    jwk = jwt.get_algorithm_by_name("RS256").to_jwk(key("rsa").public_key(), as_dict=True)
    for header in ({"jwk": jwk}, {"jku": issuer.jwks_url}, {"x5u": issuer.jwks_url}, {"x5c": [""]}):
        token = jwt.encode(good_claims(), key("rsa"), algorithm="RS256", headers=header)
        assert refused(verifier, token)
    assert issuer.fetches == 0


def test_cve_2026_102265_cve_2026_101918_depth_is_refused_on_every_path(
    issuer: StandInIssuer,
) -> None:
    """A nested token would end in a RecursionError, also where only its issuer is read."""
    deep = "[" * 3000 + "]" * 3000
    verifier = make_verifier(trusting(issuer), ManualClock())
    head, claims = f'{{"alg":"HS256","x":{deep}}}', f'{{"iss":"{issuer.issuer}","x":{deep}}}'
    assert refused(verifier, signed(SECRET, head.encode(), b"{}"))
    assert refused(verifier, signed(SECRET, HEADER, claims.encode()))


@pytest.mark.parametrize("kid", ["../../etc/passwd", "a' OR '1'='1", "\0", "b", ""])
def test_cve_2025_65945_a_key_id_is_compared_and_nothing_else(kid: str) -> None:
    """A key id would be a path, a query, or an invitation to try another key."""
    settings = Settings(redis_url="memory://", secret_key=SECRET, key_id="a")
    token = jwt.encode(good_claims(), SECRET, headers={"kid": kid})
    assert refused(make_verifier(settings, ManualClock()), token)


# Claims


@pytest.mark.parametrize(
    "name", ["acb", "_abc_", "ab", "abcd", "ABC", "abc/", " abc", "", ["abc"], {"abc": 1}, 5, None]
)
def test_cve_2024_53861_cve_2025_30144_an_issuer_is_compared_whole(name: object) -> None:
    """`acb` would pass for `_acb_`, and a list for each of its members."""
    settings = Settings(redis_url="memory://", secret_key=SECRET, issuer="abc")
    verifier = make_verifier(settings, ManualClock())
    verify(verifier, with_claims(SECRET, iss="abc"))
    assert refused(verifier, with_claims(SECRET, iss=name))


@pytest.mark.parametrize("claim", ["sub", "jti", "sid", "type"])
@pytest.mark.parametrize("value", [["alice"], {"a": 1}, 5, None, True])
def test_cve_2026_75509_an_identifier_is_a_text(
    verifier: Verifier, claim: str, value: object
) -> None:
    """A list would be compared by membership, or break a look-up."""
    assert refused(verifier, with_claims(SECRET, **{claim: value}))


@pytest.mark.parametrize("payload", [b"[]", b'["a"]', b"1", b'"a"', b"null", b"true", b""])
def test_cve_2026_107723_claims_are_an_object(verifier: Verifier, payload: bytes) -> None:
    """Checks that look for members would all be skipped."""
    assert refused(verifier, signed(SECRET, HEADER, payload))


def test_cve_2026_103001_one_check_does_not_weaken_the_next(
    verifier: Verifier, make_settings: MakeSettings
) -> None:
    """After a token was read without its times, the next one would be, too."""
    old = with_claims(SECRET, exp=1000, iat=940)
    assert verifier.verify_signature(old).jti == "j"
    with pytest.raises(ExpiredTokenError):
        verify(verifier, old)
    strict = Engine(make_settings(issuer="a", audience="b"))._verifier
    for _ in range(2):
        assert refused(strict, with_claims(SECRET))


def test_cve_2022_39227_one_parser_reads_what_was_verified(verifier: Verifier) -> None:
    """Two forms in one text: one part is verified, another is read."""
    head, payload, signature = with_claims(SECRET).split(".")
    forged = b64(json.dumps({**good_claims(), "sub": "admin"}).encode())
    for token in (
        f'{{"{head}.{forged}.":"","protected":"{head}","payload":"{payload}","signature":"{signature}"}}',
        f"{head}.{forged}.{head}.{payload}.{signature}",
        f"{head}. {payload}.{signature}",
        f"{head}.{forged}.{signature}",
    ):
        assert refused(verifier, token)


def test_cve_2022_39174_cve_2022_3102_an_encrypted_token_is_none(verifier: Verifier) -> None:
    """What anybody can encrypt with a public key would pass for signed."""
    head = b64(b'{"alg":"RSA-OAEP","enc":"A128GCM"}')
    assert refused(verifier, f"{head}.AAAA.AAAA.AAAA.AAAA")
    assert refused(verifier, with_header(SECRET, enc="A128GCM"))


# Size


def test_cve_2025_61920_size_comes_first(verifier: Verifier) -> None:
    """A long token would be decoded before it is refused."""
    decoded: list[str] = []
    verifier._read = decoded.append  # type: ignore[method-assign,assignment]  # to see it called
    for size in (16 * 1024 + 1, 1_000_000):
        assert refused(verifier, "a" * size)
    assert decoded == []


def test_cve_2025_65015_no_error_repeats_the_token(verifier: Verifier) -> None:
    """A megabyte would be copied into each log that an error passes."""
    for token in ("a" * 1_000_000, with_claims(SECRET[::-1])):
        with pytest.raises(InvalidTokenError) as caught:
            verify(verifier, token)
        assert len(repr(caught.value)) < 100
        assert caught.value.__cause__ is None


# The cache


def test_cve_2026_35039_two_tokens_never_share_an_entry(verifier: Verifier) -> None:
    """One user would be given the claims of another."""
    tokens = {with_claims(SECRET, sub=str(number), jti=str(number)) for number in range(300)}
    for _ in range(2):
        subjects = [verify(verifier, token).subject for token in sorted(tokens)]
        assert len(set(subjects)) == 300


def test_cve_2026_107719_a_remembered_token_expires_in_the_same_second(
    make_settings: MakeSettings,
) -> None:
    """A token would live on in the cache."""
    clock = ManualClock()
    here, there = (Engine(make_settings(), clock=clock)._verifier for _ in range(2))
    token = with_claims(SECRET, exp=int(clock.wall()) + 5)
    verify(here, token)
    clock.advance(5)
    assert refused(here, token)
    assert refused(there, token)


async def test_cve_2026_102269_cve_2026_62995_a_respelt_token_stays_revoked(
    make_settings: MakeSettings,
) -> None:
    """`=` at the end of a revoked token would make another one of it."""
    async with Engine(make_settings()) as engine:
        token = engine.issue("alice").access_token
        await engine.authenticate(token, AccessToken)
        await engine.revoke(token)
        for form in (token, token + "=", token + "==", token[:-1] + "-", token + "!"):
            with pytest.raises(InvalidTokenError):
                await engine.authenticate(form, AccessToken)


async def test_cve_2024_22513_a_user_who_is_shut_out_stays_out(
    make_settings: MakeSettings,
) -> None:
    """The tokens of a disabled account would go on working, and refresh each other."""
    async with Engine(make_settings()) as engine:
        pair = engine.issue("alice")
        refresh = await engine.authenticate(pair.refresh_token, RefreshToken)
        await engine.revoke_subject("alice")
        with pytest.raises(RevokedTokenError):
            await engine.authenticate(pair.access_token, AccessToken)
        with pytest.raises(RevokedTokenError):
            await engine.rotate(refresh)


# Published keys


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x/a", "data:,{}", "http://idp.example/a", "HTTPS:/x", "//x", ""],
)
def test_cve_2026_48522_a_jwks_url_is_https(url: str) -> None:
    """A setting would read files, or keys that anybody on the way can replace."""
    message = refusal(jwks_url=url, issuer="x", audience="y", algorithms=["RS256"])
    assert "https" in message or "secret_key" in message


async def test_cve_2026_48523_the_key_and_the_header_agree(issuer: StandInIssuer) -> None:
    """The header would pass the list of algorithms, and the key's own be used."""
    issuer.document["keys"][0]["alg"] = "PS256"
    claims = jwt.decode(issuer.sign("a", "api"), options={"verify_signature": False})
    private = issuer._keys["first"]
    ps, rs = (
        jwt.encode(claims, private, algorithm=name, headers={"kid": "first"})
        for name in ("PS256", "RS256")
    )
    async with Engine(trusting(issuer, algorithms=["RS256"])) as engine:
        for token in (ps, rs):
            with pytest.raises((InvalidTokenError, KeysUnavailableError)):
                await engine.authenticate(token, AccessToken)


async def test_cve_2026_48524_known_keys_outlive_a_failure(issuer: StandInIssuer) -> None:
    """One failed fetch would refuse everybody until the next one succeeds."""
    clock = ManualClock()
    async with Engine(trusting(issuer), clock=clock) as engine:
        token = issuer.sign("alice", "api")
        await engine.authenticate(token, AccessToken)
        for status in (500, 404):
            issuer.status = status
            clock.advance(COOLDOWN_SECONDS + 1)
            unknown = issuer.sign("alice", "api")
            with pytest.raises(InvalidTokenError):
                await engine.authenticate(_with_kid(unknown, f"x{status}"), AccessToken)
            engine._verifier.verified.clear()
            assert (await engine.authenticate(token, AccessToken)).subject == "alice"
        assert issuer.fetches == 3


def _with_kid(token: str, kid: str) -> str:
    _, payload, signature = token.split(".")
    return f"{b64(json.dumps({'alg': 'RS256', 'kid': kid}).encode())}.{payload}.{signature}"


async def test_cve_2026_101917_unknown_keys_cause_one_fetch(issuer: StandInIssuer) -> None:
    """An attacker would have us call the issuer with each token, at once or one by one."""
    clock = ManualClock()
    async with Engine(trusting(issuer), clock=clock) as engine:
        token = issuer.sign("alice", "api")
        clock.advance(COOLDOWN_SECONDS + 1)
        attempts = (
            engine.authenticate(_with_kid(token, f"random-{number}"), AccessToken)
            for number in range(100)
        )
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert all(isinstance(outcome, InvalidTokenError) for outcome in outcomes)
        for number in range(20):
            with pytest.raises(InvalidTokenError):
                await engine.authenticate(_with_kid(token, f"late-{number}"), AccessToken)
        assert issuer.fetches == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_cve_2026_102267_a_redirect_is_not_followed(
    issuer: StandInIssuer, status: int
) -> None:
    """Whoever can redirect once would publish his own keys."""
    with StandInIssuer() as attacker:
        issuer.status, issuer.headers = status, {"Location": attacker.jwks_url}
        async with Engine(trusting(issuer)) as engine:
            with pytest.raises(KeysUnavailableError):
                await engine.authenticate(issuer.sign("alice", "api"), AccessToken)
        assert attacker.fetches == 0


def test_cve_2026_102266_cve_2022_23541_a_published_secret_is_ignored() -> None:
    """An empty or public `oct` key would verify HS256."""
    for k in ("", b64(b"x" * 64)):
        document = {"keys": [{"kty": "oct", "k": k, "kid": "a"}]}
        assert published_keys(document, ["HS256", "RS256"]) == []


async def test_cve_2026_22817_cve_2026_44699_a_key_without_alg_does_not_verify_hs256(
    issuer: StandInIssuer,
) -> None:
    """The header would choose HS256, and the published key be the secret."""
    del issuer.document["keys"][0]["alg"]
    claims = jwt.decode(issuer.sign("a", "api"), options={"verify_signature": False})
    payload = json.dumps(claims).encode()
    head = json.dumps({"alg": "HS256", "kid": "first"}).encode()
    text = f"{b64(head)}.{b64(payload)}"
    async with Engine(trusting(issuer)) as engine:
        for secret in (b"", public_pem("rsa").encode(), json.dumps(issuer.document).encode()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                token = f"{text}.{b64(hmac.digest(secret, text.encode(), 'sha256'))}"
            with pytest.raises(InvalidTokenError):
                await engine.authenticate(token, AccessToken)


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "RSA", "kid": "x"},
        {"kty": "RSA", "kid": "x", "n": 5, "e": []},
        {"kty": "RSA", "kid": "x", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "kid": "x", "crv": "P-256", "x": "a", "y": "b"},
        {"kty": "OKP", "kid": "x", "crv": "Ed25519", "x": ""},
        {"kty": "new"},
        {"kid": {}},
        [],
        "x",
        None,
        5,
    ],
)
async def test_cve_2026_102274_one_broken_key_costs_no_other(
    issuer: StandInIssuer, entry: object
) -> None:
    """Everybody would be refused because the issuer has a new kind of key."""
    issuer.document["keys"].insert(0, entry)
    async with Engine(trusting(issuer)) as engine:
        assert (await engine.authenticate(issuer.sign("a", "api"), AccessToken)).subject == "a"


def test_cve_2026_102275_a_published_private_key_is_ignored() -> None:
    """Who reads it can sign with it."""
    private = jwt.get_algorithm_by_name("EdDSA").to_jwk(key("ed25519"), as_dict=True)
    public = jwt.get_algorithm_by_name("EdDSA").to_jwk(key("ed25519").public_key(), as_dict=True)
    assert published_keys({"keys": [{**private, "kid": "a"}]}, ["EdDSA"]) == []
    assert len(published_keys({"keys": [{**public, "kid": "a"}]}, ["EdDSA"])) == 1


# The web


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, object]]:
    """What is compared in constant time."""
    pairs: list[tuple[object, object]] = []
    compare = hmac.compare_digest

    def note(one: Any, other: Any) -> bool:
        pairs.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", note)
    return pairs


def test_cve_2016_7036_the_csrf_value_is_compared_in_constant_time(
    compared: list[tuple[object, object]],
) -> None:
    """The time of an answer would tell how much of a guess was right."""
    app = FastAPI()
    bus = RevokeBus.attach(
        app, Settings(redis_url="memory://", secret_key=SECRET, token_sources=["cookie"])
    )

    @app.post("/")
    async def change(token: Annotated[AccessToken, Depends(require_access())]) -> str:
        return token.subject

    with TestClient(app, base_url="https://testserver") as client:
        client.cookies.set(bus.settings.cookies.access_name, bus.issue("alice").access_token)
        assert client.post("/", headers={"X-CSRF-Token": "a guess"}).status_code == 403
    assert any(b"a guess" in pair for pair in compared)


async def test_cve_2016_7036_clients_are_compared_in_constant_time(
    make_settings: MakeSettings, compared: list[tuple[object, object]]
) -> None:
    """Likewise, of who was given a pair of tokens."""
    async with Engine(make_settings(rotation_grace=10)) as engine:
        pair = engine.issue("alice")
        token = await engine.authenticate(pair.refresh_token, RefreshToken)
        await engine.rotate(token, client="here")
        before = len(compared)
        with pytest.raises(ReplayedTokenError):
            await engine.rotate(token, client="there")
        assert len(compared) > before


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json", "multipart/form-data; boundary=x", None]
)
def test_cve_2021_32677_no_content_type_makes_a_cookie_enough(kind: str | None) -> None:
    """A page of another site would post with the user's cookie, in a form that asks nobody."""
    app = FastAPI()
    cookies = CookieSettings(secure=False)
    bus = RevokeBus.attach(
        app,
        Settings(
            redis_url="memory://", secret_key=SECRET, token_sources=["cookie"], cookies=cookies
        ),
    )

    @app.post("/")
    async def change(token: Annotated[AccessToken, Depends(require_access())]) -> str:
        return token.subject

    with TestClient(app) as client:
        client.cookies.set(bus.settings.cookies.access_name, bus.issue("alice").access_token)
        headers = {"Content-Type": kind} if kind else {}
        assert client.post("/", content=b"{}", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"access_name": "a\r\nSet-Cookie: b"},
        {"access_name": "a;b"},
        {"path": "/\r\nX: y"},
        {"domain": "x;y"},
        {"csrf_header": "X\r\nY: z"},
        {"path": "x"},
    ],
)
def test_cve_2020_7695_no_setting_breaks_a_header(changes: dict[str, str]) -> None:
    """A line end in a name would be the beginning of another header."""
    with pytest.raises(ValidationError):
        CookieSettings(**changes)


def test_a_moment_must_say_its_time_zone() -> None:
    """Not an advisory: the same mistake made twice in this field, an hour apart from the truth."""
    engine = Engine(Settings(redis_url="memory://", secret_key=SECRET))
    naive = datetime.now(UTC).replace(tzinfo=None)
    with pytest.raises(ValueError, match="time zone"):
        engine._revoker.of_claim("sub", "a", naive, None)
    aware = datetime.now(UTC) - timedelta(hours=1)
    assert engine._revoker.of_claim("sub", "a", aware, None).issued_before == aware.timestamp()
