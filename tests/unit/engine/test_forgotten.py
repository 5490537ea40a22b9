from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import anyio.from_thread
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.testclient import TestClient

from revokebus import AccessToken, RevokeBus, require_access
from revokebus.engine.engine import Engine

if TYPE_CHECKING:
    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings

Access = Annotated[AccessToken, Depends(require_access())]
CALLS = ("revoke", "revoke_many", "revoke_session", "revoke_subject", "revoke_claim", "revoke_all")


@pytest.fixture
def app(make_settings: MakeSettings) -> FastAPI:
    app = FastAPI()
    bus = RevokeBus.attach(app, make_settings())

    @app.post("/forgotten")
    async def forgotten(token: Access) -> None:
        bus.revoke_session(token.session_id)  # type: ignore[unused-coroutine]  # on purpose

    @app.post("/later")
    async def later(token: Access, tasks: BackgroundTasks) -> None:
        tasks.add_task(bus.revoke_session, token.session_id)

    @app.post("/in-a-thread")
    def in_a_thread(token: Access) -> None:
        anyio.from_thread.run(bus.revoke_session, token.session_id)

    @app.post("/forgotten-in-a-thread")
    def forgotten_in_a_thread(token: Access) -> None:
        bus.revoke_session(token.session_id)  # type: ignore[unused-coroutine]  # on purpose

    @app.get("/")
    async def read(_: Access) -> None:
        return None

    return app


@pytest.mark.parametrize("path", ["forgotten", "forgotten-in-a-thread", "later", "in-a-thread"])
def test_a_forgotten_await_revokes_all_the_same(
    app: FastAPI, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A log-out would answer 200 and leave the session as it is."""
    bus: RevokeBus = app.state.revokebus
    with TestClient(app) as client:
        headers = {"Authorization": f"Bearer {bus.issue('alice').access_token}"}
        assert client.get("/", headers=headers).status_code == 200
        assert client.post(f"/{path}", headers=headers).status_code == 200
        assert client.get("/", headers=headers).status_code == 401
    said = [each.message for each in caplog.records if "without await" in each.message]
    assert len(said) == ("forgotten" in path)
    assert all("await bus.revoke_session" in each for each in said)


async def test_what_is_forgotten_and_wrong_is_said(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    """Nobody would learn that nothing was revoked."""
    async with Engine(make_settings()) as engine:
        engine.revoke_session("")  # type: ignore[unused-coroutine]  # on purpose
        await eventually(lambda: "has failed: session_id must be" in caplog.text)
    caplog.clear()
    engine.revoke_session("s")  # type: ignore[unused-coroutine]  # on purpose
    assert "nothing was revoked" in caplog.text
    assert engine.status().entries == 0


async def test_the_end_waits_for_what_was_forgotten(make_settings: MakeSettings) -> None:
    """The last log-out before a deployment would be lost."""
    async with Engine(make_settings()) as engine:
        engine.revoke_session("s")  # type: ignore[unused-coroutine]  # on purpose
        await asyncio.sleep(0)
    assert engine.status().entries == 1


@pytest.mark.parametrize("name", CALLS)
def test_it_is_a_coroutine_function_as_before(name: str) -> None:
    """A background task would call it in a thread, where there is no event loop."""
    method = getattr(Engine, name)
    assert asyncio.iscoroutinefunction(method)
    assert "self" in inspect.signature(method).parameters
    assert method.__doc__


async def test_every_way_of_awaiting_goes(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that starts a task, or waits with a deadline, would fail or be warned."""
    caplog.set_level(logging.ERROR)
    async with Engine(make_settings()) as engine:

        async def plainly() -> Any:
            return await engine.revoke_session("1")

        await plainly()
        await asyncio.create_task(engine.revoke_session("2"))
        await asyncio.wait_for(engine.revoke_session("3"), 5)
        await asyncio.gather(engine.revoke_session("4"), engine.revoke_session("5"))
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.revoke_session("6"))
        engine.revoke_session("7").close()  # given up on purpose
        task = asyncio.create_task(engine.revoke_session("8"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.status().entries == 6
    assert caplog.text == ""


async def test_it_is_a_coroutine_for_whoever_asks(make_settings: MakeSettings) -> None:
    """A task group of an older anyio would refuse it, and nothing be revoked."""
    async with Engine(make_settings()) as engine:
        call = engine.revoke_session("s")
        assert inspect.iscoroutine(call)
        assert inspect.getcoroutinestate(call) == "CORO_CREATED"
        await call
        assert inspect.getcoroutinestate(call) == "CORO_CLOSED"
        async with anyio.create_task_group() as group:
            group.start_soon(engine.revoke_session, "t")
        assert engine.status().entries == 2


async def test_what_is_forgotten_last_of_all_is_made(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A script that forgets the await would end without having revoked anything."""
    async with Engine(make_settings(redis_server.url)) as engine:
        engine.revoke_session("s")  # type: ignore[unused-coroutine]  # on purpose
    with redis_server.client() as client:
        assert client.exists("{revokebus}:r:sid:s")
