"""The routes of the page. Everything it needs comes from here; nothing from elsewhere."""

from __future__ import annotations

import html

# FastAPI reads the annotations of a route when it is made.
from collections.abc import AsyncIterator, Callable, Coroutine  # noqa: TC003
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request  # noqa: TC002

from revokebus.engine.engine import Engine  # noqa: TC001
from revokebus.errors import NotConfirmedError, UnavailableError
from revokebus.tokens.claims import AccessToken
from revokebus.web.admin.stream import changes
from revokebus.web.guards import bus_of
from revokebus.web.refusals import http_error
from revokebus.web.same_origin import sender_of

if TYPE_CHECKING:
    from revokebus.results import Receipt

# No other origin, no inline script or style, no frame, no form that leaves the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_TYPES = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}
_LONGEST = 4096
_LONGEST_WAIT = 10.0


class _AdminRoute(APIRoute):
    """Says that a request is wrong without repeating it, which may be what JSON cannot hold."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_plainly(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError:
                raise HTTPException(422, "The request is not as the page sends it") from None

        return handle_plainly


class Order(BaseModel):
    """What the form asks for; a session is kept of a subject's."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["subject", "session"]
    value: str = Field(min_length=1, max_length=_LONGEST)
    keep: str | None = Field(default=None, min_length=1, max_length=_LONGEST)
    timeout: float = Field(default=2.0, gt=0, le=_LONGEST_WAIT)


def admin_page(guard: Callable[..., Any]) -> APIRouter:
    """Return a router with a page that shows the fleet, and revokes.

    ``app.include_router(admin_page(require_access("operator")), prefix="/revokebus")`` serves it at
    ``/revokebus/``. It shows each instance as it is, each revocation as it comes, and has a form to
    revoke a subject or a session, with the confirmation of every instance.

    A browser sends no header with a page that it opens, so the guard has to go by a cookie, or by
    something of the application's own; with tokens in cookies the page sends the CSRF header.
    Whatever the guard, a post that another site causes is refused.

    Args:
        guard: A dependency that lets only those pass who may see and revoke everything.

    Raises:
        ValueError: It is an optional one.
    """
    router = _guarded_router(guard)

    @router.get("/")
    async def page(request: Request) -> Response:
        cookies = bus_of(request).settings.cookies
        text = _file("page.html").decode()
        for name, value in (("cookie", cookies.csrf_name), ("header", cookies.csrf_header)):
            text = text.replace(f"{{{{csrf_{name}}}}}", html.escape(value))
        return Response(text, media_type="text/html", headers=_HEADERS)

    @router.get("/events", response_class=EventSourceResponse)
    async def events(
        bus: Annotated[Engine, Depends(bus_of)],
        who: Any = Depends(guard),  # noqa: B008 - FastAPI reads it
    ) -> AsyncIterator[ServerSentEvent]:
        told = changes(bus)
        if isinstance(who, AccessToken):  # it ends when he is signed out
            told = bus.guarded(who, told)
        async for name, data in told:
            yield ServerSentEvent(data=data, event=name, retry=500)

    router.add_api_route("/sessions", _sessions)

    @router.post("/revoke", dependencies=[Depends(_require_same_origin)])
    async def revoke(request: Request, order: Order, response: Response) -> dict[str, Any]:
        response.headers.update(_HEADERS)
        return asdict(await _revoke(bus_of(request), order))

    @router.get("/{name}")
    async def file(name: Literal["page.js", "page.css", "icon.svg"]) -> Response:
        return Response(_file(name), media_type=_TYPES[name], headers=_HEADERS)

    return router


def _guarded_router(guard: Callable[..., Any]) -> APIRouter:
    if getattr(guard, "is_optional", False):
        raise ValueError("an optional guard lets everybody in; leave optional=True out")
    guarded = [Depends(guard)]
    return APIRouter(dependencies=guarded, include_in_schema=False, route_class=_AdminRoute)


def _file(name: str) -> bytes:
    return files("revokebus.web.admin").joinpath(name).read_bytes()


async def _sessions(
    bus: Annotated[Engine, Depends(bus_of)],
    subject: Annotated[str, Query(min_length=1, max_length=_LONGEST)],
    response: Response,
) -> list[dict[str, Any]]:
    response.headers.update(_HEADERS)
    try:
        return [asdict(each) for each in await bus.sessions(subject)]
    except UnavailableError as error:
        raise http_error(error) from error
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


async def _revoke(bus: Engine, order: Order) -> Receipt:
    try:
        if order.kind == "subject":
            return await bus.revoke_subject(
                order.value, keep=order.keep, confirm="fleet", timeout=order.timeout
            )
        if order.keep is not None:
            raise ValueError("a session is one, so there is no other one to keep")
        return await bus.revoke_session(order.value, confirm="fleet", timeout=order.timeout)
    except NotConfirmedError as error:
        return error.receipt
    except UnavailableError as error:
        raise http_error(error) from error
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


async def _require_same_origin(request: Request) -> None:
    """Check that a page of this origin has sent the request.

    Raises:
        HTTPException: 403, another one has, or nothing says which.
    """
    if sender_of(request) != "ours":
        raise HTTPException(403, "Only the page itself may send this")
