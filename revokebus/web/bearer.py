"""Bearer tokens in HTTP (RFC 6750): out of the request, and the challenge back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from revokebus.errors import (
    AuthenticationError,
    InsufficientScopeError,
    InvalidTokenError,
    MissingTokenError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from revokebus.errors import RevokeBusError


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the token of the ``Authorization`` header (RFC 6750 §2.1).

    Args:
        headers: Names in lower case, and values, as an ASGI scope has them.

    Raises:
        MissingTokenError: There is no such header, or it is of another scheme.
        InvalidTokenError: The header comes twice, or is not a scheme and one token.
    """
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        raise MissingTokenError
    if len(values) > 1:
        raise InvalidTokenError("More than one Authorization header")
    scheme, _, credentials = values[0].strip().partition(b" ")
    if scheme.lower() != b"bearer":
        raise MissingTokenError
    token = credentials.strip()
    if not token or b" " in token:
        raise InvalidTokenError("Malformed Authorization header")
    return token.decode("latin-1")


def http_error(error: RevokeBusError) -> HTTPException:
    """Return the response that `error` calls for.

    401 with a challenge (RFC 6750 §3), 403 for a missing scope, 503 with ``Retry-After`` where
    no safe answer can be given; 500 for what only the developer can mend.
    """
    detail = str(error)
    if isinstance(error, AuthenticationError):
        return HTTPException(401, detail, {"WWW-Authenticate": _challenge(error)})
    if isinstance(error, InsufficientScopeError):
        scope = " ".join(error.required)
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        return HTTPException(403, detail, {"WWW-Authenticate": challenge})
    if isinstance(error, UnavailableError):
        return HTTPException(503, detail, {"Retry-After": str(error.retry_after)})
    return HTTPException(500, "Internal Server Error")


def _challenge(error: AuthenticationError) -> str:
    if isinstance(error, MissingTokenError):
        return "Bearer"  # RFC 6750 §3.1: no error code where no credentials came
    return f'Bearer error="invalid_token", error_description="{error}"'
