"""Which keys sign and verify what, from the settings to the token."""

from __future__ import annotations

import base64
import json
import secrets
import sys
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from revokebus import OutsideIssuer, Settings
from revokebus.errors import ConfigurationError, InvalidTokenError
from revokebus.keys.hmac_secret import is_a_key, is_guessable
from revokebus.tokens.claims import AccessToken
from tests.keys import SUITABLE, key, private_pem, public_bytes, public_pem
from tests.support import SECRET, make_issuer, make_verifier, verify

if TYPE_CHECKING:
    from revokebus.testing import ManualClock


def settings(**changes: Any) -> Settings:
    return Settings(redis_url="memory://", **changes)


def refusal(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        settings(**changes)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", *SUITABLE])
def test_every_algorithm_signs_and_verifies(algorithm: str, clock: ManualClock) -> None:
    """A company whose rules name an algorithm could not use the library."""
    name = SUITABLE.get(algorithm)
    chosen = {"private_key": private_pem(name)} if name else {"secret_key": SECRET}
    made = settings(algorithms=[algorithm], key_id="k1", **chosen)
    pair = make_issuer(made, clock).issue("alice")
    assert jwt.get_unverified_header(pair.access_token) == {
        "alg": algorithm,
        "typ": "JWT",
        "kid": "k1",
    }
    assert isinstance(verify(make_verifier(made, clock), pair.access_token), AccessToken)


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("rsa", "RS256"), ("p256", "ES256"), ("p384", "ES384"), ("p521", "ES512"), ("ed448", "EdDSA")],
)
def test_the_key_chooses_the_algorithm(name: str, algorithm: str) -> None:
    """A first try with a key at hand would end in an error about algorithms."""
    assert settings(private_key=private_pem(name)).algorithms == (algorithm,)
    assert settings(public_key=public_pem(name)).algorithms == (algorithm,)


def test_who_has_the_public_key_verifies_and_issues_nothing(clock: ManualClock) -> None:
    """Every service that checks tokens would have to hold the key that signs them."""
    here = settings(private_key=private_pem("p256"))
    there = settings(public_key=public_pem("p256"))
    token = make_issuer(here, clock).issue("alice").access_token
    assert verify(make_verifier(there, clock), token).subject == "alice"
    with pytest.raises(ConfigurationError, match="REVOKEBUS_PRIVATE_KEY"):
        make_issuer(there, clock).issue("alice")


def test_a_key_is_replaced_with_an_overlap(clock: ManualClock) -> None:
    """Everybody would be signed out on the day that a key is replaced."""
    old = settings(secret_key=SECRET, key_id="old")
    new = settings(
        private_key=private_pem("rsa"),
        key_id="new",
        previous_keys={"old": SECRET},
        algorithms=["RS256", "HS256"],
    )
    before, after = (make_issuer(each, clock).issue("a").access_token for each in (old, new))
    verifier = make_verifier(new, clock)
    assert verify(verifier, before).subject == verify(verifier, after).subject == "a"
    done = settings(private_key=private_pem("rsa"), key_id="new")
    with pytest.raises(InvalidTokenError):
        verify(make_verifier(done, clock), before)


def test_tokens_from_before_there_were_key_ids_are_still_good(clock: ManualClock) -> None:
    """To name a key for the first time would sign everybody out."""
    first = settings(secret_key=SECRET)
    token = make_issuer(first, clock).issue("a").access_token
    named = settings(secret_key=SECRET, key_id="k1")
    assert verify(make_verifier(named, clock), token).subject == "a"
    replaced = settings(secret_key=SECRET[::-1], key_id="k2", previous_keys={"": SECRET})
    assert verify(make_verifier(replaced, clock), token).subject == "a"


def test_a_token_that_names_a_key_is_verified_with_no_other(clock: ManualClock) -> None:
    """Who has stolen one of two keys could use the name of the other (CVE-2026-84185)."""
    both = settings(secret_key=SECRET, key_id="a", previous_keys={"b": SECRET[::-1]})
    claims = jwt.decode(
        make_issuer(both, clock).issue("x").access_token, options={"verify_signature": False}
    )
    verifier = make_verifier(both, clock)
    for kid, secret, good in (
        ("a", SECRET, True),
        ("b", SECRET[::-1], True),
        ("a", SECRET[::-1], False),
        ("b", SECRET, False),
        ("c", SECRET, False),
        ("../a", SECRET, False),
    ):
        token = jwt.encode(claims, secret, headers={"kid": kid})
        if good:
            verify(verifier, token)
        else:
            with pytest.raises(InvalidTokenError):
                verify(verifier, token)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"private_key": "nonsense"}, "not in PEM"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"}, "PEM"),
        ({"private_key": public_pem("p256")}, "belongs into public_key"),
        ({"private_key": private_pem("rsa-short")}, "1024 bits"),
        ({"public_key": public_pem("rsa-short")}, "1024 bits"),
        ({"private_key": private_pem("k256")}, "secp256k1"),
        ({"private_key": private_pem("rsa"), "public_key": public_pem("rsa-other")}, "belong"),
        ({"private_key": private_pem("rsa"), "algorithms": ["ES256"]}, "REVOKEBUS_ALGORITHMS"),
        ({"private_key": private_pem("rsa"), "algorithms": ["RS256", "HS256"]}, "HS256"),
        ({"secret_key": SECRET, "algorithms": ["HS256", "RS256"]}, "RS256"),
        ({"secret_key": SECRET, "private_key": private_pem("rsa")}, "only one"),
        ({"secret_key": SECRET, "previous_keys": {"a": "short"}}, "REVOKEBUS_PREVIOUS_KEYS"),
        ({"jwks_url": "https://x/jwks"}, "REVOKEBUS_AUDIENCE"),
        (
            {"jwks_url": "https://x", "issuer": "x", "audience": "y", "algorithms": ["HS256"]},
            "public",
        ),
        ({"jwks_url": "http://x/jwks", "issuer": "x", "audience": "y"}, "https"),
        ({"jwks_url": "file:///etc/passwd", "issuer": "x", "audience": "y"}, "https"),
        ({"secret_key": SECRET, "rfc9068": True}, "REVOKEBUS_ISSUER"),
        ({"public_key": private_pem("p256")}, "belongs into private_key"),
        ({"secret_key": SECRET, "max_token_life": 60}, "REVOKEBUS_MAX_TOKEN_LIFE"),
        ({"secret_key": SECRET, "previous_keys": {"old": SECRET}}, "the current key as well"),
        (
            {"secret_key": SECRET, "previous_keys": {"old": public_pem("ed25519")}},
            "previous_keys needs one of EdDSA",
        ),
        (
            {
                "jwks_url": "https://x",
                "issuer": "x",
                "audience": "y",
                "rfc9068": True,
                "claim_names": {"aud": "client_id"},
            },
            "claim aud itself",
        ),
        ({"secret_key": SECRET, "claim_names": {"sid": "x"}}, "REVOKEBUS_CLAIM_NAMES"),
        ({"jwks_url": "https://u:p@x/", "issuer": "x", "audience": "y"}, "password"),
        (
            {"secret_key": SECRET, "cookies": {"access_name": "__Host-a", "secure": False}},
            "__Host-",
        ),
        ({"secret_key": SECRET, "cookies": {"access_name": "__Host-a", "path": "/x"}}, "__Host-"),
        ({"secret_key": SECRET, "cookies": {"csrf_name": "__Host-access_token"}}, "differ"),
        ({"secret_key": SECRET, "cookies": {"samesite": "none", "secure": False}}, "secure"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], word: str) -> None:
    """A wrong key would be found by the first user who cannot sign in."""
    message = refusal(**changes)
    assert word in message
    for secret in (SECRET, private_pem("rsa")[100:160]):
        assert secret not in message


def test_a_key_from_an_environment_variable_may_have_its_line_ends_escaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many platforms cannot hold a line end in a variable."""
    monkeypatch.setenv("REVOKEBUS_PRIVATE_KEY", private_pem("p256").replace("\n", "\\n"))
    assert Settings().algorithms == ("ES256",)


def spellings_of_a_public_key() -> dict[str, str]:
    """The same key, in the forms that got past the guards of other libraries."""
    pem = public_pem("rsa")
    body = "".join(pem.splitlines()[1:-1])
    der = public_bytes("rsa", Encoding.DER)
    pkcs1 = public_bytes("rsa", Encoding.PEM, PublicFormat.PKCS1).decode()
    ssh = public_bytes("p256", Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    jwk = jwt.get_algorithm_by_name("RS256").to_jwk(key("rsa").public_key(), as_dict=True)
    text = json.dumps(jwk)
    return {
        "PEM": pem,
        "PKCS1": pkcs1,
        "one line": pem.replace("\n", " "),
        "CR": pem.replace("\n", "\r"),
        "no header line": "\n".join(pem.splitlines()[1:]),
        "two spaces": pem.replace("BEGIN PUBLIC", "BEGIN  PUBLIC"),
        "leading byte": "#" + pem,
        "zero width": "\u200b" + pem,
        "BOM": "\ufeff" + pem,
        "body": body,
        "wrapped body": "\n".join(pem.splitlines()[1:-1]),
        "PEM in base64": base64.b64encode(pem.encode()).decode(),
        "DER as latin-1": der.decode("latin-1"),
        "DER in base64": base64.b64encode(der).decode(),
        "DER in base64url": base64.urlsafe_b64encode(der).decode().rstrip("="),
        "ssh": ssh,
        "ssh after a space": " " + ssh,
        "JWK": text,
        "JWK after a BOM": "\ufeff" + text,
        "JWK without kty": json.dumps({k: v for k, v in jwk.items() if k != "kty"}),
        "JWK Set": json.dumps({"keys": [jwk]}),
        "JWK in a list": json.dumps([jwk]),
        "JWK as a JSON string": json.dumps(text),
    }


@pytest.mark.parametrize("name", spellings_of_a_public_key())
def test_no_spelling_of_a_public_key_is_a_secret(name: str) -> None:
    """Everybody who has read the public key could sign tokens (algorithm confusion).

    CVE-2017-11424, CVE-2022-29217, CVE-2024-33663, CVE-2026-48526, CVE-2026-85394 and
    CVE-2026-102268, 102271, 102272, 102273: one more way of writing the key each time.
    """
    message = refusal(secret_key=spellings_of_a_public_key()[name])
    assert "cannot be an HMAC key" in message


def test_a_secret_that_begins_like_a_key_is_none() -> None:
    """One deployment in a million would not start, by the dice of its secret."""
    assert not is_a_key("sSh-b0VRqXXnHDoN85ztwUTckWg3SMaeyiz6J-8pCaMdApe3zCJgYO7D1GjbREnbnsLwlBMN")


@pytest.mark.parametrize("maker", [secrets.token_urlsafe, secrets.token_hex])
def test_a_random_secret_is_not_taken_for_a_key(maker: Any) -> None:
    """One deployment in some thousands would not start, and nobody would know why."""
    for _ in range(20_000):
        secret = maker(64)
        assert not is_a_key(secret)
        assert not is_guessable(secret)


def test_an_outside_issuer_s_error_shows_no_password() -> None:
    """The password would stand in the log of the start."""
    with pytest.raises(ValidationError) as caught:
        OutsideIssuer(issuer="x", jwks_url="https://user:hunter2@x/", audience="y")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("setting", ["jwks_url", "private_key"])
def test_without_cryptography_the_start_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """An application would start, and refuse every token for a reason that is not true."""
    monkeypatch.setattr("revokebus.keys.algorithms.has_crypto", False)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    outside = {"issuer": "x", "audience": "y", "jwks_url": "https://x"}
    message = refusal(**(outside if setting == "jwks_url" else {setting: private_pem("p256")}))
    assert "pip install 'revokebus[crypto]'" in message
    assert message.count("REVOKEBUS_") <= 1
