"""Dependencies that let a request pass only with a token that may be used."""

from __future__ import annotations

from typing import Annotated, Generic, Never, NoReturn

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

# FastAPI reads the annotations of a dependency when the route is made.
from fastapi.security.oauth2 import SecurityScopes  # noqa: TC002
from starlette.requests import HTTPConnection  # noqa: TC002

from revokebus.claims import AccessToken, RefreshToken, check_scopes
from revokebus.engine import AnyToken, Engine
from revokebus.errors import ConfigurationError, InsufficientScopeError
from revokebus.settings import OnStale  # noqa: TC001 - FastAPI reads it, see _CallIt
from revokebus.web.bearer import HTTP_ERRORS, bearer_token, http_error

STATE_NAME = "revokebus"
"""The attribute of ``app.state`` that is the bus."""


class TokenGuard(SecurityBase, Generic[AnyToken]):
    """A FastAPI dependency whose value is the verified token.

    As a security scheme it also shows in OpenAPI. Two guards that demand the same are equal, so
    that FastAPI asks only once in a request.

    Args:
        token_type: The type of token that opens the route.
        scopes: The scopes that the token must all have.
        on_stale: What to do where the copy is too old; the setting by default.
    """

    def __init__(
        self,
        token_type: type[AnyToken],
        scopes: tuple[str, ...] = (),
        on_stale: OnStale | None = None,
    ) -> None:
        self.model = HTTPBearer(bearerFormat="JWT", description=f"A JWT of type {token_type.type}.")
        self.scheme_name = f"{token_type.type.capitalize()}Token"
        self._token_type = token_type
        self._scopes = scopes
        self._on_stale = on_stale

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TokenGuard):
            return NotImplemented
        return self._demands() == other._demands()

    def __hash__(self) -> int:
        return hash(self._demands())

    def _demands(self) -> tuple[object, ...]:
        return self._token_type, self._scopes, self._on_stale

    async def __call__(self, connection: HTTPConnection, route: SecurityScopes) -> AnyToken:
        """Return the request's token.

        Args:
            connection: The request.
            route: Further scopes, of a ``Security(guard, scopes=[...])`` around this one.

        Raises:
            fastapi.HTTPException: 401, 403 or 503, see `http_error`.
            ConfigurationError: No bus is attached.
        """
        bus = bus_of(connection)
        try:
            encoded = bearer_token(connection.scope["headers"])
            token = await bus.authenticate(encoded, self._token_type, on_stale=self._on_stale)
            required = (*self._scopes, *route.scopes)
            if not token.scopes.issuperset(required):
                raise InsufficientScopeError(required)
        except HTTP_ERRORS as error:
            raise http_error(error) from error
        return token


def bus_of(connection: HTTPConnection) -> Engine:
    """Return the bus of the application that serves `connection`.

    Raises:
        ConfigurationError: It has none.
    """
    bus = getattr(connection.app.state, STATE_NAME, None)
    if not isinstance(bus, Engine):
        raise ConfigurationError(
            "this application has no RevokeBus: call RevokeBus.attach(app) on it, or "
            "bus.cover(app) if it is mounted in one that has"
        )
    return bus


class _CallIt:
    """Ends the definition of a route that has ``Depends(require_access)`` without ``()``.

    FastAPI would call the function, take the guard that it returns for the dependency's value,
    and let every request in.
    """

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> NoReturn:
        raise TypeError("write Depends(require_access()), with the inner parentheses")


def require_access(
    *scopes: Annotated[str, _CallIt()], on_stale: OnStale | None = None
) -> TokenGuard[AccessToken]:
    """Return a dependency that demands an access token.

    Args:
        scopes: Scopes that the token must all have.
        on_stale: What this route does where the revocations here are too old to decide; by
            default what ``Settings.on_stale`` says.

    The dependency answers 401 with an RFC 6750 challenge for a missing, malformed, expired or
    revoked token and for one of another type; 403 where a scope is missing; 503 with
    ``Retry-After`` where the revocations here are too old to decide.

    Raises:
        ValueError: A scope is not a ``scope-token`` (RFC 6749 §3.3).
    """
    check_scopes(scopes)
    return TokenGuard(AccessToken, scopes, on_stale)


def require_refresh(
    *_: Annotated[Never, _CallIt()], on_stale: OnStale | None = None
) -> TokenGuard[RefreshToken]:
    """Return a dependency that demands a refresh token; see `require_access` for the rest."""
    return TokenGuard(RefreshToken, (), on_stale)
