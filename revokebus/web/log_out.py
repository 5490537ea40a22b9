"""A dependency that says which session a request is to end, by a token that may have expired."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, overload

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads it

from revokebus.errors import (
    InvalidRequestError,
    InvalidTokenError,
    MissingTokenError,
)
from revokebus.tokens.claims import AccessToken, RefreshToken
from revokebus.web.cookies import check_same_site
from revokebus.web.guards import bus_of
from revokebus.web.refusals import HTTP_ERRORS, http_error
from revokebus.web.sources import find_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from revokebus.engine.engine import Engine
    from revokebus.web.sources import Found


@dataclass(frozen=True, slots=True)
class EndingSession:
    """The session that a request is to end. Good for nothing else: its token may have expired.

    Attributes:
        session_id: Its ``sid``, for `RevokeBus.revoke_session`.
        subject: Whose it is.
        issuer: Who has issued its tokens; empty where the application's own tokens name none.
    """

    session_id: str
    subject: str
    issuer: str


class LogOutGuard(SecurityBase):
    """A FastAPI dependency whose value is the session to end.

    Args:
        is_optional: Whether a request without a genuine token passes, with None.
    """

    def __init__(self, *, is_optional: bool) -> None:
        self.model = HTTPBearer(
            bearerFormat="JWT", description="A JWT of the session, of either type, expired or not."
        )
        self.scheme_name = "SessionToken"
        self.is_optional = is_optional

    async def __call__(self, connection: HTTPConnection) -> EndingSession | None:
        """Return the session.

        Args:
            connection: The request.

        Raises:
            fastapi.HTTPException: 400, 401 or 403, see `http_error`.
            ConfigurationError: No bus is attached.
        """
        try:
            return await self._session(connection)
        except HTTP_ERRORS as error:
            raise http_error(error) from error

    async def _session(self, connection: HTTPConnection) -> EndingSession | None:
        bus = bus_of(connection)
        found = self._candidates(bus, connection)
        sessions = {each async for each in _sessions(bus, connection, found)}
        if len(sessions) > 1:
            raise InvalidRequestError("Tokens of more than one session")
        if sessions:
            return sessions.pop()
        if self.is_optional:
            return None
        raise InvalidTokenError if found else MissingTokenError

    def _candidates(self, bus: Engine, connection: HTTPConnection) -> list[Found]:
        """Return whatever may be a token; a header is looked at for either type."""
        found: dict[Found, None] = {}
        for token_type in (AccessToken, RefreshToken):
            try:
                found |= dict.fromkeys(find_tokens(connection, bus.settings, token_type))
            except InvalidTokenError:
                if not self.is_optional:
                    raise
        return list(found)


async def _sessions(
    bus: Engine, connection: HTTPConnection, found: Iterable[Found]
) -> AsyncIterator[EndingSession]:
    """Yield the session of each genuine token.

    Others are passed over: a page of a sibling domain may have planted them.
    """
    for each in found:
        try:
            token = await bus.read(each.encoded)
        except InvalidTokenError:
            continue
        if each.source == "cookie":
            check_same_site(connection, token, bus.settings.cookies)
        if token.session_id:
            yield EndingSession(token.session_id, token.subject, token.issuer)


@overload
def require_logout(*, optional: Literal[False] = False) -> LogOutGuard: ...


@overload
def require_logout(*, optional: Literal[True]) -> LogOutGuard: ...


def require_logout(*, optional: bool = False) -> LogOutGuard:
    """Return a dependency for the route of a log-out; its value is an `EndingSession`.

    It takes the access token or the refresh token of a session, wherever guards look for them, and
    also one that has expired or was revoked: whoever comes back after an hour, at a computer that
    others use, must be able to end the session. So it proves nothing but that somebody holds a
    token of this session.

    Args:
        optional: Whether a request without a genuine token passes, with None, so that the route can
            clear cookies that are worth nothing.

    The dependency answers 401 where there is no genuine token, 403 where one came in a cookie and
    without the CSRF header, and 400 for tokens of several sessions.
    """
    return _guard(is_optional=optional)


@lru_cache(2)
def _guard(*, is_optional: bool) -> LogOutGuard:
    return LogOutGuard(is_optional=is_optional)
