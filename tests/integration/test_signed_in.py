"""What the tests of an application are given for its guards."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI, Security
from fastapi.testclient import TestClient

from revokebus import (
    AccessToken,
    EndingSession,
    RefreshToken,
    RevokeBus,
    require_access,
    require_logout,
    require_refresh,
)
from revokebus.engine.engine import Engine
from revokebus.errors import ConfigurationError, InvalidTokenError
from revokebus.testing import make_token, signed_in

if TYPE_CHECKING:
    from tests.support import MakeSettings

_orders = require_access("orders")


def more() -> APIRouter:
    router = APIRouter(prefix="/more")

    @router.get("/security")
    async def security(token: Annotated[AccessToken, Security(_orders, scopes=["more"])]) -> str:
        return token.subject

    @router.get("/recent")
    async def recent(token: Annotated[AccessToken, Depends(require_access(max_age=60))]) -> str:
        return token.subject

    @router.get("/fresh")
    async def fresh(token: Annotated[AccessToken, Depends(require_access(fresh=True))]) -> str:
        return token.subject

    @router.post("/refresh")
    async def refresh(token: Annotated[RefreshToken, Depends(require_refresh())]) -> str:
        return token.subject

    @router.post("/logout")
    async def logout(session: Annotated[EndingSession, Depends(require_logout())]) -> str:
        return session.session_id

    return router


@pytest.fixture
def app(make_settings: MakeSettings) -> FastAPI:
    app = FastAPI()
    RevokeBus.attach(app, make_settings())
    app.include_router(more())

    @app.get("/me")
    async def me(token: Annotated[AccessToken, Depends(require_access())]) -> str:
        return token.subject

    @app.get("/maybe")
    async def maybe(
        token: Annotated[AccessToken | None, Depends(require_access(optional=True))],
    ) -> str:
        return token.subject if token else "nobody"

    @app.get("/orders")
    async def orders(token: Annotated[AccessToken, Depends(_orders)]) -> str:
        return token.subject

    return app


def statuses(app: FastAPI) -> dict[str, int]:
    client = TestClient(app)
    paths = ("/me", "/maybe", "/orders", "/more/security", "/more/recent", "/more/fresh")
    return {path: client.get(path).status_code for path in paths}


def test_every_guard_is_answered_at_once(app: FastAPI) -> None:
    """A suite would need an override for each guard, and a new one with each route."""
    before = statuses(app)
    assert set(before.values()) == {401, 200}
    token = make_token("alice", scopes=["orders", "more"], fresh=True)
    with signed_in(app, token):
        assert set(statuses(app).values()) == {200}
        client = TestClient(app)
        assert client.get("/me").json() == "alice"
        assert client.post("/more/logout").json() == token.session_id
        assert client.post("/more/refresh").status_code in (401, 503)  # another kind of token
    assert statuses(app) == before
    assert app.dependency_overrides == {}


def test_what_a_guard_demands_it_demands_of_this_token(app: FastAPI) -> None:
    """Tests would pass of routes that no user may use, or everybody."""
    with signed_in(app, make_token("alice", scopes=["orders"], signed_in_ago=3600)):
        found = statuses(app)
    assert found["/me"] == found["/maybe"] == found["/orders"] == 200
    assert found["/more/security"] == 403
    assert found["/more/recent"] == found["/more/fresh"] == 401


def test_own_overrides_stay(app: FastAPI) -> None:
    """A suite with overrides of its own would lose them."""

    def mine() -> str:
        return "mine"

    app.dependency_overrides[mine] = mine
    with signed_in(app, make_token()):
        assert mine in app.dependency_overrides
    assert app.dependency_overrides == {mine: mine}


def test_a_token_in_one_call() -> None:
    """Whoever tests a function that takes a token would have to fill in twelve fields."""
    token = make_token("alice", scopes=["a", "b"], claims={"tenant": 7, "sid": "s"})
    assert (token.subject, token.session_id) == ("alice", "s")
    assert token.scopes == frozenset({"a", "b"})
    assert token.claims["tenant"] == 7
    assert token.expires_at > time.time()
    assert make_token().jti != make_token().jti
    with pytest.raises(InvalidTokenError):
        make_token("")


def test_without_a_lifespan_the_developer_is_told(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    """A newcomer would look for an hour why each answer is 503."""
    bus: RevokeBus = app.state.revokebus
    header = {"Authorization": f"Bearer {bus.issue('alice').access_token}"}
    client = TestClient(app)
    with caplog.at_level(logging.ERROR, "revokebus"):
        answers = [client.get("/me", headers=header) for _ in range(3)]
    assert [each.status_code for each in answers] == [503] * 3
    assert all("TestClient" not in each.text for each in answers)  # not for strangers
    said = [each.getMessage() for each in caplog.records if each.name == "revokebus"]
    assert len(said) == 1
    assert "with TestClient(app)" in said[0]
    assert "async with bus" in said[0]


async def test_another_loop_is_named(make_settings: MakeSettings) -> None:
    """A fixture for the whole session would fail with a riddle."""
    engine = Engine(make_settings())
    app = FastAPI()
    app.state.revokebus = engine

    def elsewhere() -> Any:
        import asyncio  # noqa: PLC0415

        with asyncio.Runner() as runner:
            return runner.run(engine.revoke_session("s"))

    async with engine:
        import asyncio  # noqa: PLC0415

        with pytest.raises(ConfigurationError, match="loop_scope"):
            await asyncio.to_thread(elsewhere)


async def test_an_async_client_needs_three_lines(app: FastAPI) -> None:
    """Async suites could not use the bus at all."""
    bus: RevokeBus = app.state.revokebus
    transport = httpx2.ASGITransport(app=app)
    async with bus, httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        header = {"Authorization": f"Bearer {bus.issue('alice').access_token}"}
        assert (await client.get("/me", headers=header)).json() == "alice"
