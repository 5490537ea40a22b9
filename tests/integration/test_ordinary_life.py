"""What a service does every day, with processes, sockets and clocks of their own."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from revokebus.testing import AppServer, serving
from revokebus.testing.process import wait_until
from revokebus.testing.redis_server import embedded_valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from revokebus.testing import RedisServer

SECRET = secrets.token_urlsafe(64)
APP = "examples.redis_app:app"
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
MOST = 4

needs_faketime = pytest.mark.skipif(
    LIBRARY is None, reason="needs libfaketime (apt-get install faketime)"
)


@pytest.fixture
def redis_binary() -> str:
    """One server will do: what is tested here is the same with the other."""
    return embedded_valkey()


def environment(redis_server: RedisServer, off: float = 0.0) -> dict[str, str]:
    """Return the variables of a process whose clock is so many seconds off."""
    variables = {"REVOKEBUS_SECRET_KEY": SECRET, "REVOKEBUS_REDIS_URL": redis_server.url}
    if off:
        variables |= {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME": f"{off:+}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    return variables


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=10) as client:
        yield client


def sign_in(http: httpx2.Client, server: AppServer) -> dict[str, str]:
    body = {"username": "alice", "password": "wonderland"}
    pair: dict[str, str] = http.post(f"{server.url}/login", json=body).raise_for_status().json()
    return pair


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def status(http: httpx2.Client, server: AppServer, token: str) -> int:
    return http.get(f"{server.url}/protected", headers=bearer(token)).status_code


def sign_out_from_a_terminal(server: RedisServer, off: float) -> subprocess.CompletedProcess[str]:
    """Revoke all of alice's tokens by the command, on a machine whose clock is that much off."""
    return subprocess.run(
        [sys.executable, "-m", "revokebus.cli", "revoke-subject", "alice"],
        env={**os.environ, **environment(server, off)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def connections(server: RedisServer) -> int:
    with server.client() as client:
        return len(client.client_list()) - 1


async def test_two_hundred_log_outs_at_once(redis_server: RedisServer, http: httpx2.Client) -> None:
    """Most would be 503, and the instance would hold a connection for each."""
    with AppServer(APP, environment(redis_server)) as server:
        tokens = [sign_in(http, server)["access_token"] for _ in range(200)]
        limits = httpx2.Limits(max_connections=200)
        async with httpx2.AsyncClient(limits=limits, timeout=30) as client:
            url = f"{server.url}/access-revoke"
            answers = await asyncio.gather(
                *(client.delete(url, headers=bearer(token)) for token in tokens)
            )
        assert {answer.is_success for answer in answers} == {True}
        assert connections(redis_server) <= MOST
        assert {status(http, server, token) for token in tokens[:20]} == {401}


@needs_faketime
@pytest.mark.parametrize("off", [-5.0, -0.5, 0.5, 5.0])
def test_pods_whose_clocks_differ(
    redis_server: RedisServer, http: httpx2.Client, off: float
) -> None:
    """First requests would be refused as "not yet valid", and tokens survive their sign-out."""
    here, there = (
        AppServer(APP, environment(redis_server)),
        AppServer(APP, environment(redis_server, off)),
    )
    with serving(here, there):
        for one, other in ((here, there), (there, here)):
            for _ in range(2):
                pair = sign_in(http, one)
                assert status(http, other, pair["access_token"]) == 200
                done = sign_out_from_a_terminal(redis_server, off)
                assert done.returncode == 0, done.stderr
                for server in (here, there):
                    assert status(http, server, pair["access_token"]) == 401
                    again = sign_in(http, server)
                    assert status(http, here, again["access_token"]) == 200
                    assert status(http, there, again["access_token"]) == 200


@needs_faketime
def test_a_terminal_whose_clock_is_a_minute_off_revokes_nothing(
    redis_server: RedisServer, http: httpx2.Client
) -> None:
    """It would report success, and tokens of the last minute would go on."""
    with AppServer(APP, environment(redis_server)) as server:
        pair = sign_in(http, server)
        done = sign_out_from_a_terminal(redis_server, -60.0)
        assert done.returncode == 2
        assert "clock" in done.stderr
        assert status(http, server, pair["access_token"]) == 200


def test_a_phone_that_lost_the_answer_asks_again_from_another_network(
    redis_server: RedisServer, http: httpx2.Client
) -> None:
    """It would be signed out for the mobile network's fault."""
    here, there = (AppServer(APP, environment(redis_server)) for _ in range(2))
    with serving(here, there):
        old = bearer(sign_in(http, here)["refresh_token"])
        http.post(f"{here.url}/refresh", headers=old).raise_for_status()
        elsewhere = httpx2.HTTPTransport(local_address="127.0.0.2")
        with httpx2.Client(transport=elsewhere, timeout=10) as phone:
            pair = phone.post(f"{there.url}/refresh", headers=old).raise_for_status().json()
            assert status(phone, here, pair["access_token"]) == 200
            newest = bearer(pair["refresh_token"])
            phone.post(f"{here.url}/refresh", headers=newest).raise_for_status()


@needs_faketime
@pytest.mark.parametrize("off", [-5.0, 5.0])
def test_refreshes_at_pods_whose_clocks_differ(
    redis_server: RedisServer, http: httpx2.Client, off: float
) -> None:
    """A user would be signed out by a replay that was none."""
    here, there = (
        AppServer(APP, environment(redis_server)),
        AppServer(APP, environment(redis_server, off)),
    )
    with serving(here, there):
        pair = sign_in(http, here)
        for server in (there, here, there, there, here):
            old = bearer(pair["refresh_token"])
            pair = http.post(f"{server.url}/refresh", headers=old).raise_for_status().json()
            for each in (here, there):
                assert status(http, each, pair["access_token"]) == 200


def stay_frozen(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > until, "it was frozen long enough")


def test_the_first_request_after_a_pause(redis_server: RedisServer, http: httpx2.Client) -> None:
    """Where processes are frozen between requests, most first requests would be refused (503)."""
    bound = 1.2
    variables = {**environment(redis_server), "REVOKEBUS_MAX_STALENESS": str(bound)}
    with AppServer(APP, variables) as server, AppServer(APP, environment(redis_server)) as other:
        for _ in range(3):
            kept, ended = (sign_in(http, server)["access_token"] for _ in range(2))
            assert status(http, server, kept) == status(http, server, ended) == 200
            server.freeze()
            try:
                done = http.delete(f"{other.url}/access-revoke", headers=bearer(ended))
                assert done.is_success
                stay_frozen(2 * bound)
            finally:
                server.thaw()
            # What was revoked meanwhile is known before the first of them is answered.
            assert status(http, server, ended) == 401
            server.freeze()
            stay_frozen(2 * bound)
            server.thaw()
            assert status(http, server, kept) == 200


def test_the_first_request_after_a_pause_in_the_midst_of_a_tick(
    redis_server: RedisServer, http: httpx2.Client
) -> None:
    """One of some hundred first requests would be refused (503), the more the busier Redis is."""
    bound = 1.2
    variables = {**environment(redis_server), "REVOKEBUS_MAX_STALENESS": str(bound)}
    with AppServer(APP, variables) as server:
        token = sign_in(http, server)["access_token"]
        for _ in range(4):
            redis_server.freeze()
            try:
                stay_frozen(0.6)  # a tick goes on
                server.freeze()
            finally:
                redis_server.thaw()
            stay_frozen(2 * bound)
            server.thaw()
            assert status(http, server, token) == 200


def test_the_first_request_after_a_pause_while_redis_hangs(
    redis_server: RedisServer, http: httpx2.Client
) -> None:
    """It would be let through, or wait for ever, and so would all that come after it."""
    variables = {**environment(redis_server), "REVOKEBUS_MAX_STALENESS": "1.2"}
    with AppServer(APP, variables) as server:
        token = sign_in(http, server)["access_token"]
        server.freeze()
        redis_server.freeze()
        try:
            stay_frozen(2.4)
            server.thaw()
            assert [status(http, server, token) for _ in range(3)] == [503, 503, 503]
        finally:
            server.thaw()
            redis_server.thaw()
