"""The typed claims of a verified token."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from revokebus.errors import InvalidTokenError
from revokebus.wire import MAX_EXPIRES_AT

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_ID = 4096


@dataclass(frozen=True, slots=True)
class Token:
    """A token whose signature and claims have been checked.

    Attributes:
        subject: The ``sub`` claim: whom the token speaks for (RFC 7519 §4.1.2).
        jti: The token's own id (RFC 7519 §4.1.7).
        session_id: The ``sid`` claim, shared by all tokens that stem from one sign-in.
        issued_at: The ``iat`` claim, in seconds since the epoch, with a fraction.
        expires_at: The ``exp`` claim, in seconds since the epoch.
        not_before: The ``nbf`` claim, in seconds since the epoch; 0 where there is none.
        scopes: The ``scope`` claim, split (RFC 8693 §4.2).
    """

    type: ClassVar[Literal["access", "refresh"]]

    subject: str
    jti: str
    session_id: str
    issued_at: float
    expires_at: float
    not_before: float
    scopes: frozenset[str]
    verified_claims: Mapping[str, object] = field(repr=False, compare=False)
    """Every claim as it was verified. Shared between requests: for reading only."""

    @property
    def claims(self) -> dict[str, Any]:
        """A copy of every claim, the registered ones included; changing it changes nothing."""
        return copy.deepcopy(dict(self.verified_claims))


class AccessToken(Token):
    """A token that opens routes guarded by `require_access`."""

    __slots__ = ()
    type = "access"


class RefreshToken(Token):
    """A token that buys a new pair, once."""

    __slots__ = ()
    type = "refresh"


_TYPES: dict[object, type[AccessToken | RefreshToken]] = {
    cls.type: cls for cls in (AccessToken, RefreshToken)
}


def parse_token(claims: Mapping[str, object]) -> AccessToken | RefreshToken:
    """Return the token that verified `claims` describe.

    Raises:
        InvalidTokenError: A claim is missing or of another type than we issue. The signature
            says who wrote the claims, not that they make sense (RFC 8725 §2.4).
    """
    token_type = claims.get("type")
    cls = _TYPES.get(token_type) if isinstance(token_type, str) else None
    if cls is None:
        raise InvalidTokenError
    return cls(
        subject=_text(claims, "sub"),
        jti=_text(claims, "jti"),
        session_id=_text(claims, "sid"),
        issued_at=_moment(claims, "iat"),
        expires_at=_moment(claims, "exp"),
        not_before=_moment(claims, "nbf") if "nbf" in claims else 0.0,
        scopes=_scopes(claims),
        verified_claims=claims,
    )


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID:
        raise InvalidTokenError
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can write and UTF-8 cannot
        raise InvalidTokenError from None
    return value


def _moment(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTokenError
    if not 0 < value < MAX_EXPIRES_AT or math.isnan(value):
        raise InvalidTokenError
    return float(value)


def _scopes(claims: Mapping[str, object]) -> frozenset[str]:
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise InvalidTokenError
    return frozenset(scope.split())
