"""Dependencies that let a request pass only with a token that may be used."""

from __future__ import annotations

from typing import Generic

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

# FastAPI reads the annotations of a dependency when the route is made.
from starlette.requests import HTTPConnection  # noqa: TC002

from revokebus.claims import AccessToken, RefreshToken
from revokebus.engine import AnyToken, Engine
from revokebus.errors import ConfigurationError, InsufficientScopeError, RevokeBusError
from revokebus.web.bearer import bearer_token, http_error

STATE_NAME = "revokebus"
"""The attribute of ``app.state`` that is the bus."""


class TokenGuard(SecurityBase, Generic[AnyToken]):
    """A FastAPI dependency whose value is the verified token.

    As a security scheme it also shows in OpenAPI.

    Args:
        token_type: The type of token that opens the route.
        scopes: The scopes that the token must all have.
    """

    def __init__(self, token_type: type[AnyToken], scopes: tuple[str, ...] = ()) -> None:
        self.model = HTTPBearer(bearerFormat="JWT", description=f"A JWT of type {token_type.type}.")
        self.scheme_name = f"{token_type.type.capitalize()}Token"
        self._token_type = token_type
        self._scopes = scopes

    async def __call__(self, connection: HTTPConnection) -> AnyToken:
        """Return the request's token.

        Raises:
            starlette.exceptions.HTTPException: 401, 403 or 503, see `http_error`.
        """
        try:
            encoded = bearer_token(connection.scope["headers"])
            token = await bus_of(connection).authenticate(encoded, self._token_type)
            if not token.scopes.issuperset(self._scopes):
                raise InsufficientScopeError(self._scopes)
        except RevokeBusError as error:
            raise http_error(error) from error
        return token


def bus_of(connection: HTTPConnection) -> Engine:
    """Return the bus that is attached to the application of `connection`.

    An application mounted in another one finds the outer one's bus.

    Raises:
        RuntimeError: None is attached.
    """
    bus = getattr(connection.app.state, STATE_NAME, None) or connection.scope.get("state", {}).get(
        STATE_NAME
    )
    if not isinstance(bus, Engine):
        raise ConfigurationError("no RevokeBus: call RevokeBus.attach(app) on this application")
    return bus


def require_access(*scopes: str) -> TokenGuard[AccessToken]:
    """Return a dependency that demands an access token.

    Args:
        scopes: Scopes that the token must all have.

    The dependency answers 401 with an RFC 6750 challenge for a missing, malformed, expired or
    revoked token and for one of another type; 403 where a scope is missing; 503 with
    ``Retry-After`` where the revocations here are too old to decide.
    """
    return TokenGuard(AccessToken, scopes)


def require_refresh() -> TokenGuard[RefreshToken]:
    """Return a dependency that demands a refresh token; see `require_access` for its answers."""
    return TokenGuard(RefreshToken)
