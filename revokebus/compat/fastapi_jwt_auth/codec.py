"""Signs tokens, and verifies them: PyJWT, and what it leaves to its caller."""

from __future__ import annotations

import base64
import re
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import jwt
from jwt.algorithms import requires_cryptography

from revokebus.compat.fastapi_jwt_auth.exceptions import InvalidHeaderError, JWTDecodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from revokebus.compat.fastapi_jwt_auth.config import Config, Life, TokenType

_SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_PARTS = 3
_LATEST = 1 << 53
_UNPROCESSABLE = 422
# PyJWT demands texts; fastapi-jwt-auth's subjects may be numbers.
_OPTIONS: Any = {"verify_sub": False, "verify_jti": False}
_MESSAGES: dict[type[Exception], str] = {
    jwt.InvalidSignatureError: "Signature verification failed",
    jwt.ExpiredSignatureError: "Signature has expired",
    jwt.ImmatureSignatureError: "The token is not yet valid (nbf)",
    jwt.InvalidIssuedAtError: "Issued At claim (iat) must be an integer.",
    jwt.InvalidAudienceError: "Invalid audience",
    jwt.InvalidAlgorithmError: "The specified alg value is not allowed",
}


def new_id() -> str:
    """Return an id that no other token has."""
    return str(uuid.uuid4())


def key_for(config: Config, algorithm: str, *, signing: bool) -> str:
    """Return the key for `algorithm`.

    Raises:
        ValueError: There is no such algorithm.
        RuntimeError: The setting with the key is missing.
    """
    if algorithm in _SYMMETRIC:
        name, key = "secret_key", config.authjwt_secret_key
    elif algorithm not in requires_cryptography:
        raise ValueError(f"Algorithm {algorithm} could not be found")
    elif signing:
        name, key = "private_key", config.authjwt_private_key
    else:
        name, key = "public_key", config.authjwt_public_key
    if not key:
        kind = "symmetric" if algorithm in _SYMMETRIC else "asymmetric"
        raise RuntimeError(f"authjwt_{name} must be set when using {kind} algorithm {algorithm}")
    return key


def expiry(config: Config, token_type: TokenType, expires_time: Life | None) -> int | None:
    """Return the ``exp`` of a token that is made now; None for none.

    Args:
        config: Has the usual life.
        token_type: The type of the token.
        expires_time: Another life: seconds, or False for a token that does not expire.

    Raises:
        TypeError: `expires_time` is something else.
    """
    if expires_time and not isinstance(expires_time, timedelta | int):
        raise TypeError("expires_time must be between timedelta, int, bool")
    if expires_time is False:
        return None
    life: Life = expires_time or config.of(token_type, "token_expires")
    if life is True:
        life = config.of(token_type, "token_expires")
    if life is False:
        return None
    seconds = int(life.total_seconds()) if isinstance(life, timedelta) else life
    return int(time.time()) + seconds


def sign(
    config: Config,
    claims: Mapping[str, object],
    algorithm: str | None,
    headers: Mapping[str, Any] | None,
) -> str:
    """Return a token with `claims`.

    Raises:
        ValueError: There is no such algorithm.
        RuntimeError: The setting with the key is missing.
    """
    algorithm = algorithm or config.authjwt_algorithm
    key = key_for(config, algorithm, signing=True)
    return jwt.encode(
        dict(claims), key, algorithm=algorithm, headers=dict(headers) if headers else None
    )


def verify(config: Config, token: str, issuer: str | None = None) -> dict[str, Any]:
    """Return the claims of a token that is genuine, and valid at this moment.

    Args:
        config: The keys, and what is demanded.
        token: The token.
        issuer: The ``iss`` that is demanded; None for any.

    Raises:
        InvalidHeaderError: Its header cannot be read.
        JWTDecodeError: It is not genuine, or not valid.
        RuntimeError: The key for an algorithm that is allowed is missing.
    """
    algorithms = config.authjwt_decode_algorithms or [config.authjwt_algorithm]
    algorithm = unverified_header(token).get("alg")
    if algorithm not in algorithms:
        raise JWTDecodeError(_UNPROCESSABLE, "The specified alg value is not allowed")
    key = key_for(config, algorithm, signing=False)
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=config.authjwt_decode_audience,
            leeway=config.authjwt_decode_leeway,
            options=_OPTIONS,
        )
    except jwt.MissingRequiredClaimError as error:
        message = f'Token is missing the "{error.claim}" claim'
        raise JWTDecodeError(_UNPROCESSABLE, message) from None
    except Exception as error:  # noqa: BLE001 - whatever a client's bytes make a decoder raise
        # Not its own message, which can quote the token.
        message = _MESSAGES.get(type(error), "Invalid token")
        raise JWTDecodeError(_UNPROCESSABLE, message) from None
    if issuer is not None and "iss" not in claims:
        raise JWTDecodeError(_UNPROCESSABLE, 'Token is missing the "iss" claim')
    if issuer is not None and claims["iss"] != issuer:
        raise JWTDecodeError(_UNPROCESSABLE, "Invalid issuer")
    return claims


def text_claim(claims: Mapping[str, object], name: str) -> str:
    """Return a claim that cannot be done without.

    Raises:
        JWTDecodeError: It is missing, or no text.
    """
    value = claims.get(name)
    if not isinstance(value, str):
        raise JWTDecodeError(_UNPROCESSABLE, f"Missing claim: {name}")
    return value


def moment(value: object) -> float | None:
    """Return the moment that a claim is, in seconds since the epoch; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LATEST:
        return None
    return float(value)


def unverified_header(token: str) -> dict[str, Any]:
    """Return the header of `token`, whoever has made it.

    Raises:
        InvalidHeaderError: It is none, or of a token that is not as RFC 7515 has it.
    """
    if not isinstance(token, str):  # a program may hand on what it has received as JSON
        raise InvalidHeaderError(_UNPROCESSABLE, "Invalid token type")
    segments = token.split(".")
    if len(segments) != _PARTS:
        raise InvalidHeaderError(_UNPROCESSABLE, "Not enough segments")
    if not all(_is_canonical(segment) for segment in segments):
        raise InvalidHeaderError(_UNPROCESSABLE, "Invalid header padding")
    try:
        header = jwt.get_unverified_header(token)
    except Exception:  # noqa: BLE001 - whatever a client's bytes make a decoder raise
        raise InvalidHeaderError(_UNPROCESSABLE, "Invalid header string") from None
    if "crit" in header or "b64" in header:  # RFC 7515 §4.1.11: none is understood here
        raise InvalidHeaderError(_UNPROCESSABLE, "Invalid header string")
    return header


def _is_canonical(segment: str) -> bool:
    # Python's decoder passes over characters that are not of the alphabet, and over unused bits:
    # one token would have many texts.
    if not _SEGMENT.fullmatch(segment) or len(segment) % 4 == 1:
        return False
    decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == segment
