"""Refusals in HTTP: status, challenge (RFC 6750 §3), and the close code of a WebSocket."""

from __future__ import annotations

import re

from fastapi import HTTPException, WebSocketException

from revokebus.errors import (
    AuthenticationError,
    CsrfError,
    InsufficientScopeError,
    InvalidRequestError,
    MissingTokenError,
    StaleSignInError,
    UnavailableError,
)

HttpError = (
    AuthenticationError
    | CsrfError
    | InsufficientScopeError
    | InvalidRequestError
    | UnavailableError
)
HTTP_ERRORS = (
    AuthenticationError,
    CsrfError,
    InsufficientScopeError,
    InvalidRequestError,
    UnavailableError,
)
"""The errors that have an answer of their own."""

_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013
_LONGEST_REASON = 123

_NOT_QUOTABLE = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # RFC 6750 §3, error_description


def http_error(error: HttpError) -> HTTPException:
    """Return the response that `error` calls for.

    401 with a challenge (RFC 6750 §3; RFC 9470 §3 where only a new sign-in is missing), 403 for a
    missing scope or CSRF value, 400 for two tokens, 503 with ``Retry-After`` where no safe answer
    can be given. What Redis said stays inside.
    """
    if isinstance(error, UnavailableError):
        return HTTPException(503, error.public, {"Retry-After": str(error.retry_after)})
    if isinstance(error, CsrfError):
        return HTTPException(403, str(error))
    challenge = {"WWW-Authenticate": f"Bearer{_parameters(error)}"}
    return HTTPException(_status(error), str(error), challenge)


def websocket_error(error: HttpError) -> WebSocketException:
    """Return the end of the WebSocket that `error` calls for (RFC 6455 §7.4.1).

    1008 where the token does not allow it (the server answers 403 if the WebSocket was not
    accepted yet), 1013 where no safe answer can be given and trying again later may work.
    """
    if isinstance(error, UnavailableError):
        return WebSocketException(_TRY_AGAIN_LATER, _reason(error.public))
    return WebSocketException(_POLICY_VIOLATION, _reason(str(error)))


def _reason(text: str) -> str:
    """Return as much of `text` as a close frame can hold (RFC 6455 §5.5)."""
    return text.encode()[:_LONGEST_REASON].decode(errors="ignore")


def _status(error: HttpError) -> int:
    if isinstance(error, InvalidRequestError):
        return 400
    return 403 if isinstance(error, InsufficientScopeError) else 401


def _parameters(error: AuthenticationError | InsufficientScopeError | InvalidRequestError) -> str:
    if isinstance(error, MissingTokenError):
        return ""  # RFC 6750 §3.1: no error code where no credentials came
    if isinstance(error, InsufficientScopeError):
        return f' error="insufficient_scope", scope="{" ".join(error.required)}"'
    description = f'error_description="{_NOT_QUOTABLE.sub("", str(error))}"'
    if isinstance(error, InvalidRequestError):
        return f' error="invalid_request", {description}'
    if isinstance(error, StaleSignInError):
        limit = "" if error.max_age is None else f', max_age="{error.max_age:g}"'
        return f' error="insufficient_user_authentication", {description}{limit}'
    return f' error="invalid_token", {description}'
