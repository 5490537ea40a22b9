"""The typed claims of a verified token."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypeGuard

from revokebus.errors import InvalidTokenError
from revokebus.wire import MAX_EXPIRES_AT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_TOKEN_LENGTH = 16 * 1024
"""The longest encoded token that is looked at, in characters; servers cut headers near that."""

MAX_ID = 4096
"""The longest ``sub``, ``jti`` or ``sid`` that is accepted, in characters."""

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3, scope-token


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
    verified_claims: MappingProxyType[str, object] = field(repr=False, compare=False)
    """Every claim as it was verified. Shared between requests: for reading only."""

    @property
    def claims(self) -> dict[str, Any]:
        """A copy of every claim, the registered ones included; changing it changes nothing."""
        # What came out of JSON goes back into it, at any depth that could be read.
        copied: dict[str, Any] = json.loads(json.dumps(dict(self.verified_claims)))
        return copied

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> NoReturn:
        """Refuse to be read from a request, or to be the form of an answer.

        Raises:
            TypeError: Always; FastAPI meets it where a route forgets its guard.
        """
        raise TypeError(
            f"{cls.__name__} does not come from the request: take it from a guard, as in "
            "Annotated[AccessToken, Depends(require_access())]; and to answer with one, return "
            "its fields"
        )


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


def parse_token(claims: dict[str, object]) -> AccessToken | RefreshToken:
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
        verified_claims=MappingProxyType(claims),
    )


def is_identifier(value: object) -> TypeGuard[str]:
    """Return whether `value` can be a ``sub``, ``jti`` or ``sid``: text of a sensible length."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return False
    # JSON can write a lone surrogate, UTF-8 cannot.
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def check_scopes(scopes: Iterable[object]) -> None:
    """Check that each of `scopes` is a ``scope-token`` (RFC 6749 §3.3).

    Raises:
        ValueError: One is not; it could never be met, or would break a header.
    """
    for scope in scopes:
        if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
            raise ValueError(f"a scope must be one word of printable ASCII, not {scope!r}")


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not is_identifier(value):
        raise InvalidTokenError
    return value


def _moment(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTokenError
    if not 0 < value < MAX_EXPIRES_AT:  # so NaN is refused, and an integer beyond a float
        raise InvalidTokenError
    return float(value)


def _scopes(claims: Mapping[str, object]) -> frozenset[str]:
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise InvalidTokenError
    return frozenset(scope.split())
