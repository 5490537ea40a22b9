"""RevokeBus: the engine, and how it joins a FastAPI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from fastapi.exception_handlers import http_exception_handler

from revokebus.engine import Engine
from revokebus.errors import (
    AuthenticationError,
    ConfigurationError,
    InsufficientScopeError,
    UnavailableError,
)
from revokebus.web.bearer import http_error
from revokebus.web.guards import STATE_NAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from revokebus.settings import Settings


class RevokeBus(Engine):
    """Issues, checks and revokes the tokens of an application.

    Use `attach` in a FastAPI application. In a script or a worker use it as an async context
    manager: ``async with RevokeBus() as bus: await bus.revoke(token)``.
    """

    @classmethod
    def attach(cls, app: FastAPI, settings: Settings | None = None) -> Self:
        """Make a bus that starts and stops with `app` and that its guards find.

        It starts before the application's own lifespan and stops after it, so that both may use
        it. It stands at ``app.state.revokebus``. RevokeBus errors that leave a route become the
        responses that the guards give, unless the application handles them itself.

        Args:
            app: The application, with a lifespan of its own or without.
            settings: By default read from ``REVOKEBUS_*`` environment variables.

        Raises:
            ConfigurationError: The application has a bus already.
            pydantic.ValidationError: A setting is missing or wrong; the message names it.
        """
        if hasattr(app.state, STATE_NAME):
            raise ConfigurationError(
                "this application has a RevokeBus already: app.state.revokebus"
            )
        bus = cls(settings)
        setattr(app.state, STATE_NAME, bus)
        for error in (AuthenticationError, InsufficientScopeError, UnavailableError):
            app.exception_handlers.setdefault(error, _answer)
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(application: FastAPI) -> AsyncIterator[Mapping[str, object]]:
            async with bus, inner(application) as state:
                # Mounted applications are reached by this state, not by app.state.
                yield {**(state or {}), STATE_NAME: bus}

        app.router.lifespan_context = lifespan
        return bus


async def _answer(request: Request, error: Exception) -> Response:
    if not isinstance(error, AuthenticationError | InsufficientScopeError | UnavailableError):
        raise error
    return await http_exception_handler(request, http_error(error))
