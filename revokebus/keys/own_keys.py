"""The application's own keys: what signs its tokens, and what verifies them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt

from revokebus.keys.algorithms import HMAC_BYTES, algorithms_of
from revokebus.keys.hmac_secret import is_a_key, is_guessable
from revokebus.keys.key_set import Key, key_of, text_to_jwk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GENERATE = 'python -c "import secrets; print(secrets.token_urlsafe(64))"'


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What new tokens are signed with.

    Attributes:
        key: The key.
        algorithm: The ``alg`` of the header (RFC 7515 §4.1.1).
        kid: The ``kid`` of the header (RFC 7515 §4.1.4); None for none.
    """

    key: jwt.PyJWK
    algorithm: str
    kid: str | None


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """The application's own keys.

    Attributes:
        signing: What signs; None where only tokens of others are verified.
        verifying: What verifies, former keys included.
    """

    signing: SigningKey | None
    verifying: tuple[Key, ...]


def likely_algorithms(text: str) -> tuple[str, ...]:
    """Return the algorithm that a key, in PEM, is most often used with.

    Raises:
        ValueError: It is no such key.
        ImportError: ``cryptography`` is not installed.
    """
    return algorithms_of(text_to_jwk(text))[:1]


def own_keys(
    *,
    current: Mapping[str, str],
    former: Mapping[str, str],
    key_id: str | None,
    algorithms: Sequence[str],
) -> OwnKeys:
    """Return the keys that the settings describe.

    Args:
        current: ``secret_key``, ``private_key`` and ``public_key``, as far as they are set.
        former: ``previous_keys``: by ``kid``, or ``""`` for tokens without one.
        key_id: The ``kid`` of the current key.
        algorithms: The algorithms that are accepted; the first one signs.

    Raises:
        ValueError: A key cannot be used; the message names the setting and quotes nothing.
    """
    jwks = {name: _jwk(name, text) for name, text in current.items()}
    if "secret_key" in current:
        _check_secret("secret_key", current["secret_key"], algorithms)
    own = [jwks[name] for name in ("public_key", "secret_key", "private_key") if name in jwks]
    keys = [_key(next(iter(current)), jwk, algorithms, key_id) for jwk in own[:1]]
    for kid, text in former.items():
        if text in current.values():
            raise ValueError(
                f"previous_keys (REVOKEBUS_PREVIOUS_KEYS): {kid!r} is the current key as well; "
                "when a key is replaced, the new one belongs into secret_key or private_key"
            )
        jwk = _jwk("previous_keys", text)
        if not _is_pem(text):
            _check_secret("previous_keys", text, algorithms)
        keys.append(_key("previous_keys", jwk, algorithms, kid or None))
    _check_every_algorithm_has_a_key(algorithms, keys)
    signing = _signing_key(jwks, key_id, algorithms[0])
    _check_pair(signing, keys[0])
    return OwnKeys(signing, tuple(keys))


def _check_every_algorithm_has_a_key(algorithms: Sequence[str], keys: Sequence[Key]) -> None:
    for name in algorithms:
        if not any(name in key.prepared for key in keys):
            raise ValueError(
                f"algorithms (REVOKEBUS_ALGORITHMS) names {name}, and no key can be used with it; "
                "HS256 and its like need secret_key, the others private_key or public_key"
            )


def _is_pem(text: str) -> bool:
    return text.lstrip().startswith("-----BEGIN")


def _jwk(name: str, text: str) -> dict[str, Any]:
    variable = f"{name} (REVOKEBUS_{name.upper()})"
    if name in ("private_key", "public_key") and not _is_pem(text):
        raise ValueError(f"{variable} is not in PEM: it begins with -----BEGIN")
    if name == "secret_key" or not _is_pem(text):
        _check_can_sign(name, text)
    try:
        jwk = text_to_jwk(text)
    except (ValueError, ImportError) as error:
        raise ValueError(f"{variable} {error}") from None
    if name == "private_key" and "d" not in jwk:
        raise ValueError(f"{variable} is a public key; that belongs into public_key")
    if name == "public_key" and "d" in jwk:
        raise ValueError(f"{variable} is a private key; that belongs into private_key")
    return jwk


def _check_can_sign(name: str, secret: str) -> None:
    try:
        secret.encode()
    except UnicodeError:
        usable = False
    else:
        usable = not is_a_key(secret)
    if not usable:
        raise ValueError(
            f"{name} (REVOKEBUS_{name.upper()}) cannot be an HMAC key: it looks like a public "
            "key or a certificate, or is not valid UTF-8"
        )


def _signing_key(
    jwks: Mapping[str, dict[str, Any]], key_id: str | None, algorithm: str
) -> SigningKey | None:
    for name in ("secret_key", "private_key"):
        if name in jwks:
            if algorithm not in algorithms_of(jwks[name]):
                raise ValueError(
                    f"algorithms (REVOKEBUS_ALGORITHMS) begins with {algorithm}, which {name} "
                    f"cannot sign with; it can {', '.join(algorithms_of(jwks[name]))}"
                )
            return SigningKey(jwt.PyJWK(jwks[name], algorithm=algorithm), algorithm, key_id)
    return None


def _key(name: str, jwk: dict[str, Any], algorithms: Sequence[str], kid: str | None) -> Key:
    possible = algorithms_of(jwk)
    if not set(possible).intersection(algorithms):
        raise ValueError(
            f"algorithms (REVOKEBUS_ALGORITHMS) is {', '.join(algorithms)}, and {name} needs one "
            f"of {', '.join(possible)} among them"
        )
    try:
        return key_of(jwk, algorithms, kid)
    except ValueError as error:
        raise ValueError(f"{name} (REVOKEBUS_{name.upper()}): {error}") from None


def _check_pair(signing: SigningKey | None, verifying: Key) -> None:
    """Check that what signs is verified, before a user finds out."""
    if signing is None:
        return
    signed = jwt.PyJWS().encode(b"{}", signing.key, algorithm=signing.algorithm)
    try:
        key = verifying.prepared[signing.algorithm]
        jwt.PyJWS().decode_complete(signed, key, algorithms=[signing.algorithm])
    except (KeyError, jwt.PyJWTError):
        raise ValueError(
            "public_key (REVOKEBUS_PUBLIC_KEY) does not belong to private_key "
            "(REVOKEBUS_PRIVATE_KEY)"
        ) from None


def _check_secret(name: str, secret: str, algorithms: Sequence[str]) -> None:
    longest_first = sorted(HMAC_BYTES, reverse=True)
    algorithm = next((each for each in longest_first if each in algorithms), "HS256")
    size, needed = len(secret.encode()), HMAC_BYTES[algorithm]
    if size < needed:
        raise ValueError(
            f"{name} (REVOKEBUS_{name.upper()}) has {size} bytes, {algorithm} needs at least "
            f"{needed} (RFC 7518 §3.2); make one with: {GENERATE}"
        )
    if is_guessable(secret):
        raise ValueError(
            f"{name} (REVOKEBUS_{name.upper()}) is well known or repeats itself, so anyone can "
            f"sign tokens; make one with: {GENERATE}"
        )
