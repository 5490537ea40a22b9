"""The typed claims of a verified token."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypeGuard, TypeVar

from revokebus.errors import InvalidTokenError
from revokebus.protocol.wire import MAX_EXPIRES_AT

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
        session_id: The ``sid`` claim, shared by all tokens that stem from one sign-in; empty in
            a token of an outside issuer that has none.
        issued_at: The ``iat`` claim, in seconds since the epoch, with a fraction.
        expires_at: The ``exp`` claim, in seconds since the epoch.
        not_before: The ``nbf`` claim, in seconds since the epoch; 0 where there is none.
        scopes: The ``scope`` claim, split (RFC 8693 §4.2).
        auth_time: When the owner signed in, in seconds since the epoch (OpenID Connect Core §2);
            None where the token does not say. A rotated token has that of the first one.
        fresh: Whether it says that its owner had just signed in when it was issued; never in a
            token of an outside issuer.
        issuer: The ``iss`` claim; empty where tokens of the application need none.
        since: The moment that cut-offs are compared with. In a token of the application it is
            the sign-in, so that a session from before a cut-off cannot outlive it by rotation;
            in one of an outside issuer it is ``iat``.
    """

    type: ClassVar[Literal["access", "refresh"]]

    subject: str
    jti: str
    session_id: str
    issued_at: float
    expires_at: float
    not_before: float
    scopes: frozenset[str]
    auth_time: float | None
    fresh: bool
    issuer: str
    since: float
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


AnyToken = TypeVar("AnyToken", bound=AccessToken | RefreshToken)

_TYPES: dict[object, type[AccessToken | RefreshToken]] = {
    cls.type: cls for cls in (AccessToken, RefreshToken)
}


def parse_token(claims: dict[str, object], *, issuer: str = "") -> AccessToken | RefreshToken:
    """Return the token of this application that verified `claims` describe.

    Args:
        claims: The claims.
        issuer: The ``iss`` that was demanded of it; empty for none.

    Raises:
        InvalidTokenError: A claim is missing or of another type than we issue. The signature
            says who wrote the claims, not that they make sense (RFC 8725 §2.4).
    """
    token_type = claims.get("type")
    cls = _TYPES.get(token_type) if isinstance(token_type, str) else None
    if cls is None:
        raise InvalidTokenError
    _text(claims, "sid")
    fresh = claims.get("fresh") is True
    return _token(cls, claims, issuer, since=began(claims), fresh=fresh)


def parse_outside_token(claims: dict[str, object], *, issuer: str) -> AccessToken | RefreshToken:
    """Return the token of an outside issuer that verified `claims`, under our names, describe.

    It is an access token unless it says otherwise, in ``type``, or in the claims that Cognito
    (``token_use``) and Keycloak (``typ``) have for it. ID tokens and logout tokens are none
    (RFC 8725 §2.8), nor are those that only count with a proof of possession (RFC 7800).

    Raises:
        InvalidTokenError: A claim is missing or of a type that its standard does not allow.
    """
    if _NOT_OF_ACCESS_TOKENS.intersection(claims):
        raise InvalidTokenError
    kinds = {_outside_type(claims[name]) for name in ("type", "token_use", "typ") if name in claims}
    if len(kinds) > 1:
        raise InvalidTokenError
    cls = kinds.pop() if kinds else AccessToken
    claims = {
        name: value
        for name, value in claims.items()
        if not (name in _OPTIONAL and (value is None or (value == 0 and name in _UNKNOWN_IF_0)))
    }
    scope = claims.get("scope")
    if isinstance(scope, list) and all(_is_word(each) for each in scope):
        claims["scope"] = " ".join(scope)  # as some issuers have it
    return _token(cls, claims, issuer, since=_moment(claims, "iat"), fresh=False)


def _outside_type(kind: object) -> type[AccessToken | RefreshToken]:
    cls = _OUTSIDE_TYPES.get(kind.lower()) if isinstance(kind, str) else None
    if cls is None:
        raise InvalidTokenError
    return cls


def _is_word(scope: object) -> bool:
    return isinstance(scope, str) and bool(scope) and " " not in scope


_NOT_OF_ACCESS_TOKENS = frozenset({"at_hash", "c_hash", "s_hash", "events", "cnf"})
_OPTIONAL = frozenset({"sid", "scope", "nbf", "auth_time"})
_UNKNOWN_IF_0 = frozenset({"nbf", "auth_time"})
_OUTSIDE_TYPES: dict[str, type[AccessToken | RefreshToken]] = {
    "access": AccessToken,
    "access_token": AccessToken,
    "bearer": AccessToken,
    "at+jwt": AccessToken,
    "refresh": RefreshToken,
}


def _token(
    cls: type[AccessToken | RefreshToken],
    claims: dict[str, object],
    issuer: str,
    *,
    since: float,
    fresh: bool,
) -> AccessToken | RefreshToken:
    return cls(
        subject=_text(claims, "sub"),
        jti=_text(claims, "jti"),
        session_id=_text(claims, "sid") if "sid" in claims else "",
        issued_at=_moment(claims, "iat"),
        expires_at=_expiry(claims),
        not_before=_moment(claims, "nbf") if "nbf" in claims else 0.0,
        scopes=_scopes(claims),
        auth_time=_moment(claims, "auth_time") if "auth_time" in claims else None,
        fresh=fresh,
        issuer=issuer,
        since=since,
        verified_claims=MappingProxyType(claims),
    )


def began(claims: Mapping[str, object]) -> float:
    """Return when the session of a token of this application began, by its claims.

    It may be a moment after ``iat``: a sign-in is put after a cut-off that is known.

    Raises:
        InvalidTokenError: ``auth_time``, or ``iat`` where there is none, is not a moment.
    """
    return _moment(claims, "auth_time" if "auth_time" in claims else "iat")


def is_identifier(value: object) -> TypeGuard[str]:
    """Return whether `value` can be a ``sub``, ``jti`` or ``sid``: text of a sensible length."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return False
    # JSON can write a lone surrogate, UTF-8 cannot.
    if value.isascii():
        return "\0" not in value
    return not any("\ud800" <= char <= "\udfff" or char == "\0" for char in value)


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
        raise InvalidTokenError(f"its {name} is missing, or no text of 1 to 4096 characters")
    return value


def _moment(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTokenError(f"its {name} is missing, or no moment")
    if not 0 < value < MAX_EXPIRES_AT:  # so NaN is refused, and an integer beyond a float
        raise InvalidTokenError
    return float(value)


def _expiry(claims: Mapping[str, object]) -> float:
    # Whole, as every issuer writes it: the arithmetic of others breaks with anything else.
    if type(claims.get("exp")) is not int:
        raise InvalidTokenError
    return _moment(claims, "exp")


def _scopes(claims: Mapping[str, object]) -> frozenset[str]:
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise InvalidTokenError
    return frozenset(scope.split(" ")) - {""}
