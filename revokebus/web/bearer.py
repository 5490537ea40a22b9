"""Bearer tokens in HTTP (RFC 6750): out of the request, and the challenge back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fastapi import HTTPException

from revokebus.errors import (
    AuthenticationError,
    InsufficientScopeError,
    InvalidTokenError,
    MissingTokenError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

HttpError = AuthenticationError | InsufficientScopeError | UnavailableError
HTTP_ERRORS = (AuthenticationError, InsufficientScopeError, UnavailableError)
"""The errors that have an answer of their own."""

_NOT_QUOTABLE = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # RFC 6750 §3, error_description


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


def http_error(error: HttpError) -> HTTPException:
    """Return the response that `error` calls for.

    401 with a challenge (RFC 6750 §3), 403 for a missing scope, 503 with ``Retry-After`` where
    no safe answer can be given. What Redis said stays inside.
    """
    if isinstance(error, UnavailableError):
        return HTTPException(503, error.public, {"Retry-After": str(error.retry_after)})
    challenge = {"WWW-Authenticate": f"Bearer{_parameters(error)}"}
    return HTTPException(
        403 if isinstance(error, InsufficientScopeError) else 401, str(error), challenge
    )


def _parameters(error: AuthenticationError | InsufficientScopeError) -> str:
    if isinstance(error, MissingTokenError):
        return ""  # RFC 6750 §3.1: no error code where no credentials came
    if isinstance(error, InsufficientScopeError):
        return f' error="insufficient_scope", scope="{" ".join(error.required)}"'
    description = _NOT_QUOTABLE.sub("", str(error))
    return f' error="invalid_token", error_description="{description}"'
