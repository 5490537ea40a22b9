"""OAuth clients that prove who they are (RFC 6749 §2.3.1)."""

from __future__ import annotations

import base64
import binascii
import inspect
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

# FastAPI reads the annotations of a dependency when the route is made.
from starlette.requests import ClientDisconnect, Request

from revokebus.telemetry.events import event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.responses import Response

logger = logging.getLogger("revokebus")

_MOST_BYTES = 64 * 1024
_MOST_FIELDS = 32


class OAuthError(HTTPException):
    """An error whose answer has the form of RFC 6749 §5.2.

    Args:
        status: The HTTP status.
        error: The code.
        description: What is wrong, for developers.
        headers: Further headers.
    """

    def __init__(
        self, status: int, error: str, description: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, description, {"Cache-Control": "no-store", **(headers or {})})
        self.error = error


class OAuthRoute(APIRoute):
    """A route that answers with an `OAuthError` in the form of its standard."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, around FastAPI's."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except OAuthError as error:
                body = {"error": error.error, "error_description": error.detail}
                return JSONResponse(body, error.status_code, error.headers)

        return answer


async def read_form(request: Request) -> dict[str, str]:
    """Return the parameters of a form in the body (RFC 7009 §2.1, RFC 7662 §2.1).

    Raises:
        OAuthError: 400 ``invalid_request``: there is no such form, it is too long, or a
            parameter comes twice (RFC 6749 §3.1).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuthError(400, "invalid_request", "The body must be a form")
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BYTES:
                raise OAuthError(400, "invalid_request", "The body is too long")
    except ClientDisconnect:
        raise OAuthError(400, "invalid_request", "The body is not complete") from None
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=_MOST_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise OAuthError(400, "invalid_request", "The body is not a form") from None
    form = {name: value for name, value in pairs if value}
    if len(dict(pairs)) != len(pairs):
        raise OAuthError(400, "invalid_request", "A parameter comes twice")
    return form


class ClientAuthentication:
    """A dependency whose value is the id of the OAuth client that sends the request.

    The client sends its id and secret in an ``Authorization: Basic`` header, or as ``client_id``
    and ``client_secret`` in the form (RFC 6749 §2.3.1), not both.

    Args:
        is_client: A function, sync or async, that is given id and secret and returns True where
            they belong together. Compare secrets with `hmac.compare_digest`, as bytes: of texts
            it takes only ASCII. If it raises, or returns anything but True, the client is refused.
    """

    def __init__(self, is_client: Callable[[str, str], bool | Awaitable[bool]]) -> None:
        self._is_client = is_client
        self._failed = False

    async def __call__(self, request: Request) -> str:
        """Return the client's id.

        Raises:
            OAuthError: 401 ``invalid_client``, or 400 for a form that is none.
        """
        form = await read_form(request)
        request.state.revokebus_form = form  # the body can be read once
        basic = _basic_credentials(request)
        given = "client_secret" in form
        if basic is not None and given:
            raise OAuthError(400, "invalid_request", "The client authenticates twice")
        name, secret = basic or (form.get("client_id", ""), form.get("client_secret", ""))
        # Without a secret nobody is asked: a comparison with what an unknown client has, nothing,
        # would succeed.
        if not name or not secret or not await self._is_known(name, secret):
            challenge = {"WWW-Authenticate": 'Basic realm="clients", charset="UTF-8"'}
            raise OAuthError(401, "invalid_client", "Client authentication failed", challenge)
        return name

    async def _is_known(self, name: str, secret: str) -> bool:
        try:
            known: object = self._is_client(name, secret)
            if inspect.isawaitable(known):
                known = await known
        except Exception as error:
            # In full once: a stranger must not fill the disk.
            logger.exception(
                "revokebus: the check of an OAuth client raised %s; it is refused",
                type(error).__name__,
                exc_info=not self._failed,
                extra=event("client_check_failed"),
            )
            self._failed = True
            return False
        return known is True


def _basic_credentials(request: Request) -> tuple[str, str] | None:
    values = request.headers.getlist("authorization")
    if not values:
        return None
    scheme, _, packed = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "basic":
        return "", ""
    try:
        text = base64.b64decode(packed.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return "", ""
    name, colon, secret = text.partition(":")
    return (unquote_plus(name), unquote_plus(secret)) if colon else ("", "")
