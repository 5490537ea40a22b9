"""How a bus and an application come together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient

from revokebus import AccessToken, RevokeBus, get_bus, require_access
from revokebus.errors import ConfigurationError

if TYPE_CHECKING:
    from tests.support import MakeSettings

Bus = Annotated[RevokeBus, Depends(get_bus)]
router = APIRouter()


@router.post("/login/{name}")
async def login(name: str, bus: Bus) -> str:
    return bus.issue(name).access_token


@router.post("/logout")
async def logout(token: Annotated[AccessToken, Depends(require_access())], bus: Bus) -> None:
    await bus.revoke_session(token.session_id)


@router.websocket("/ws")
async def ws(websocket: WebSocket, bus: Bus) -> None:
    await websocket.accept()
    await websocket.send_text(bus.status().state)
    await websocket.close()


def test_a_bus_that_is_there_before_the_application(make_settings: MakeSettings) -> None:
    """`bus.attach(app)` would make another bus, and what is revoked with this one go on."""
    bus = RevokeBus(make_settings())
    app = FastAPI()
    app.include_router(router)
    assert bus.attach(app) is bus
    assert app.state.revokebus is bus
    with TestClient(app) as client:
        token = bus.issue("alice").access_token
        headers = {"Authorization": f"Bearer {token}"}
        assert client.post("/logout", headers=headers).status_code == 200
        assert client.post("/logout", headers=headers).status_code == 401
    assert bus.status().state == "closed"


def test_a_route_gets_the_bus_of_its_application(make_settings: MakeSettings) -> None:
    """A router in a module of its own would have to import the application that imports it."""
    apps = [FastAPI(), FastAPI()]
    for app in apps:
        app.include_router(router)
        RevokeBus.attach(app, make_settings())
    with TestClient(apps[0]) as one, TestClient(apps[1]) as other:
        token = one.post("/login/alice").json()
        headers = {"Authorization": f"Bearer {token}"}
        assert one.post("/logout", headers=headers).status_code == 200
        assert other.post("/logout", headers=headers).status_code == 200  # it has its own bus
        with one.websocket_connect("/ws") as websocket:
            assert websocket.receive_text() == "fresh"


def test_without_a_bus_it_is_said_what_to_do() -> None:
    """A forgotten line would be an AttributeError deep in a library."""
    app = FastAPI()
    app.include_router(router)
    with TestClient(app) as client, pytest.raises(ConfigurationError, match=r"RevokeBus\.attach"):
        client.post("/login/alice")


def test_a_bus_serves_one_application_at_a_time(make_settings: MakeSettings) -> None:
    """Two applications would start and stop the same bus under each other's feet."""
    bus = RevokeBus(make_settings())
    apps = [FastAPI(), FastAPI()]
    for app in apps:
        bus.attach(app)  # as a factory does that is called for each test
    for app in apps:
        with TestClient(app):
            assert bus.status().state == "fresh"
    with (
        TestClient(apps[0]),
        pytest.raises(ConfigurationError, match="running already"),
        TestClient(apps[1]),
    ):
        pass
