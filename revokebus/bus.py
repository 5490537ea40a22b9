"""RevokeBus: the engine, and how it joins a FastAPI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, cast

from fastapi.exception_handlers import http_exception_handler

from revokebus.engine import Engine
from revokebus.errors import ConfigurationError
from revokebus.web.bearer import HTTP_ERRORS, http_error
from revokebus.web.guards import STATE_NAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Lifespan

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
        it. It stands at ``app.state.revokebus``.

        Args:
            app: The application, with a lifespan of its own or without. Not one that is mounted
                in another: its lifespan never runs; attach to the outer one and use `cover`.
            settings: By default read from ``REVOKEBUS_*`` environment variables.

        Raises:
            ConfigurationError: The application has a bus already, or has served a request.
            pydantic.ValidationError: A setting is missing or wrong; the message names it.
        """
        bus = cls(settings)
        bus.cover(app)
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(application: FastAPI) -> AsyncIterator[Mapping[str, Any] | None]:
            async with bus, inner(application) as state:
                yield state

        # The application's own state, or none, is handed on as it is.
        app.router.lifespan_context = cast("Lifespan[Any]", lifespan)
        return bus

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
            app.exception_handlers.setdefault(error, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTP_ERRORS):
        raise error
    return await http_exception_handler(request, http_error(error))
