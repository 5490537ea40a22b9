"""Several loops, threads and processes; starting and ending in whatever state."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from revokebus import AccessToken, RevokeBus, require_access
from revokebus.engine.engine import Engine
from revokebus.errors import ConfigurationError, StaleError
from tests.support import SECRET, settle

if TYPE_CHECKING:
    import redis

    from revokebus.testing import RedisServer
    from tests.support import Eventually, MakeSettings

STEPS = [*range(12), 15, 20, 30, 45]
"""How many times the loop turns before a cancellation comes."""


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def only_we_are_left(client: redis.Redis, eventually: Eventually) -> None:
    """Check that no task and no connection but the test's own is left."""
    ours = asyncio.current_task()
    await eventually(lambda: asyncio.all_tasks() == {ours})
    gc.collect()  # an unclosed connection would warn, and a warning is an error
    await eventually(lambda: len(client.client_list()) == 1)


@pytest.mark.parametrize("step", STEPS)
async def test_a_start_cancelled_anywhere_leaves_nothing(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
    step: int,
) -> None:
    """Ctrl-C at the wrong moment would leave tasks and connections behind."""
    settle(redis_server)
    engine = Engine(make_settings(redis_server.url))
    start = asyncio.create_task(engine.start())
    await turns(step)
    start.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await start
    await engine.close()  # where it was quicker than that
    await only_we_are_left(client, eventually)
    async with engine:  # and it can be started after all
        assert engine.status().state == "fresh"


@pytest.mark.parametrize("step", STEPS)
async def test_a_close_cancelled_anywhere_leaves_nothing(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
    step: int,
) -> None:
    """A server that is stopped in a hurry would leave tasks and connections behind."""
    settle(redis_server)
    engine = Engine(make_settings(redis_server.url))
    await engine.start()
    close = asyncio.create_task(engine.close())
    await turns(step + 1)  # it has begun
    close.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await close
    assert engine.status().state == "closed"
    await only_we_are_left(client, eventually)


@pytest.mark.parametrize("step", STEPS)
async def test_a_revocation_cancelled_anywhere_is_recorded(
    redis_server: RedisServer,
    make_settings: MakeSettings,
    client: redis.Redis,
    eventually: Eventually,
    step: int,
) -> None:
    """A client that hangs up while he logs out would stay logged in elsewhere."""
    settle(redis_server)
    async with Engine(make_settings(redis_server.url)) as engine:
        token = await engine.authenticate(engine.issue("alice").access_token, AccessToken)
        revoke = asyncio.create_task(engine.revoke(token))
        await turns(step + 1)  # it has begun
        revoke.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await revoke
        assert engine.is_revoked({"jti": token.jti})
        await eventually(lambda: client.exists(f"{{revokebus}}:r:jti:{token.jti}"))
    await only_we_are_left(client, eventually)


def test_each_thread_can_have_a_loop_and_an_engine(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """Two applications in one process would disturb each other."""
    settle(redis_server)
    settings = make_settings(redis_server.url)
    everybody = threading.Barrier(3)

    async def work(name: str) -> set[str]:
        async with Engine(settings) as engine:
            token = await engine.authenticate(engine.issue(name).access_token, AccessToken)
            await asyncio.to_thread(everybody.wait, 10)  # all listen
            await engine.revoke(token)
            await asyncio.to_thread(everybody.wait, 10)  # all have revoked
            async with asyncio.timeout(10):
                while engine.status().entries < 3:  # noqa: ASYNC110 - another loop has no event
                    await asyncio.sleep(0.005)
            return {str(revocation.value) for revocation in engine._denylist.live()}

    with ThreadPoolExecutor(3) as threads:
        first, second, third = threads.map(lambda name: asyncio.run(work(name)), "abc")
    assert first == second == third
    assert len(first) == 3


async def test_another_loop_is_told_how_to_call(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A revocation from the wrong loop would hang, or disturb the connections of the right."""
    settle(redis_server)
    async with Engine(make_settings(redis_server.url)) as engine:
        token = engine.issue("alice").access_token

        def elsewhere() -> None:
            with pytest.raises(ConfigurationError, match="another event loop"):
                asyncio.run(engine.revoke(token))

        await asyncio.to_thread(elsewhere)


async def test_another_loop_cannot_use_the_connections(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """A check or an audit from the wrong loop would end in a RuntimeError, here and later."""
    settle(redis_server)
    settings = make_settings(redis_server.url, on_stale="ask_redis")
    async with Engine(settings) as engine:
        token = engine.issue("alice").access_token
        engine._denylist.complete = False  # so that Redis has to be asked

        def elsewhere() -> None:
            with pytest.raises(ConfigurationError, match="another event loop"):
                asyncio.run(engine.audit())
            with pytest.raises(ConfigurationError, match="another event loop"):
                asyncio.run(engine.close())
            with pytest.raises(StaleError, match="event loop"):
                asyncio.run(engine.authenticate(token, AccessToken))

        await asyncio.to_thread(elsewhere)
        await engine.authenticate(token, AccessToken)
        assert await engine.audit()


async def test_threads_may_ask_while_the_copy_changes(make_settings: MakeSettings) -> None:
    """A sync route would fail with a changed dictionary, now and then."""
    async with Engine(make_settings()) as engine:
        done = threading.Event()

        def ask() -> int:
            asked = 0
            while not done.is_set():
                engine.is_revoked({"jti": "x", "sid": "y", "sub": "z"})
                engine.status()
                asked += 1
            return asked

        asking = asyncio.create_task(asyncio.to_thread(ask))
        await asyncio.sleep(0)
        for number in range(500):
            await engine.revoke_session(f"session-{number}")
            await engine.revoke(engine.issue("alice").access_token)
        done.set()
        assert await asking > 0


def test_a_test_client_can_start_an_application_twice(
    redis_server: RedisServer, make_settings: MakeSettings
) -> None:
    """The second test of a user's suite would find a bus that belongs to a dead loop."""
    settle(redis_server)
    app = FastAPI()
    bus = RevokeBus.attach(app, make_settings(redis_server.url))

    @app.get("/")
    async def index(_: Annotated[AccessToken, Depends(require_access())]) -> None: ...

    @app.delete("/")
    async def revoke(token: Annotated[AccessToken, Depends(require_access())]) -> None:
        await bus.revoke(token)

    header = {"Authorization": f"Bearer {bus.issue('alice').access_token}"}
    with TestClient(app, headers=header) as client:
        assert [client.get("/").status_code, client.delete("/").status_code] == [200, 200]
    with TestClient(app, headers=header) as client:
        assert client.get("/").status_code == 401


def run(script: str, redis_server: RedisServer) -> str:
    """Run a script that forks, in a process of its own, and return what it prints."""
    settle(redis_server)
    preamble = """
        import asyncio, os, sys, time
        from revokebus import AccessToken, RevokeBus
        from revokebus.errors import ConfigurationError

        def wait_for(*children):
            assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    """
    environment = {
        **os.environ,
        "REVOKEBUS_SECRET_KEY": SECRET,
        "REVOKEBUS_REDIS_URL": redis_server.url,
        "REVOKEBUS_TICK_INTERVAL": "0.05",
        "REVOKEBUS_MAX_STALENESS": "1",
    }
    command = [sys.executable, "-W", "error", "-c"]
    source = textwrap.dedent(preamble) + textwrap.dedent(script)
    ended = subprocess.run(
        [*command, source], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_workers_forked_from_a_loaded_application(redis_server: RedisServer) -> None:
    """With ``--preload`` the workers would share connections, or one instance's identity."""
    printed = run(
        """
        bus = RevokeBus()
        token = bus.issue("alice").access_token
        read, write = os.pipe()

        async def listen():
            async with bus:
                assert not bus.is_revoked((await bus.authenticate(token, AccessToken)).claims)
                os.write(write, b"x")
                claims = (await bus.authenticate(token, AccessToken)).claims
                while not bus.is_revoked(claims):
                    await asyncio.sleep(0.005)
            print("refused by", os.getpid(), flush=True)

        async def revoke():
            async with bus:
                await bus.revoke(token)

        children = []
        for _ in range(2):
            child = os.fork()
            if not child:
                asyncio.run(listen())
                os._exit(0)
            children.append(child)
        for _ in children:
            os.read(read, 1)
        asyncio.run(revoke())
        wait_for(*children)
        """,
        redis_server,
    )
    assert len({*printed.splitlines()}) == 2


def test_a_process_forked_from_a_running_bus_knows_that_it_is_stale(
    redis_server: RedisServer,
) -> None:
    """A child without listener and ticker would accept everything by an old copy, for ever."""
    printed = run(
        """
        async def main():
            async with RevokeBus() as bus:
                token = bus.issue("alice").access_token
                child = os.fork()
                if not child:
                    in_child(bus, token)
                    os._exit(0)
                await asyncio.to_thread(wait_for, child)
                await bus.revoke(token)
                print(bus.status().state, flush=True)

        def in_child(bus, token):
            deadline = time.monotonic() + 20
            while bus.status().state == "fresh" and time.monotonic() < deadline:
                time.sleep(0.05)
            print(bus.status().state, flush=True)
            try:
                asyncio.run(bus.revoke(token))
            except ConfigurationError as error:
                print("another event loop" in str(error), flush=True)

        asyncio.run(main())
        """,
        redis_server,
    )
    assert printed.split() == ["stale", "True", "fresh"]
