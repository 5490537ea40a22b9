"""RevokeBus: the engine, and how it joins a FastAPI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, cast

from fastapi import WebSocket
from fastapi.exception_handlers import http_exception_handler
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads it
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketState

from revokebus.engine.engine import Engine
from revokebus.errors import ConfigurationError
from revokebus.tokens.claims import AccessToken
from revokebus.web.cookies import clear_token_cookies, set_token_cookies
from revokebus.web.guards import STATE_NAME, Demands, bus_of, token_of
from revokebus.web.openapi import describe_guards
from revokebus.web.refusals import HTTP_ERRORS, http_error, websocket_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Lifespan

    from revokebus.clock import Clock
    from revokebus.connection.credentials import CredentialProvider
    from revokebus.errors import RevokeBusError
    from revokebus.settings.settings import OnStale, Settings
    from revokebus.tokens.issuer import TokenPair


class RevokeBus(Engine):
    """Issues, checks and revokes the tokens of an application.

    Use `attach` in a FastAPI application. In a script or a worker use it as an async context
    manager: ``async with RevokeBus() as bus: await bus.revoke(token)``.

    Args:
        settings: As for `attach`, and so are the other two.
        clock: See there.
        credentials: See there.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        clock: Clock | None = None,
        credentials: CredentialProvider | None = None,
    ) -> None:
        super().__init__(settings, clock=clock, credentials=credentials)
        # Or `bus.attach(app)` would make another bus, with the settings of the environment.
        self.attach = self._attach_this  # type: ignore[assignment,method-assign]  # it takes less

    @classmethod
    def attach(
        cls,
        app: FastAPI,
        settings: Settings | None = None,
        *,
        clock: Clock | None = None,
        credentials: CredentialProvider | None = None,
    ) -> Self:
        """Make a bus that starts and stops with `app` and that its guards find.

        It starts before the application's own lifespan and stops after it, so that both may use
        it. It stands at ``app.state.revokebus``, and `get_bus` is a dependency that brings it. A
        bus that exists before the application, in a module of its own for example, is attached
        with ``bus.attach(app)``, without further arguments.

        Args:
            app: The application, with a lifespan of its own or without. Not one that is mounted
                in another: its lifespan never runs; attach to the outer one and use `cover`.
            settings: By default read from ``REVOKEBUS_*`` environment variables.
            clock: The machine's clocks by default; tests bring their own.
            credentials: Has the password of Redis for each connection, in redis-py's form of it
                (``redis.CredentialProvider``), where it changes: IAM tokens, for example.

        Raises:
            ConfigurationError: The application has a bus already, or has served a request; or
                there are `credentials`, and a password in the settings.
            pydantic.ValidationError: A setting is missing or wrong; the message names it.
        """
        return cls(settings, clock=clock, credentials=credentials).attach(app)

    def _attach_this(self, app: FastAPI) -> Self:
        self.cover(app)
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(application: FastAPI) -> AsyncIterator[Mapping[str, Any] | None]:
            async with self, inner(application) as state:
                yield state

        # The application's own state, or none, is handed on as it is.
        app.router.lifespan_context = cast("Lifespan[Any]", lifespan)
        return self

    def cover(self, app: FastAPI) -> None:
        """Let a mounted application use this bus; `attach` does so for the outer one.

        Its guards find the bus at ``app.state.revokebus``. RevokeBus errors that leave the body
        of a route become the answers that the guards give. An application with handlers of its
        own for ``AuthenticationError``, ``InsufficientScopeError``, ``UnavailableError`` or one
        of their kinds answers them itself; what a guard refuses is a ``fastapi.HTTPException``.

        Args:
            app: An application that is mounted in the one that the bus is attached to.

        Raises:
            ConfigurationError: The application has a bus already, or has served a request.
        """
        if hasattr(app.state, STATE_NAME):
            raise ConfigurationError(
                "this application has a RevokeBus already: app.state.revokebus"
            )
        if app.middleware_stack is not None:
            raise ConfigurationError("too late: this application has served a request already")
        setattr(app.state, STATE_NAME, self)
        for error in HTTP_ERRORS:
            app.exception_handlers.setdefault(error, _answer)  # type: ignore[arg-type]  # may be given a WebSocket
        describe_guards(app, self.settings)

    def set_cookies(self, response: Response, pair: TokenPair) -> None:
        """Keep `pair` in the browser's cookies, and a CSRF value beside it.

        Of the pair those tokens that may come in cookies: both, or with ``refresh_sources=cookie``
        alone the refresh token; then answer with ``pair.access``. They are out of reach for scripts
        (HttpOnly) and sent over TLS only (Secure); see `CookieSettings` for names and attributes.
        The page sends the value of the CSRF cookie back in the header ``X-CSRF-Token`` with every
        POST, PUT, PATCH and DELETE.

        Raises:
            ValueError: ``cookie`` is neither in ``token_sources`` nor in ``refresh_sources``.
        """
        set_token_cookies(response, pair, self.settings)

    def clear_cookies(self, response: Response) -> None:
        """Have the browser forget what `set_cookies` has set; revoke the session as well."""
        clear_token_cookies(response, self.settings)

    async def token_of(
        self, connection: HTTPConnection, *, on_stale: OnStale | None = None
    ) -> AccessToken:
        """Return the access token of a request, as a guard does: for a middleware.

        Args:
            connection: The request.
            on_stale: As for `require_access`.

        Raises:
            RevokeBusError: There is none, or it may not be used; `refusal` makes an answer of it.
        """
        return await token_of(self, connection, AccessToken, Demands(on_stale=on_stale))

    def refusal(self, error: RevokeBusError) -> Response:
        """Return the answer that a guard gives for `error`: for a middleware.

        Raises:
            RevokeBusError: `error` itself, if it is none of a request's.
        """
        if not isinstance(error, HTTP_ERRORS):
            raise error
        found = http_error(error)
        return JSONResponse({"detail": found.detail}, found.status_code, found.headers)


async def get_bus(connection: HTTPConnection) -> RevokeBus:
    """Return the bus of the application: a dependency, ``Depends(get_bus)``.

    For routes in modules that the application imports, and that cannot import it.

    Args:
        connection: The request, or the opening of a WebSocket.

    Raises:
        ConfigurationError: The application has none.
    """
    bus = bus_of(connection)
    if not isinstance(bus, RevokeBus):
        raise ConfigurationError("app.state.revokebus is no RevokeBus: attach one")
    return bus


async def _answer(connection: Request | WebSocket, error: Exception) -> Response | None:
    if not isinstance(error, HTTP_ERRORS):
        raise error
    if isinstance(connection, WebSocket):
        end = websocket_error(error)
        states = (connection.client_state, connection.application_state)
        if WebSocketState.DISCONNECTED not in states:
            await connection.close(end.code, end.reason)
        return None
    return await http_exception_handler(connection, http_error(error))
