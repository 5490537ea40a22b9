"""The keys that verify an issuer's tokens, found by the ``kid`` of a token's header."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import jwt

from revokebus.keys.algorithms import LEAST_RSA_BITS, algorithms_of, is_symmetric, pem_to_jwk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class Key:
    """One key, prepared for each algorithm that it may be used with.

    Attributes:
        kid: Its id (RFC 7515 §4.1.4); None where it has none.
        prepared: The key for each algorithm.
    """

    kid: str | None
    prepared: Mapping[str, jwt.PyJWK]


class KeySet(Protocol):
    """The keys of one issuer."""

    def find(self, kid: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """Return the keys that a token with that header may have been signed with.

        A key that has an id is for tokens that name it, or name none; one that has none is for
        all.
        """


class LocalKeySet:
    """Keys that are known from the settings.

    Args:
        keys: The keys.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def find(self, kid: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """Return the keys that a token with that header may have been signed with."""
        return [
            key.prepared[algorithm]
            for key in self._keys
            if algorithm in key.prepared and (kid is None or key.kid in (None, kid))
        ]


def secret_to_jwk(secret: str) -> dict[str, Any]:
    """Return the JWK of an HMAC secret."""
    packed = base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
    return {"kty": "oct", "k": packed}


def text_to_jwk(text: str) -> dict[str, Any]:
    """Return the JWK of an HMAC secret, or of a private or public key in PEM.

    Raises:
        ValueError: It begins as PEM does, and is not.
        ImportError: It is PEM, and ``cryptography`` is not installed.
    """
    return pem_to_jwk(text) if text.lstrip().startswith("-----BEGIN") else secret_to_jwk(text)


def public_part(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """Return an asymmetric key without what signs; an HMAC key, which has no such part, whole."""
    if jwk.get("kty") == "oct":
        return dict(jwk)
    return {name: value for name, value in jwk.items() if name not in _PRIVATE_MEMBERS}


def key_of(jwk: Mapping[str, Any], algorithms: Iterable[str], kid: str | None = None) -> Key:
    """Return the key that verifies what `jwk` has signed, for those of `algorithms` it can do.

    Raises:
        ValueError: It can do none of them, or is RSA and too short.
    """
    _check_size(jwk)
    possible = set(algorithms_of(jwk)).intersection(algorithms)
    verifying = public_part(jwk)
    prepared: dict[str, jwt.PyJWK] = {
        name: jwt.PyJWK(verifying, algorithm=name) for name in possible
    }
    if not prepared:
        raise ValueError(f"a key of type {jwk.get('kty')} cannot do any of the algorithms")
    return Key(kid, prepared)


def _check_size(jwk: Mapping[str, Any]) -> None:
    if jwk.get("kty") == "RSA":
        modulus = base64.urlsafe_b64decode(jwk["n"] + "=" * (-len(jwk["n"]) % 4))
        bits = int.from_bytes(modulus, "big").bit_length()
        if bits < LEAST_RSA_BITS:
            raise ValueError(
                f"an RSA key has {bits} bits; at least {LEAST_RSA_BITS} are needed (RFC 7518 §3.3)"
            )


def published_keys(jwks: object, algorithms: Iterable[str]) -> list[Key]:
    """Return the usable keys of a JWK Set (RFC 7517 §5); what cannot be used is passed over.

    A shared secret in a published document, and a private key, are nobody's to verify with.
    """
    entries = jwks.get("keys") if isinstance(jwks, dict) else None
    allowed = [name for name in algorithms if not is_symmetric(name)]
    keys: list[Key] = []
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and not _PRIVATE_MEMBERS.intersection(entry):
            keys += _published_key(entry, allowed)
    return keys


def _published_key(entry: dict[str, Any], allowed: list[str]) -> list[Key]:
    kid, purpose, only = entry.get("kid"), entry.get("use", "sig"), entry.get("alg")
    if purpose != "sig" or not isinstance(kid, str | None):
        return []
    operations = entry.get("key_ops")
    if only is not None:
        allowed = [name for name in allowed if name == only]
    try:
        if operations is not None and "verify" not in operations:
            return []
        return [key_of(entry, allowed, kid)]
    except Exception:  # noqa: BLE001 - one broken entry must not cost the others (RFC 7517 §5)
        return []
