"""Tokens in a browser's cookies, and the proof that a page of ours sent them.

A browser sends cookies with requests that other sites cause. So the token carries a random value
(``csrf``), which is also in a cookie that scripts of our pages can read and others cannot, and a
request that changes something must bring it in a header: the double submit, bound to the session
by the token's signature.
"""

from __future__ import annotations

import hmac
import json
import logging
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any

from revokebus.errors import CsrfError
from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.responses import Response

    from revokebus.settings.cookies import CookieSettings
    from revokebus.settings.settings import Settings
    from revokebus.tokens.claims import AccessToken, RefreshToken
    from revokebus.tokens.issuer import TokenPair

logger = logging.getLogger("revokebus")

_LONGEST_COOKIE = 4096  # RFC 6265 §6.1: name and value; what the first browsers took is all they do
_SECURE = "__Secure-"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


def set_token_cookies(response: Response, pair: TokenPair, settings: Settings) -> None:
    """Put the tokens that may come in cookies, and the CSRF value, into cookies of `response`.

    Raises:
        ValueError: The tokens have no CSRF value: ``cookie`` is in none of the sources.
    """
    csrf = _claims(pair.access_token).get("csrf")
    if not isinstance(csrf, str):
        raise ValueError(  # noqa: TRY004 - a setting, not a type, is wrong
            "these tokens have no CSRF value: add cookie to token_sources "
            "(REVOKEBUS_TOKEN_SOURCES=header,cookie), or to refresh_sources for the refresh token "
            "alone, before they are issued"
        )
    cookies = settings.cookies
    long = pair.refresh_expires_in
    if "cookie" in settings.sources_of("access"):
        # As long as the session: by one that has expired a log-out can still end it.
        _set(response, cookies, cookies.access_name, pair.access_token, long)
    if "cookie" in settings.sources_of("refresh"):
        _set(response, cookies, cookies.refresh_name, pair.refresh_token, long)
    _set(response, cookies, cookies.csrf_name, csrf, long)
    for name in _of_the_root(cookies):
        # From before the path was narrowed: beside the new one it would be a second token.
        _set(response, cookies, name, "", 0, path="/")
    response.headers["Cache-Control"] = "no-store"  # RFC 6749 §5.1


def clear_token_cookies(response: Response, settings: Settings) -> None:
    """Have the browser forget what `set_token_cookies` has set."""
    cookies = settings.cookies
    for name in (cookies.access_name, cookies.refresh_name, cookies.csrf_name):
        _set(response, cookies, name, "", 0)
    for name in _of_the_root(cookies):
        _set(response, cookies, name, "", 0, path="/")


def _of_the_root(cookies: CookieSettings) -> list[str]:
    """Return the names of cookies that may be left from when their path was ``/``."""
    names = (cookies.access_name, cookies.refresh_name, cookies.csrf_name)
    narrow = [name for name in names if _path(cookies, name) != "/"]
    # With that path their name began otherwise, if it is not chosen.
    return [*narrow, *(_twin(name) for name in narrow if name.startswith(_SECURE))]


def _twin(name: str) -> str:
    return f"__Host-{name.removeprefix(_SECURE)}"


def _path(cookies: CookieSettings, name: str) -> str:
    return cookies.refresh_path if name == cookies.refresh_name else cookies.path


def _set(
    response: Response,
    cookies: CookieSettings,
    name: str,
    value: str,
    age: int,
    path: str | None = None,
) -> None:
    if len(name) + len(value) > _LONGEST_COOKIE:
        logger.warning(
            "revokebus: the cookie %s has %d bytes, and browsers drop what has more than %d: put "
            "fewer claims into tokens",
            name,
            len(name) + len(value),
            _LONGEST_COOKIE,
            extra=event("cookie_too_long"),
        )
    response.set_cookie(
        name,
        value,
        max_age=age,
        path=path or _path(cookies, name),
        domain=cookies.domain,
        secure=cookies.secure,
        httponly=name not in (cookies.csrf_name, _twin(cookies.csrf_name)),
        samesite=cookies.samesite,
    )


def _claims(encoded: str) -> dict[str, Any]:
    """Return the claims of a token that we have just made, unverified."""
    payload = encoded.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def check_same_site(
    connection: HTTPConnection, token: AccessToken | RefreshToken, cookies: CookieSettings
) -> None:
    """Check that a request whose token came in a cookie was sent by a page of ours.

    Raises:
        CsrfError: Nothing shows it.
    """
    if connection.scope["type"] == "websocket":
        _check_origin(connection, cookies)
    elif connection.scope["method"] not in _SAFE_METHODS:
        check_csrf_header(connection, token, cookies)


def check_csrf_header(
    connection: HTTPConnection, token: AccessToken | RefreshToken, cookies: CookieSettings
) -> None:
    """Check that a request brings the value that only our pages can read.

    Raises:
        CsrfError: It does not.
    """
    expected = token.verified_claims.get("csrf")
    given = connection.headers.getlist(cookies.csrf_header)
    if not isinstance(expected, str) or len(given) != 1:
        raise CsrfError(f"The header {cookies.csrf_header} is required with a cookie")
    if not hmac.compare_digest(expected.encode(), given[0].encode()):
        raise CsrfError(f"The header {cookies.csrf_header} does not belong to the cookie")


def _check_origin(connection: HTTPConnection, cookies: CookieSettings) -> None:
    """Check a WebSocket, whose opening cannot carry a header of the page's choice."""
    origins = connection.headers.getlist("origin")
    if len(origins) != 1:
        raise CsrfError("The header Origin is required with a cookie")
    origin = origins[0].lower()
    hosts = connection.headers.getlist("host")
    if origin in cookies.allowed_origins:
        return
    scheme, _, authority = origin.partition("://")
    same_host = len(hosts) == 1 and _port(scheme, authority) == _port(scheme, hosts[0])
    if not same_host or not _is_trusted(scheme, authority, cookies):
        raise CsrfError("Pages of this origin may not open it; see cookies.allowed_origins")


def _is_trusted(scheme: str, authority: str, cookies: CookieSettings) -> bool:
    """Return whether a page of ours can be served so; over plain http anybody could write it."""
    if scheme == "https":
        return True
    host = authority if authority.endswith("]") else authority.rpartition(":")[0] or authority
    return scheme == "http" and (not cookies.secure or host in _LOOPBACK)


def _port(scheme: str, authority: str) -> str:
    authority = authority.lower()
    _, colon, port = authority.rpartition(":")
    return authority if colon and port.isdigit() else f"{authority}:{_DEFAULT_PORTS.get(scheme)}"
