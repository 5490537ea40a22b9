"""The signature algorithms, and which keys each of them takes (RFC 7518 §3.1, RFC 8037 §3.1).

A key is prepared once, for the algorithms of its own kind only, so that no header can have a public
key used as an HMAC secret (RFC 8725 §3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import jwt
from jwt.algorithms import has_crypto

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]

HMAC_BYTES: dict[str, int] = {"HS256": 32, "HS384": 48, "HS512": 64}
"""As many bytes a key must have at least (RFC 7518 §3.2)."""

LEAST_RSA_BITS = 2048
"""RFC 7518 §3.3 and §3.5."""

_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


def algorithms_of(jwk: Mapping[str, Any]) -> tuple[Algorithm, ...]:
    """Return the algorithms that a key, as a JWK (RFC 7517), can be used with.

    Raises:
        ValueError: It cannot be used for signatures.
    """
    kind, curve = jwk.get("kty"), jwk.get("crv")
    names: Iterable[str] = ()
    if kind == "oct":
        names = HMAC_BYTES
    elif kind == "RSA":
        names = [name for name in get_args(Algorithm) if name[:2] in ("RS", "PS")]
    elif kind == "EC" and curve in _CURVES:
        names = [_CURVES[curve]]
    elif kind == "OKP" and curve in ("Ed25519", "Ed448"):
        names = ["EdDSA"]
    found = tuple(name for name in get_args(Algorithm) if name in names)
    if not found:
        raise ValueError(f"a key of type {kind} and curve {curve} cannot be used")
    return found


def is_symmetric(algorithm: str) -> bool:
    """Return whether who can verify with it can sign with it, too."""
    return algorithm in HMAC_BYTES


def require_cryptography() -> None:
    """Check that public keys can be used.

    Raises:
        ValueError: The package ``cryptography`` is not installed.
    """
    if not has_crypto:
        raise ValueError(
            "the keys of outside issuers need cryptography: pip install 'revokebus[crypto]'"
        )


def pem_to_jwk(pem: str) -> dict[str, Any]:
    """Return the JWK of a private or public key in PEM.

    Raises:
        ValueError: It is not such a key; the message does not quote it.
        ImportError: The package ``cryptography`` is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra
    except ImportError:
        raise ImportError("needs cryptography: pip install 'revokebus[crypto]'") from None
    data = pem.encode()
    try:
        key: Any
        if b"PRIVATE KEY" in data:
            key = serialization.load_pem_private_key(data, password=None)
        else:
            key = serialization.load_pem_public_key(data)
    except Exception:  # noqa: BLE001 - whatever it was, its message may quote the key
        raise ValueError("is not a private or public key in PEM without a password") from None
    for algorithm in ("RS256", "ES256", "EdDSA"):
        try:
            made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
        except Exception:  # noqa: BLE001, S112 - a key of another kind
            continue
        return {name: value for name, value in made.items() if name != "key_ops"}
    raise ValueError("is a key of a kind that no algorithm here takes")
