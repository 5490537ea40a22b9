"""Tokens that an attacker, or a careless issuer, may send (RFC 8725 §2). Each must end as 401."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from typing import TYPE_CHECKING, Any

import jwt

from tests.keys import key, public_pem

if TYPE_CHECKING:
    from collections.abc import Mapping


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(secret: str, header: bytes, payload: bytes) -> str:
    """Return a token with a right HS256 signature over whatever it says."""
    text = f"{b64(header)}.{b64(payload)}"
    return f"{text}.{b64(hmac.digest(secret.encode(), text.encode(), 'sha256'))}"


def good_claims() -> dict[str, Any]:
    now = int(time.time())
    times = {"iat": now - 1, "exp": now + 60}
    return {"sub": "alice", "jti": "j", "sid": "s", "type": "access", **times}


HEADER = b'{"alg":"HS256","typ":"JWT"}'


def with_claims(secret: str, **changes: Any) -> str:
    """Return a token with other claims; text in ``raw`` stands in the JSON as it is."""
    claims = {**good_claims(), **changes}
    present = {name: value for name, value in claims.items() if value is not ...}
    return signed(secret, HEADER, json.dumps(present).encode())


def with_json(secret: str, member: str) -> str:
    """Return a token with another member at the end of its claims."""
    return signed(secret, HEADER, f"{json.dumps(good_claims())[:-1]}, {member}}}".encode())


def with_header(secret: str, **members: Any) -> str:
    header = json.dumps({"alg": "HS256", **members}).encode()
    return signed(secret, header, json.dumps(good_claims()).encode())


def hostile_claims(secret: str) -> dict[str, str]:
    moments: Mapping[str, Any] = {
        "a float": time.time() + 60,
        "a string": str(int(time.time()) + 60),
        "negative": -1,
        "zero": 0,
        "true": True,
        "a list": [int(time.time()) + 60],
        "null": None,
        "absent": ...,
        "in the past": int(time.time()) - 60,
        "10 years ahead": int(time.time()) + 10 * 366 * 86_400,
        "beyond the year 9999": 10**12,
    }
    no_texts: Mapping[str, Any] = {
        "a number": 5,
        "null": None,
        "a list": ["alice"],
        "an object": {"a": 1},
        "true": True,
        "empty": "",
        "5000 characters": "x" * 5000,
        "absent": ...,
    }
    tokens = {f"exp {name}": with_claims(secret, exp=value) for name, value in moments.items()}
    for claim in ("sub", "jti", "sid", "type"):
        for name, value in no_texts.items():
            tokens[f"{claim} {name}"] = with_claims(secret, **{claim: value})
    for claim in ("sub", "jti", "sid", "type", "tenant", "\ud800"):
        tokens[f"{claim!a} with a lone surrogate"] = with_claims(secret, **{claim: "a\ud800"})
        tokens[f"{claim!a} with NUL"] = with_claims(secret, **{claim: "a\0"})
    day = 86_400
    return {
        **tokens,
        "iat in the future": with_claims(secret, iat=int(time.time()) + day),
        "iat a string": with_claims(secret, iat="1"),
        "iat absent": with_claims(secret, iat=...),
        "auth_time a string": with_claims(secret, auth_time="1"),
        "nbf in the future": with_claims(secret, nbf=int(time.time()) + day),
        "nbf a list": with_claims(secret, nbf=[1]),
        "aud where there is none": with_claims(secret, aud="somebody"),
        "scope a list": with_claims(secret, scope=["admin"]),
        "surrogate inside": with_claims(secret, deep={"a": [{"b": "\udfff"}]}),
        "surrogate in a name": with_claims(secret, deep={"\udfff": 1}),
    }


def hostile_json(secret: str) -> dict[str, str]:
    payload = json.dumps(good_claims()).encode()
    return {
        "exp 10^400": signed(
            secret, HEADER, re.sub(rb'"exp": [0-9]+', b'"exp": 1' + b"0" * 400, payload)
        ),
        "exp of 5000 digits": with_json(secret, f'"y": 1{"0" * 5000}'),
        "exp NaN": signed(secret, HEADER, payload.replace(b'"exp": 1', b'"exp": NaN, "x": 1')),
        "another claim NaN": with_json(secret, '"x": NaN'),
        "another claim 1e999": with_json(secret, '"x": 1e999'),
        "a member twice": with_json(secret, '"sub": "admin"'),
        "a member twice, inside": with_json(secret, '"x": {"a": 1, "a": 2}'),
        "a member twice in the header": signed(
            secret, b'{"alg":"none","alg":"HS256","typ":"JWT"}', payload
        ),
        "deep nesting": with_json(secret, f'"x": {"[" * 5000}{"]" * 5000}'),
        "nesting of 100": with_json(secret, f'"x": {"[" * 100}{"]" * 100}'),
        "deep nesting in the header": signed(
            secret, b'{"alg":"HS256","x":' + b"[" * 5000 + b"]" * 5000 + b"}", payload
        ),
        "an array of claims": signed(secret, HEADER, b"[" + payload + b"]"),
        "a string of claims": signed(secret, HEADER, json.dumps(payload.decode()).encode()),
        "a number": signed(secret, HEADER, b"5"),
        "nothing": signed(secret, HEADER, b"{}"),
        "no JSON": signed(secret, HEADER, b"sub=alice"),
        "UTF-16": signed(secret, HEADER, payload.decode().encode("utf-16")),
        "not UTF-8": signed(secret, HEADER, payload.replace(b"alice", b"al\xffce")),
        "a BOM": signed(secret, HEADER, b"\xef\xbb\xbf" + payload),
        "something after it": signed(secret, HEADER, payload + b"{}"),
        "1 MB": signed(secret, HEADER, b" " * 1_000_000 + payload),
    }


def hostile_headers(secret: str) -> dict[str, str]:
    payload = json.dumps(good_claims()).encode()
    jwk = jwt.get_algorithm_by_name("RS256").to_jwk(key("rsa").public_key(), as_dict=True)
    unsigned = f"{b64(payload)}."
    nones = {
        f"alg {name!r}": f"{b64(json.dumps({'alg': name}).encode())}.{unsigned}"
        for name in ("none", "None", "NONE", "nOnE", "")
    }
    by_attacker = jwt.encode(
        good_claims(), key("rsa"), algorithm="RS256", headers={"jwk": jwk, "kid": "a"}
    )
    pem = public_pem("rsa").encode()
    confused = f"{b64(HEADER)}.{b64(payload)}"
    mac = hmac.digest(pem, confused.encode(), "sha256")
    return {
        **nones,
        "no signature": f"{b64(HEADER)}.{unsigned}",
        "signed with the key in its header": by_attacker,
        "HS256 with a public key": f"{confused}.{b64(mac)}",
        "HS384": jwt.encode(good_claims(), secret, algorithm="HS384"),
        "crit unknown": with_header(secret, crit=["exp"], exp=1),
        "crit empty": with_header(secret, crit=[]),
        "crit no list": with_header(secret, crit="b64"),
        "crit of b64": with_header(secret, crit=["b64"], b64=True),
        "b64 false": with_header(secret, b64=False, crit=["b64"]),
        "b64 true": with_header(secret, b64=True),
        "jwk": with_header(secret, jwk=jwk),
        "jku": with_header(secret, jku="http://127.0.0.1:1/"),
        "x5u": with_header(secret, x5u="http://127.0.0.1:1/"),
        "zip": with_header(secret, zip="DEF"),
        "alg a list": with_header(secret, alg=["HS256"]),
        "alg null": with_header(secret, alg=None),
        "alg unknown": with_header(secret, alg="HS257"),
        "kid a list": with_header(secret, kid=["a"]),
        "kid of 5000 characters": with_header(secret, kid="a" * 5000),
        "kid with a lone surrogate": with_header(secret, kid="\ud800"),
        "typ of a logout token": with_header(secret, typ="logout+jwt"),
        "typ a list": with_header(secret, typ=["JWT"]),
        "header a list": signed(secret, b'["HS256"]', payload),
        "header no JSON": signed(secret, b"HS256", payload),
    }


def hostile_forms(secret: str) -> dict[str, str]:
    good = with_claims(secret)
    head, payload, signature = good.split(".")
    other_bits = signature[:-1] + chr(ord(signature[-1]) + 1)
    return {
        "padding": good + "=",
        "more padding": good + "==",
        "other unused bits": f"{head}.{payload}.{other_bits}",
        "junk in the signature": f"{head}.{payload}.{signature[:5]}!{signature[5:]}",
        "space in the signature": f"{head}.{payload}.{signature[:5]} {signature[5:]}",
        "standard base64": f"{head}.{payload}.{signature}/+",
        "two parts": f"{head}.{payload}",
        "four parts": f"{good}.{signature}",
        "five parts, as if encrypted": f"{head}.{payload}.{payload}.{payload}.{signature}",
        "JSON serialisation": json.dumps(
            {"payload": payload, "protected": head, "signature": signature}
        ).replace(" ", ""),
        "another signature": f"{head}.{payload}.{b64(hashlib.sha256(b'x').digest())}",
        "a signature cut short": good[:-5],
        "empty": "..",
        "words": "a.b.c",
        "dots": "." * 10_000,
        "dot": ".",
        "1 MB of letters": "a" * 1_000_000,
        "not ASCII": "\xe9.\xe9.\xe9",
        "NUL": good + "\0",
    }


def hostile_tokens(secret: str) -> dict[str, str]:
    return {
        **hostile_claims(secret),
        **hostile_json(secret),
        **hostile_headers(secret),
        **hostile_forms(secret),
    }
