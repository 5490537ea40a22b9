"""Puts what guards demand into an application's OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.routing import iter_route_contexts

from revokebus.web.guards import Guard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from fastapi.dependencies.models import Dependant


def describe_guards(app: FastAPI) -> None:
    """Have the document of `app` name each guard's scopes, and say where a token is optional.

    FastAPI itself lists the scopes of ``Security(...)`` only.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _describe(app, generate())
        return generate()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _describe(app: FastAPI, document: dict[str, Any]) -> None:
    for route in iter_route_contexts(app.routes):
        path = document.get("paths", {}).get(route.path_format, {})
        operations = [path[name] for name in map(str.lower, route.methods or ()) if name in path]
        for guard in _guards(getattr(route, "dependant", None)):
            for operation in operations:
                _describe_guard(guard, operation.get("security", []))


def _guards(dependant: Dependant | None) -> Iterator[Guard[Any]]:
    for each in dependant.dependencies if dependant else ():
        call: object = each.call
        if isinstance(call, Guard):
            yield call
        yield from _guards(each)


def _describe_guard(guard: Guard[Any], security: list[dict[str, list[str]]]) -> None:
    for requirement in security:
        scopes = requirement.get(guard.scheme_name)
        if scopes is not None:
            scopes += [scope for scope in guard.demands.scopes if scope not in scopes]
    if guard.is_optional and {} not in security:
        security.append({})  # OpenAPI 3.1, Security Requirement Object: or none of them
