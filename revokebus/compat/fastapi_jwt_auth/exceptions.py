"""What a request is refused with: a status code, and a message for its sender."""

from __future__ import annotations


class AuthJWTException(Exception):  # noqa: N818 - the name that programs import
    """The base of all of them.

    Args:
        status_code: The HTTP status; 1008 for a WebSocket without a token.
        message: What the sender may be told.
    """

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message


class InvalidHeaderError(AuthJWTException):
    """The header of the request, or of the token, is not as it must be."""


class JWTDecodeError(AuthJWTException):
    """The token is not genuine, has expired, or lacks a claim."""


class CSRFError(AuthJWTException):
    """The CSRF value is missing, or is not the token's."""


class MissingTokenError(AuthJWTException):
    """There is no token."""


class RevokedTokenError(AuthJWTException):
    """The token was revoked."""


class AccessTokenRequired(AuthJWTException):
    """The token is genuine, and no access token."""


class RefreshTokenRequired(AuthJWTException):
    """The token is genuine, and no refresh token."""


class FreshTokenRequired(AuthJWTException):
    """The token is genuine, and not fresh."""


class DenylistUnavailableError(AuthJWTException):
    """It is not known whether the token was revoked: the copy of the revocations is too old."""
