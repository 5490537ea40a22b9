"""A dependency that says which session a request is to end, by a token that may have expired."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Generic, Literal, Never, TypeVar, overload

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads it

from revokebus.errors import (
    CsrfError,
    InvalidRequestError,
    InvalidTokenError,
    KeysUnavailableError,
    MissingTokenError,
    RevokeBusError,
)
from revokebus.results import EndingSession
from revokebus.tokens.claims import AccessToken, RefreshToken
from revokebus.web.cookies import check_csrf_header
from revokebus.web.guards import CallIt, Demands, bus_of
from revokebus.web.refusals import HTTP_ERRORS, http_error
from revokebus.web.sources import tokens_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from revokebus.engine.engine import Engine
    from revokebus.web.sources import Found

Otherwise = TypeVar("Otherwise")


class LogOutGuard(SecurityBase, Generic[Otherwise]):
    """A FastAPI dependency whose value is the session to end.

    Args:
        is_optional: Whether a request without a genuine token passes, with None.

    Attributes:
        is_optional: As above.
        demands: What it demands beside the token: nothing.
    """

    def __init__(self, *, is_optional: bool) -> None:
        self.model = HTTPBearer(bearerFormat="JWT", description="A JWT of the session.")
        self.scheme_name = "AccessToken"
        self.is_optional = is_optional
        self.demands = Demands()

    async def __call__(self, connection: HTTPConnection) -> EndingSession | Otherwise:
        """Return the session.

        Args:
            connection: The request.

        Raises:
            fastapi.HTTPException: 400, 401, 403 or 503, see `http_error`.
            ConfigurationError: No bus is attached.
        """
        try:
            return await self._session(connection)
        except HTTP_ERRORS as error:
            raise http_error(error) from error

    async def _session(self, connection: HTTPConnection) -> EndingSession | Otherwise:
        bus = bus_of(connection)
        found, wrong = _candidates(bus, connection)
        sessions, refused = await _sessions(bus, connection, found)
        wrong += refused
        if len(sessions) > 1:
            raise InvalidRequestError("Tokens of more than one session")
        if sessions:
            return sessions.pop()
        # A genuine one that another site may have sent along, or that cannot be told, is an error
        # in any case; what is worth nothing is as good as none.
        serious = [each for each in wrong if isinstance(each, CsrfError | KeysUnavailableError)]
        if self.is_optional and not serious:
            return None  # type: ignore[return-value]  # as `require_logout` says
        raise next(iter(serious or wrong), MissingTokenError())


def _candidates(
    bus: Engine, connection: HTTPConnection
) -> tuple[list[Found], list[RevokeBusError]]:
    """Return whatever may be a token, and what is wrong with sources that have none."""
    found: dict[Found, None] = {}
    wrong: list[RevokeBusError] = []
    for token_type in (AccessToken, RefreshToken):
        for source in bus.settings.sources_of(token_type.type):
            try:
                some = tokens_in(source, connection, bus.settings, token_type)
            except (InvalidTokenError, InvalidRequestError) as error:
                wrong.append(error)
            else:
                found |= dict.fromkeys(some)
    return list(found), wrong


async def _sessions(
    bus: Engine, connection: HTTPConnection, found: Iterable[Found]
) -> tuple[set[EndingSession], list[RevokeBusError]]:
    """Return the sessions of the tokens that count, and why the others do not.

    Those are passed over: a page of a sibling domain may have planted them.
    """
    sessions: set[EndingSession] = set()
    wrong: list[RevokeBusError] = []
    for each in found:
        try:
            token = await bus.read(each.encoded)
            if each.source == "cookie":  # whatever the method: something ends
                check_csrf_header(connection, token, bus.settings.cookies)
        except (InvalidTokenError, KeysUnavailableError, CsrfError) as error:
            wrong.append(error)
            continue
        if token.session_id:
            sessions.add(EndingSession(token.session_id, token.subject, token.issuer))
        else:
            wrong.append(InvalidTokenError("The token belongs to no session"))
    return sessions, wrong


@overload
def require_logout(
    *_: Annotated[Never, CallIt("require_logout")], optional: Literal[False] = False
) -> LogOutGuard[EndingSession]: ...


@overload
def require_logout(
    *_: Annotated[Never, CallIt("require_logout")], optional: Literal[True]
) -> LogOutGuard[None]: ...


def require_logout(
    *_: Annotated[Never, CallIt("require_logout")], optional: bool = False
) -> LogOutGuard[EndingSession] | LogOutGuard[None]:
    """Return a dependency for the route of a log-out; its value is an `EndingSession`.

    It takes the access token or the refresh token of a session, wherever guards look for them, and
    also one that has expired or was revoked: a user who comes back after an hour, at a computer
    that others use, must be able to end the session. So it proves nothing but that someone holds a
    token of this session.

    Args:
        optional: Whether a request without a genuine token passes, with None, so that the route can
            clear cookies that are worth nothing.

    The dependency answers 401 where there is no genuine token, or it belongs to no session (an
    outside issuer's without ``sid``); 403 where one came in a cookie and without the CSRF header,
    whatever the method; 400 for tokens of several sessions.
    """
    return _optional_guard() if optional else _guard()


@lru_cache(1)
def _guard() -> LogOutGuard[EndingSession]:
    return LogOutGuard(is_optional=False)


@lru_cache(1)
def _optional_guard() -> LogOutGuard[None]:
    return LogOutGuard(is_optional=True)
