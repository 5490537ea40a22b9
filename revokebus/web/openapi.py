"""Puts what guards demand into an application's OpenAPI document."""

from __future__ import annotations

import posixpath
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from fastapi import routing
from fastapi.security import OAuth2PasswordRequestForm
from fastapi.security.oauth2 import OAuth2PasswordRequestFormStrict

from revokebus.web.guards import Guard
from revokebus.web.log_out import LogOutGuard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastapi import FastAPI
    from fastapi.dependencies.models import Dependant

    from revokebus.settings.settings import Settings, TokenType

AnyGuard = Guard[Any, Any] | LogOutGuard[Any]

_ANSWERS = {
    "401": "There is no token, or it is wrong, expired or revoked.",
    "403": "The token does not allow this, or the request came from another site.",
    "503": "It is not known at the moment whether the token was revoked; try again.",
}
_DETAIL = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {"detail": {"type": "string"}},
            "required": ["detail"],
        }
    }
}


def describe_guards(app: FastAPI, settings: Settings) -> None:
    """Have the document of `app` say what its guards demand, and what they answer.

    FastAPI itself lists the scopes of ``Security(...)`` only, and a scheme for each dependency, of
    which one would do.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        _describe(app, document)
        _describe_schemes(document, settings)
        _describe_sign_in(app, document, settings)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _describe(app: FastAPI, document: dict[str, Any]) -> None:
    described: set[tuple[str | None, str]] = set()
    for route in routes_of(app):
        guards = list(_guards(getattr(route, "dependant", None)))
        path = document.get("paths", {}).get(route.path_format, {})
        for method in map(str.lower, route.methods or ()):
            # Of two routes for one path the first is the one that is reached.
            if method in path and (route.path_format, method) not in described:
                described.add((route.path_format, method))
                if guards:
                    _describe_operation(path[method], guards)


def routes_of(app: FastAPI) -> Iterable[Any]:
    """Return the routes of an application, those of its routers among them."""
    # Before 0.137 the routes of routers are the application's own.
    every = getattr(routing, "iter_route_contexts", None)
    if every is None:
        return [each for each in app.routes if isinstance(each, routing.APIRoute)]
    found: Iterable[Any] = every(app.routes)
    return found


def dependencies_of(dependant: Dependant | None) -> Iterator[object]:
    """Yield what a route depends on, and what that depends on."""
    for each in dependant.dependencies if dependant else ():
        yield each.call
        yield from dependencies_of(each)


def _guards(dependant: Dependant | None) -> Iterator[AnyGuard]:
    return (call for call in dependencies_of(dependant) if isinstance(call, Guard | LogOutGuard))


def _describe_operation(operation: dict[str, Any], guards: list[AnyGuard]) -> None:
    """Put the schemes of all guards into one requirement, which asks for all of them.

    What guards answer is put beside what the route has said of the same status itself.
    """
    responses = operation.setdefault("responses", {})
    for status, meaning in _ANSWERS.items():
        responses.setdefault(status, {"description": meaning, "content": deepcopy(_DETAIL)})
    names = {guard.scheme_name for guard in guards}
    together: dict[str, list[str]] = {name: [] for name in sorted(names)}
    others: list[dict[str, list[str]]] = []
    for requirement in operation.get("security", []):
        if names.isdisjoint(requirement):
            others.append(requirement)
        for name in names.intersection(requirement):
            together[name] += [each for each in requirement[name] if each not in together[name]]
    for guard in guards:
        scopes = together[guard.scheme_name]
        scopes += [scope for scope in guard.demands.scopes if scope not in scopes]
    operation["security"] = [together, *(each for each in others if each)]
    if all(guard.is_optional for guard in guards):
        operation["security"].append({})  # OpenAPI 3.1, Security Requirement Object: or none


def _describe_sign_in(app: FastAPI, document: dict[str, Any], settings: Settings) -> None:
    """Have the Authorize button sign in at the route that takes OAuth2's form, if there is one."""
    schemes = document.get("components", {}).get("securitySchemes", {})
    usual = settings.is_header_only("access") and schemes.get("AccessToken", {}).get("type")
    paths = [
        each.path_format for each in routes_of(app) if _takes_form(getattr(each, "dependant", None))
    ]
    if usual != "http" or len(paths) != 1:
        return
    # Relative to the document, as a proxy with a path needs it.
    here = posixpath.dirname(app.openapi_url or "/")
    flow = {"tokenUrl": posixpath.relpath(paths[0], here), "scopes": _scopes(document)}
    description = schemes["AccessToken"].get("description", "")
    schemes["AccessToken"] = {
        "type": "oauth2",
        "flows": {"password": flow},
        "description": description,
    }


def _takes_form(dependant: Dependant | None) -> bool:
    forms = (OAuth2PasswordRequestForm, OAuth2PasswordRequestFormStrict)
    return any(call in forms for call in dependencies_of(dependant))


def _scopes(document: dict[str, Any]) -> dict[str, str]:
    """Return every scope that an operation asks for; there are no words about them."""
    operations = [
        each
        for path in document.get("paths", {}).values()
        for each in path.values()
        if isinstance(each, dict)
    ]
    asked = [
        scope
        for operation in operations
        for requirement in operation.get("security", [])
        for scope in requirement.get("AccessToken", [])
    ]
    return dict.fromkeys(sorted(asked), "")


def _describe_schemes(document: dict[str, Any], settings: Settings) -> None:
    """Say where tokens come from, if that is not the usual header."""
    schemes = document.get("components", {}).get("securitySchemes", {})
    cookies = settings.cookies
    kinds: tuple[tuple[str, str, TokenType], ...] = (
        ("AccessToken", cookies.access_name, "access"),
        ("RefreshToken", cookies.refresh_name, "refresh"),
    )
    for name, cookie, token_type in kinds:
        if name in schemes and "header" not in settings.sources_of(token_type):
            schemes[name] = {"type": "apiKey", "in": "cookie", "name": cookie}
        elif name in schemes and settings.header_name.lower() != "authorization":
            schemes[name] = {"type": "apiKey", "in": "header", "name": settings.header_name}
