"""Tokens in cookies, and the value by which a request proves that it comes from our page."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket

from revokebus.compat.fastapi_jwt_auth.codec import text_claim, verify
from revokebus.compat.fastapi_jwt_auth.exceptions import CSRFError

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.responses import Response

    from revokebus.compat.fastapi_jwt_auth.config import Config, TokenType

_UNAUTHORIZED = 401


def set_cookies(
    config: Config, token_type: TokenType, response: Response, token: str, max_age: int | None
) -> None:
    """Put `token` into a cookie, and its CSRF value into another one that scripts may read.

    Raises:
        JWTDecodeError: The token has no such value, or is not valid.
    """
    max_age = max_age or config.authjwt_cookie_max_age
    response.set_cookie(
        config.of(token_type, "cookie_key"),
        token,
        max_age=max_age,
        path=config.of(token_type, "cookie_path"),
        httponly=True,
        **_attributes(config),
    )
    if config.authjwt_cookie_csrf_protect:
        response.set_cookie(
            config.of(token_type, "csrf_cookie_key"),
            text_claim(verify(config, token), "csrf"),
            max_age=max_age,
            path=config.of(token_type, "csrf_cookie_path"),
            httponly=False,
            **_attributes(config),
        )


def unset_cookies(config: Config, token_type: TokenType, response: Response) -> None:
    """Have the browser forget what `set_cookies` has set."""
    response.delete_cookie(
        config.of(token_type, "cookie_key"),
        path=config.of(token_type, "cookie_path"),
        httponly=True,
        **_attributes(config),
    )
    if config.authjwt_cookie_csrf_protect:
        response.delete_cookie(
            config.of(token_type, "csrf_cookie_key"),
            path=config.of(token_type, "csrf_cookie_path"),
            **_attributes(config),
        )


def _attributes(config: Config) -> dict[str, Any]:
    return {
        "domain": config.authjwt_cookie_domain,
        "secure": config.authjwt_cookie_secure,
        "samesite": config.authjwt_cookie_samesite,
    }


def csrf_value(
    config: Config, token_type: TokenType, connection: HTTPConnection, given: str | None
) -> str | None:
    """Return the CSRF value that came with a request; None where it needs none.

    Args:
        config: Which requests need one, and where it is.
        token_type: The type of the token in the cookie.
        connection: The request, or the WebSocket, which cannot send headers.
        given: The value of a WebSocket.

    Raises:
        CSRFError: It is missing.
    """
    if not config.authjwt_cookie_csrf_protect:
        return None
    if isinstance(connection, WebSocket):
        value = given
    elif connection.scope["method"] in config.authjwt_csrf_methods:
        value = connection.headers.get(config.of(token_type, "csrf_header_name"))
    else:
        return None
    if not value:
        raise CSRFError(_UNAUTHORIZED, "Missing CSRF Token")
    return value


def check_csrf(claims: dict[str, Any], value: object) -> None:
    """Check that `value` is the one of the token.

    Raises:
        JWTDecodeError: The token has none.
        CSRFError: It is another one.
    """
    expected = text_claim(claims, "csrf")
    # In bytes: a comparison of texts fails for what is not ASCII.
    given = value if isinstance(value, str) else ""  # a program may hand on what came as JSON
    if not hmac.compare_digest(
        given.encode(errors="surrogatepass"), expected.encode(errors="surrogatepass")
    ):
        raise CSRFError(_UNAUTHORIZED, "CSRF double submit tokens do not match")
