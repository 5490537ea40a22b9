"""Standard endpoints for an application to include: revocation and introspection of tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Response

# FastAPI reads the annotations of a route when it is made.
from starlette.requests import Request  # noqa: TC002

from revokebus.errors import AuthenticationError, ConfigurationError, InvalidTokenError
from revokebus.tokens.claims import AccessToken, RefreshToken
from revokebus.web.clients import OAuthError, OAuthRoute, read_form
from revokebus.web.guards import bus_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from revokebus.engine.engine import Engine

_NO_STORE = {"Cache-Control": "no-store"}
_MOMENTS = ("iat", "nbf", "auth_time")
_SHOWN_CLAIMS = ("iss", "sub", "aud", "iat", "nbf", "exp", "jti", "client_id", "sid", "auth_time")


def revocation_endpoint(
    client: Callable[..., Any], *, path: str = "/revoke", owner_claim: str | None = "client_id"
) -> APIRouter:
    """Return a router with the revocation endpoint of RFC 7009.

    The form has ``token`` and perhaps ``token_type_hint``, which is not needed: what a token is
    stands in it. A refresh token takes its session with it (§2.1). The answer is 200 also for a
    token that is unknown, expired or revoked already (§2.2), and 503 where Redis does not hold
    the record yet; the token is refused by this instance then, and the client tries again.

    Args:
        client: A dependency whose value is the id of the client that sends the request; a
            `ClientAuthentication`, or the application's own, which leaves the body alone.
        path: Where the endpoint is.
        owner_claim: The claim that names the client a token was issued to; others may not revoke
            it. None lets every client revoke every token.
    """
    router = APIRouter(route_class=OAuthRoute)

    @router.post(path, response_class=Response, include_in_schema=False)
    async def revoke(request: Request, client_id: str = Depends(client)) -> Response:
        bus, encoded = bus_of(request), await _token_parameter(request)
        token = await _genuine(bus, encoded)
        if token is not None:
            if owner_claim is not None and token.verified_claims.get(owner_claim) != _id(client_id):
                raise OAuthError(400, "invalid_grant", "The token was issued to another client")
            settings = bus.settings
            if not settings.denylist_enabled or token.type not in settings.checked_token_types:
                raise OAuthError(
                    400, "unsupported_token_type", "Tokens of this type are not revoked"
                )
            await _revoke(bus, token)
        return Response(status_code=200, headers=_NO_STORE)

    return router


def _id(client_id: object) -> str:
    if not isinstance(client_id, str) or not client_id:
        raise ConfigurationError(
            "the dependency that revocation_endpoint was given must return the client's id, a "
            "text; or set owner_claim=None to let every client revoke every token"
        )
    return client_id


async def _revoke(bus: Engine, token: AccessToken | RefreshToken) -> None:
    if isinstance(token, RefreshToken) and token.session_id:
        await bus.revoke_session(token.session_id, issuer=token.issuer)
    else:
        await bus.revoke(token)


def introspection_endpoint(caller: Callable[..., Any], *, path: str = "/introspect") -> APIRouter:
    """Return a router with the introspection endpoint of RFC 7662.

    The answer for anything that may not be used is ``{"active": false}`` and nothing else (§2.2):
    unknown, malformed, expired, revoked, and a refresh token that was exchanged. It is 503 where
    the revocations are too old to decide, and for a refresh token where Redis cannot be asked.

    Args:
        caller: A dependency that lets only those pass who may ask (§2.1): a `ClientAuthentication`,
            a guard, or the application's own.
        path: Where the endpoint is.
    """
    router = APIRouter(route_class=OAuthRoute)

    @router.post(path, include_in_schema=False, dependencies=[Depends(caller)])
    async def introspect(request: Request, response: Response) -> dict[str, Any]:
        bus, encoded = bus_of(request), await _token_parameter(request)
        response.headers.update(_NO_STORE)
        token = await _genuine(bus, encoded)
        if token is None or await bus.is_spent(token):
            return {"active": False}
        try:
            await bus.authenticate(encoded, type(token))
        except AuthenticationError:
            return {"active": False}
        return _described(token)

    return router


def _described(token: AccessToken | RefreshToken) -> dict[str, Any]:
    claims = token.claims
    shown = {name: claims[name] for name in _SHOWN_CLAIMS if name in claims}
    for name in _MOMENTS:
        if name in shown:
            shown[name] = math.floor(shown[name])  # RFC 7662 §2.2: an integer
    if token.scopes:
        shown["scope"] = " ".join(sorted(token.scopes))
    if isinstance(token, AccessToken):
        shown["token_type"] = "Bearer"  # noqa: S105 - RFC 6750's name
    return {"active": True, **shown}


async def _genuine(bus: Engine, encoded: str) -> AccessToken | RefreshToken | None:
    try:
        return await bus.verify(encoded)
    except InvalidTokenError:
        return None


async def _token_parameter(request: Request) -> str:
    form: dict[str, str] | None = getattr(request.state, "revokebus_form", None)
    if form is None:  # the caller was authenticated by something that left the body alone
        form = await read_form(request)
    if "token" not in form:
        raise OAuthError(400, "invalid_request", "The parameter token is missing")
    return form["token"]
