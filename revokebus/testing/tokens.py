"""Tokens for the tests of an application, without a key, a bus or a sign-in."""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastapi.security.oauth2 import SecurityScopes  # noqa: TC002 - FastAPI reads it
from starlette.requests import HTTPConnection  # noqa: TC002

from revokebus.results import EndingSession
from revokebus.tokens.claims import AccessToken, parse_token
from revokebus.web.guards import Guard
from revokebus.web.log_out import LogOutGuard
from revokebus.web.openapi import dependencies_of, routes_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from fastapi import FastAPI

_LIFE = 900


def make_token(
    subject: str = "alice",
    *,
    scopes: Iterable[str] = (),
    claims: Mapping[str, object] | None = None,
    fresh: bool = False,
    signed_in_ago: float = 0.0,
) -> AccessToken:
    """Return the access token that a guard would hand to a route.

    Args:
        subject: Its ``sub``.
        scopes: What it allows.
        claims: Its further claims; one that every token has takes the place of what is made here.
        fresh: Whether it is of the sign-in itself.
        signed_in_ago: How many seconds ago that was.

    Raises:
        InvalidTokenError: It could not be issued so.
    """
    now = time.time()
    made: dict[str, object] = {
        "sub": subject,
        "jti": secrets.token_urlsafe(16),
        "sid": secrets.token_urlsafe(16),
        "type": AccessToken.type,
        "iat": now,
        "auth_time": now - signed_in_ago,
        "exp": int(now) + _LIFE,
        **({"scope": " ".join(scopes)} if scopes else {}),
        **({"fresh": True} if fresh else {}),
        **(claims or {}),
    }
    token = parse_token(made)
    assert isinstance(token, AccessToken)  # noqa: S101 - for the type checker
    return token


@contextmanager
def signed_in(app: FastAPI, token: AccessToken) -> Iterator[None]:
    """Have every guard of `app` let `token` pass, whatever a request brings, for a while.

    All at once, where ``app.dependency_overrides`` would need an entry for each guard. What a guard
    demands of a token (scopes, a recent sign-in) it demands of this one, too. Nothing has to be
    started, and no key or Redis is needed. A route that changes something may still use the bus.

    Args:
        app: The application; one that is mounted in it is another.
        token: Whose token the routes are given, see `make_token`.
    """
    overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
    for route in routes_of(app):
        for call in dependencies_of(getattr(route, "dependant", None)):
            if isinstance(call, Guard) and call.token_type is AccessToken:
                overrides[call] = _instead_of(call, token)
            elif isinstance(call, LogOutGuard):
                overrides[call] = _ending(token)
    before = dict(app.dependency_overrides)
    app.dependency_overrides.update(overrides)
    try:
        yield
    finally:
        app.dependency_overrides.clear()
        app.dependency_overrides.update(before)


def _instead_of(
    guard: Guard[AccessToken, Any], token: AccessToken
) -> Callable[..., Awaitable[AccessToken | None]]:
    async def give(connection: HTTPConnection, route: SecurityScopes) -> AccessToken | None:
        return guard.admit(connection, token, route.scopes)

    return give


def _ending(token: AccessToken) -> Callable[..., Awaitable[EndingSession]]:
    async def give() -> EndingSession:
        return EndingSession(token.session_id, token.subject, token.issuer)

    return give
