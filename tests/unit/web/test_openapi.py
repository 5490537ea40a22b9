"""The document behind the docs page: who reads it can authorize, and sees the scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from fastapi.openapi.utils import get_openapi
from fastapi.testclient import TestClient

from revokebus import AccessToken, RefreshToken, RevokeBus, require_access, require_refresh

if TYPE_CHECKING:
    from tests.support import MakeSettings

Access = Annotated[AccessToken, Depends(require_access())]


def user_of(token: Annotated[AccessToken, Depends(require_access("read"))]) -> str:
    return token.subject


def document_of(app: FastAPI) -> dict[str, Any]:
    document: dict[str, Any] = TestClient(app).get("/openapi.json").json()
    return document


def make_app(make_settings: MakeSettings) -> FastAPI:
    app = FastAPI()
    RevokeBus.attach(app, make_settings())
    router = APIRouter(prefix="/api", dependencies=[Depends(require_access("api"))])

    @app.get("/open")
    async def open_() -> None: ...

    @app.get("/plain")
    async def plain(token: Access) -> None: ...

    @app.get("/maybe")
    async def maybe(
        token: Annotated[AccessToken | None, Depends(require_access("x", optional=True))],
    ) -> None: ...

    @app.post("/refresh")
    async def refresh(token: Annotated[RefreshToken, Depends(require_refresh())]) -> None: ...

    @router.put("/deep/{item}")
    async def deep(
        item: int,
        user: Annotated[str, Depends(user_of)],
        token: Annotated[AccessToken, Security(require_access("write"), scopes=["more"])],
    ) -> None: ...

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, token: Access) -> None: ...

    app.include_router(router)
    return app


def test_each_route_names_its_scheme_and_scopes(make_settings: MakeSettings) -> None:
    """The Authorize button would be missing, and a client not know what to ask for."""
    app = make_app(make_settings)
    for _ in range(2):  # the second is the remembered one
        document = document_of(app)
        security = {
            path: operation.get("security")
            for path, item in document["paths"].items()
            for operation in item.values()
        }
        assert security == {
            "/open": None,
            "/plain": [{"AccessToken": []}],
            "/maybe": [{"AccessToken": ["x"]}, {}],
            "/refresh": [{"RefreshToken": []}],
            "/api/deep/{item}": [{"AccessToken": security["/api/deep/{item}"][0]["AccessToken"]}],
        }
        assert set(security["/api/deep/{item}"][0]["AccessToken"]) == {
            "api",
            "read",
            "write",
            "more",
        }
    scheme = document["components"]["securitySchemes"]["AccessToken"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")


def test_a_covered_application_has_its_own_document(make_settings: MakeSettings) -> None:
    """The docs page of a mounted application would not know its scopes."""
    outer, inner = FastAPI(), FastAPI()
    RevokeBus.attach(outer, make_settings()).cover(inner)

    @inner.get("/x")
    async def x(token: Annotated[AccessToken, Depends(require_access("inner"))]) -> None: ...

    outer.mount("/inner", inner)
    document = TestClient(outer).get("/inner/openapi.json").json()
    assert document["paths"]["/x"]["get"]["security"] == [{"AccessToken": ["inner"]}]


def test_the_token_from_the_button_opens_the_route(make_settings: MakeSettings) -> None:
    """The button would send something that the guard does not take."""
    app = make_app(make_settings)
    with TestClient(app) as client:
        page = client.get("/docs")
        assert "swagger-ui" in page.text
        token = app.state.revokebus.issue("alice").access_token
        # What Swagger UI sends for a scheme of type http and bearer.
        assert client.get("/plain", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_what_is_demanded_together_is_listed_together(make_settings: MakeSettings) -> None:
    """A client would think that one of two tokens is enough, or none."""
    app = FastAPI()
    RevokeBus.attach(app, make_settings())

    @app.get("/both")
    async def both(
        access: Access, refresh: Annotated[RefreshToken, Depends(require_refresh())]
    ) -> None: ...

    @app.get("/one")
    async def one(
        token: Access,
        maybe: Annotated[AccessToken | None, Depends(require_access("x", optional=True))],
    ) -> None: ...

    @app.get("/one")
    async def never_reached(
        token: Annotated[AccessToken, Depends(require_access("y"))],
    ) -> None: ...

    paths = document_of(app)["paths"]
    assert paths["/both"]["get"]["security"] == [{"AccessToken": [], "RefreshToken": []}]
    assert paths["/one"]["get"]["security"] == [{"AccessToken": ["x"]}]


def test_an_application_may_have_a_document_of_its_own(make_settings: MakeSettings) -> None:
    """Whoever extends it, as FastAPI shows, would lose the scopes."""
    app = FastAPI()

    @app.get("/x")
    async def x(token: Annotated[AccessToken, Depends(require_access("a"))]) -> None: ...

    app.openapi = lambda: get_openapi(title="t", version="1", routes=app.routes)  # type: ignore[method-assign]  # FastAPI's way
    RevokeBus.attach(app, make_settings())
    for _ in range(2):
        assert document_of(app)["paths"]["/x"]["get"]["security"] == [{"AccessToken": ["a"]}]


def test_the_document_says_where_the_token_goes(make_settings: MakeSettings) -> None:
    """The Authorize button would put it where nobody looks."""
    for changes, scheme in (
        ({"header_name": "X-Token", "header_scheme": ""}, ("header", "X-Token")),
        ({"token_sources": ["cookie"]}, ("cookie", "__Host-access_token")),
    ):
        app = FastAPI()
        RevokeBus.attach(app, make_settings(**changes))

        @app.get("/x")
        async def x(token: Access) -> None: ...

        found = document_of(app)["components"]["securitySchemes"]["AccessToken"]
        assert (found["type"], found["in"], found["name"]) == ("apiKey", *scheme)


def test_each_route_says_what_its_guard_answers(make_settings: MakeSettings) -> None:
    """A generated client would not expect the answers that every guarded route can give."""
    app = FastAPI()
    RevokeBus.attach(app, make_settings())

    @app.get("/open")
    async def open_() -> None: ...

    @app.get("/plain")
    async def plain(token: Access) -> None: ...

    @app.get("/own", responses={403: {"description": "Not on Sundays."}})
    async def own(token: Access) -> None: ...

    with TestClient(app) as client:
        paths = client.get("/openapi.json").json()["paths"]
        answer = client.get("/plain")
    assert paths["/open"]["get"]["responses"].keys() == {"200"}
    assert paths["/plain"]["get"]["responses"].keys() == {"200", "401", "403", "503"}
    assert paths["/own"]["get"]["responses"]["403"]["description"] == "Not on Sundays."
    content = paths["/plain"]["get"]["responses"]["401"]["content"]
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] in content
    assert answer.json().keys() == set(content["application/json"]["schema"]["required"])
