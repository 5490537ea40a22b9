"""Dependencies that let a request pass only with a token that may be used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Generic, Literal, Never, NoReturn, TypeVar, overload

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

# FastAPI reads the annotations of a dependency when the route is made.
from fastapi.security.oauth2 import SecurityScopes  # noqa: TC002
from starlette.requests import HTTPConnection  # noqa: TC002

from revokebus.engine.engine import Engine
from revokebus.errors import (
    ConfigurationError,
    InsufficientScopeError,
    MissingTokenError,
    StaleSignInError,
)
from revokebus.settings.settings import OnStale, check_on_stale
from revokebus.tokens.claims import AccessToken, AnyToken, RefreshToken, check_scopes
from revokebus.web.cookies import check_same_site
from revokebus.web.refusals import HTTP_ERRORS, http_error, websocket_error
from revokebus.web.sources import find_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from revokebus.web.refusals import HttpError
    from revokebus.web.sources import TokenSource

Otherwise = TypeVar("Otherwise")

STATE_NAME = "revokebus"
"""The attribute of ``app.state`` that is the bus."""

_GUARDS_KEPT = 10_000
_SOURCES = ("header", "cookie", "query")


@dataclass(frozen=True, slots=True)
class Demands:
    """What a route demands of its token.

    Attributes:
        scopes: Scopes that it must all have.
        on_stale: What to do where the copy is too old; None for the setting.
        fresh: Whether its owner must have signed in for it, and not refreshed.
        max_age: For how many seconds after the sign-in it counts; None for as long as it lives.
        sources: Where it may come from; None for the setting.
        only_jwt: Whether what has not the form of a JWT counts as no token.
    """

    scopes: tuple[str, ...] = ()
    on_stale: OnStale | None = None
    fresh: bool = False
    max_age: float | None = None
    sources: tuple[TokenSource, ...] | None = None
    only_jwt: bool = False

    def __post_init__(self) -> None:
        check_on_stale(self.on_stale)


class Guard(SecurityBase, Generic[AnyToken, Otherwise]):
    """What guards have in common.

    As a security scheme it also shows in OpenAPI. What `require_access` and `require_refresh`
    return for the same demands is one guard, so that FastAPI asks only once in a request.

    Args:
        token_type: The type of token that opens the route.
        demands: What else the route demands.

    Attributes:
        demands: As above.
        token_type: As above.
    """

    is_optional = False

    def __init__(self, token_type: type[AnyToken], demands: Demands) -> None:
        self.model = HTTPBearer(bearerFormat="JWT", description=f"A JWT of type {token_type.type}.")
        self.scheme_name = f"{token_type.type.capitalize()}Token"
        self.demands = demands
        self.token_type = token_type
        self._is_plain = demands in (Demands(), Demands(on_stale=demands.on_stale))

    async def __call__(
        self, connection: HTTPConnection, route: SecurityScopes
    ) -> AnyToken | Otherwise:
        """Return the request's token.

        Args:
            connection: The request, or the opening of a WebSocket.
            route: Further scopes, of a ``Security(guard, scopes=[...])`` around this one.

        Raises:
            fastapi.HTTPException: 400, 401, 403 or 503, see `http_error`.
            fastapi.WebSocketException: On a WebSocket, see `websocket_error`.
            ConfigurationError: No bus is attached.
        """
        scope = connection.scope
        try:
            bus: Engine = scope["app"].state[STATE_NAME]
        except KeyError:
            bus = bus_of(connection)  # says what is missing
        token = bus.cached_token(scope["headers"], self.token_type)
        if token is not None and self._is_plain and not route.scopes:
            return token
        try:
            if token is None or self.demands.sources is not None:
                token = await self._authenticate(connection)
            self._check_demands(connection, token, route.scopes)
        except HTTP_ERRORS as error:
            return self._refuse(connection, error)
        return token

    def admit(
        self, connection: HTTPConnection, token: AnyToken, scopes: Sequence[str]
    ) -> AnyToken | Otherwise:
        """Return a token that was verified, if it is what the route demands, as a call does.

        Args:
            connection: The request.
            token: The token.
            scopes: Further scopes, as for a call.

        Raises:
            fastapi.HTTPException: As for a call.
        """
        try:
            self._check_demands(connection, token, scopes)
        except HTTP_ERRORS as error:
            return self._refuse(connection, error)
        return token

    def _refuse(self, connection: HTTPConnection, error: HttpError) -> Otherwise:
        raise NotImplementedError

    async def _authenticate(self, connection: HTTPConnection) -> AnyToken:
        return await token_of(bus_of(connection), connection, self.token_type, self.demands)

    def _check_demands(
        self, connection: HTTPConnection, token: AnyToken, scopes: Sequence[str]
    ) -> None:
        demands = self.demands
        required = (*demands.scopes, *scopes)
        if not token.scopes.issuperset(required):
            raise InsufficientScopeError(required)
        if demands.fresh and not token.fresh:
            raise StaleSignInError
        max_age = demands.max_age
        if max_age is not None and bus_of(connection).sign_in_age(token) > max_age:
            raise StaleSignInError(max_age)


class TokenGuard(Guard[AnyToken, Never]):
    """A FastAPI dependency whose value is the verified token."""

    def _refuse(self, connection: HTTPConnection, error: HttpError) -> Never:
        _answer(connection, error)


class OptionalTokenGuard(Guard[AnyToken, None]):
    """A FastAPI dependency whose value is the verified token, or None where there is none."""

    is_optional = True

    def _refuse(self, connection: HTTPConnection, error: HttpError) -> None:
        if not isinstance(error, MissingTokenError):
            _answer(connection, error)


def _answer(connection: HTTPConnection, error: HttpError) -> Never:
    is_websocket = connection.scope["type"] == "websocket"
    raise (websocket_error if is_websocket else http_error)(error) from error


async def token_of(
    bus: Engine, connection: HTTPConnection, token_type: type[AnyToken], demands: Demands
) -> AnyToken:
    """Return the token of a request, if it may be used.

    Raises:
        RevokeBusError: One of `HTTP_ERRORS`: there is none, or it may not be used.
    """
    settings = bus.settings
    sources = demands.sources or settings.sources_of(token_type.type)
    found = find_token(connection, settings, sources, token_type, only_jwt=demands.only_jwt)
    token = await bus.authenticate(found.encoded, token_type, on_stale=demands.on_stale)
    if found.source == "cookie":
        check_same_site(connection, token, settings.cookies)
    return token


def bus_of(connection: HTTPConnection) -> Engine:
    """Return the bus of the application that serves `connection`.

    Raises:
        ConfigurationError: It has none.
    """
    try:
        bus = connection.scope["app"].state[STATE_NAME]
    except KeyError:
        bus = None
    if not isinstance(bus, Engine):
        raise ConfigurationError(
            "this application has no RevokeBus: call RevokeBus.attach(app) on it, or "
            "bus.cover(app) if it is mounted in one that has"
        )
    return bus


class CallIt:
    """Ends the definition of a route that has ``Depends(require_access)`` without ``()``.

    FastAPI would call the function, take the guard that it returns for the dependency's value,
    and let every request in.

    Args:
        name: The function's name.
    """

    def __init__(self, name: str = "require_access") -> None:
        self._name = name

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> NoReturn:
        raise TypeError(f"write Depends({self._name}()), with the inner parentheses")


@overload
def require_access(
    *scopes: Annotated[str, CallIt()],
    optional: Literal[False] = False,
    fresh: bool = False,
    max_age: float | None = None,
    on_stale: OnStale | None = None,
    sources: Sequence[TokenSource] | None = None,
    only_jwt: bool = False,
) -> TokenGuard[AccessToken]: ...


@overload
def require_access(
    *scopes: Annotated[str, CallIt()],
    optional: Literal[True],
    fresh: bool = False,
    max_age: float | None = None,
    on_stale: OnStale | None = None,
    sources: Sequence[TokenSource] | None = None,
    only_jwt: bool = False,
) -> OptionalTokenGuard[AccessToken]: ...


def require_access(
    *scopes: Annotated[str, CallIt()],
    optional: bool = False,
    fresh: bool = False,
    max_age: float | None = None,
    on_stale: OnStale | None = None,
    sources: Sequence[TokenSource] | None = None,
    only_jwt: bool = False,
) -> TokenGuard[AccessToken] | OptionalTokenGuard[AccessToken]:
    """Return a dependency that demands an access token.

    Args:
        scopes: Scopes that the token must all have.
        optional: Whether a request without a token passes, with None as the token. One that
            has a bad or a revoked token does not.
        fresh: Whether the token must be of the sign-in itself, `issue(fresh=True)`, and not of a
            refresh.
        max_age: For how many seconds after the sign-in the route opens (``auth_time``).
        on_stale: What this route does where the revocations here are too old to decide; by
            default what ``Settings.on_stale`` says.
        sources: Where the token may come from: ``header``, ``cookie``, and ``query`` only where
            it is named here; by default what ``Settings.token_sources`` says.
        only_jwt: Whether what has not the form of a JWT counts as no token, so that another
            dependency may take it: an API key in the same header. Goes with `optional`.

    The dependency answers 401 with an RFC 6750 challenge for a missing, malformed, expired or
    revoked token, for one of another type, and where a new sign-in is needed (RFC 9470); 400 for
    more than one token; 403 where a scope is missing, or the CSRF header of a token in a cookie;
    503 with ``Retry-After`` where the revocations here are too old to decide. A WebSocket ends
    with 1008 and 1013 in their place, or with 403 where it was not accepted yet.

    Raises:
        ValueError: A scope is not a ``scope-token`` (RFC 6749 §3.3), or an option is none.
    """
    check_scopes(scopes)
    if max_age is not None and not max_age > 0:
        raise ValueError("max_age must be more than 0 seconds")
    demands = Demands(scopes, on_stale, fresh, max_age, _sources(sources), only_jwt)
    return _optional_guard(demands) if optional else _guard(AccessToken, demands)


def require_refresh(
    *_: Annotated[Never, CallIt()],
    on_stale: OnStale | None = None,
    sources: Sequence[TokenSource] | None = None,
) -> TokenGuard[RefreshToken]:
    """Return a dependency that demands a refresh token; see `require_access` for the rest."""
    return _guard(RefreshToken, Demands(on_stale=on_stale, sources=_sources(sources)))


# Equal guards are one object, because FastAPI hashes and compares them in every request.
@lru_cache(_GUARDS_KEPT)
def _guard(token_type: type[AnyToken], demands: Demands) -> TokenGuard[AnyToken]:
    return TokenGuard(token_type, demands)


@lru_cache(_GUARDS_KEPT)
def _optional_guard(demands: Demands) -> OptionalTokenGuard[AccessToken]:
    return OptionalTokenGuard(AccessToken, demands)


def _sources(sources: Sequence[TokenSource] | None) -> tuple[TokenSource, ...] | None:
    if sources is None:
        return None
    if isinstance(sources, str) or not sources or not set(sources) <= set(_SOURCES):
        raise ValueError(f"sources must be some of {', '.join(_SOURCES)}, in a list")
    return tuple(dict.fromkeys(sources))


def client_of(connection: HTTPConnection) -> str:
    """Return who sends a request, for ``bus.rotate(token, client=client_of(request))``.

    The address and the browser's name: what two tabs have in common, and a thief elsewhere has
    not. Behind a proxy the server has to be told to trust its ``X-Forwarded-For`` (uvicorn:
    ``--forwarded-allow-ips``).
    """
    host = connection.client.host if connection.client else ""
    return f"{host} {connection.headers.get('user-agent', '')}"[:4096]
